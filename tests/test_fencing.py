"""A coordinator that is stopped while its remote session is ended, and woken later, commits nothing any more, anywhere.

The first coordinator is a child process that stops itself (SIGSTOP) at a crossing. Its session on the remote is ended, as a
server does with a client that does not answer; a rival takes the lock and changes something; then the first one is woken. What
it had not committed by then it must not commit: not on the remote, not on the local side, not in the log.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import frozen
from real_schedules import SCENARIOS, Place, world_after
from targets import PostgresPlace, order, work

from twinstep.engine.coordinator import Coordinator
from twinstep.engine.definitions import definitions
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events.errors import InDoubt, Locked, LostLock
from twinstep.migrations.definition import Migration, Side
from twinstep.migrations.postgres_target import PostgresTarget
from twinstep.stores import remote_lock
from twinstep.stores.port import EventStore
from twinstep.stores.postgres_events import PostgresEventStore
from twinstep.stores.remote_connection import open_remote
from twinstep.stores.remote_lock import is_orphan, session_name, take_lock
from twinstep.stores.sqlite_events import SQLiteEventStore

LIMIT_SECONDS = 90.0
OTHER = Migration(id="0009_other", remote=Side(up="CREATE VIEW others AS SELECT 1", down="DROP VIEW others"))
NO_LOCAL_DOWN = "refused remotely and restored from the backup"


@frozen(kw_only=True)
class Stopped:
    """The first coordinator, stopped."""

    process: BaseProcess
    place: Place

    def wake(self) -> tuple[int, str]:
        """Let it go on to its end: its exit code, and the code of its error."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGCONT)
        self.process.join(timeout=LIMIT_SECONDS)
        assert self.process.exitcode == 0, self.process.exitcode
        code, error = json.loads((self.place.folder / "answer").read_text())
        return code, error


def stopped_at(name: str, place: Place, at: int, log: str | None = None) -> Stopped | None:
    """Make the scenario's call in a child that stops at that crossing; None where it ended before."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_call, args=(name, place, at, log))
    process.start()
    deadline = time.monotonic() + LIMIT_SECONDS
    while process.is_alive():
        with suppress(FileNotFoundError):  # it ended just now
            if Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return Stopped(process=process, place=place)
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.join()
    return None


def _call(name: str, place: Place, at: int, log: str | None) -> None:
    passed = 0

    def probe(crossing: str) -> None:
        nonlocal passed
        passed += 1
        if passed == at + 1:
            (place.folder / "crossing").write_text(crossing)
            os.kill(os.getpid(), signal.SIGSTOP)

    report = SCENARIOS[name].call(first(name, place, log, probe=probe))
    error = report.error.code if report.error is not None else ""
    (place.folder / "answer").write_text(json.dumps([report.exit_code, error]))


def first(name: str, place: Place, log: str | None, **options: Any) -> Coordinator:
    """The coordinator of the pair."""
    given = {"probe": lambda crossing: None, "log": log, "retry_for_seconds": 5, "wait_seconds": 0, **options}
    return SCENARIOS[name].coordinator(place, **given)


def begun(name: str, folder: Path, url: str) -> Place:
    """Both databases, as they are when the call is made."""
    place = Place(folder=folder, url=url)
    SCENARIOS[name].begin(place)
    return place


def end_its_session(stopped: Stopped) -> bool:
    """End the stopped process's sessions on the remote; whether one of them held the lock."""
    query = (
        "SELECT pid, EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory' AND granted), "
        "pg_terminate_backend(pid, 20000) FROM pg_stat_activity a "
        "WHERE datname = current_database() AND application_name LIKE %s"
    )
    with psycopg.connect(stopped.place.url, autocommit=True) as admin:
        found = admin.execute(query, (f"twinstep on % (process {stopped.process.pid}) %",)).fetchall()
    assert all(ended for _, _, ended in found)
    return any(held for _, held, _ in found)


def everything(place: Place, log: EventStore) -> tuple[object, ...]:
    """Every row that anybody could have committed on the remote, its ledger, and the log."""
    written = list(log.read_all())
    with psycopg.connect(place.url) as remote:
        ledger = remote.execute("SELECT * FROM twinstep.ledger ORDER BY 1, 2, 3, 4, 5").fetchall()
    return written, ledger, remote_world(place)


def remote_world(place: Place) -> tuple[object, ...]:
    with psycopg.connect(place.url) as remote:
        rows = remote.execute("SELECT to_jsonb(item) FROM item ORDER BY id").fetchall()
        indexes = remote.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1").fetchall()
    return rows, indexes


