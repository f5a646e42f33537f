"""Index builds outside a transaction, by whole runs: who was killed in the middle, what was there before, how far it is.

`test_concurrent.py` has the statements one by one, on every version of PostgreSQL.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import waiting
from attrs import evolve
from small_pair import AWAY, ID, PIN, SmallPair

from twinstep import Migration, Side
from twinstep.engine.cli.progress import Following
from twinstep.engine.cli.screen import Screen
from twinstep.engine.cli.sentences import sentence
from twinstep.engine.report import Report
from twinstep.events import types as e
from twinstep.events.chain import GENESIS
from twinstep.events.codec import decode
from twinstep.events.types import Recorded
from twinstep.migrations import build_progress, concurrent_index
from twinstep.migrations.build_progress import watching
from twinstep.stores.memory import MemoryEventStore
from twinstep.stores.remote_connection import open_remote

BUILD = "CREATE INDEX CONCURRENTLY item_by_n ON item (n)"
# Both sides are changed, so that a refused build takes the local change back too.
INDEXED = evolve(PIN, remote=Side(up=BUILD))
INDEX = "SELECT indexrelid, indisvalid, pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid = to_regclass('item_by_n')"
WORKING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE %s"


class Died(BaseException):
    """Stands for the death of the process: nothing of ours is done any more."""


@pytest.fixture
def pair(tmp_path: Path, remote_url: str) -> SmallPair:
    return SmallPair.made(tmp_path / "device", remote_url)


@contextmanager
def old_snapshot(url: str) -> Iterator[Callable[[], None]]:
    """A transaction for whose snapshot concurrent builds wait, until it is ended."""
    with psycopg.connect(url, application_name="a long report") as blocker:
        blocker.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        blocker.execute("SELECT 1 FROM pg_class").fetchall()
        yield blocker.rollback


@contextmanager
def in_background(work: Callable[[], Report]) -> Iterator[Future[Report]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


eventually = partial(waiting.eventually, seconds=30)


def at_work(pair: SmallPair, beginning: str = "CREATE INDEX CONC") -> list[int]:
    with psycopg.connect(pair.url, autocommit=True) as remote:
        return [pid for (pid,) in remote.execute(WORKING, (f"{beginning}%",)).fetchall()]


def left_half_done(pair: SmallPair, migration: Migration = INDEXED) -> None:
    """A run that died after its ledger row said that the build begins, and before it began."""

    def probe(crossing: str) -> None:
        if crossing == "remote:single:before":
            raise Died

    with pytest.raises(Died):
        pair.coordinator(migration, probe=probe).migrate()
    assert pair.remote("SELECT state FROM twinstep.ledger WHERE direction = 'up'") == [("open",)]


def as_wanted(pair: SmallPair) -> bool:
    return [row[1:] for row in pair.remote(INDEX)] == [(True, "CREATE INDEX item_by_n ON public.item USING btree (n)")]


# Killed in the middle


def test_the_command_killed_during_a_build_leaves_no_backend_and_resuming_builds_it(pair: SmallPair) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[3]); from pathlib import Path\n"
        "from small_pair import SmallPair; from test_concurrent_runs import INDEXED\n"
        "SmallPair(path=Path(sys.argv[1]), url=sys.argv[2]).coordinator(INDEXED).migrate()"
    )
    with old_snapshot(pair.url):
        words = [sys.executable, "-c", script, pair.path, pair.url, Path(__file__).parent]
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        eventually(lambda: at_work(pair))
        process.send_signal(signal.SIGKILL)
        process.wait()
        # The server looks each second whether its client lives; the build itself would wait for the snapshot for ever.
        eventually(lambda: not at_work(pair))
        assert [valid for _, valid, _ in pair.remote(INDEX)] == [False]
    resumed = pair.coordinator(INDEXED).resume()
    assert (resumed.outcome, resumed.error) == ("verified", None)
    assert as_wanted(pair)


def test_an_orphan_that_is_still_building_is_waited_for_and_what_it_built_is_taken(pair: SmallPair) -> None:
    left_half_done(pair)
    script = "import psycopg, sys; psycopg.connect(sys.argv[1], autocommit=True).execute(sys.argv[2].encode())"
    with old_snapshot(pair.url) as let_go:
        client = subprocess.Popen([sys.executable, "-c", script, pair.url, BUILD])
        eventually(lambda: pair.remote(INDEX))
        client.send_signal(signal.SIGKILL)
        client.wait()
        ((orphans, valid, _),) = pair.remote(INDEX)
        assert not valid
        with in_background(pair.coordinator(INDEXED).resume) as resuming:
            eventually(lambda: pair.remote("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
            assert not resuming.done()
            let_go()
            assert resuming.result(timeout=30).outcome == "verified"
    assert as_wanted(pair)
    assert pair.remote(INDEX)[0][0] == orphans


def test_an_invalid_leftover_is_dropped_and_built_anew(pair: SmallPair) -> None:
    left_half_done(pair)
    with old_snapshot(pair.url), psycopg.connect(pair.url, autocommit=True) as remote:
        remote.execute("SET statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            remote.execute(BUILD.encode())
    ((leftover, valid, _),) = pair.remote(INDEX)
    assert not valid
    assert pair.coordinator(INDEXED).resume().outcome == "verified"
    assert as_wanted(pair)
    assert pair.remote(INDEX)[0][0] != leftover


# What was there before


@pytest.mark.parametrize("guard", ["", "IF NOT EXISTS "])
def test_an_index_of_that_name_and_another_definition_refuses_the_run_and_stays(pair: SmallPair, guard: str) -> None:
    pair.remote("CREATE INDEX item_by_n ON item (id)")
    there, before = pair.remote(INDEX), pair.world()
    migration = evolve(INDEXED, remote=Side(up=BUILD.replace("item_by_n", f"{guard}item_by_n")))
    report = pair.coordinator(migration).migrate()
    assert (report.outcome, report.exit_code) == ("rolled_back", 1)
    assert report.error is not None
    assert report.error.code == "T325"
    assert (pair.remote(INDEX), pair.world()) == (there, before)


def test_what_was_built_is_dropped_concurrently_when_it_is_taken_back(pair: SmallPair) -> None:
    before = pair.world()
    assert pair.coordinator(INDEXED).migrate().outcome == "verified"
    assert as_wanted(pair)
    with old_snapshot(pair.url) as let_go, psycopg.connect(pair.url) as reader:
        reader.execute("SELECT 1 FROM item")  # and so the drop has to wait
        with in_background(pair.coordinator(INDEXED).roll_back) as taking_back:
            eventually(lambda: at_work(pair, "DROP INDEX CONCURRENTLY"))
            assert pair.remote("SET lock_timeout = '2s'; SELECT count(*) FROM item") == []  # nobody queues behind it
            reader.rollback()
            let_go()
            assert taking_back.result(timeout=30).outcome == "rolled_back"
    assert pair.world() == before


def test_what_was_there_before_as_wanted_is_neither_built_nor_dropped(pair: SmallPair) -> None:
    pair.remote("CREATE INDEX item_by_n ON item (n)")
    there = pair.remote(INDEX)
    assert pair.coordinator(INDEXED).migrate().outcome == "verified"
    assert pair.remote(INDEX) == there
    assert pair.coordinator(INDEXED).roll_back().outcome == "rolled_back"
    assert pair.remote(INDEX) == there


# How far it is


def progressed(store: MemoryEventStore) -> list[e.StepProgressed]:
    return [event for event in map(decode, store.read_all()) if isinstance(event, e.StepProgressed)]


def test_a_build_that_is_held_up_tells_by_whom_in_the_log_and_live(pair: SmallPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_progress, "FIRST_SECONDS", 0.2)
    store, live = MemoryEventStore(), list[Recorded]()
    coordinator = pair.coordinator(INDEXED, log=store, on_event=live.append)
    with old_snapshot(pair.url) as let_go, in_background(coordinator.migrate) as running:
        eventually(lambda: progressed(store))
        ((blocker,),) = pair.remote("SELECT pid FROM pg_stat_activity WHERE application_name = 'a long report'")
        let_go()
        assert running.result(timeout=30).outcome == "verified"
    seen, *_ = progressed(store)
    assert (seen.effect, seen.done, seen.total) == ("APPLY_REMOTE", 0, 1)
    assert seen.note.startswith("transactions, waiting for ")
    assert seen.note.endswith(f" of item_by_n; held up by backend {blocker} (a long report)")
    types = [record.type for record in live]
    assert types[types.index("StepProgressed") - 1] == "RemoteStarted"
    said = sentence(live[types.index("StepProgressed")])
    assert said == f"changing the remote database: 0 of 1 {seen.note}"
    assert as_wanted(pair)


def test_a_drop_that_is_held_up_tells_by_whom_too(pair: SmallPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_progress, "FIRST_SECONDS", 0.2)
    store = MemoryEventStore()
    assert pair.coordinator(INDEXED, log=store).migrate().outcome == "verified"
    with psycopg.connect(pair.url, application_name="a reader") as reader:
        reader.execute("SELECT 1 FROM item")
        with in_background(pair.coordinator(INDEXED, log=store).roll_back) as running:
            eventually(lambda: progressed(store))
            reader.rollback()
            assert running.result(timeout=30).outcome == "rolled_back"
    (seen,) = progressed(store)
    assert (seen.effect, seen.done, seen.total) == ("UNDO_REMOTE", 0, 0)
    assert seen.note.endswith("(a reader)")


def test_a_quick_build_adds_nothing_to_the_log(pair: SmallPair) -> None:
    store = MemoryEventStore()
    assert pair.coordinator(INDEXED, log=store).migrate().outcome == "verified"
    assert progressed(store) == []


def test_the_same_is_told_once_and_news_not_too_often(pair: SmallPair, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(build_progress, "time", SimpleNamespace(monotonic=lambda: now))
    told: list[str] = []
    with psycopg.connect(pair.url, autocommit=True) as ours:
        row: tuple[Any, ...] | None = None

        class Seeing:
            """A second connection that sees what the test says."""

            def execute(self, *given: object) -> Any:
                return self

            def fetchone(self) -> tuple[Any, ...] | None:
                return row

            def close(self) -> None:
                """Nothing to let go of."""

        def at(seconds: float, done: int) -> int:
            nonlocal now, row
            now, row = seconds, ("building index: scanning table", "item_by_n", None, None, 0, 0, done, 100, 0, 0)
            tick()
            return len(told)

        with watching(ours.info.backend_pid, Seeing, lambda done, total, note: told.append(f"{done}/{total} {note}")) as tick:  # type: ignore[arg-type]
            counts = [at(*each) for each in [(1.9, 1), (2.0, 2), (6.9, 3), (7.0, 4), (12.0, 4), (12.5, 5), (13.0, 5)]]
    assert counts == [0, 1, 1, 2, 2, 2, 3]
    assert told[0] == "2/100 blocks, building index: scanning table of item_by_n"


def test_where_no_second_connection_can_be_had_the_build_goes_on_unwatched(pair: SmallPair) -> None:
    told: list[str] = []
    asked = 0

    def beside() -> Any:
        nonlocal asked
        asked += 1
        return open_remote(AWAY, connect_seconds=2)

    with watching(1, beside, lambda done, total, note: told.append(note)) as tick:
        deadline = time.monotonic() + build_progress.FIRST_SECONDS + 0.2
        while time.monotonic() < deadline:
            tick()
            time.sleep(0.05)
    assert (asked, told) == (1, [])


def test_a_listener_that_fails_ends_the_build_on_the_server_too(pair: SmallPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_progress, "FIRST_SECONDS", 0.2)
    monkeypatch.setattr(concurrent_index, "CLEARING_SECONDS", 0.5)

    def listener(record: Recorded) -> None:
        if record.type == "StepProgressed":
            raise ValueError("the listener is broken")

    with psycopg.connect(pair.url) as writer:
        writer.execute("INSERT INTO item VALUES (9, 9)")  # the build waits for it, the drop of what is left does not for long
        with in_background(pair.coordinator(INDEXED, on_event=listener).migrate) as running:
            with pytest.raises(ValueError, match="the listener is broken") as caught:
                running.result(timeout=30)
            assert "The index item_by_n is left invalid" in caught.value.__notes__[0]
            assert at_work(pair) == at_work(pair, "DROP INDEX") == []
    assert pair.coordinator(INDEXED).resume().outcome == "verified"
    assert as_wanted(pair)


def test_on_a_terminal_it_is_the_step_under_way_and_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    listener = Following(Screen(sys.stdout))
    store = MemoryEventStore()
    event = e.StepProgressed(run="r", effect="APPLY_REMOTE", done=1, total=2, note="blocks")
    (record,) = store.append(f"p/{ID}", [event], expected_version=0, expected_hash=GENESIS)
    listener(record)
    assert listener.last is None
    assert capsys.readouterr().out == ""


@pytest.mark.full
def test_a_long_build_tells_how_many_blocks_it_has_read(pair: SmallPair) -> None:
    pair.remote("INSERT INTO item SELECT i, i FROM generate_series(10, 3000) i")
    pair.remote(
        "CREATE FUNCTION slow(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_catalog.pg_sleep(0.004); RETURN $1; END'"
    )
    store = MemoryEventStore()
    migration = evolve(INDEXED, remote=Side(up="CREATE INDEX CONCURRENTLY item_slow ON item (slow(n))"))
    assert pair.coordinator(migration, log=store).migrate().outcome == "verified"
    seen = [each for each in progressed(store) if each.note.startswith("blocks, building index")]
    assert len(seen) > 1
    assert [each.done for each in seen] == sorted({each.done for each in seen})
    assert seen[-1].done <= seen[-1].total
