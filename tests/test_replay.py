"""Where both sides stood: `status --at`, replayed from the log, with no database asked."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from command_line import Project, make_project

from twinstep.engine.coordinator import Coordinator
from twinstep.engine.replay import moment
from twinstep.events.errors import ConfigurationError
from twinstep.migrations.definition import Migration, Side
from twinstep.migrations.memory_target import MemoryDatabase
from twinstep.stores.memory import MemoryEventStore

FIRST, SECOND = "0001_first", "0002_second"
START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
CHANGE = Side(up="CREATE TABLE made", down="DROP TABLE made")
OTHER = Side(up="CREATE TABLE other", down="DROP TABLE other")
MIGRATIONS = [Migration(id=FIRST, local=CHANGE, remote=CHANGE), Migration(id=SECOND, local=OTHER, remote=OTHER)]


class Clock:
    """Each time that it is asked, a minute later."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


@pytest.fixture
def pair(tmp_path: Path) -> Coordinator:
    """A pair in memory, on which both migrations were run and the second was taken back."""
    clock = Clock()
    log = MemoryEventStore(clock=clock)
    made = Coordinator(
        local=MemoryDatabase(),
        remote=MemoryDatabase(),
        migrations=MIGRATIONS,
        log=log,
        state_dir=tmp_path,
        clock=clock,
    )
    assert made.migrate().outcome == "verified"
    assert made.roll_back().outcome == "rolled_back"
    return made


def states(coordinator: Coordinator, at: int | datetime | str) -> dict[str, str]:
    return {one.id: one.state for one in coordinator.status(at=at).migrations}


def test_every_position_gives_what_the_log_said_there(pair: Coordinator) -> None:
    names = [record.type for record in pair.events()]
    streams = [record.stream for record in pair.events()]
    verified = [number for number, name in enumerate(names, 1) if name == "Verified"]
    seen = [pair.status(at=position) for position in range(len(names) + 1)]
    assert seen[0].migrations[0].state == "pending"
    assert (seen[0].local.applied, seen[0].remote.applied) == ((), ())
    for position, status in enumerate(seen):
        assert (status.local.reachable, status.remote.reachable) == (None, None)
        assert (status.at.position if status.at else None) == (position or None)
        # Beginning alone leaves the state where it was: RunStarted and Validated are one append.
        of_the_pair = position > 0 and "/" not in streams[position - 1]
        rests = position in (0, *verified) or names[position - 1] in ("RunStarted", "RolledBack") or of_the_pair
        assert (status.in_flight is None) == rests
    first, second = verified
    assert (seen[first].local.applied, seen[first].pending) == ((FIRST,), (SECOND,))
    assert (seen[second].remote.applied, seen[second].pending) == ((FIRST, SECOND), ())
    assert seen[-1].local.applied == (FIRST,)
    assert [(one.state, one.local_status, one.runs) for one in seen[-1].migrations] == [
        ("verified", "completed", 1),
        ("rolled_back", "rolled_back", 2),
    ]
    # At its end the log says what it says now.
    assert seen[-1].migrations == pair.status().migrations


def test_half_way_a_run_was_in_flight(pair: Coordinator) -> None:
    names = [record.type for record in pair.events()]
    half = names.index("LocalApplied") + 1
    status = pair.status(at=half)
    assert status.in_flight is not None
    assert (status.in_flight.migration, status.in_flight.state) == (FIRST, "local_applied")
    assert (status.local.applied, status.remote.applied) == ((FIRST,), ())


def test_a_time_means_everything_that_was_recorded_until_then(pair: Coordinator) -> None:
    records = pair.events()
    for record in records:
        then = datetime.fromisoformat(record.recorded_at)
        last = max(one.position for one in records if one.recorded_at == record.recorded_at)
        for at in (then, record.recorded_at, then.replace(tzinfo=None).isoformat(), then + timedelta(seconds=30)):
            status = pair.status(at=at)
            assert status.at is not None
            assert status.at.position == last, at


def test_a_clock_that_jumped_does_not_change_the_order(tmp_path: Path) -> None:
    now = [START]
    log = MemoryEventStore(clock=lambda: now[0])
    pair = Coordinator(local=MemoryDatabase(), migrations=[Migration(id=FIRST, local=CHANGE)], log=log, state_dir=tmp_path)
    pair.migrate()
    now[0] = START - timedelta(hours=2)
    pair.roll_back()
    # An hour before it began, by the clock; yet the last events were recorded before that, and all others lie before them.
    assert states(pair, START - timedelta(hours=1)) == {FIRST: "rolled_back"}