def local_world(place: Place) -> tuple[object, ...]:
    with closing(sqlite3.connect(f"{place.local.as_uri()}?mode=ro", uri=True)) as local:
        tables = [name for (name,) in local.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")]
        rows = [local.execute(f'SELECT * FROM "{name}" ORDER BY 1, 2').fetchall() for name in tables]
        return rows, local.execute("SELECT name, sql FROM sqlite_schema ORDER BY 1").fetchall()


def rival(place: Place) -> None:
    """An operator elsewhere, who has another change of the same remote to make, and then to take back."""
    change = definitions([OTHER], {})[OTHER.id].works["remote"]
    with closing(PostgresTarget(place.url, wait_seconds=30)) as target:
        target.apply(order(change, run="theirs"))
        target.undo(order(change, run="back", undoes=("theirs",)))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """A new folder at each call."""
    numbers = itertools.count()

    def make() -> Path:
        path = tmp_path / str(next(numbers))
        path.mkdir()
        return path

    return make


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Callable[[], str]]:
    """The URL of a new database at each call; all are dropped at the end."""
    made: list[str] = []

    def make() -> str:
        made.append(postgres.create_database())
        return made[-1]

    yield make
    for url in made:
        postgres.drop_database(url.rpartition("/")[2].partition("?")[0])


WOKEN = ("success", "refused remotely", "taken back", NO_LOCAL_DOWN)


def sweep(name: str, folder: Callable[[], Path], database: Callable[[], str], *, every: int, begins: int = 0) -> dict[str, int]:
    """Stop it at each so-many-th crossing, and wake it after the rival; how many times it had the lock, and how many not."""
    legal = world_after(SCENARIOS[name], Place(folder=folder(), url=database()))
    counted = {"held": 0, "not held": 0}
    for at in range(begins, 10_000, every):
        place = begun(name, folder(), database())
        stopped = stopped_at(name, place, at)
        if stopped is None:
            return counted
        held = end_its_session(stopped)
        crossing = (place.folder / "crossing").read_text()
        rival(place)
        log = SQLiteEventStore(place.log, readonly=True)
        ended_itself = has_ended(log)
        before, local = everything(place, log) if held else (), None
        if held and not crossing.startswith(("local:", "restore:")):
            local = local_world(place)
        code, error = stopped.wake()
        if held:
            counted["held"] += 1
            # Stopped after its last commit, it says what came of it.
            assert (code, error) == (4, "T402") or ended_itself, (crossing, code, error)
            assert everything(place, log) == before or ended_itself, f"stopped at {crossing}, it committed something"
            if local is not None:
                assert local_world(place) == local, crossing
        else:
            counted["not held"] += 1
        again = SCENARIOS[name].call(first(name, place, None))
        resumed = first(name, place, None).resume()
        log.close()
        SCENARIOS[name].check_end(place, legal)
        assert not resumed.runs, (crossing, again, resumed)
    return counted


@pytest.mark.parametrize("name", [pytest.param("success", marks=pytest.mark.full), "refused remotely"])
def test_a_coordinator_that_was_stopped_and_lost_its_session_commits_nothing_any_more(
    name: str, folder: Callable[[], Path], database: Callable[[], str]
) -> None:
    counted = sweep(name, folder, database, every=29, begins=5)
    assert counted["held"]


@pytest.mark.full
@pytest.mark.parametrize("name", WOKEN)
def test_stopped_at_every_crossing_it_commits_nothing_any_more(
    name: str, folder: Callable[[], Path], database: Callable[[], str]
) -> None:
    counted = sweep(name, folder, database, every=1)
    print(f"{name}: stopped {counted['held']} times with the lock, {counted['not held']} times without")
    assert counted["held"] > 5


def takes_over(name: str, place: Place, log: str) -> int:
    """Another process on the same pair: with a state folder of its own, so that no lock of the first one keeps it out."""
    return first(name, place, log, state_dir=place.folder / "elsewhere").resume().exit_code


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("refused remotely", 29),
        pytest.param("success", 1, marks=pytest.mark.full),
        pytest.param("refused remotely", 1, marks=pytest.mark.full),
    ],
)
def test_a_run_that_another_coordinator_of_the_pair_has_ended_is_not_touched_by_the_one_that_is_woken(
    name: str, every: int, folder: Callable[[], Path], database: Callable[[], str]
) -> None:
    taken_over = 0
    for at in range(9, 10_000, every):
        place = begun(name, folder(), database())
        url = database()
        stopped = stopped_at(name, place, at, url)
        if stopped is None:
            break
        end_its_session(stopped)
        crossing = (place.folder / "crossing").read_text()
        log = PostgresEventStore(url, readonly=True)
        ended_itself = has_ended(log)
        if takes_over(name, place, url) not in (0, 1) or ended_itself or not has_ended(log):
            stopped.wake()  # or it holds the local database, and the other one could not go on
            log.close()
            continue
        taken_over += 1
        before, local = everything(place, log), local_world(place)
        code, error = stopped.wake()
        assert everything(place, log) == before, f"stopped at {crossing}, it committed something"
        assert local_world(place) == local, crossing
        assert code == 4, (crossing, code, error)
        assert error in ("T402", "T403", "T504"), (crossing, error)
        log.close()
    assert taken_over


