"""What every target promises (`migrations/target.py`), checked on the one in memory and on both real databases alike.

What only one kind of database can do stands below, in parts of its own.
"""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from targets import (
    INDEX,
    ITEMS,
    Crash,
    MemoryPlace,
    Place,
    PostgresPlace,
    SQLitePlace,
    back,
    crash_at,
    order,
    part,
    shape,
    sometimes,
    work,
)

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events.errors import Blocked, DefinitionError, InDoubt, Locked, LostLock, Refused, TwinstepError, Unreachable
from twinstep.migrations.definition import Query, StepFunction
from twinstep.migrations.steps import undone_by
from twinstep.migrations.target import Target

KINDS = ("memory local", "memory remote", "sqlite wal", "sqlite delete", "postgres")
LOCAL = ("memory local", "sqlite wal", "sqlite delete")
REMOTE = ("memory remote", "postgres")
REAL = ("sqlite wal", "sqlite delete", "postgres")


def made(kind: str, folder: Path, request: pytest.FixtureRequest) -> Place:
    match kind.split():
        case ["memory", side]:
            return MemoryPlace("local" if side == "local" else "remote")
        case ["sqlite", mode]:
            return SQLitePlace(folder, mode)
        case _:
            return PostgresPlace(request.getfixturevalue("remote_url"))


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made_here = made(request.param, tmp_path, request)
    yield made_here
    made_here.close()


on = pytest.mark.parametrize
only_local = on("place", LOCAL, indirect=True)
only_remote = on("place", REMOTE, indirect=True)
only_real = on("place", REAL, indirect=True)
# Where the journal mode cannot matter, the second one is left to the full run.
each_real = on("place", ["sqlite wal", "postgres", pytest.param("sqlite delete", marks=pytest.mark.full)], indirect=True)


# The lock


def test_the_lock_is_taken_once_and_has_a_token_until_it_is_released(place: Place) -> None:
    target = place.target()
    assert target.held is None
    token = target.hold()
    assert target.hold() == token == target.held
    target.release()
    assert target.held is None
    assert target.hold() != token


def test_of_two_targets_the_second_is_told_who_holds_it_and_comes_later(place: Place) -> None:
    first, second = place.target(), place.target(beside=True)
    first.hold()
    with pytest.raises((Locked, Blocked)) as refused:
        second.hold()
    assert second.held is None
    named = refused.value.details
    assert named.get("holder") or str(place.path) in str(named["path"])  # type: ignore[attr-defined]
    first.release()
    assert second.hold()


@only_real
def test_who_waits_for_the_lock_gets_it_when_it_is_free(place: Place) -> None:
    elsewhere = _holding_elsewhere(place)
    with pytest.raises((Locked, Blocked)):
        place.target(beside=True).hold()
    patient = place.target(wait_seconds=20, beside=True)
    elsewhere.send_signal(signal.SIGKILL)
    assert patient.hold()
    elsewhere.wait()


@only_real
def test_a_lock_dies_with_the_process_that_held_it(place: Place) -> None:
    elsewhere = _holding_elsewhere(place)
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    assert place.target(wait_seconds=10).hold()


def _holding_elsewhere(place: Place) -> subprocess.Popen[str]:
    """Another process that holds the lock until it is killed."""
    assert place.elsewhere is not None
    program = f"{place.elsewhere}\ntarget.hold()\nprint('held', flush=True)\nimport time\ntime.sleep(60)"
    started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    with started.stdout:
        assert started.stdout.readline() == "held\n"
    return started


def test_closing_twice_and_releasing_what_is_not_held_are_allowed(place: Place) -> None:
    target = place.target()
    target.release()
    target.hold()
    target.close()
    target.close()
    target.release()
    assert place.target().hold()


# Applying


def test_a_database_without_a_ledger_has_an_empty_one_and_reading_makes_none(place: Place) -> None:
    before = place.world()
    target = place.target()
    assert target.ledger("0001_change").rows == ()
    assert target.whole().ledgers == {}
    assert target.whole().head.pair == ""
    assert place.world() == before
    if isinstance(place, PostgresPlace):
        assert place.asked("SELECT to_regnamespace('twinstep')") == [(None,)]


def test_an_applied_step_stands_with_its_ledger_row_for_everybody(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10))
    place.target().apply(order(done))
    other = place.target()
    assert place.items() == {key: value + 10 for key, value in ITEMS.items()}
    assert shape(other) == [("up", 1, "run-1", "", "done")]
    assert other.ledger("0001_change").whole("run-1")
    assert other.whole().head.log == "log-1"


def test_applying_twice_changes_nothing(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10))
    place.target().apply(order(done))
    before, target = place.world(), place.target()
    changes = target.apply(order(done))
    assert place.world() == before
    assert (changes.rows, changes.objects_added) == ({}, ())
    assert shape(target) == [("up", 1, "run-1", "", "done")]


def test_a_refused_step_leaves_neither_its_change_nor_its_row(place: Place) -> None:
    before, target = place.world(), place.target()
    with pytest.raises(Refused) as refused:
        target.apply(order(work(place, (place.add(10), place.refused()), place.add(-10))))
    assert refused.value.code == "T331"
    assert refused.value.details["statement"]
    assert refused.value.__cause__ is not None
    assert place.world() == before
    assert shape(place.target()) == []


@on("crossing", ["before-commit", "after-commit"])
def test_a_change_and_its_row_are_both_there_or_neither_when_it_is_cut_off(place: Place, crossing: str) -> None:
    done = work(place, place.add(10), place.add(-10))
    with pytest.raises(Crash):
        place.target(probe=crash_at(f"{place.side}:group:{crossing}")).apply(order(done))
    place.died()
    stands = crossing == "after-commit"
    assert place.items()["a"] == (11 if stands else 1)
    assert place.target().ledger("0001_change").whole("run-1") is stands
    place.target().apply(order(done))
    assert place.items()["a"] == 11


@only_remote
def test_units_that_stand_are_not_run_again(place: Place) -> None:
    done = work(place, (place.add(10), INDEX, place.add(100)), (place.add(-100), "-- twinstep: group", place.add(-10)))
    with pytest.raises(Crash):
        place.target(probe=crash_at("remote:group:before-commit", times=2)).apply(order(done))
    place.died()
    assert shape(place.target()) == [("up", 1, "run-1", "", "done"), ("up", 2, "run-1", "", "done")]
    assert place.target().ledger("0001_change").half_applied_by() is not None
    place.target().apply(order(done))
    assert place.items()["a"] == 111
    assert place.target().ledger("0001_change").whole("run-1")


@only_local
def test_the_user_version_moves_with_the_change_and_back_with_it(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10), user_version_from=(11,), user_version_to=12)
    target = place.target()
    target.apply(order(done))
    assert (target.whole().user_version, place.world().marks["user_version"]) == (12, 12)
    target.verify(done)
    target.undo(back(done, "run-1"))
    assert place.world().marks["user_version"] == 11


