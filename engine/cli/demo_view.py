"""What the demo found, in words and as JSON: before and after, the backup, the log, the queries.

Pure: it is given what was read. Read next: `../demo.py`, which reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from .figures import count, counted, seconds, size
from .screen import BAD, FAINT, GOOD, HEADING, Screen
from .shapes import report_json
from .views import show_queries

if TYPE_CHECKING:
    from ...events.types import Json
    from ..demo import Found, LocalLook, Look, RemoteLook

MAIN_LISTS: Final = ("Q1 main list", "P3 main list")


def show_found(found: Found, screen: Screen) -> None:
    """Everything, in the order in which one asks: did it work, what changed, is it all there, what did it gain."""
    screen.line()
    screen.line("Read from both catalogues afterwards", HEADING)
    screen.table(("side", "", "before", "after"), _changes(found), right={2, 3}, indent="  ")
    screen.line()
    screen.line("Rows of the SQLite file", HEADING)
    before, after = found.before.local.rows, found.after.local.rows
    rows = [(name, count(before.get(name, 0)), count(after.get(name, 0))) for name in sorted({*before, *after})]
    screen.table(("table", "before", "after"), rows, right={1, 2}, indent="  ")
    screen.line()
    _show_backup_and_log(found, screen)
    for run in found.report.runs:
        if run.queries:
            screen.line()
            screen.line("The application's queries, measured before and after (medians)", HEADING)
            show_queries(run.queries, screen, indent="  ", first=MAIN_LISTS)
        for finding in run.findings:
            screen.paragraph(finding, first="  finding: ", width=80)
    screen.line()
    took = sum(run.seconds for run in found.report.runs)
    good = found.report.exit_code == 0 and found.log.sound
    screen.line(
        f"{found.report.outcome}: the migration took {seconds(took)}, the demo {seconds(found.seconds)}", GOOD if good else BAD
    )


def made_text(made: str | LocalLook | RemoteLook) -> str:
    """What was made: the server (its version), or a database."""
    if isinstance(made, str):
        return f"PostgreSQL {made}, started in a temporary folder"
    rows = counted(sum(made.rows.values()), "row")
    if hasattr(made, "user_version"):
        return (
            f"local: {count(made.rows['local_notes'])} notes, {rows}, {made.indexes} indexes, user_version {made.user_version}"
        )
    assert hasattr(made, "users")
    return f"remote: {count(made.rows['notes'])} notes of {made.users} users, {rows}, {made.indexes} indexes"


def _changes(found: Found) -> list[tuple[str, str, str, str]]:
    old, new = found.before.local, found.after.local
    there, here = found.before.remote, found.after.remote
    return [
        ("local", "user_version", str(old.user_version), str(new.user_version)),
        ("", "foreign keys", str(old.foreign_keys), str(new.foreign_keys)),
        ("", "rows that break one (foreign_key_check)", "", str(new.broken_keys)),
        ("", "tables rebuilt", "", str(len(found.after.rebuilt_since(found.before)))),
        ("", "tables with other columns than before", "", str(_other_columns(found.before, found.after))),
        ("", "indexes", str(old.indexes), str(new.indexes)),
        ("", _triggers_text(found.before, found.after), str(len(old.triggers)), str(len(new.triggers))),
        ("", f"rows in {len(new.rows)} tables", count(sum(old.rows.values())), count(sum(new.rows.values()))),
        ("", "integrity_check", old.integrity, new.integrity),
        ("", "file", size(old.bytes), size(new.bytes)),
        ("remote", "indexes", str(there.indexes), str(here.indexes)),
        ("", "indexes that are not valid", str(there.invalid), str(here.invalid)),
        ("", f"rows in {len(here.rows)} tables", count(sum(there.rows.values())), count(sum(here.rows.values()))),
    ]


def _other_columns(before: Look, after: Look) -> int:
    old, new = before.local.columns, after.local.columns
    return sum(old.get(name) != new.get(name) for name in {*old, *new})


def _triggers_text(before: Look, after: Look) -> str:
    return "triggers, word for word the same" if before.local.triggers == after.local.triggers else "triggers"


def _show_backup_and_log(found: Found, screen: Screen) -> None:
    recorded = {str(run.backup["sha256"]) for run in found.report.runs if run.backup is not None}
    for backup in found.backups:
        same = "as recorded" if backup.sha256 in recorded else "NOT as recorded"
        screen.line("Backup", HEADING)
        proved = ", restored once as a trial" if backup.path.name in _proved(found) else ""
        screen.line(f"  {size(backup.bytes)} in {found.state.name}/{backup.path.parent.name}/{proved}")
        screen.line(f"  SHA-256 {backup.sha256[:32]}...")
        screen.line(f"  read again from the file: {same}", "" if same == "as recorded" else BAD)
    screen.line()
    screen.line("Log", HEADING)
    chain = "the hash chain holds, the read tables agree" if found.log.sound else f"DAMAGED: {found.log.problems[0]}"
    events = f"{counted(found.log.events, 'event')} in {counted(found.log.streams, 'stream')}"
    screen.line(f"  {events}; {chain}", "" if found.log.sound else BAD)


def _proved(found: Found) -> set[str]:
    """The files of the backups that the log records as proved."""
    return {str(run.backup["name"]) for run in found.report.runs if run.backup is not None and run.backup.get("verified")}


def show_kept(folder: Path, screen: Screen) -> None:
    """What lies where, and how to look further."""
    screen.line()
    screen.line(f"Kept in {folder}: the SQLite file, its log, its backup, the migration.", HEADING)
    screen.line(f"  cd {folder}")
    for command in ("twinstep status", "twinstep history", "twinstep log", "twinstep log check", "twinstep backup list"):
        screen.line(f"  {command}")
    screen.line("The PostgreSQL was a temporary one and is gone; twinstep.toml there leaves it out.", FAINT)


def found_json(found: Found, keep: Path | None) -> dict[str, Json]:
    """The same as one object."""
    report = report_json(found.report, found.state / "backups")
    return {
        **report,
        "postgresql": found.server_version,
        "before": _look_json(found.before),
        "after": _look_json(found.after),
        "tables_rebuilt": list(found.after.rebuilt_since(found.before)),
        "backups": [{"path": str(one.path), "bytes": one.bytes, "sha256": one.sha256} for one in found.backups],
        "log": {
            "events": found.log.events,
            "sound": found.log.sound,
            "problems": [str(problem) for problem in found.log.problems],
        },
        "seconds": round(found.seconds, 3),
        "kept": None if keep is None else str(keep),
    }


def _look_json(look: Look) -> dict[str, Json]:
    local, remote = look.local, look.remote
    return {
        "local": {
            "user_version": local.user_version,
            "rows": dict(local.rows),
            "foreign_keys": local.foreign_keys,
            "broken_keys": local.broken_keys,
            "indexes": local.indexes,
            "triggers": len(local.triggers),
            "integrity_check": local.integrity,
            "bytes": local.bytes,
        },
        "remote": {"rows": dict(remote.rows), "indexes": remote.indexes, "invalid_indexes": remote.invalid},
    }
