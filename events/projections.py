"""The log as three read tables: which event changes which row, and how. Pure, so that dropping the tables and reading the
log again gives the same rows.

`project` is given one event and a way to look a row up, and returns the rows that it changes. A store keeps the rows in
its own tables and applies each event in the event's own commit; `rebuild` does the same over a whole log.

Read next: `types.py`; `stores/port.py` for who calls it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final, TypeAlias

from attrs import asdict, evolve, fields, frozen

from . import types as e
from .codec import decode, json_text
from .lifecycle import State
from .types import Event, Json, Recorded

PENDING, IN_PROGRESS, COMPLETED, FAILED = "pending", "in_progress", "completed", "failed"
ROLLED_BACK, NOT_NEEDED, SKIPPED = "rolled_back", "not_needed", "skipped"


@frozen(kw_only=True)
class HistoryRow:
    """`migration_history`: one row per attempt. `id` is the run, `version` the migration.

    `applied_at` is when the last of its changes stood, None when none ever did; `execution_time_ms` the sum of its steps.
    """

    TABLE: ClassVar[str] = "migration_history"
    KEY: ClassVar[tuple[str, ...]] = ("pair", "id")

    pair: str
    id: str
    version: str
    applied_at: str | None = None
    migration_type: str = e.APPLY
    status: str = str(State.PENDING)
    error_message: str | None = None
    execution_time_ms: float = 0.0
    rollback_applied_at: str | None = None
    metadata: str = "{}"


@frozen(kw_only=True)
class BackupRow:
    """`migration_backups`: one row per backup. `cleanup_at` is when it may be deleted, or was."""

    TABLE: ClassVar[str] = "migration_backups"
    KEY: ClassVar[tuple[str, ...]] = ("pair", "id")

    pair: str
    id: str
    backup_id: str
    created_at: str
    migration_version: str | None = None
    status: str = "created"
    backup_size_bytes: int = 0
    restoration_verified: int = 0
    cleanup_at: str | None = None
    metadata: str = "{}"


@frozen(kw_only=True)
class SyncRow:
    """`migration_sync_status`: one row per migration and pair; how each side stands."""

    TABLE: ClassVar[str] = "migration_sync_status"
    KEY: ClassVar[tuple[str, ...]] = ("pair", "id")

    pair: str
    id: str
    migration_version: str
    local_status: str = PENDING
    remote_status: str = PENDING
    local_applied_at: str | None = None
    remote_applied_at: str | None = None
    local_rollback_at: str | None = None
    remote_rollback_at: str | None = None
    sync_conflict_detected: int = 0
    conflict_resolution: str | None = None
    last_sync_check: str | None = None
    metadata: str = "{}"


Row: TypeAlias = HistoryRow | BackupRow | SyncRow
RowKey: TypeAlias = "tuple[str, str, str]"
Find: TypeAlias = "Callable[[str, str, str], Row | None]"

ROW_TYPES: Final[Mapping[str, type[HistoryRow | BackupRow | SyncRow]]] = {
    kind.TABLE: kind for kind in (HistoryRow, BackupRow, SyncRow)
}


def key_of(row: Row) -> RowKey:
    """Table, pair and id: what a row is looked up and replaced by."""
    return row.TABLE, row.pair, row.id


def columns_of(table: str) -> tuple[str, ...]:
    """The columns of one of the three tables, in order."""
    return tuple(attribute.name for attribute in fields(ROW_TYPES[table]))


def rebuild(records: Iterable[Recorded]) -> dict[RowKey, Row]:
    """All rows of a log, read from its first event on in the order of positions."""
    rows: dict[RowKey, Row] = {}
    for record in records:
        for row in project(record, decode(record), lambda table, pair, id: rows.get((table, pair, id))):
            rows[key_of(row)] = row
    return rows


def project(record: Recorded, event: Event, find: Find) -> tuple[Row, ...]:
    """The rows that the event changes, as they are after it. `find` gives a row by table, pair and id, or None."""
    pair, _, migration = record.stream.partition("/")
    if not migration:
        return _of_the_pair(pair, record, event, find)
    changed: list[Row] = []
    if isinstance(event, e.RunEvent):
        history = _history(pair, migration, record, event, find)
        if history is not None:
            changed.append(history)
        changed.extend(_backups(pair, migration, record, event, find))
    sync = find(SyncRow.TABLE, pair, migration)
    before = sync if isinstance(sync, SyncRow) else SyncRow(pair=pair, id=migration, migration_version=migration)
    after = _sync(before, record, event)
    if after != before or sync is None:
        changed.append(after)
    return tuple(changed)


def _history(pair: str, migration: str, record: Recorded, event: e.RunEvent, find: Find) -> HistoryRow | None:
    found = find(HistoryRow.TABLE, pair, event.run)
    row = found if isinstance(found, HistoryRow) else HistoryRow(pair=pair, id=event.run, version=migration)
    when = record.recorded_at
    seconds = getattr(event, "seconds", 0.0)
    if seconds:
        row = evolve(row, execution_time_ms=round(row.execution_time_ms + 1000 * seconds, 3))
    match event:
        case e.RunStarted(direction=direction):
            return evolve(row, migration_type=direction, status="started", metadata=_with(row.metadata, started_at=when))
        case e.ValidationFailed(code=code, message=message, direction=direction):
            return evolve(
                row,
                migration_type=direction,
                status=FAILED,
                error_message=_text(message),
                metadata=_with(row.metadata, code=code, started_at=when, ended_at=when),
            )
        case e.Validated():
            return evolve(row, status=str(State.VALIDATED))
        case e.BackedUp(backup=backup):
            named = None if backup is None else backup["id"]
            return evolve(row, status=str(State.BACKED_UP), metadata=_with(row.metadata, backup=named))
        case e.LocalApplied(changes=changes):
            return evolve(row, status=str(State.LOCAL_APPLIED), applied_at=when, metadata=_with(row.metadata, local=changes))
        case e.RemoteApplied(changes=changes):
            return evolve(row, status=str(State.REMOTE_APPLIED), applied_at=when, metadata=_with(row.metadata, remote=changes))
        case e.RemoteConfirmed() | e.RemoteSkipped():
            return evolve(row, status=str(State.REMOTE_APPLIED))
        case e.Verified():
            return evolve(row, status=str(State.VERIFIED), metadata=_with(row.metadata, ended_at=when))
        case e.StepFailed(code=code, message=message, effect=effect):
            return evolve(row, error_message=_text(message), metadata=_with(row.metadata, code=code, failed=effect))
        case e.RollbackStarted(reason=reason):
            return evolve(row, status=str(State.ROLLING_BACK), metadata=_with(row.metadata, reason=reason))
        case e.RollbackAbandoned():
            return evolve(row, status=str(State.VERIFIED), metadata=_with(row.metadata, ended_at=when))
        case e.RolledBack():
            return evolve(
                row, status=str(State.ROLLED_BACK), rollback_applied_at=when, metadata=_with(row.metadata, ended_at=when)
            )
        case e.Settled(state=state):
            kind = type(event).__name__.lower()
            return evolve(row, migration_type=kind, status=state, metadata=_with(row.metadata, started_at=when, ended_at=when))
        case _:
            return None if row == found else row


def _backups(pair: str, migration: str, record: Recorded, event: e.RunEvent, find: Find) -> list[Row]:
    match event:
        case e.BackedUp(backup=backup) if backup is not None:
            return [_new_backup(pair, migration, record, backup)]
        case e.LocalUndone(how=how, replaced=replaced):
            run = find(HistoryRow.TABLE, pair, event.run)
            named = json.loads(run.metadata).get("backup") if run is not None and how == "restore" else None
            kept = [_new_backup(pair, migration, record, replaced)] if replaced is not None else []
            return [*_changed_backup(pair, named, find, status="rollback_applied"), *kept]
        case e.BackupRestored(backup=named):
            return _changed_backup(pair, named, find, status="restored")
        case _:
            return []


def _of_the_pair(pair: str, record: Recorded, event: Event, find: Find) -> tuple[Row, ...]:
    match event:
        case e.BackupCreated(backup=backup):
            return (_new_backup(pair, None, record, backup),)
        case e.BackupVerified(backup=named):
            return tuple(_changed_backup(pair, named, find, status="verified", proved=True))
        case e.ContentRestored(backup=named):
            return tuple(_changed_backup(pair, named, find, status="restored"))
        case e.BackupCleanupScheduled(backup=named, at=at):
            return tuple(_changed_backup(pair, named, find, status="cleanup_scheduled", cleanup_at=at))
        case e.BackupDeleted(backup=named):
            return tuple(_changed_backup(pair, named, find, status="deleted", cleanup_at=record.recorded_at))
        case e.ConflictDetected(migration=migration) | e.ConflictResolved(migration=migration) if migration:
            found = find(SyncRow.TABLE, pair, migration)
            row = found if isinstance(found, SyncRow) else SyncRow(pair=pair, id=migration, migration_version=migration)
            return (_in_conflict(row, record, event),)
        case e.SyncChecked(migrations=migrations):
            checked = (find(SyncRow.TABLE, pair, migration) for migration in dict.fromkeys(migrations))
            return tuple(evolve(row, last_sync_check=record.recorded_at) for row in checked if isinstance(row, SyncRow))
        case _:
            return ()


def _in_conflict(row: SyncRow, record: Recorded, event: e.ConflictDetected | e.ConflictResolved) -> SyncRow:
    """A migration may have several conflicts at once: the mark stays until the last of them is gone."""
    named = " ".join(filter(None, (event.kind, event.side)))
    known = json.loads(row.metadata).get("conflicts") or []
    detected = isinstance(event, e.ConflictDetected)
    conflicts = sorted({*known, named} if detected else {*known} - {named})
    return evolve(
        row,
        sync_conflict_detected=int(bool(conflicts)),
        conflict_resolution=None if isinstance(event, e.ConflictDetected) else _text(event.how),
        last_sync_check=record.recorded_at,
        metadata=_with(row.metadata, conflicts=conflicts),
    )


def _new_backup(pair: str, migration: str | None, record: Recorded, backup: Mapping[str, Json]) -> BackupRow:
    size = backup.get("bytes")
    return BackupRow(
        pair=pair,
        id=str(backup["id"]),
        backup_id=str(backup["id"]),
        created_at=record.recorded_at,
        migration_version=migration,
        status="verified" if backup.get("verified") else "created",
        backup_size_bytes=size if isinstance(size, int) else 0,
        restoration_verified=int(bool(backup.get("verified"))),
        metadata=json_text({name: value for name, value in backup.items() if name not in ("id", "bytes", "verified")}),
    )


def _changed_backup(
    pair: str, named: Json, find: Find, *, status: str, cleanup_at: str | None = None, proved: bool = False
) -> list[Row]:
    found = find(BackupRow.TABLE, pair, str(named))
    if not isinstance(found, BackupRow):
        return []
    return [
        evolve(
            found,
            status=status,
            cleanup_at=cleanup_at or found.cleanup_at,
            restoration_verified=int(proved) or found.restoration_verified,
        )
    ]


def _sync(row: SyncRow, record: Recorded, event: Event) -> SyncRow:
    when = record.recorded_at
    match event:
        case e.RunStarted(direction=e.APPLY, sides=sides):
            return evolve(
                row,
                local_status=_begun(row.local_status, "local" in sides),
                remote_status=_begun(row.remote_status, "remote" in sides),
            )
        case e.LocalApplied(nothing=nothing, by=by):
            if nothing or by != event.run:
                return evolve(row, local_status=NOT_NEEDED if nothing else COMPLETED)
            return evolve(row, local_status=COMPLETED, local_applied_at=when)
        case e.RemoteApplied(nothing=nothing):
            return evolve(row, remote_status=NOT_NEEDED) if nothing else _remote_done(row, when)
        case e.RemoteConfirmed():
            return _remote_done(row, when)
        case e.RemoteSkipped():
            return evolve(row, remote_status=SKIPPED)
        case e.StepFailed(side=side):
            return evolve(
                row,
                local_status=FAILED if side == "local" else row.local_status,
                remote_status=FAILED if side == "remote" else row.remote_status,
            )
        case e.LocalUndone():
            return evolve(row, local_status=ROLLED_BACK, local_rollback_at=when)
        case e.RemoteUndone():
            return evolve(row, remote_status=ROLLED_BACK, remote_rollback_at=when)
        case e.Verified(local=local, remote=remote):
            return evolve(
                row,
                local_status=_stands_again(row.local_status, known=local is not None),
                remote_status=_stands_again(row.remote_status, known=remote is not None),
                last_sync_check=when,
            )
        case e.RollbackAbandoned():
            # What was refused to be taken back had been applied. Times do not tell: the clock may have been set back since.
            return evolve(
                row,
                local_status=_stands_again(row.local_status, known=row.local_applied_at is not None),
                remote_status=_stands_again(row.remote_status, known=row.remote_applied_at is not None),
            )
        case e.RolledBack(stands=stands):
            return evolve(
                row,
                local_status=_ended(row.local_status, "local" in stands),
                remote_status=_ended(row.remote_status, "remote" in stands),
                last_sync_check=when,
            )
        case e.Settled(local=local, remote=remote, sides=sides):
            left = isinstance(event, e.Baselined) and event.state == State.VERIFIED and "remote" in sides and remote is None
            return evolve(
                row,
                local_status=_settled(local, "local" in sides),
                remote_status=SKIPPED if left else _settled(remote, "remote" in sides),
                last_sync_check=when,
            )
        case _:
            return row


def _remote_done(row: SyncRow, when: str) -> SyncRow:
    return evolve(row, remote_status=COMPLETED, remote_applied_at=when)


def _begun(status: str, has_work: bool) -> str:
    if status == COMPLETED:
        return status
    return IN_PROGRESS if has_work else NOT_NEEDED


def _ended(status: str, stands: bool) -> str:
    if stands:
        return COMPLETED
    return status if status in (NOT_NEEDED, FAILED) else ROLLED_BACK


def _stands_again(status: str, *, known: bool) -> str:
    """A side that was refused something, and of which it is known now that its change stands all the same."""
    return COMPLETED if status == FAILED and known else status


def _settled(run: str | None, has_work: bool) -> str:
    if run is not None:
        return COMPLETED
    return PENDING if has_work else NOT_NEEDED


def _with(metadata: str, **more: Json) -> str:
    return json_text({**json.loads(metadata), **more})


def _text(given: str) -> str:
    """What any database can keep as text: no half characters and no NUL, which a driver's message may hold."""
    return given.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def as_dict(row: Row) -> dict[str, Json]:
    """The row with its column names, `metadata` decoded."""
    return {**asdict(row), "metadata": json.loads(row.metadata)}