def test_the_report_of_a_change_is_counted_from_the_database(place: Place) -> None:
    create = "CREATE TABLE added (n INTEGER)"
    changes = place.target().apply(order(work(place, create, "DROP TABLE added")))
    assert [key.rpartition(".")[2] in ("added", "table added") for key in changes.objects_added] == [True]
    assert changes.tables_added == 1


# Undoing


def test_looking_before_and_after_an_undo_gives_the_same(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10))
    target = place.target()
    before, world = target.look(done, content=True), place.world()
    target.apply(order(done))
    undone = target.undo(back(done, "run-1"))
    target.release()
    after = target.look(done, content=True)
    assert before.differences(after) == ()
    assert place.world() == world
    assert undone.how == "down"
    if place.side == "local":
        assert undone.others_wrote is False
        assert undone.after == after
    assert shape(target) == [("down", 1, "run-9", "run-1", "done"), ("up", 1, "run-1", "", "done")]
    assert not target.ledger("0001_change").holds(("run-1",))


def test_a_schema_is_what_was_looked_at_until_somebody_changes_it(place: Place) -> None:
    done = work(place, "CREATE TABLE added (n INTEGER)", "DROP TABLE added")
    target = place.target()
    before = target.look(done, content=False)
    assert target.schema(["public"]).drift_since(before) == ()
    assert target.schema(["public"]).fingerprint() == before.schema_only()
    target.apply(order(done))
    place.write()  # rows are nobody's schema, and neither is the ledger
    assert target.schema(["public"]).drift_since(target.look(done, content=True)) == ()
    (difference,) = target.schema(["public"]).drift_since(before)
    assert difference.endswith("added is new")
    target.undo(back(done, "run-1"))
    target.release()
    assert target.schema(["public"]).drift_since(before) == ()
    assert target.schema(["public"]).invalid_indexes() == ()


@only_local
def test_the_version_of_a_local_database_is_part_of_its_schema(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10), user_version_to=12)
    target = place.target()
    before = target.look(done, content=False)
    target.apply(order(done))
    assert target.schema([]).drift_since(before) == ("user_version was 11, is 12",)


def test_reading_a_schema_leaves_no_ledger_and_takes_no_lock(place: Place) -> None:
    before, other = place.world(), place.target(beside=True)
    other.hold()
    assert place.target(beside=True).schema(["public"]).marks.get("user_version") in (11, None)
    other.release()
    assert place.world() == before
    assert shape(place.target()) == []


def test_undoing_twice_is_undoing_once(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10))
    place.target().apply(order(done))
    place.target().undo(back(done, "run-1"))
    rows = shape(place.target())
    undone = place.target().undo(back(done, "run-1"))
    assert undone.others_wrote is None
    assert place.items() == ITEMS
    assert shape(place.target()) == rows


def test_undoing_what_was_never_applied_changes_nothing(place: Place) -> None:
    place.target().undo(back(work(place, place.add(10), place.add(-10)), "run-1"))
    assert place.items() == ITEMS
    assert shape(place.target()) == []


@only_remote
def test_steps_are_undone_last_first(place: Place) -> None:
    first, second = "CREATE TABLE one (n int)", "CREATE TABLE two (n int)"
    done = work(place, (first, INDEX, second), ("DROP TABLE two", "-- twinstep: group", "DROP TABLE one"))
    world = place.world()
    place.target().apply(order(done))
    with pytest.raises(Crash):
        place.target(probe=crash_at("remote:undo:before-commit", times=3)).undo(back(done, "run-1"))
    place.died()
    downs = [step for direction, step, *_ in shape(place.target()) if direction == "down"]
    assert downs == [2, 3]
    assert any(key in place.world().objects for key in ("table one", "table public.one"))
    assert not any(key in place.world().objects for key in ("table two", "table public.two"))
    place.target().undo(back(done, "run-1"))
    assert place.world() == world


@only_remote
def test_an_undo_takes_back_the_named_runs_only(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10))
    place.target().apply(order(done, "run-1"))
    place.target().apply(order(done, "run-2", pair="pair-2"))
    place.target().undo(back(done, "run-2", pair="pair-2"))
    assert place.items()["a"] == 11
    ledger = place.target().ledger("0001_change")
    assert ledger.whole("run-1")
    assert not ledger.holds(("run-2",))


@only_remote
def test_a_confirmation_stands_until_it_is_undone_and_leaves_the_change_alone(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10))
    place.target().apply(order(done, "run-1"))
    place.target().confirm(order(done, "run-2", pair="pair-2"), "run-1")
    ledger = place.target().ledger("0001_change")
    assert [row.undoes for row in ledger.confirming(("run-2",))] == ["run-1"]
    assert ledger.relied_on_by_others(("run-1",))
    assert not ledger.relied_on_by_others(("run-1", "run-2"))
    place.target().undo(back(done, "run-2", pair="pair-2"))
    place.target().undo(back(done, "run-2", pair="pair-2"))
    ledger = place.target().ledger("0001_change")
    assert not ledger.holds(("run-2",))
    assert not ledger.relied_on_by_others(("run-1",))
    assert ledger.whole("run-1")
    assert place.items()["a"] == 11


@only_remote
def test_what_others_rely_on_is_not_undone(place: Place) -> None:
    """They may have confirmed after the caller looked, and before it had the lock."""
    done = work(place, place.add(10), place.add(-10))
    place.target().apply(order(done, "run-1"))
    place.target().confirm(order(done, "run-2", pair="pair-2"), "run-1")
    place.close()
    with pytest.raises(Blocked) as blocked:
        place.target().undo(back(done, "run-1"))
    assert blocked.value.code == "T208"
    assert place.items()["a"] == 11
    assert place.target().ledger("0001_change").whole("run-1")


def test_a_refused_down_leaves_the_step_and_its_row_standing(place: Place) -> None:
    done = work(place, place.add(10), (place.add(-10), place.refused()))
    place.target().apply(order(done))
    with pytest.raises(Refused) as refused:
        place.target().undo(back(done, "run-1"))
    assert refused.value.code == "T338"
    place.died()
    assert place.items()["a"] == 11
    assert place.target().ledger("0001_change").whole("run-1")


@on("crossing", ["before-commit", "after-commit"])
def test_an_undo_and_its_row_are_both_there_or_neither_when_it_is_cut_off(place: Place, crossing: str) -> None:
    done = work(place, place.add(10), place.add(-10))
    place.target().apply(order(done))
    place.died()
    with pytest.raises(Crash):
        place.target(probe=crash_at(f"{place.side}:undo:{crossing}")).undo(back(done, "run-1"))
    place.died()
    stands = crossing == "before-commit"
    assert place.items()["a"] == (11 if stands else 1)
    assert place.target().ledger("0001_change").holds(("run-1",)) is stands
    place.target().undo(back(done, "run-1"))
    assert place.items() == ITEMS


def test_what_others_wrote_survives_an_undo_by_down_steps(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10))
    place.target().apply(order(done))
    place.died()
    place.write()
    undone = place.target().undo(back(done, "run-1"))
    assert place.items() == {**ITEMS, "a": 990}
    assert undone.others_wrote is (True if place.side == "local" else None)


