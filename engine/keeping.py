"""Backups of the local database: which there are, made and proved by hand, and how long they are kept.

The log is the list of backups, the folder holds their files. What lies in the folder and no event tells of, because a process
was killed in between, is taken into the log first. A file is deleted before its event is written: killed in between, the next
call finds it gone and says so. A backup that a run in flight may still need is never deleted, however old it is.

Read next: `pair_log.py` (where the events go), `restoring.py`, `migrations/target.py` (`Backups`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from ..events import types as e
from ..events.codec import decode
from ..events.errors import Blocked, ConcurrencyConflict, Defect, InDoubt, TwinstepError
from ..events.projections import BackupRow
from ..events.types import Event, Json
from ..migrations.target import Backups
from .backup_report import BY_HAND, FOUND, LEFT_ALONE, REPLACED, BackupReport, OneBackup
from .pair_log import append_to_pair
from .report import error_report
from .session import Session

SECOND_LOOK: Final = timedelta(days=1)


def backups_of(opened: Session) -> Backups:
    """The copies of the local database. Raises Blocked (T280) where there is none."""
    if opened.backups is None:
        raise Blocked("T280")
    return opened.backups


def known_backups(opened: Session) -> dict[str, BackupRow]:
    """All backups of this pair that the log tells of, by id, oldest first; also those that were deleted."""
    return {row.backup_id: row for row in opened.rows() if isinstance(row, BackupRow)}


def described(row: BackupRow) -> dict[str, Json]:
    """The backup as its event described it."""
    said = cast("dict[str, Json]", json.loads(row.metadata))
    return {"id": row.backup_id, "bytes": row.backup_size_bytes, "verified": bool(row.restoration_verified), **said}


def named_backup(opened: Session, id: str) -> dict[str, Json]:
    """The backup of that id. Raises Blocked: T281 where the log knows none, T232 where it was deleted."""
    row = known_backups(opened).get(id)
    if row is None:
        raise Blocked("T281", backup=id)
    if row.status == "deleted":
        raise Blocked("T232", backup=id, path=str(described(row).get("name", id)))
    return described(row)


def create_backup(opened: Session) -> BackupReport:
    """Make a backup while the host may go on writing."""
    made = backups_of(opened).make()
    append_to_pair(opened, [e.BackupCreated(backup={**made, "why": BY_HAND})])
    return BackupReport(outcome="created", backups=(OneBackup.of(made),))


def verify_backups(opened: Session, id: str | None) -> BackupReport:
    """Open and check one backup, or all that there are. Exit code 5 where one is not what it was; all are looked at."""
    copies = backups_of(opened)
    rows = known_backups(opened).values()
    wanted = [named_backup(opened, id)] if id is not None else [described(row) for row in rows if row.status != "deleted"]
    looked: list[OneBackup] = []
    events: list[Event] = []
    first: TwinstepError | None = None
    for backup in wanted:
        try:
            prove(opened, copies, backup)
        except Blocked as error:
            first = first or error
            looked.append(OneBackup.of(backup, problem=error_report(error)))
        else:
            looked.append(OneBackup.of(backup))
            events.append(e.BackupVerified(backup=str(backup["id"]), sha256=str(backup.get("sha256", ""))))
    append_to_pair(opened, events)
    if first is None:
        return BackupReport(outcome="verified", backups=tuple(looked))
    return BackupReport(outcome="blocked", backups=tuple(looked), exit_code=first.exit_code, error=error_report(first))


def prove(opened: Session, copies: Backups, backup: Mapping[str, Json]) -> None:
    """Return if the backup is what was made, and of this pair. Raises Blocked (T232, T233, T284)."""
    copies.verify(backup)
    pair = copies.holds(backup).head.pair
    if pair not in ("", opened.pair):
        raise Blocked("T284", backup=backup["id"], pair=pair)


def prune_backups(opened: Session, keep_days: int) -> BackupReport:
    """Delete what is older than that many days and nothing needs, whoever made it."""
    copies = backups_of(opened)
    limit = opened.settings.clock() - timedelta(days=keep_days)
    old = [row for row in _not_needed(opened) if made_at(row) <= limit]
    deleted, freed, findings = _delete(opened, copies, old)
    freed += copies.sweep(limit)
    return BackupReport(outcome="pruned", backups=deleted, bytes=freed, findings=findings)


def note_found(opened: Session) -> None:
    """Take into the log what lies in the folder and no event tells of."""
    if opened.backups is None:
        return
    known = known_backups(opened)
    new = [found for found in opened.backups.found() if found["id"] not in known]
    if new:
        replaced = opened.targets["local"].whole().head.replaced
        append_to_pair(
            opened,
            [e.BackupCreated(backup={**each, "why": REPLACED if each["id"] == replaced else FOUND}) for each in new],
        )


def tidy(opened: Session, keep_days: int) -> tuple[str, ...]:
    """What every changing call does at its end: say when backups may go, and delete those whose time has come.

    Those made by hand are left to whoever made them, and so are those of what was replaced: they may be all that is left of
    what others wrote. What keeps it from happening is a finding, and never a failure.
    """
    if opened.backups is None or opened.pair is None:
        return ()
    try:
        note_found(opened)
        ours = [row for row in _not_needed(opened) if described(row).get("why") not in LEFT_ALONE]
        now, heard = opened.settings.clock(), _heard_of(opened)
        ends = {
            row.backup_id: _ends(row, made=max(made_at(row), heard[row.backup_id]), keep_days=keep_days, now=now)
            for row in ours
        }
        append_to_pair(
            opened,
            [
                e.BackupCleanupScheduled(backup=row.backup_id, at=ends[row.backup_id].isoformat())
                for row in ours
                if row.cleanup_at != ends[row.backup_id].isoformat()
            ],
        )
        return _delete(opened, opened.backups, [row for row in ours if ends[row.backup_id] <= now])[2]
    except (Blocked, ConcurrencyConflict, InDoubt, Defect) as error:
        return (f"old backups were not looked after: {error.code} {error.condition}",)


def _ends(row: BackupRow, *, made: datetime, keep_days: int, now: datetime) -> datetime:
    """When the backup may be deleted: a day after a call has found it to be old, so that a clock which runs ahead for a moment
    takes nothing along. Without any time to keep it, at once."""
    end = made + timedelta(days=keep_days)
    if now < end or not keep_days:
        return end
    planned = end if row.cleanup_at is None else datetime.fromisoformat(row.cleanup_at)
    # A date that lies further ahead is one of a clock that was ahead then.
    return planned if end < planned <= now + SECOND_LOOK else now + SECOND_LOOK


def _heard_of(opened: Session) -> dict[str, datetime]:
    """For each backup the latest time in the log until then: it is no older, whatever the clock said when it was made."""
    found: dict[str, datetime] = {}
    latest = datetime.min.replace(tzinfo=UTC)
    for record in opened.in_order():
        latest = max(latest, datetime.fromisoformat(record.recorded_at))
        match decode(record):
            case e.BackedUp(backup=backup) | e.BackupCreated(backup=backup) | e.LocalUndone(replaced=backup):
                if backup is not None:
                    found.setdefault(str(backup["id"]), latest)
            case _:
                pass
    return found


def made_at(row: BackupRow) -> datetime:
    """When the backup was made, as it says itself; else when the log heard of it."""
    return datetime.fromisoformat(str(described(row).get("created_at") or row.created_at))


def _not_needed(opened: Session) -> list[BackupRow]:
    """The backups that are there and that no run in flight may go back to."""
    in_flight = {name for name, status in opened.statuses().items() if status.in_flight}
    return [
        row
        for row in known_backups(opened).values()
        if row.status != "deleted" and (row.migration_version is None or row.migration_version not in in_flight)
    ]


def _delete(opened: Session, copies: Backups, rows: Sequence[BackupRow]) -> tuple[tuple[OneBackup, ...], int, tuple[str, ...]]:
    """Delete the files, one by one, each with its event; what was really deleted, the bytes freed, and what could not be."""
    deleted: list[OneBackup] = []
    findings: list[str] = []
    freed = 0
    for backup in _each(rows):
        try:
            size = copies.delete(backup)
        except Blocked as error:
            findings.append(f"backup {backup['id']} could not be deleted: {error.condition}")
            continue
        append_to_pair(opened, [e.BackupDeleted(backup=str(backup["id"]), bytes=size)])
        freed += size
        if size:
            deleted.append(OneBackup.of({**backup, "bytes": size}))
    return tuple(deleted), freed, tuple(findings)


def _each(rows: Sequence[BackupRow]) -> Iterator[dict[str, Json]]:
    for row in rows:
        yield described(row)