def test_what_lies_beyond_the_log_is_said_plainly(pair: Coordinator, tmp_path: Path) -> None:
    end = len(pair.events())
    past = pair.status(at=end + 5).at
    assert past is not None
    assert (past.position, past.note) == (end, f"The log ends at position {end}; this is how it ends.")
    before = pair.status(at="2001-01-01").at
    assert before is not None
    assert (before.position, before.note) == (None, "That is before the first event of the log: nothing had been recorded yet.")
    now = pair.status(at=START + timedelta(days=900)).at
    assert now is not None
    assert (now.position, now.note) == (end, "")
    empty = Coordinator(local=MemoryDatabase(), migrations=MIGRATIONS, log="memory:", state_dir=tmp_path).status(at=3).at
    assert empty is not None
    assert empty.note == "The log holds no events."


@pytest.mark.parametrize("given", ["yesterday", "", "-1", "1.5", "2026-13-01", -1, True, None, "12:00"])
def test_what_is_neither_a_position_nor_a_time_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        moment(given)
    assert (refused.value.code, refused.value.exit_code) == ("T275", 2)


def test_times_without_a_zone_are_utc_and_others_are_what_they_say() -> None:
    noon = datetime(2026, 5, 4, 12, tzinfo=UTC)
    assert moment("2026-05-04T12:00") == moment("2026-05-04T14:00+02:00") == moment("2026-05-04T12:00Z") == noon
    assert moment(noon.astimezone(timezone(timedelta(hours=-7)))) == noon
    assert moment("2026-05-04") == noon.replace(hour=0)
    assert moment("20260504") == 20260504  # digits alone are a position


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    project = make_project(tmp_path, capsys)
    project.environ["TWINSTEP_LOCAL"] = str(project.local)
    project.add(FIRST, {"local.up.sql": "CREATE TABLE first (x);", "local.down.sql": "DROP TABLE first;"})
    project.add(SECOND, {"local.up.sql": "CREATE TABLE second (x);", "local.down.sql": "DROP TABLE second;"})
    return project


def test_the_command_shows_where_both_sides_stood_and_changes_nothing(project: Project) -> None:
    assert project.run("migrate").code == 0
    # No remote is asked, and none would answer.
    project.environ["TWINSTEP_REMOTE"] = "postgresql://nobody@127.0.0.1:1/nowhere"
    answer = project.run("status", "--at", "6", "--json")
    assert answer.code == 0, answer.err
    assert answer.data["at"]["position"] == 6
    assert answer.data["local"] == {"reachable": None, "applied": [FIRST], "user_version": None}
    assert (answer.data["remote"]["reachable"], answer.data["pending"]) == (None, [SECOND])
    assert "At position 6 of the log, recorded 20" in project.run("status", "--at", "6").out
    assert "Pending: 0002_second." in project.run("status", "--at", "6").out
    assert "That is before the first event" in project.run("status", "--at", "2001-01-01T00:00Z").out
    assert "In flight: 0001_first was local_applied" in project.run("status", "--at", "4").out
    project.local.unlink()
    assert project.run("status").code == 2
    assert project.run("status", "--at", "6", "--json").data["local"]["applied"] == [FIRST]
    answer = project.run("status", "--at", "then")
    assert (answer.code, "T275" in answer.err) == (2, True)
    assert "at" not in project.run("status", "--json").data


def test_conflicts_are_shown_as_the_log_was_told_of_them(project: Project) -> None:
    assert project.run("migrate").code == 0
    with closing(sqlite3.connect(project.local, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE by_hand (x)")
        assert project.run("verify").code == 3
        seen = len(project.run("log", "--json").data["events"])
        connection.execute("DROP TABLE by_hand")
    assert project.run("verify").code == 0
    shutil.rmtree(project.folder / "migrations" / SECOND)
    kinds = [one["kind"] for one in project.run("status", "--at", str(seen), "--json").data["conflicts"]]
    assert kinds == ["drift"]
    assert project.run("status", "--at", str(seen + 2), "--json").data["conflicts"] == []