@only_local
def test_what_others_wrote_is_backed_up_before_down_steps_and_all_that_was_seen_is_in_the_ledger(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10), user_version_to=12)
    place.target().apply(order(done))
    place.died()
    place.write()
    undone = place.target().undo(back(done, "run-1"))
    assert undone.replaced is not None
    (row,) = place.target().ledger("0001_change").undoing("run-9")
    assert undone_by(row) == undone
    assert undone.found is not None
    assert undone.found.marks["user_version"] == 12
    assert undone.after == place.target().look(done, content=True)
    assert place.target().kept("run-9") == ()


@only_local
def test_what_was_backed_up_under_the_same_lock_is_not_backed_up_twice(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10))
    place.target().apply(order(done))
    place.died()
    place.write()
    target = place.target()
    target.hold()
    assert target.back_up(order(done, "run-9")) is not None
    assert target.undo(back(done, "run-1")).replaced is None


@only_remote
def test_a_step_says_which_objects_it_touched(place: Place) -> None:
    done = work(place, (place.add(1), "CREATE TABLE one (n int)", INDEX), "DROP TABLE one")
    place.target().apply(order(done))
    touched = place.target().ledger("0001_change").touched(("run-1",))
    assert touched is not None
    assert {key.replace("public.", "") for key in touched} == {"table one", "index item_n"}
    assert place.target().ledger("0001_change").touched(("run-2",)) is None


# The local backup


@only_local
def test_without_a_down_the_backup_is_restored_and_the_ledger_keeps_what_happened(place: Place) -> None:
    done = work(place, place.add(10), user_version_to=12)
    world, target = place.world(), place.target()
    target.hold()
    backup = target.back_up(order(done))
    assert backup is not None
    target.apply(order(done))
    undone = target.undo(back(done, "run-1", run="run-1", backup=backup))
    assert (undone.how, undone.others_wrote) == ("restore", False)
    assert place.world() == world
    assert shape(target) == [("down", 1, "run-1", "run-1", "done"), ("up", 1, "run-1", "", "done")]
    target.undo(back(done, "run-1", run="run-1", backup=backup))
    assert place.world() == world


@only_local
def test_a_restore_that_would_lose_what_others_wrote_is_refused_until_it_is_asked_for(place: Place) -> None:
    done = work(place, place.add(10))
    world, target = place.world(), place.target()
    target.hold()
    backup = target.back_up(order(done))
    target.apply(order(done))
    place.write()
    written = place.world()
    with pytest.raises(Refused) as refused:
        target.undo(back(done, "run-1", run="run-1", backup=backup))
    assert refused.value.code == "T336"
    assert place.world() == written
    assert target.ledger("0001_change").holds(("run-1",))
    undone = target.undo(back(done, "run-1", run="run-1", backup=backup, discard_writes=True))
    assert undone.others_wrote is True
    assert place.world() == world


@only_local
def test_without_a_down_and_without_a_backup_there_is_no_way_back(place: Place) -> None:
    done = work(place, place.add(10))
    place.target().apply(order(done))
    with pytest.raises(Refused) as refused:
        place.target().undo(back(done, "run-1"))
    assert refused.value.code == "T337"
    assert place.items()["a"] == 11
    assert place.target().ledger("0001_change").whole("run-1")


@on("place", ["sqlite wal", "sqlite delete"], indirect=True)
@on(
    "statement",
    [
        "CREATE INDEX of_the_host ON item (n)",
        "CREATE VIEW of_the_host AS SELECT 1",
        "PRAGMA user_version = 99",
        "DELETE FROM counted WHERE id = 5",
        "INSERT INTO counted (id) VALUES (NULL)",
    ],
)
def test_no_kind_of_write_by_others_is_lost_by_a_restore(place: SQLitePlace, statement: str) -> None:
    done = work(place, place.add(10))
    target = place.target()
    target.hold()
    backup = target.back_up(order(done))
    target.apply(order(done))
    place.execute(statement)
    with pytest.raises(Refused, match="T336"):
        target.undo(back(done, "run-1", run="run-1", backup=backup))


@only_remote
def test_a_remote_is_never_backed_up(place: Place) -> None:
    assert place.target().back_up(order(work(place, place.add(1), place.add(-1)))) is None


# Looking


def test_a_function_that_raises_is_a_refusal_with_its_cause_and_leaves_nothing(place: Place) -> None:
    def fail(connection: object) -> None:
        raise KeyError("the cause")

    before = place.world()
    with pytest.raises(Refused) as refused:
        place.target().apply(order(work(place, (place.adding(10), cast("StepFunction", fail)), place.add(-10))))
    assert refused.value.code == "T331"
    assert isinstance(refused.value.__cause__, KeyError)
    assert "fail()" in str(refused.value.details["statement"])
    assert place.world() == before
    assert shape(place.target()) == []


def test_verification_calls_the_check_and_refuses_with_its_cause(place: Place) -> None:
    def fail(connection: object) -> None:
        raise AssertionError("the rows are not right")

    called: list[object] = []
    done = work(place, place.add(10), place.add(-10), check=called.append)
    target = place.target()
    target.apply(order(done))
    assert target.verify(done) == ()
    assert len(called) == 1
    with pytest.raises(Refused) as refused:
        target.verify(work(place, place.add(10), place.add(-10), check=fail))
    assert refused.value.code == "T332"
    assert isinstance(refused.value.__cause__, AssertionError)


def test_a_check_cannot_change_anything(place: Place) -> None:
    done = work(place, place.add(10), place.add(-10), check=place.adding(1000))
    target = place.target()
    target.apply(order(done))
    with suppress(Refused):  # some may not write, with others it is rolled back
        target.verify(done)
    target.release()
    assert place.items()["a"] == 11


@each_real
@on("text_of_it", ["DELETE FROM item", "DELETE FROM item; COMMIT", "COMMIT", "SELECT 1; COMMIT; DELETE FROM item"])
def test_measuring_changes_nothing_whatever_the_query_does(place: Place, text_of_it: str) -> None:
    before, target = place.world(), place.target()
    for held in (False, True):
        if held:
            target.hold()
        try:
            (timing,) = target.measure([Query(name="a query", side=place.side, sql=text_of_it)])
            assert timing.milliseconds > 0
        except DefinitionError as refused:
            _is_about_a_query(refused)
        assert place.world() == before
    with pytest.raises((Blocked, Locked)):
        place.target(beside=True).hold()


@each_real
def test_what_may_only_read_measures_no_query_that_writes_and_leaves_the_file_as_it_is(place: Place) -> None:
    before = place.world()
    file = hashlib.sha256(place.path.read_bytes()).digest() if isinstance(place, SQLitePlace) else b""
    reads = Query(name="reads", side=place.side, sql="SELECT count(*) FROM item")
    writes = Query(name="writes", side=place.side, sql="DELETE FROM item")
    target = place.target()
    assert [timing.name for timing in target.measure([reads, writes], only_reading=True)] == ["reads"]
    assert [timing.name for timing in place.target().measure([reads, writes])] == ["reads", "writes"]
    assert place.world() == before
    place.target().measure([reads, writes], only_reading=True)
    assert not isinstance(place, SQLitePlace) or hashlib.sha256(place.path.read_bytes()).digest() == file