def has_ended(log: EventStore) -> bool:
    of_runs = [record.type for record in log.read_all() if "/" in record.stream]
    return bool(of_runs) and of_runs[-1] in ("Verified", "RolledBack")


def _hold_and_sleep(url: str) -> None:
    with closing(open_remote(url, doing="migrate")) as connection:
        connection.execute("SET client_connection_check_interval = 0")
        take_lock(connection, 0)
        connection.execute("SELECT pg_sleep(600)")


def test_the_session_that_a_killed_process_of_this_machine_left_is_ended_and_no_rival(remote_url: str) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=_hold_and_sleep, args=(remote_url,))
    process.start()
    with closing(open_remote(remote_url)) as connection:
        for _ in range(2000):
            if connection.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'").fetchone():
                break
            time.sleep(0.01)
        with pytest.raises(Locked) as locked:
            take_lock(connection, 0)
        assert f"(process {process.pid}) to migrate, backend " in str(locked.value)
        assert ", connected since 20" in str(locked.value)
        process.kill()
        process.join()
        take_lock(connection, 0)
        assert connection.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'").fetchone() is None


def test_a_lock_that_was_lost_while_a_question_was_asked_is_not_taken_for_none(remote_url: str) -> None:
    with closing(PostgresTarget(remote_url)) as target, psycopg.connect(remote_url, autocommit=True) as admin:
        target.hold()
        target.check_held()
        admin.execute("SELECT pg_terminate_backend(pid, 20000) FROM pg_locks WHERE locktype = 'advisory'")
        with pytest.raises(InDoubt):
            target.ledger("0001_change")
        with pytest.raises(LostLock) as lost:
            target.check_held()
        assert lost.value.code == "T404"
        target.hold_again()  # nobody was there
        target.check_held(asking=True)
        target.release()
        target.check_held()


def test_a_lock_whose_holder_has_just_let_go_is_taken_and_nobody_is_named(
    remote_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = remote_lock._held_by
    with closing(open_remote(remote_url)) as connection, closing(open_remote(remote_url)) as other:
        take_lock(other, 0)

        def let_go_first(asking: Any) -> object:
            other.close()
            while asked(asking) is not None:  # until the server has noticed
                time.sleep(0.01)
            return None

        monkeypatch.setattr(remote_lock, "_held_by", let_go_first)
        take_lock(connection, 0)


def test_a_session_is_an_orphan_only_where_its_process_is_known_to_be_dead() -> None:
    mine = session_name("migrate")
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        other = pool.apply(session_name, ("restore from quarantine",))
    assert len(other) <= 63
    assert is_orphan(other)  # the pool is gone by now
    assert not is_orphan(mine)
    assert not is_orphan(other.replace("[", "[0"))  # of another machine, where that process may live
    assert not is_orphan("somebody's psql")
    assert not is_orphan("")


END_ALL = (
    "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'twinstep on %'"
)


def test_a_target_that_lost_its_session_takes_the_lock_again_only_if_nobody_was_there(remote_url: str) -> None:
    place = PostgresPlace(remote_url)
    with closing(place.target()) as target, psycopg.connect(remote_url, autocommit=True) as admin:
        target.hold()
        target.check_held(asking=True)
        admin.execute(END_ALL)
        with pytest.raises(LostLock) as lost:
            target.check_held()
        assert lost.value.code == "T404"
        assert target.held is None
        target.hold_again()
        target.check_held(asking=True)
        admin.execute(END_ALL)
        with closing(place.target(beside=True)) as other:
            other.apply(order(work(place, place.add(10), place.add(-10))))
        with pytest.raises(LostLock) as lost:
            target.check_held(asking=True)
        with pytest.raises(LostLock) as lost:
            target.hold_again()
        assert lost.value.code == "T402"
        target.release()  # of its own accord: what comes after is another matter
        target.hold()
