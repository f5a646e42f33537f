"""Backups as a person uses them, on real files: made while others write, checked, put back, and deleted when they are old."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any

import pytest
from attrs import evolve

from twinstep.engine.coordinator import Coordinator
from twinstep.events.projections import BackupRow
from twinstep.migrations.definition import Migration, Side
from twinstep.migrations.memory_target import MemoryDatabase
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

PIN = Migration(
    id="0001_pin",
    local=Side(up="ALTER TABLE note ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0", down="ALTER TABLE note DROP COLUMN pinned"),
)
TAG = Migration(id="0002_tag", local=Side(up="CREATE TABLE tag (id INTEGER PRIMARY KEY)", down="DROP TABLE tag"))
BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Place:
    """A local database with some notes, and a clock that stands still until it is set."""

    def __init__(self, folder: Path, mode: str = "delete") -> None:
        self.folder = folder
        self.local = folder / "app.db"
        self.now = BEGAN
        with closing(sqlite3.connect(self.local, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)")
            connection.execute("INSERT INTO note (text) VALUES ('first')")

    def coordinator(self, *migrations: Migration, **options: Any) -> Coordinator:
        return Coordinator(local=self.local, migrations=migrations or (PIN, TAG), clock=lambda: self.now, **options)

    def migrated(self, *migrations: Migration) -> Coordinator:
        coordinator = self.coordinator(*migrations)
        assert coordinator.migrate().exit_code == 0
        return coordinator

    def write(self, text: str) -> None:
        with closing(sqlite3.connect(self.local, isolation_level=None)) as connection:
            connection.execute("INSERT INTO note (text) VALUES (?)", (text,))

    def texts(self) -> list[str]:
        with closing(sqlite3.connect(self.local)) as connection:
            return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY id")]

    def tables(self) -> set[str]:
        with closing(sqlite3.connect(self.local)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}

    def file(self, backup: str) -> Path:
        return self.folder / "app.db.twinstep" / "backups" / f"{backup}.db"

    def log_is_sound(self) -> bool:
        with closing(SQLiteEventStore(self.folder / "app.db.twinstep" / "log.db", readonly=True)) as store:
            return check_log(store).sound


@pytest.fixture(params=["delete", "wal"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, request.param)
    yield made
    if (tmp_path / "app.db.twinstep" / "log.db").exists():
        assert made.log_is_sound()


def rows(coordinator: Coordinator) -> dict[str, BackupRow]:
    return {row.backup_id: row for row in coordinator.backups()}


def states(coordinator: Coordinator) -> dict[str, str]:
    return {one.id: one.state for one in coordinator.status().migrations}


# Making and checking


def test_a_backup_is_made_while_others_write_and_holds_one_committed_state(place: Place) -> None:
    over, acknowledged = Event(), [1]

    def host() -> None:
        with closing(sqlite3.connect(place.local, isolation_level=None, timeout=30)) as connection:
            while not over.is_set():
                connection.execute("INSERT INTO note (text) VALUES ('more')")
                acknowledged.append(1)
                sleep(0.002)  # as a program does that has other things to do

    writer = Thread(target=host)
    writer.start()
    try:
        report = place.coordinator().create_backup()
    finally:
        over.set()
        writer.join()
    assert (report.outcome, report.exit_code, report.error) == ("created", 0, None)
    (made,) = report.backups
    with closing(sqlite3.connect(place.file(made.id))) as copy:
        assert 1 <= copy.execute("SELECT count(*) FROM note").fetchone()[0] <= len(acknowledged)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(place.texts()) == len(acknowledged)
    (row,) = place.coordinator().backups()
    assert (row.backup_id, row.migration_version, row.status, row.restoration_verified) == (made.id, None, "verified", 1)


def test_checking_names_each_backup_that_must_not_be_used(place: Place) -> None:
    coordinator = place.migrated()
    made = [coordinator.create_backup().backups[0].id for _ in range(3)]
    sound, damaged, missing = made
    with place.file(damaged).open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\xff")
    place.file(missing).unlink()
    report = coordinator.verify_backup()
    found = {one.id: None if one.problem is None else one.problem.code for one in report.backups}
    assert (report.outcome, report.exit_code) == ("blocked", 5)
    assert {found[backup] for backup in (damaged, missing)} == {"T233", "T232"}
    assert [backup for backup, problem in found.items() if problem is None] == [*list(rows(coordinator))[:2], sound]
    assert coordinator.verify_backup(sound).exit_code == 0
    assert coordinator.verify_backup(damaged).exit_code == 5
    refused = coordinator.restore_backup(damaged, discard_local_writes=True)
    assert refused.error is not None
    assert (refused.exit_code, refused.error.code) == (5, "T233")


def test_a_backup_of_another_pair_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours, theirs = Place(tmp_path / "ours"), Place(tmp_path / "theirs")
    coordinator = ours.migrated()
    foreign = theirs.migrated().create_backup().backups[0].id
    shutil.copy(theirs.file(foreign), ours.file(foreign))
    said = json.loads(theirs.file(foreign).with_suffix(".json").read_text())
    ours.file(foreign).with_suffix(".json").write_text(json.dumps({**said, "source": str(ours.local)}))
    before = ours.local.read_bytes()
    for report in (coordinator.verify_backup(foreign), coordinator.restore_backup(foreign, discard_local_writes=True)):
        assert report.error is not None
        assert (report.exit_code, report.error.code) == (5, "T284")
    assert ours.local.read_bytes() == before


def test_what_the_log_does_not_know_is_refused(place: Place) -> None:
    coordinator = place.migrated()
    for report in (coordinator.verify_backup("nobody"), coordinator.restore_backup("nobody")):
        assert report.error is not None
        assert (report.exit_code, report.error.code) == (5, "T281")


def test_without_a_local_database_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    coordinator = Coordinator(remote=MemoryDatabase(), migrations=[TAG], state_dir=tmp_path)
    report = coordinator.create_backup()
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (5, "T280")


# Restoring


def test_a_restored_backup_is_migrated_again_as_if_nothing_had_been(place: Place) -> None:
    coordinator = place.migrated()
    first, _ = rows(coordinator)
    report = coordinator.restore_backup(first)
    assert (report.outcome, report.exit_code, report.migrations) == ("restored", 0, ("0001_pin", "0002_tag"))
    assert states(coordinator) == {"0001_pin": "pending", "0002_tag": "pending"}
    assert coordinator.status().conflicts == ()
    assert "tag" not in place.tables()
    assert report.replaced in rows(coordinator)
    assert coordinator.migrate().outcome == "verified"
    assert states(coordinator) == {"0001_pin": "verified", "0002_tag": "verified"}
    assert coordinator.roll_back("0001_pin").exit_code == 0
    assert place.tables() == {"note", "twinstep_ledger"}


def test_what_was_replaced_can_be_put_back_and_stands_again(place: Place) -> None:
    coordinator = place.migrated()
    first, _ = rows(coordinator)
    place.write("after the migration")
    replaced = coordinator.restore_backup(first, discard_local_writes=True).replaced
    assert place.texts() == ["first"]
    assert replaced is not None
    assert coordinator.restore_backup(replaced, discard_local_writes=True).exit_code == 0
    assert place.texts() == ["first", "after the migration"]
    assert states(coordinator) == {"0001_pin": "verified", "0002_tag": "verified"}
    assert coordinator.migrate().outcome == "up_to_date"
    assert coordinator.roll_back("0001_pin").exit_code == 0
    assert place.texts() == ["first", "after the migration"]


@pytest.mark.parametrize("when", ["after all", "between two migrations", "before a down"])
def test_writes_of_others_are_never_lost_unless_that_is_asked_for(place: Place, when: str) -> None:
    coordinator = place.migrated(PIN)
    first, *_ = rows(coordinator)
    if when == "between two migrations":
        place.write("theirs")
    coordinator = place.migrated(PIN, TAG)
    if when == "after all":
        place.write("theirs")
    if when == "before a down":
        place.write("theirs")
        assert coordinator.roll_back().exit_code == 0
    report = coordinator.restore_backup(first)
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (5, "T282")
    assert "--discard-local-writes" in report.error.next_step
    assert place.texts() == ["first", "theirs"]
    assert coordinator.restore_backup(first, discard_local_writes=True).exit_code == 0
    assert place.texts() == ["first"]
    with closing(sqlite3.connect(place.file(list(rows(coordinator))[-1]))) as kept:
        assert kept.execute("SELECT text FROM note").fetchall() == [("first",), ("theirs",)]


def test_changes_of_ours_alone_need_no_word(place: Place) -> None:
    coordinator = place.migrated(PIN)
    first, *_ = rows(coordinator)
    coordinator = place.migrated(PIN, TAG)
    assert coordinator.roll_back().exit_code == 0
    assert coordinator.restore_backup(first).exit_code == 0


def test_a_restore_that_changes_rows_alone_is_told_by_the_log_too(place: Place) -> None:
    coordinator = place.migrated()
    made = coordinator.create_backup().backups[0].id
    place.write("theirs")
    report = coordinator.restore_backup(made, discard_local_writes=True)
    assert (report.exit_code, report.migrations) == (0, ())
    assert [record.type for record in coordinator.events() if record.type.endswith("Restored")] == ["ContentRestored"]
    assert rows(coordinator)[made].status == "restored"
    assert states(coordinator) == {"0001_pin": "verified", "0002_tag": "verified"}
    assert coordinator.migrate().outcome == "up_to_date"


class Killed(BaseException):
    """The process is dead: nothing may catch it."""


def killing(crossing: str) -> Callable[[str], None]:
    def probe(passed: str) -> None:
        if passed == crossing:
            raise Killed(crossing)

    return probe


@pytest.mark.parametrize("by", ["create_backup", "verify_backup", "migrate", "resume", "roll_back"])
def test_whatever_is_called_next_takes_a_killed_restore_into_the_log_first(place: Place, by: str) -> None:
    first, _ = rows(place.migrated())
    with pytest.raises(Killed):
        place.coordinator(probe=killing("restore:after")).restore_backup(first)
    coordinator = place.coordinator()
    # Before that, asking shows no conflict: it is not the log's fault, and nothing is wrong with the database.
    assert [conflict.kind for conflict in coordinator.status().conflicts] == []
    getattr(coordinator, by)()
    restored = [record.stream.partition("/")[2] for record in coordinator.events() if record.type == "BackupRestored"]
    assert restored == ["0001_pin", "0002_tag"]
    assert rows(coordinator)[first].status == ("verified" if by == "verify_backup" else "restored")
    assert "replaced by a restore" in {json.loads(row.metadata).get("why") for row in coordinator.backups()}


def test_a_killed_restore_of_rows_alone_is_taken_in_once(place: Place) -> None:
    coordinator = place.migrated()
    made = coordinator.create_backup().backups[0].id
    with pytest.raises(Killed):
        place.coordinator(probe=killing("restore:after")).restore_backup(made)
    for _ in range(2):
        assert coordinator.resume().outcome == "up_to_date"
    assert [record.type for record in coordinator.events() if record.type.endswith("Restored")] == ["ContentRestored"]


def test_a_run_that_is_half_on_the_remote_is_not_stranded(tmp_path: Path) -> None:
    remote, local = MemoryDatabase(), MemoryDatabase()
    index = "CREATE INDEX CONCURRENTLY note_index ON note (id)"
    both = Migration(
        id="0001_both",
        local=Side(up=lambda contents: None, down=lambda contents: None),
        remote=Side(up=(lambda contents: None, index), down=lambda contents: None),
    )

    def coordinator(**options: Any) -> Coordinator:
        return Coordinator(local=local, remote=remote, migrations=[both], log=log, state_dir=tmp_path, **options)

    log = SQLiteEventStore(tmp_path / "log.db")
    with pytest.raises(Killed):
        coordinator(probe=killing("remote:half:after-commit")).migrate()
    local.crashed()
    remote.crashed()
    (row,) = coordinator().backups()
    report = coordinator().restore_backup(row.backup_id)
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (5, "T283")
    remote.reachable = False
    assert coordinator().restore_backup(row.backup_id).exit_code == 5
    remote.reachable = True
    assert coordinator().resume().outcome == "verified"
    log.close()


# How long they are kept


def later(place: Place, days: float) -> None:
    place.now = BEGAN + timedelta(days=days)


def found_old(place: Place, coordinator: Coordinator, days: float) -> None:
    """A call after so many days has found what is old; it may go a day later, if the clock was right."""
    later(place, days)
    assert coordinator.resume().findings == ()
    later(place, days + 1)


def test_a_backup_is_kept_for_thirty_days_and_then_its_file_is_really_gone(place: Place) -> None:
    coordinator = place.migrated(PIN)
    (backup,) = coordinator.backups()
    assert (backup.status, backup.cleanup_at) == ("cleanup_scheduled", (BEGAN + timedelta(days=30)).isoformat())
    later(place, 29.9)
    coordinator.migrate()
    assert place.file(backup.backup_id).exists()
    later(place, 30)
    coordinator.migrate()
    assert place.file(backup.backup_id).exists()
    assert rows(coordinator)[backup.backup_id].cleanup_at == (BEGAN + timedelta(days=31)).isoformat()
    later(place, 31)
    assert coordinator.migrate().findings == ()
    assert not place.file(backup.backup_id).exists()
    assert not place.file(backup.backup_id).with_suffix(".json").exists()
    assert rows(coordinator)[backup.backup_id].status == "deleted"


@pytest.mark.parametrize("days", [0, 7])
def test_how_long_is_a_setting(place: Place, days: int) -> None:
    coordinator = place.coordinator(PIN, keep_days=days)
    coordinator.migrate()
    (backup,) = coordinator.backups()
    if days:
        found_old(place, coordinator, days)
    coordinator.resume()
    assert not place.file(backup.backup_id).exists()


def test_what_was_made_by_hand_is_kept_until_it_is_pruned_by_hand(place: Place) -> None:
    coordinator = place.migrated(PIN)
    made = coordinator.create_backup().backups[0].id
    found_old(place, coordinator, 400)
    coordinator.migrate()
    assert place.file(made).exists()
    sizes = sum(file.stat().st_size for file in place.file(made).parent.iterdir())
    report = coordinator.prune_backups()
    assert [one.id for one in report.backups] == [made]
    assert report.bytes == sizes
    assert list(place.file(made).parent.iterdir()) == []
    again = coordinator.prune_backups()
    assert (again.backups, again.bytes) == ((), 0)


def test_a_young_backup_is_not_pruned(place: Place) -> None:
    coordinator = place.migrated(PIN)
    later(place, 29)
    assert coordinator.prune_backups().backups == ()
    assert len(coordinator.prune_backups(keep_days=29).backups) == 1


def test_a_backup_that_a_run_in_flight_may_need_is_never_deleted(place: Place) -> None:
    with pytest.raises(Killed):
        place.coordinator(PIN, probe=killing("APPLY_LOCAL:performed")).migrate()
    coordinator = place.coordinator(PIN, keep_days=0)
    (backup,) = coordinator.backups()
    later(place, 400)
    assert coordinator.prune_backups(0).backups == ()
    assert place.file(backup.backup_id).exists()
    assert coordinator.resume().outcome == "verified"
    assert not place.file(backup.backup_id).exists()


def test_a_deletion_that_fails_is_a_finding_and_no_failure(place: Place) -> None:
    coordinator = place.migrated(PIN)
    (backup,) = coordinator.backups()
    file = place.file(backup.backup_id)
    file.unlink()
    file.mkdir()  # what cannot be deleted as a file
    found_old(place, coordinator, 31)
    report = coordinator.migrate()
    assert (report.outcome, report.exit_code) == ("up_to_date", 0)
    assert [backup.backup_id in finding for finding in report.findings] == [True]
    assert rows(coordinator)[backup.backup_id].status != "deleted"


def test_killed_between_the_file_and_its_event_the_next_call_says_so(place: Place) -> None:
    coordinator = place.migrated(PIN)
    (backup,) = coordinator.backups()
    place.file(backup.backup_id).unlink()
    report = coordinator.prune_backups(0)
    assert report.backups == ()  # nothing was deleted by this call
    assert rows(coordinator)[backup.backup_id].status == "deleted"


def test_a_backup_whose_maker_was_killed_is_found_listed_and_looked_after(place: Place) -> None:
    with pytest.raises(Killed):
        place.coordinator(PIN, probe=killing("backup:renamed")).migrate()
    assert place.coordinator(PIN).backups() == ()
    coordinator = place.migrated(PIN)
    found = {json.loads(row.metadata).get("why"): row for row in coordinator.backups()}
    assert set(found) == {"found", None}
    found_old(place, coordinator, 31)
    coordinator.migrate()
    # Nobody knows what it was made for: retention leaves it alone, and a person need not.
    assert {json.loads(row.metadata).get("why"): row.status for row in coordinator.backups()} == {
        "found": "verified",
        None: "deleted",
    }
    coordinator.prune_backups(30)
    assert {row.status for row in coordinator.backups()} == {"deleted"}
    assert list(place.file("x").parent.iterdir()) == []


def test_dropped_and_rebuilt_the_list_of_backups_is_the_same(place: Place) -> None:
    coordinator = place.migrated()
    first, _ = rows(coordinator)
    coordinator.create_backup()
    coordinator.restore_backup(first)
    coordinator.verify_backup()
    coordinator.prune_backups(0)
    before = coordinator.backups()
    with closing(SQLiteEventStore(place.folder / "app.db.twinstep" / "log.db")) as store:
        store.rebuild_rows()
    assert coordinator.backups() == before
    assert {row.status for row in before} == {"deleted"}


def test_a_migration_that_was_edited_meanwhile_does_not_keep_a_backup_from_being_restored(place: Place) -> None:
    first, _ = rows(place.migrated())
    edited = evolve(PIN, local=Side(up="ALTER TABLE note ADD COLUMN other", down="ALTER TABLE note DROP COLUMN other"))
    coordinator = place.coordinator(edited, TAG)
    assert coordinator.migrate().outcome == "blocked"
    assert coordinator.restore_backup(first).exit_code == 0
    assert coordinator.migrate().outcome == "verified"