def _is_about_a_query(refused: DefinitionError) -> None:
    assert refused.code == "T341"


@only_real
def test_a_query_that_cannot_run_is_named(place: Place) -> None:
    with pytest.raises(DefinitionError, match=r"T341.*the list.*nothing_of_this_name"):
        place.target().measure([Query(name="the list", side=place.side, sql="SELECT nothing_of_this_name FROM item")])


def test_many_queries_are_measured_one_after_the_other(place: Place) -> None:
    queries = [Query(name=f"query {number}", side=place.side, sql="SELECT n FROM item") for number in range(12)]
    timings = place.target().measure(queries)
    assert [timing.name for timing in timings] == ([query.name for query in queries] if place.elsewhere else [])


@only_local
def test_a_user_version_that_is_not_wanted_blocks_and_is_named(place: Place) -> None:
    with pytest.raises(Blocked) as blocked:
        place.target().validate(work(place, place.add(1), user_version_from=(7, 8), user_version_to=9), back=False)
    assert (blocked.value.code, blocked.value.details["wanted"], blocked.value.details["actual"]) == ("T201", "7 or 8", 11)
    place.target().validate(work(place, place.add(1), user_version_from=(7, 8), user_version_to=9), back=True)


# Functions cannot end the transaction


def _commits(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))
    connection.commit()


def _rolls_back(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))
    connection.rollback()


def _swallows_its_own_commit(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))
    with suppress(Exception):
        connection.commit()


def _commits_by_text(connection: Connection) -> None:
    connection.execute(text("COMMIT"))


def _commits_by_hidden_text(connection: Connection) -> None:
    connection.execute(text("/* a comment */ COMMIT"))


def _rolls_back_by_hidden_text(connection: Connection) -> None:
    connection.execute(text("/* a comment */ ROLLBACK"))


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _commits_the_driver(connection: Connection) -> None:
    _driver(connection).commit()


def _swallows_a_commit_of_the_driver(connection: Connection) -> None:
    with suppress(Exception):
        _driver(connection).commit()


def _rolls_the_driver_back(connection: Connection) -> None:
    _driver(connection).rollback()


def _rolls_back_and_begins_again(connection: Connection) -> None:
    driver = _driver(connection)
    with suppress(Exception):
        driver.rollback()
    with suppress(Exception):
        driver.execute("BEGIN")
    driver.execute("UPDATE item SET n = n + 7")


def _rolls_back_and_goes_on_in_autocommit(connection: Connection) -> None:
    driver = _driver(connection)
    with suppress(Exception):
        driver.rollback()
    with suppress(Exception):
        driver.execute("UPDATE item SET n = n + 7")


def _goes_on_in_autocommit_by_text(connection: Connection) -> None:
    driver = _driver(connection)
    with suppress(Exception):
        driver.execute("ROLLBACK")
    with suppress(Exception):
        driver.execute("UPDATE item SET n = n + 7")


def _closes_and_goes_on(connection: Connection) -> None:
    driver = _driver(connection)
    driver.close()
    driver.execute("UPDATE item SET n = n + 7")


def _ends_the_program(connection: Connection) -> None:
    connection.execute(text("UPDATE item SET n = n + 7"))
    raise SystemExit(0)


def _runs_a_script(connection: Connection) -> None:
    driver = _driver(connection)
    if isinstance(driver, sqlite3.Connection):
        driver.executescript("UPDATE item SET n = 0; COMMIT;")
    else:
        driver.execute("UPDATE item SET n = 0; COMMIT; BEGIN")


def _closes(connection: Connection) -> None:
    connection.close()
    _driver(connection).close()


def _closes_the_driver(connection: Connection) -> None:
    _driver(connection).close()


ENDING = (
    _commits,
    _rolls_back,
    _swallows_its_own_commit,
    _commits_by_text,
    _commits_by_hidden_text,
    _rolls_back_by_hidden_text,
    _commits_the_driver,
    _swallows_a_commit_of_the_driver,
    _rolls_the_driver_back,
    _rolls_back_and_begins_again,
    _rolls_back_and_goes_on_in_autocommit,
    _goes_on_in_autocommit_by_text,
    _closes_and_goes_on,
    _ends_the_program,
    _runs_a_script,
    _closes,
    _closes_the_driver,
)
ending = on("end", ENDING, ids=lambda function: function.__name__.strip("_"))
some_ending = on("end", sometimes(ENDING, 3), ids=lambda function: function.__name__.strip("_"))


@each_real
@ending
def test_a_function_cannot_end_the_transaction_that_it_runs_in(place: Place, end: StepFunction) -> None:
    before = place.world()
    with pytest.raises(Refused):
        place.target().apply(order(work(place, (place.adding(10), end, place.adding(5)), place.add(-15))))
    assert place.world() == before
    assert shape(place.target()) == []
    place.target(wait_seconds=5).hold()


@each_real
def test_a_step_cannot_remove_what_the_ledger_says(place: Place) -> None:
    place.target().apply(order(work(place, place.add(10), place.add(-10))))
    place.died()
    before, said = place.world(), shape(place.target())
    ledger = "twinstep_ledger" if place.side == "local" else "twinstep.ledger"
    for step in (f"DELETE FROM {ledger}", f"DROP TABLE {ledger}", f"UPDATE {ledger} SET token = 'mine'"):
        with pytest.raises(Refused):
            place.target().apply(order(work(place, (place.add(5), step), place.add(-5)), run="run-2"))
        place.died()
    assert (place.world(), shape(place.target())) == (before, said)


@each_real
@some_ending
def test_a_function_that_takes_back_cannot_end_the_transaction_either(place: Place, end: StepFunction) -> None:
    done = work(place, place.add(10), (place.adding(-10), end))
    place.target().apply(order(done))
    place.died()
    with pytest.raises(Refused):
        place.target().undo(back(done, "run-1"))
    place.died()
    assert place.items()["a"] == 11
    assert place.target().ledger("0001_change").whole("run-1")


@each_real
@some_ending
def test_a_check_cannot_end_its_transaction_to_write_after_it(place: Place, end: StepFunction) -> None:
    def end_and_write(connection: Connection) -> None:
        with suppress(Exception):
            end(connection)
        with suppress(Exception):
            _driver(connection).execute("DELETE FROM item")

    done = work(place, place.add(10), place.add(-10), check=end_and_write)
    target = place.target()
    target.apply(order(done))
    before = place.world()
    with suppress(TwinstepError):
        target.verify(done)
    place.died()
    assert place.world() == before


HIDES_A_COMMIT = r"SELECT '\''; COMMIT; SELECT 1/0; --'"
CALLED = "SELECT set_config('standard_conforming_strings', 'off', false)"


