"""Clocks that are wrong: nothing is ordered or waited for by them, and nothing young is deleted because of one.

Databases and logs that come from different times: an older file under a newer log and the other way round, a remote that was
set back. Each is noticed, nothing is run, and the way out leads out.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg
import pytest
from attrs import evolve
from damaged_logs import FIRST, KINDS, LAST, SECOND, SQLiteFile, World, made_world

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

ROOT = Path(__file__).parent.parent
NOW = datetime(2026, 6, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


class Jumping:
    """A clock that jumps by each of these in turn, again and again, at every look, and goes on by a second otherwise."""

    def __init__(self, *jumps: timedelta) -> None:
        self.jumps, self.looks = jumps, 0

    def __call__(self) -> datetime:
        self.looks += 1
        return NOW + timedelta(seconds=self.looks) + self.jumps[self.looks % len(self.jumps)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A device without a remote, with one migration still to come."""
    return made_world(tmp_path / "world", None, SQLiteFile())


def empty(folder: Path) -> World:
    """A device on which nothing was done yet."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / "app.db")) as connection:
        connection.execute("CREATE TABLE item (a)")
    return World(folder=folder, url=None, kind=SQLiteFile())


@pytest.mark.parametrize("jumps", [(-YEAR, timedelta()), (YEAR, timedelta()), (timedelta(), -YEAR, YEAR)])
def test_a_clock_that_jumps_between_and_within_calls_changes_no_order(jumps: tuple[timedelta, ...], tmp_path: Path) -> None:
    world, clock = empty(tmp_path / "device"), Jumping(*jumps)
    coordinator = world.coordinator(clock=clock)
    assert coordinator.migrate(to=FIRST).outcome == "verified"
    assert coordinator.migrate().outcome == "verified"
    assert coordinator.roll_back().outcome == "rolled_back"
    assert coordinator.migrate().outcome == "verified"
    assert coordinator.verify().exit_code == 0
    runs = [(run.migration, run.direction, run.state) for run in coordinator.history()]
    assert runs == [
        (FIRST, "apply", "verified"),
        (SECOND, "apply", "verified"),
        (LAST, "apply", "verified"),
        (LAST, "back", "rolled_back"),
        (LAST, "apply", "verified"),
    ]
    status = coordinator.status()
    assert (status.local.applied, status.conflicts, status.needs_migration) == ((FIRST, SECOND, LAST), (), False)
    events = coordinator.events()
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    # A position is a place in the log, whatever time was recorded there; a time means everything before the last event of it.
    for event in events[:: len(events) // 6]:
        assert coordinator.status(at=event.position).at is not None
        by_time = coordinator.status(at=event.recorded_at).at
        assert by_time is not None
        assert (by_time.position or 0) >= event.position
    store = SQLiteEventStore(SQLiteFile().path(world.folder), readonly=True)
    assert check_log(store).sound
    store.close()


def files(world: World) -> set[str]:
    return {path.name for path in (world.folder / "app.db.twinstep" / "backups").glob("*.db")}


def test_a_clock_that_runs_ahead_for_a_moment_deletes_no_backup(world: World) -> None:
    before = files(world)
    ahead = world.coordinator(clock=lambda: datetime.now(UTC) + YEAR)
    assert ahead.migrate().outcome == "verified"
    assert ahead.resume().outcome == "up_to_date"
    assert files(world) >= before
    right = world.coordinator()
    assert right.resume().outcome == "up_to_date"
    assert files(world) >= before
    # Also where it is ahead once more, a year later.
    assert world.coordinator(clock=lambda: datetime.now(UTC) + 2 * YEAR).resume().outcome == "up_to_date"
    assert files(world) >= before


def test_a_backup_made_while_the_clock_was_behind_is_as_young_as_the_log_knows(world: World) -> None:
    late = world.coordinator(clock=lambda: datetime.now(UTC) - YEAR)
    assert late.migrate().outcome == "verified"
    made = files(world)
    for days in (0, 2, 28):
        assert world.coordinator(clock=lambda days=days: datetime.now(UTC) + timedelta(days=days)).resume().exit_code == 0
        assert files(world) == made
    for days in (31, 33):
        world.coordinator(clock=lambda days=days: datetime.now(UTC) + timedelta(days=days)).resume()
    assert len(files(world)) == 1  # the one that was made by hand


def test_no_timeout_looks_at_the_wall_clock() -> None:
    """Deadlines are of the monotonic clock; the wall clock is for people, and for how long backups are kept."""
    wall = re.compile(r"datetime\.now|time\.time\(|utcnow|\bclock\(\)")
    found = {
        str(path.relative_to(ROOT)): lines
        for package in ("events", "stores", "migrations", "engine")
        for path in sorted((ROOT / package).rglob("*.py"))
        if (lines := [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if wall.search(line)])
    }
    waits = [line for lines in found.values() for line in lines if re.search(r"deadline|timeout|until|wait|seconds", line)]
    assert [line for line in waits if 'timespec="seconds"' not in line] == []
    assert "engine/keeping.py" in found


# Databases of another time


@pytest.fixture(scope="module")
def pair(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A device with a remote."""
    url = postgres.create_database(f"test_{token_hex(6)}")
    return made_world(tmp_path_factory.mktemp("pair") / "world", url, KINDS["sqlite"])


