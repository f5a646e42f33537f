"""The commands about backups: `backup create`, `verify`, `restore`, `prune`, and `list`. One call of the coordinator each.

Read next: `../keeping.py`, `../restoring.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .changing import interrupted
from .figures import counted, instant, size
from .progress import following
from .screen import BAD, GOOD, Screen
from .shapes import backup_json, backup_report_json
from .teaching import Lesson, TaughtCommand, TaughtGroup
from .trouble import ATTENTION, BLOCKED, DONE, INTERRUPTED, LOCKED, USAGE, without_passwords

if TYPE_CHECKING:
    from ..backup_report import BackupReport
    from ..coordinator import Coordinator
    from .invocation import Invocation


def run_backup_create(invocation: Invocation) -> int:
    """Make a backup now."""
    return _call(invocation, lambda coordinator: coordinator.create_backup())


def run_backup_verify(invocation: Invocation, backup: str | None) -> int:
    """Check one backup, or all."""
    return _call(invocation, lambda coordinator: coordinator.verify_backup(backup))


def run_backup_restore(invocation: Invocation, backup: str, discard_local_writes: bool) -> int:
    """Put a backup back."""
    return _call(invocation, lambda coordinator: coordinator.restore_backup(backup, discard_local_writes=discard_local_writes))


def run_backup_prune(invocation: Invocation) -> int:
    """Delete old backups."""
    return _call(invocation, lambda coordinator: coordinator.prune_backups())


def _call(invocation: Invocation, call: Callable[[Coordinator], BackupReport]) -> int:
    folder = _folder(invocation)
    listener = following(invocation.err)
    coordinator = invocation.coordinator(listener)
    try:
        with listener.shown():
            report = call(coordinator)
    except KeyboardInterrupt as stopped:
        return interrupted(invocation, listener, stopped)
    if report.error is not None:
        invocation.trouble(report.error)
    invocation.answer(lambda: backup_report_json(report, folder), lambda screen: _show(report, folder, screen))
    return report.exit_code


def _folder(invocation: Invocation) -> Path:
    return invocation.configuration.settings().state_folder / "backups"


def _show(report: BackupReport, folder: Path, screen: Screen) -> None:
    match report.outcome:
        case "created":
            (made,) = report.backups
            screen.line(f"Backup {made.id} made and proved: {size(made.bytes)}.", GOOD)
            screen.line(f"in {folder / made.name}")
        case "restored" | "in_flight" if report.backups:
            screen.line(f"Backup {report.backups[0].id} restored.", GOOD if report.error is None else BAD)
            screen.line(f"What it replaced is kept as backup {report.replaced}.")
            if report.migrations:
                screen.paragraph(f"These stand otherwise now, 'twinstep status' shows how: {', '.join(report.migrations)}.")
        case "pruned":
            screen.line(f"{counted(len(report.backups), 'backup')} deleted, {size(report.bytes)} freed.", GOOD)
        case "verified" | "blocked" if report.backups or report.outcome == "verified":
            _show_verified(report, screen)
        case _:
            screen.line("Nothing was done.", BAD)
    for finding in report.findings:
        screen.paragraph(without_passwords(finding), first="finding  ")


def _show_verified(report: BackupReport, screen: Screen) -> None:
    if not report.backups:
        screen.line("There is no backup of this database.")
        return
    rows = [(one.id, size(one.bytes), "sound" if one.problem is None else one.problem.code) for one in report.backups]
    screen.table(("backup", "size", "found"), rows, right={1})
    bad = sum(one.problem is not None for one in report.backups)
    text = f"{counted(bad, 'backup')} must not be used." if bad else "Every one is what was made."
    screen.line(text, BAD if bad else GOOD)


def run_backup_list(invocation: Invocation) -> int:
    """List the backups."""
    invocation.existing_log(required=False).close()
    rows = invocation.coordinator().backups()
    folder = _folder(invocation)
    shapes = [backup_json(row, folder) for row in rows]

    def show(screen: Screen) -> None:
        if not shapes:
            screen.line("There is no backup of this database yet; 'twinstep migrate' makes one before it changes anything.")
            return
        cells = [
            (
                row.backup_id,
                instant(str(shape["created_at"])),
                row.migration_version or str(shape["why"] or ""),
                size(row.backup_size_bytes),
                row.status if shape["present"] or row.status == "deleted" else "missing",
                instant(row.cleanup_at)[:10] if row.cleanup_at is not None else "",
            )
            for row, shape in zip(rows, shapes, strict=True)
        ]
        screen.table(("backup", "made (UTC)", "before", "size", "state", "kept until"), cells, right={3})
        screen.line(f"in {folder}")

    invocation.answer(lambda: {"folder": str(folder), "backups": shapes}, show)
    return DONE


BACKUP_LIST: Final = TaughtCommand(
    "list",
    Lesson(
        does="Lists the backups of the local database. When each was made and before which migration, its size and state, and "
        "until when it is kept; with --json also its path and SHA-256. Each was opened, checked and restored once as a trial "
        "when it was made.",
        never="It does not open the files, and does not change which of them are kept.",
        examples=("twinstep backup list --local notes.db",),
        exits=(DONE, USAGE, BLOCKED),
    ),
    run_backup_list,
)

BACKUP_CREATE: Final = TaughtCommand(
    "create",
    Lesson(
        does="Backs the local database up now. The application may go on writing: the backup is one committed state. It is "
        "copied page by page, hashed, opened, checked, and restored once as a trial.",
        never="It never changes either database, and never leaves an unproved file under a backup's name. Retention leaves "
        "it alone: it is kept until 'twinstep backup prune'.",
        examples=("twinstep backup create --local notes.db",),
        exits=(DONE, USAGE, LOCKED, BLOCKED, INTERRUPTED),
    ),
    run_backup_create,
)

BACKUP_VERIFY: Final = TaughtCommand(
    "verify",
    Lesson(
        does="Opens, hashes and checks backups again: all of them, or the one named. What is damaged, missing or of another "
        "database is exit code 5, and is named.",
        never="It never changes a backup or a database, and does not stop at the first that is damaged.",
        examples=("twinstep backup verify", "twinstep backup verify 01a1f0c2-7d5e-7c3a-9f10-2b8e4d6a9c01"),
        exits=(DONE, USAGE, LOCKED, BLOCKED, INTERRUPTED),
    ),
    run_backup_verify,
    params=[click.Argument(["backup"], metavar="[ID]", required=False)],
)

BACKUP_RESTORE: Final = TaughtCommand(
    "restore",
    Lesson(
        does="Puts a backup of the local database back. It is verified first, and restored through SQLite while nobody else "
        "can write. What it replaces is kept as a backup, the ledger is carried over, and for each migration that stands "
        "otherwise since, the log says how.",
        never="It never touches the remote, never uses a backup that is not what was made, and never loses what others wrote "
        "after the backup was made, unless told to with --discard-local-writes.",
        examples=("twinstep backup restore 01a1f0c2-7d5e-7c3a-9f10-2b8e4d6a9c01",),
        exits=(DONE, USAGE, LOCKED, BLOCKED, ATTENTION, INTERRUPTED),
    ),
    run_backup_restore,
    params=[
        click.Argument(["backup"], metavar="ID"),
        click.Option(
            ["--discard-local-writes"],
            is_flag=True,
            help="Give up what was written to the local database since the backup was made. The replaced state is kept as a "
            "backup.",
        ),
    ],
)

BACKUP_PRUNE: Final = TaughtCommand(
    "prune",
    Lesson(
        does="Deletes backups older than --keep-days, also those made by hand. It says how many files were really deleted and "
        "how many bytes that freed; with --keep-days 0, all that nothing needs.",
        never="It never deletes a backup that a run in flight may go back to.",
        examples=("twinstep backup prune", "twinstep backup prune --keep-days 7"),
        exits=(DONE, USAGE, LOCKED, BLOCKED, INTERRUPTED),
    ),
    run_backup_prune,
)

BACKUP: Final = TaughtGroup(
    "backup",
    Lesson(
        does="Backups of the local database. Every migration makes one before it changes anything.",
        never="By itself it does nothing.",
        examples=("twinstep backup list --local notes.db",),
        exits=(DONE, USAGE),
    ),
    [BACKUP_LIST, BACKUP_CREATE, BACKUP_VERIFY, BACKUP_RESTORE, BACKUP_PRUNE],
)