@on("place", ["postgres"], indirect=True)
@on("before_it", ["", f"{CALLED};", f"DO $$ BEGIN PERFORM {CALLED.removeprefix('SELECT ')}; END $$;"])
def test_a_statement_ends_where_we_read_its_end_whatever_the_server_has_set(place: Place, before_it: str) -> None:
    assert isinstance(place, PostgresPlace)
    if not before_it:
        (database,) = place.asked("SELECT current_database()")[0]
        place.execute(f"ALTER DATABASE {database} SET standard_conforming_strings = off")
    before = place.world()
    change = work(place, (place.add(10), f"{before_it} {HIDES_A_COMMIT}"), place.add(-10))
    if before_it:
        with pytest.raises(Refused, match=r"T331.*standard_conforming_strings"):
            place.target().apply(order(change))
        assert place.world() == before
        assert shape(place.target()) == []
    else:
        place.target().apply(order(change))
        assert len(shape(place.target())) == 1


@only_real
def test_a_function_may_use_savepoints(place: Place) -> None:
    def partly(connection: Connection) -> None:
        with connection.begin_nested():
            connection.execute(text("UPDATE item SET n = n + 10"))
        with suppress(RuntimeError), connection.begin_nested():
            connection.execute(text("UPDATE item SET n = n + 100"))
            raise RuntimeError("not this part")

    place.target().apply(order(work(place, partly, place.add(-10))))
    assert place.items()["a"] == 11


# Time


@only_real
def test_a_statement_that_runs_too_long_is_refused_and_leaves_nothing(place: Place) -> None:
    long = (
        "SELECT pg_sleep(20)"
        if place.side == "remote"
        else "UPDATE item SET n = (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c)"
    )
    before, began = place.world(), time.monotonic()
    option: dict[str, Any] = {"statement_timeout_seconds" if place.side == "remote" else "timeout_seconds": 0.3}
    with pytest.raises(Refused) as refused:
        place.target().apply(order(work(place, (place.add(10), long), place.add(-10), **option)))
    assert refused.value.code == "T269"
    assert "T219" not in str(refused.value)
    assert time.monotonic() - began < 10
    assert place.world() == before
    assert shape(place.target()) == []


@on("place", ["sqlite wal", "sqlite delete"], indirect=True)
def test_a_function_that_took_too_long_is_refused(place: Place) -> None:
    def sleep(connection: Connection) -> None:
        time.sleep(0.3)

    before = place.world()
    with pytest.raises(Refused) as refused:
        place.target().apply(order(work(place, (place.add(10), sleep), place.add(-10), timeout_seconds=0.1)))
    assert refused.value.code == "T269"
    assert place.world() == before


@on("place", ["sqlite wal", "sqlite delete"], indirect=True)
@on("swallows", [False, True], ids=["plain", "swallowing"])
def test_a_function_that_never_ends_is_interrupted_and_leaves_nothing(place: Place, swallows: bool) -> None:
    def turn(connection: Connection) -> None:
        began = time.monotonic()
        while time.monotonic() - began < 2:
            with suppress(BaseException if swallows else Exception):
                connection.execute(text("UPDATE item SET n = n + 1"))
                while time.monotonic() - began < 2:
                    pass

    before, began = place.world(), time.monotonic()
    with pytest.raises(Refused) as refused:
        place.target().apply(order(work(place, (place.adding(10), turn), place.add(-10), timeout_seconds=0.2)))
    assert refused.value.code == "T269"
    assert swallows or time.monotonic() - began < 1.5
    assert place.world() == before
    place.target(wait_seconds=5).hold()


@on("place", ["sqlite wal", "sqlite delete"], indirect=True)
def test_a_function_that_is_interrupted_inside_a_statement_is_out_of_time_and_was_not_stopped_by_hand(place: Place) -> None:
    """SQLite asks the guard at each statement: what is raised there comes out as an error of the statement."""

    def step_by_step(connection: Connection) -> None:
        while True:
            connection.exec_driver_sql("UPDATE item SET n = n WHERE n BETWEEN 1 AND 2")

    before = place.world()
    for _ in range(3):
        with pytest.raises(Refused) as refused:
            place.target().apply(order(work(place, (place.adding(10), step_by_step), place.add(-10), timeout_seconds=0.3)))
        assert refused.value.code == "T269"
        assert place.world() == before


@on("place", ["postgres"], indirect=True)
def test_a_function_that_keeps_its_transaction_open_for_too_long_loses_it_and_its_locks(place: Place) -> None:
    def sleep(connection: Connection) -> None:
        connection.execute(text("UPDATE item SET n = n + 1"))
        time.sleep(0.8)
        connection.execute(text("UPDATE item SET n = n + 1"))

    def sleep_last(connection: Connection) -> None:
        time.sleep(0.8)

    before = place.world()
    for function in (sleep, sleep_last):
        with pytest.raises(Refused) as refused:
            place.target().apply(
                order(work(place, (place.adding(10), function), place.add(-10), statement_timeout_seconds=0.3))
            )
        assert refused.value.code == "T269"
        assert place.world() == before
        place.died()


# Errors are ours


@on("place", ["sqlite wal", "sqlite delete"], indirect=True)
def test_a_file_that_is_gone_or_is_no_database_is_an_error_of_ours(place: SQLitePlace) -> None:
    for damage in (lambda: place.path.write_bytes(b"no database at all" * 100), place.path.unlink):
        target = place.target()
        damage()
        for name, call in {**_calls(target, place), "hold": target.hold}.items():
            if name != "confirm":
                with pytest.raises(TwinstepError):
                    call()


def _calls(target: Target, place: Place) -> dict[str, Callable[[], object]]:
    done = work(place, place.add(10), place.add(-10))
    return {
        "whole": target.whole,
        "ledger": lambda: target.ledger("x"),
        "look": lambda: target.look(done, content=True),
        "validate": lambda: target.validate(done, back=False),
        "apply": lambda: target.apply(order(done)),
        "confirm": lambda: target.confirm(order(done), "run-0"),
        "undo": lambda: target.undo(back(done, "run-1")),
        "verify": lambda: target.verify(work(place, place.add(1), place.add(-1), check=place.adding(0))),
        "measure": lambda: target.measure([Query(name="q", side=place.side, sql="SELECT 1 FROM item")]),
    }


@pytest.fixture
def remote(remote_url: str) -> Iterator[PostgresPlace]:
    place = PostgresPlace(remote_url)
    yield place
    place.close()


@on("name", sometimes(["whole", "ledger", "look", "validate", "apply", "confirm", "undo", "verify", "measure"], 2))
def test_a_session_that_was_ended_is_in_doubt_and_the_next_call_begins_anew(remote: PostgresPlace, name: str) -> None:
    target = remote.target()
    target.hold()
    remote.cut()
    with pytest.raises(InDoubt) as doubt:
        _calls(target, remote)[name]()
    assert doubt.value.code == "T391"
    assert target.held is None
    target.whole()
    assert target.hold()


def test_a_session_that_was_ended_before_the_lock_was_asked_for_is_in_doubt(remote: PostgresPlace) -> None:
    target = remote.target()
    target.whole()
    remote.cut()
    with pytest.raises(InDoubt):
        target.hold()
    assert target.hold()