def copied_remote(postgres: EmbeddedPostgres, url: str) -> str:
    name, template = f"test_{token_hex(6)}", url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    return postgres.url(name)


def blocks(world: World, *kinds: str) -> None:
    """It is told by these kinds of conflict, and nothing is run."""
    before = world.databases()
    # And by no other that says something else: the one side is not ahead, the other is an older copy.
    assert {one.kind for one in world.coordinator().status().conflicts} - {"drift"} == {*kinds}
    assert world.bootstrap().decision == "stop"
    for call in (world.coordinator().migrate, world.coordinator().resume, world.coordinator().roll_back):
        assert call().exit_code == 5
    assert world.databases() == before


def leads_out(world: World, **options: Any) -> None:
    report = world.coordinator().migrate(**options)
    assert report.outcome == "verified", report.error
    status = world.coordinator().status()
    assert (status.conflicts, status.needs_migration, status.local.applied) == ((), False, (FIRST, SECOND, LAST))
    assert status.remote.applied == (FIRST, SECOND, LAST)


def test_a_local_file_of_before_is_told_and_is_migrated_anew_once_it_is_adopted(
    pair: World, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    world = pair.copied(tmp_path / "device", copied_remote(postgres, str(pair.url)))
    shutil.copy(pair.folder.parent / "before" / "app.db", world.local)
    blocks(world, "behind_log")
    leads_out(world, adopt=True)


def test_a_log_of_before_is_told_and_goes_on_once_the_ledgers_are_adopted(
    pair: World, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    world = pair.copied(tmp_path / "device", copied_remote(postgres, str(pair.url)))
    world.kind.copy(pair.folder.parent / "before", world.folder)
    blocks(world, "foreign_log")
    leads_out(world, adopt=True)


@pytest.fixture(scope="module")
def earlier_remote(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, str]:
    """A device, and its remote as it was before the last migration, on another server address."""
    url = postgres.create_database(f"test_{token_hex(6)}")
    world = made_world(tmp_path_factory.mktemp("remote") / "world", url, KINDS["sqlite"])
    before = copied_remote(postgres, url)
    assert world.coordinator().migrate().outcome == "verified"
    return world, before


def test_a_remote_that_was_set_back_is_told_and_is_migrated_anew_once_it_is_adopted(
    earlier_remote: tuple[World, str], postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    world, before = earlier_remote
    device = world.copied(tmp_path / "device", copied_remote(postgres, before))
    blocks(device, "behind_log")
    leads_out(device, adopt=True)


def test_all_set_back_together_just_goes_on(
    earlier_remote: tuple[World, str], postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    world, before = earlier_remote
    device = evolve(world, folder=tmp_path / "device", url=copied_remote(postgres, before))
    shutil.copytree(world.folder.parent / "kept", device.folder)
    status = device.coordinator().status()
    assert (status.conflicts, status.pending) == ((), (LAST,))
    leads_out(device)


class Killed(BaseException):
    """The process is dead."""


@pytest.mark.parametrize("crossing", ["APPLY_LOCAL:performed", "APPLY_REMOTE:performed", "VERIFY:before"])
def test_a_local_file_of_the_middle_of_a_run_is_told(
    crossing: str, pair: World, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    world = pair.copied(tmp_path / "device", copied_remote(postgres, str(pair.url)))
    older = world.local.read_bytes()

    def kill(reached: str) -> None:
        if reached == crossing:
            raise Killed

    with pytest.raises(Killed):
        world.coordinator(probe=kill).migrate()
    middle = world.local.read_bytes()
    world.local.write_bytes(older)
    if crossing == "APPLY_LOCAL:performed":
        # The log had not heard of it: the file is as if the step had been rolled back.
        assert world.coordinator().resume().outcome == "verified"
        return
    blocks(world, "behind_log")
    world.local.write_bytes(middle)
    assert world.coordinator().resume().outcome == "verified"


def test_a_local_file_from_before_a_take_back_is_told_and_counts_once_it_is_adopted(
    pair: World, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    world = pair.copied(tmp_path / "device", copied_remote(postgres, str(pair.url)))
    assert world.coordinator().migrate().outcome == "verified"
    applied = world.local.read_bytes()
    assert world.coordinator().roll_back().exit_code == 0
    world.local.write_bytes(applied)
    blocks(world, "behind_log")
    leads_out(world, adopt=True)
