"""The three read tables say what the log says, in the words of the contract, and can be made again from it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from event_stores import TickingClock, append
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import logs

from twinstep.events import types as e
from twinstep.events.projections import ROW_TYPES, BackupRow, HistoryRow, Row, SyncRow, as_dict, rebuild
from twinstep.stores.memory import MemoryEventStore
from twinstep.stores.sqlite_events import SQLiteEventStore

STREAM = "pair/0001_first"
BOTH = ("local", "remote")
STATUSES = {"pending", "in_progress", "completed", "failed", "rolled_back", "not_needed"}
BACKUP_STATUSES = {"created", "verified", "restored", "rollback_applied", "cleanup_scheduled", "deleted"}


@pytest.fixture
def store() -> MemoryEventStore:
    return MemoryEventStore(clock=TickingClock())


def started(
    run: str, *, direction: str = e.APPLY, undoes: tuple[str, ...] = (), sides: tuple[str, ...] = BOTH
) -> tuple[e.Event, ...]:
    return (
        e.RunStarted(run=run, migration="0001_first", direction=direction, undoes=undoes, sides=sides),
        e.Validated(run=run, lock="lock", seconds=0.001),
    )


def applied(run: str, backup: str = "b1") -> tuple[e.Event, ...]:
    return (
        *started(run),
        e.BackedUp(run=run, backup={"id": backup, "bytes": 4096, "sha256": "00"}, seconds=0.002),
        e.LocalApplied(run=run, by=run, changes={"indexes_added": 11}, seconds=0.5),
        e.RemoteStarted(run=run),
        e.RemoteApplied(run=run, by=run, seconds=1.25),
    )


def rows(store: MemoryEventStore) -> tuple[list[Row], list[Row], list[Row]]:
    history, backups, sync = (store.rows(table) for table in ROW_TYPES)
    return history, backups, sync


def only_rows(store: MemoryEventStore) -> tuple[HistoryRow, BackupRow, SyncRow]:
    (history,), (backup,), (sync,) = rows(store)
    assert isinstance(history, HistoryRow)
    assert isinstance(backup, BackupRow)
    assert isinstance(sync, SyncRow)
    return history, backup, sync


def test_a_verified_run_in_the_read_tables(store: MemoryEventStore) -> None:
    append(store, STREAM, *applied("r1"))
    append(store, STREAM, e.Verified(run="r1", seconds=0.1))
    changed_at, ended_at = store.read(STREAM)[0].recorded_at, store.read(STREAM)[-1].recorded_at
    history, backup, sync = only_rows(store)
    assert as_dict(history) == {
        "pair": "pair",
        "id": "r1",
        "version": "0001_first",
        "applied_at": changed_at,
        "migration_type": "apply",
        "status": "verified",
        "error_message": None,
        "execution_time_ms": 1853.0,
        "rollback_applied_at": None,
        "metadata": {
            "started_at": changed_at,
            "ended_at": ended_at,
            "backup": "b1",
            "local": {"indexes_added": 11},
            "remote": {},
        },
    }
    assert as_dict(backup) == {
        "pair": "pair",
        "id": "b1",
        "backup_id": "b1",
        "created_at": changed_at,
        "migration_version": "0001_first",
        "status": "created",
        "backup_size_bytes": 4096,
        "restoration_verified": 0,
        "cleanup_at": None,
        "metadata": {"sha256": "00"},
    }
    assert (sync.id, sync.migration_version, sync.local_status, sync.remote_status) == (
        "0001_first",
        "0001_first",
        "completed",
        "completed",
    )
    assert (sync.local_applied_at, sync.remote_applied_at, sync.local_rollback_at) == (changed_at, changed_at, None)


def test_a_refused_run_that_was_rolled_back_in_the_read_tables(store: MemoryEventStore) -> None:
    append(store, STREAM, *applied("r1")[:-1])
    failed = e.StepFailed(run="r1", effect="APPLY_REMOTE", side="remote", code="T301", message="relation exists")
    append(store, STREAM, failed, e.RollbackStarted(run="r1", reason="T301", sides=("local",)))
    history, _, sync = only_rows(store)
    assert (history.status, history.error_message) == ("rolling_back", "relation exists")
    assert (sync.local_status, sync.remote_status) == ("completed", "failed")
    append(store, STREAM, e.LocalUndone(run="r1", undoes=("r1",), how="restore"))
    append(store, STREAM, e.RolledBack(run="r1"))
    history, backup, sync = only_rows(store)
    assert (history.status, history.rollback_applied_at) == ("rolled_back", store.read(STREAM)[-1].recorded_at)
    assert (sync.local_status, sync.remote_status) == ("rolled_back", "failed")
    assert sync.local_rollback_at == store.read(STREAM)[-2].recorded_at
    assert backup.status == "rollback_applied"


def test_a_refused_validation_is_an_attempt_of_its_own(store: MemoryEventStore) -> None:
    append(store, STREAM, e.ValidationFailed(run="r1", code="T201", message="3 operations are pending"))
    append(store, STREAM, *started("r2", sides=("local",)))
    history, backups, (sync,) = rows(store)
    assert [(row.id, row.status, row.error_message, row.applied_at) for row in history if isinstance(row, HistoryRow)] == [
        ("r1", "failed", "3 operations are pending", None),
        ("r2", "validated", None, None),
    ]
    assert backups == []
    assert isinstance(sync, SyncRow)
    assert (sync.local_status, sync.remote_status) == ("in_progress", "not_needed")


def test_a_skipped_remote_in_the_read_tables(store: MemoryEventStore) -> None:
    append(store, STREAM, *applied("r1")[:-2], e.RemoteSkipped(run="r1"), e.Verified(run="r1"))
    _, _, sync = only_rows(store)
    assert (sync.local_status, sync.remote_status, sync.remote_applied_at) == ("completed", "skipped", None)


def test_a_conflict_comes_and_goes(store: MemoryEventStore) -> None:
    append(store, "pair", e.ConflictDetected(kind="drift", migration="0001_first", message="a column is missing"))
    (sync,) = rows(store)[2]
    assert isinstance(sync, SyncRow)
    assert (sync.sync_conflict_detected, sync.conflict_resolution, as_dict(sync)["metadata"]) == (
        1,
        None,
        {"conflicts": ["drift"]},
    )
    append(store, "pair", e.ConflictResolved(kind="drift", migration="0001_first", how="adopted"))
    (sync,) = rows(store)[2]
    assert isinstance(sync, SyncRow)
    assert (sync.sync_conflict_detected, sync.conflict_resolution) == (0, "adopted")
    assert sync.last_sync_check == store.read("pair")[-1].recorded_at


def test_several_conflicts_about_a_migration_are_marked_until_the_last_is_gone(store: MemoryEventStore) -> None:
    here = e.ConflictDetected(kind="drift", migration="0001_first", side="local", message="a column is missing")
    there = e.ConflictDetected(kind="drift", migration="0001_first", side="remote", message="a table is new")
    append(store, "pair", here, there, there)
    (sync,) = rows(store)[2]
    assert isinstance(sync, SyncRow)
    assert as_dict(sync)["metadata"] == {"conflicts": ["drift local", "drift remote"]}
    for side, left in (("local", 1), ("remote", 0)):
        append(store, "pair", e.ConflictResolved(kind="drift", migration="0001_first", side=side, how="accepted"))
        (sync,) = rows(store)[2]
        assert isinstance(sync, SyncRow)
        assert (sync.sync_conflict_detected, sync.conflict_resolution) == (left, "accepted")


def test_a_conflict_about_no_migration_is_in_no_row(store: MemoryEventStore) -> None:
    append(store, "pair", e.ConflictDetected(kind="foreign_log", migration="", message="another log"))
    assert rows(store)[2] == []


def test_a_check_dates_the_rows_that_it_was_about(store: MemoryEventStore) -> None:
    append(store, "pair/0001_first", *applied("one"))
    append(store, "pair", e.SyncChecked(conflicts=0, migrations=("0001_first", "0009_never")))
    (sync,) = rows(store)[2]
    assert isinstance(sync, SyncRow)
    assert sync.last_sync_check == store.read("pair")[-1].recorded_at


def test_what_was_refused_and_stands_all_the_same_is_completed_again(store: MemoryEventStore) -> None:
    refused = e.StepFailed(run="one", effect="VERIFY", side="remote", code="T332", message="no")
    accepted = (e.VerificationAccepted(run="one", differences=("no",)), e.Verified(run="one", accepted=True, remote={}))
    append(store, "pair/0001_first", *applied("one"), refused)
    (sync,) = rows(store)[2]
    assert isinstance(sync, SyncRow)
    assert sync.remote_status == "failed"
    append(store, "pair/0001_first", *accepted)
    (sync,) = rows(store)[2]
    assert isinstance(sync, SyncRow)
    assert (sync.local_status, sync.remote_status) == ("completed", "completed")


def test_the_life_of_a_backup(store: MemoryEventStore) -> None:
    append(store, "pair", e.BackupCreated(backup={"id": "b1", "bytes": 1}))
    seen = [rows(store)[1][0].status]  # type: ignore[union-attr]
    append(store, "pair", e.BackupVerified(backup="b1", sha256="00"))
    append(store, "pair", e.BackupCleanupScheduled(backup="b1", at="2026-02-01T00:00:00+00:00"))
    (backup,) = rows(store)[1]
    assert isinstance(backup, BackupRow)
    assert (backup.status, backup.restoration_verified, backup.cleanup_at) == (
        "cleanup_scheduled",
        1,
        "2026-02-01T00:00:00+00:00",
    )
    append(store, STREAM, e.BackupRestored(run="r2", migration="0001_first", state="pending", backup="b1"))
    seen.append(rows(store)[1][0].status)  # type: ignore[union-attr]
    append(store, "pair", e.BackupDeleted(backup="b1", bytes=1))
    (backup,) = rows(store)[1]
    assert isinstance(backup, BackupRow)
    assert [*seen, backup.status] == ["created", "restored", "deleted"]
    assert backup.cleanup_at == store.read("pair")[-1].recorded_at


def test_pairs_that_share_a_log_do_not_share_rows(store: MemoryEventStore) -> None:
    for pair in ("pair1", "pair2"):
        append(store, f"{pair}/0001_first", *applied("r1"))
    assert [[row.pair for row in table] for table in rows(store)] == [["pair1", "pair2"]] * 3


@settings(max_examples=40, deadline=None)
@given(logs())
def test_the_words_are_those_of_the_contract(log: list[tuple[str, tuple[e.Event, ...]]]) -> None:
    store = MemoryEventStore(clock=TickingClock())
    for stream, events in log:
        append(store, stream, *events)
    for row in (row for table in ROW_TYPES for row in store.rows(table)):
        match row:
            case SyncRow(local_status=local, remote_status=remote):
                assert local in STATUSES
                assert remote in STATUSES | {"skipped"}
            case BackupRow(status=status):
                assert status in BACKUP_STATUSES
            case HistoryRow():
                assert row.version == "0001_first" or row.version == "0002_second"
        assert isinstance(as_dict(row)["metadata"], dict)


@settings(max_examples=25, deadline=None)
@given(logs(), st.sampled_from(["delete", "drop", "edit"]))
def test_rows_that_were_lost_come_back_as_they_were(log: list[tuple[str, tuple[e.Event, ...]]], how: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        with closing(SQLiteEventStore(path, clock=TickingClock(), synchronous="NORMAL")) as store:
            for stream, events in log:
                append(store, stream, *events)
            store.register_pair("so that there is a log also where nothing was drawn")
            before = {table: store.rows(table) for table in ROW_TYPES}
            assert [row for table in ROW_TYPES for row in before[table]] == sorted(
                rebuild(store.read_all()).values(), key=lambda row: list(ROW_TYPES).index(row.TABLE)
            )
        statement = {
            "delete": "DELETE FROM {}",
            "drop": "DROP TABLE {}",
            "edit": "UPDATE {} SET pair = pair || 'x', metadata = ''",
        }[how]
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for table in ROW_TYPES:
                connection.execute(statement.format(table))
        with closing(SQLiteEventStore(path, synchronous="NORMAL")) as store:
            store.rebuild_rows()
            assert {table: store.rows(table) for table in ROW_TYPES} == before