CUTS = ["group:before-commit", "open:before-commit", "open:after-commit", "single:before", "done:before-commit"]


@on("crossing", sometimes([f"remote:{cut}" for cut in CUTS], 2))
def test_a_connection_cut_anywhere_is_in_doubt_and_running_again_finishes(remote: PostgresPlace, crossing: str) -> None:
    done = work(remote, (remote.add(10), INDEX), remote.add(-10))

    def cut(passed: str) -> None:
        if passed == crossing:
            remote.cut()

    with pytest.raises(InDoubt):
        remote.target(probe=cut).apply(order(done))
    remote.target().apply(order(done))
    assert remote.items()["a"] == 11
    assert remote.asked("SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_n'::regclass") == [(True,)]
    assert remote.target().ledger("0001_change").whole("run-1")


@on("crossing", ["remote:undo:before-commit", "remote:single-undo:before", "remote:single-undo:after"])
def test_an_undo_cut_anywhere_is_in_doubt_and_running_again_finishes(remote: PostgresPlace, crossing: str) -> None:
    world = remote.world()
    done = work(remote, (remote.add(10), INDEX), remote.add(-10))
    remote.target().apply(order(done))
    remote.close()

    def cut(passed: str) -> None:
        if passed == crossing:
            remote.cut()

    with pytest.raises(InDoubt):
        remote.target(probe=cut).undo(back(done, "run-1"))
    remote.target().undo(back(done, "run-1"))
    assert remote.world() == world


def test_a_statement_and_a_function_that_lose_their_session_are_in_doubt(remote: PostgresPlace) -> None:
    def end_it(connection: Connection) -> None:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    for step in ("SELECT pg_terminate_backend(pg_backend_pid())", end_it):
        with pytest.raises(InDoubt):
            remote.target().apply(order(work(remote, (remote.add(10), step), remote.add(-10))))
    assert remote.items() == ITEMS


def test_a_server_that_is_not_there_is_unreachable_and_no_call_raises_the_drivers_errors(remote: PostgresPlace) -> None:
    from twinstep.migrations.postgres_target import PostgresTarget

    target = PostgresTarget("postgresql://somebody:the-secret@127.0.0.1:1/nowhere")
    for name, call in {**_calls(target, remote), "hold": target.hold}.items():
        with pytest.raises(Unreachable) as away:
            call()
        assert "the-secret" not in str(away.value), name
        assert "127.0.0.1:1" in str(away.value)
    target.release()


# PostgreSQL: locks of others, fencing, rights


def test_a_busy_table_is_waited_for_and_then_refused_with_nothing_changed(remote: PostgresPlace) -> None:
    before, began = remote.world(), time.monotonic()
    target = remote.target(retry_for_seconds=1.0)
    with psycopg.connect(remote.url) as busy:
        busy.execute("LOCK TABLE item IN SHARE MODE")
        up = ("CREATE TABLE one (n int)", "ALTER TABLE item ADD COLUMN m int")
        done = work(remote, up, "DROP TABLE one", lock_timeout_seconds=0.1)
        with pytest.raises(Refused) as refused:
            target.apply(order(done))
    assert time.monotonic() - began > 0.9
    assert "55P03" in str(refused.value)
    assert remote.world() == before
    assert shape(remote.target()) == []


@on("by_function", [False, True])
def test_a_table_that_becomes_free_in_time_is_changed_once(remote: PostgresPlace, by_function: bool) -> None:
    tries: list[str] = []
    with closing(psycopg.connect(remote.url)) as busy:
        busy.execute("LOCK TABLE item IN SHARE MODE")

        def let_go(connection: Connection) -> None:
            tries.append("once")
            if len(tries) == 3:
                busy.rollback()

        change = remote.adding(10) if by_function else remote.add(10)
        target = remote.target(retry_for_seconds=20.0)
        target.apply(order(work(remote, (let_go, change), remote.add(-10), lock_timeout_seconds=0.05)))
    assert len(tries) >= 3
    assert remote.items()["a"] == 11


def test_a_coordinator_whose_place_was_taken_cannot_commit_any_more(remote: PostgresPlace) -> None:
    done = work(remote, remote.add(10), remote.add(-10))
    first = remote.target()
    first.apply(order(done))
    # Its session is alive, and the lock is somebody else's all the same: a pooler in between can do that.
    remote.execute("UPDATE twinstep.ledger SET token = 'another' WHERE direction = 'head'")
    with pytest.raises(LostLock) as lost:
        first.undo(back(done, "run-1"))
    assert lost.value.code == "T402"
    assert remote.items()["a"] == 11


def test_a_ledger_that_another_session_keeps_locked_is_refused_in_time(remote: PostgresPlace) -> None:
    done = work(remote, remote.add(10), remote.add(-10), lock_timeout_seconds=0.1)
    remote.target().apply(order(done))
    remote.close()
    with psycopg.connect(remote.url) as stopped:
        stopped.execute("SELECT FROM twinstep.ledger WHERE direction = 'head' FOR SHARE")
        began = time.monotonic()
        with pytest.raises(Refused, match="55P03"):
            remote.target().undo(back(done, "run-1"))
    assert time.monotonic() - began < 10


def test_a_role_without_rights_is_named_at_validation_before_anything_is_changed(remote: PostgresPlace) -> None:
    from twinstep.migrations.postgres_target import PostgresTarget

    done = work(remote, remote.add(10), remote.add(-10))
    role = f"nobody_{remote.asked('SELECT current_database()')[0][0]}"
    remote.execute(f"CREATE ROLE {role} LOGIN")
    try:
        url = remote.url.replace("postgresql://postgres@", f"postgresql://{role}@")
        with closing(PostgresTarget(url)) as poor, pytest.raises(Blocked) as blocked:
            poor.validate(done, back=False)
        assert blocked.value.code == "T223"
        with closing(PostgresTarget(url, changes=False)) as looking:
            looking.validate(done, back=False)
        remote.target().apply(order(done))
        remote.died()
        for call in ("validate", "ledger", "whole"):
            with closing(PostgresTarget(url)) as poor, pytest.raises(Blocked) as blocked:
                _calls(poor, remote)[call]()
            assert role in str(blocked.value)
        remote.execute(f"GRANT USAGE ON SCHEMA twinstep TO {role}", f"GRANT SELECT ON twinstep.ledger TO {role}")
        with closing(PostgresTarget(url, changes=False)) as looking:
            looking.hold()
            assert looking.ledger("0001_change").whole("run-1")
            looking.confirm(order(done, "run-2"), "run-1")
        with closing(PostgresTarget(url)) as poor, pytest.raises(Blocked) as blocked:
            poor.validate(done, back=False)
        assert blocked.value.code == "T223"
    finally:
        remote.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_function_that_goes_on_after_an_error_is_told_so(remote: PostgresPlace) -> None:
    def swallow(connection: Connection) -> None:
        with suppress(Exception):
            connection.execute(text("SELECT nothing"))

    with pytest.raises(Refused) as refused:
        remote.target().apply(order(work(remote, (remote.add(10), swallow), remote.add(-10))))
    assert refused.value.code == "T331"
    assert "swallow()" in str(refused.value)
    assert remote.items() == ITEMS


def test_a_trigger_of_the_same_name_elsewhere_does_not_disarm_ours(remote: PostgresPlace) -> None:
    remote.execute(
        "CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER refuse_running AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION public.nothing()",
    )
    with pytest.raises(Refused):
        remote.target().apply(order(work(remote, (remote.adding(10), _commits_the_driver), remote.add(-10))))
    assert remote.items() == ITEMS


def test_text_that_is_not_ascii_arrives_in_a_database_of_another_encoding(postgres: EmbeddedPostgres) -> None:
    name = "latin_one_targets"
    with psycopg.connect(postgres.url(), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0".encode())
    place = PostgresPlace(postgres.url(name))
    try:
        place.target().apply(order(work(place, "CREATE TABLE word (w text); INSERT INTO word VALUES ('é')", "DROP TABLE word")))
        assert place.asked("SELECT length(w) FROM word") == [(1,)]
    finally:
        place.close()
        postgres.drop_database(name)


# PostgreSQL: statements outside a transaction


def test_an_index_of_another_definition_under_the_name_is_refused_and_left_alone(remote: PostgresPlace) -> None:
    remote.execute("CREATE INDEX item_n ON item (id)")
    world = remote.world()
    done = work(remote, INDEX.replace("CONCURRENTLY", "CONCURRENTLY IF NOT EXISTS"))
    with pytest.raises(Refused) as refused:
        remote.target().apply(order(done))
    assert refused.value.code == "T325"
    remote.close()
    remote.target().undo(back(done, "run-1"))
    assert remote.world() == world


def test_an_index_that_was_there_before_is_still_there_after_going_back(remote: PostgresPlace) -> None:
    remote.execute("CREATE INDEX item_n ON item (n)")
    world = remote.world()
    done = work(remote, INDEX.replace("CONCURRENTLY", "CONCURRENTLY IF NOT EXISTS"))
    remote.target().apply(order(done))
    remote.close()
    remote.target().undo(back(done, "run-1"))
    assert remote.world() == world


def test_a_build_that_is_refused_leaves_an_open_row_and_no_index(remote: PostgresPlace) -> None:
    remote.execute("INSERT INTO item VALUES ('d', 1)")
    world = remote.world()
    done = work(remote, INDEX.replace("INDEX", "UNIQUE INDEX"))
    with pytest.raises(Refused):
        remote.target().apply(order(done))
    remote.close()
    assert shape(remote.target()) == [("up", 1, "run-1", "", "open")]
    assert remote.target().ledger("0001_change").holds(("run-1",))
    assert remote.world() == world
    remote.close()
    remote.target().undo(back(done, "run-1"))
    assert remote.world() == world
    assert not remote.target().ledger("0001_change").holds(("run-1",))


@on("crossing", ["remote:open:after-commit", "remote:single:before", "remote:single:after", "remote:done:before-commit"])
def test_an_open_row_is_taken_up_again_or_taken_back(remote: PostgresPlace, crossing: str) -> None:
    world = remote.world()
    done = work(remote, INDEX)
    for go_on in (False, True):
        run = f"run-{go_on}"
        with pytest.raises(Crash):
            remote.target(probe=crash_at(crossing)).apply(order(done, run))
        remote.died()
        assert ("up", 1, run, "", "open") in shape(remote.target())
        if go_on:
            remote.target().apply(order(done, run))
            remote.died()
            assert remote.target().ledger("0001_change").whole(run)
            assert any("item_n" in key for key in remote.world().objects)
        remote.died()
        remote.target().undo(back(done, run, run=f"back-{go_on}"))
        remote.died()
        assert remote.world() == world


def test_an_invalid_index_of_somebody_else_is_reported_and_refuses_nothing(remote: PostgresPlace) -> None:
    remote.execute(
        "CREATE TABLE whole (n int) PARTITION BY RANGE (n)",
        "CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (9)",
        "CREATE INDEX whole_n ON ONLY whole (n)",
    )
    done = work(remote, (remote.add(10), INDEX), remote.add(-10))
    target = remote.target()
    target.apply(order(done))
    (finding,) = target.verify(done)
    assert "whole_n" in finding


def test_an_invalid_index_of_the_migration_itself_is_refused(remote: PostgresPlace) -> None:
    done = work(remote, (remote.add(10), INDEX), remote.add(-10))
    target = remote.target()
    target.apply(order(done))
    remote.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'item_n'::regclass")
    with pytest.raises(Refused, match=r"T332.*item_n"):
        target.verify(done)


# Rehearsing: the real target's code, and nothing stays


def test_a_rehearsal_changes_nothing_and_tells_what_the_real_run_then_does(place: Place) -> None:
    indexed = (INDEX,) if place.side == "remote" else ()
    done = work(place, (place.add(10), *indexed), place.add(-10))
    before = place.world()
    (told,) = place.rehearser().rehearse([part(done)]).parts
    assert (told.faults, place.world(), place.items()) == ([], before, ITEMS)
    target = place.target()
    assert target.whole().ledgers == {}
    assert target.apply(order(done)) == told.changes
    assert told.rows is not None
    (rows,) = (each for each in told.rows if each.table.endswith("item"))
    assert rows.changed
    assert rows.updated in (None, 3)
    assert {step.direction for step in told.steps} == {"up", "down"}


def test_what_a_step_would_be_refused_with_is_found_and_what_stood_before_it_is_taken_back(place: Place) -> None:
    good, bad = work(place, place.add(10), place.add(-10)), work(place, (place.add(1), place.refused()), place.add(-1))
    parts = [part(good), part(bad, migration="0002_bad"), part(good, migration="0003_later")]
    first, second, third = place.rehearser().rehearse(parts).parts
    effect = f"APPLY_{place.side.upper()}"
    assert [(fault.effect, fault.error.code) for fault in second.faults] == [(effect, "T331")]
    assert isinstance(second.faults[0].error, Refused)
    assert first.faults == []
    assert "COMPARE" in first.seconds
    assert [omission.what for omission in third.omissions] == ["everything"]
    assert (place.items(), place.target().whole().ledgers) == (ITEMS, {})


def test_a_down_that_is_refused_is_found_and_those_before_it_are_not_tried(place: Place) -> None:
    good, bad = work(place, place.add(10), place.add(-10)), work(place, place.add(10), place.refused())
    first, second = place.rehearser().rehearse([part(good), part(bad, migration="0002_bad")]).parts
    undo = f"UNDO_{place.side.upper()}"
    assert [(fault.effect, fault.error.code) for fault in second.faults] == [(undo, "T338")]
    assert first.faults == []
    assert ["0002_bad" in omission.reason for omission in first.omissions if omission.what == "going back"] == [True]
    assert place.items() == ITEMS


@only_local
def test_a_down_that_leaves_rows_different_is_found(place: Place) -> None:
    (told,) = place.rehearser().rehearse([part(work(place, place.add(10), place.add(-9)))]).parts
    assert [(fault.effect, fault.error.code) for fault in told.faults] == [("COMPARE", "T335")]
    assert "item" in told.faults[0].error.condition


@only_local
def test_without_a_down_the_backup_is_restored_on_the_copy(place: Place) -> None:
    (told,) = place.rehearser().rehearse([part(work(place, place.add(10)))]).parts
    assert (told.faults, told.omissions) == ([], [])
    assert [step.statement for step in told.steps if step.direction == "down"] == ["restoring the backup"]
    assert place.items() == ITEMS


@only_remote
def test_an_irreversible_remote_is_rehearsed_forward_only(place: Place) -> None:
    (told,) = place.rehearser().rehearse([part(work(place, place.add(10), irreversible=True))]).parts
    assert told.faults == []
    assert [(each.what, each.reason) for each in told.omissions] == [("going back", "it has no down")]


def test_a_check_that_would_fail_is_found(place: Place) -> None:
    def check(lent: object) -> None:
        raise ValueError("not as it must be")

    (told,) = place.rehearser().rehearse([part(work(place, place.add(10), place.add(-10), check=check))]).parts
    assert [(fault.effect, fault.error.code) for fault in told.faults] == [("VERIFY", "T332")]
    assert "not as it must be" in told.faults[0].error.condition
    assert place.items() == ITEMS


@only_remote
def test_a_rehearsal_waits_for_a_coordinator_and_never_keeps_one_waiting(place: Place) -> None:
    done = part(work(place, place.add(10), place.add(-10)))
    target = place.target()
    target.hold()
    with pytest.raises(Locked, match="T401"):
        place.rehearser().rehearse([done])
    target.release()
    held: list[str] = []

    def meanwhile(lent: object) -> None:
        held.append(place.target(beside=True).hold())

    place.rehearser().rehearse([part(work(place, (place.add(10), meanwhile), place.add(-10)))])
    assert len(held) == 1


AGREEING = settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FAULTS = st.lists(st.sampled_from(["good", "refused", "bad down", "bad check"]), min_size=1, max_size=4)


def _rehearsed(place: Place, kinds: list[str]) -> tuple[object, ...]:
    """What a rehearsal of such migrations finds, and what is there afterwards."""

    def check(lent: object) -> None:
        raise ValueError("not as it must be")

    parts = []
    for number, kind in enumerate(kinds, start=1):
        up = (place.add(number), place.refused()) if kind == "refused" else (place.add(number),)
        down = place.refused() if kind == "bad down" else place.add(-number)
        made = work(place, up, down, check=check if kind == "bad check" else None)
        parts.append(part(made, migration=f"{number:04}_{kind.replace(' ', '_')}"))
    told = place.rehearser().rehearse(parts).parts
    found = [[(fault.effect, fault.error.code) for fault in each.faults] for each in told]
    return found, [[each.what for each in one.omissions] for one in told], place.items(), place.target().whole().ledgers


@AGREEING
@given(kinds=FAULTS)
def test_sqlite_and_memory_agree_on_what_a_rehearsal_finds(kinds: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    real, memory = SQLitePlace(tmp_path_factory.mktemp("rehearsed"), "wal"), MemoryPlace("local")
    assert _rehearsed(real, kinds) == _rehearsed(memory, kinds)
    real.close()


@AGREEING
@given(kinds=FAULTS)
def test_postgres_and_memory_agree_on_what_a_rehearsal_finds(kinds: list[str], postgres: EmbeddedPostgres) -> None:
    real, memory = PostgresPlace(postgres.create_database()), MemoryPlace("remote")
    assert _rehearsed(real, kinds) == _rehearsed(memory, kinds)
    real.close()


def test_an_index_that_was_invalid_when_it_was_looked_at_may_be_finished_or_stay(remote: PostgresPlace) -> None:
    remote.execute(
        "CREATE TABLE whole (n int) PARTITION BY RANGE (n)",
        "CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (9)",
        "CREATE INDEX whole_n ON ONLY whole (n)",
    )
    target = remote.target()
    before = target.look(work(remote, remote.add(10), remote.add(-10)), content=False)
    assert target.schema(["public"]).invalid_indexes() == ("public.whole_n",)
    assert target.schema(["public"]).drift_since(before) == ()
    remote.execute("CREATE INDEX part_n ON part (n)", "ALTER INDEX whole_n ATTACH PARTITION part_n")
    assert target.schema(["public"]).invalid_indexes() == ()
    assert target.schema(["public"]).drift_since(before) == ("index public.part_n is new",)


def test_a_schema_behind_a_lock_is_not_waited_for_long(remote: PostgresPlace) -> None:
    remote.execute("CREATE VIEW seen AS SELECT n FROM item")
    with psycopg.connect(remote.url) as other:
        other.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Blocked, match="T272"):
            remote.target().schema(["public"])
        other.rollback()
    assert "view public.seen" in remote.target().schema(["public"]).objects


# The same sequence of calls gives the same ledger everywhere

RUNS = ("run-1", "run-2", "run-3")
CROSSINGS = (None, "group:before-commit", "group:after-commit", "undo:before-commit", "undo:after-commit")
CALLS = st.lists(
    st.tuples(st.sampled_from(["apply", "undo", "confirm"]), st.sampled_from(RUNS), st.sampled_from(CROSSINGS)), max_size=8
)


def _played(place: Place, calls: list[tuple[str, str, str | None]]) -> tuple[object, ...]:
    """What comes of the calls: how each ended, the rows, and the ledger's shape."""
    indexed = (INDEX,) if place.side == "remote" else ()
    done = work(place, (place.add(10), *indexed), place.add(-10))
    ends = []
    for call, run, crossing in calls:
        probe = crash_at(f"{place.side}:{crossing}") if crossing else lambda crossing: None
        target = place.target(probe=probe)
        try:
            if call == "apply":
                target.apply(order(done, run))
            elif call == "undo":
                target.undo(back(done, run, run=f"back of {run}"))
            elif place.side == "remote":
                target.confirm(order(done, f"confirming {run}"), run)
            ends.append("done")
        except Crash as crash:
            ends.append(str(crash))
        except TwinstepError as error:
            ends.append(error.code)
        target.close()
        place.died()
    target = place.target()
    return (ends, place.items(), shape(target))


@AGREEING
@given(calls=CALLS)
def test_sqlite_and_memory_agree_on_any_sequence_of_calls(
    calls: list[tuple[str, str, str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    real, memory = SQLitePlace(tmp_path_factory.mktemp("agree"), "wal"), MemoryPlace("local")
    assert _played(real, calls) == _played(memory, calls)
    real.close()


@AGREEING
@given(calls=CALLS)
def test_postgres_and_memory_agree_on_any_sequence_of_calls(
    calls: list[tuple[str, str, str | None]], postgres: EmbeddedPostgres
) -> None:
    url = postgres.create_database()
    real, memory = PostgresPlace(url), MemoryPlace("remote")
    assert _played(real, calls) == _played(memory, calls)
    real.close()
