"""What every event store must do, run on each of them: appends out of order, repeated, at once, cut off, and enormous."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from event_stores import LOGS, Log, TickingClock, append, head

from twinstep.events import types as e
from twinstep.events.chain import GENESIS, check_stream
from twinstep.events.codec import decode
from twinstep.events.errors import ConcurrencyConflict, LostLock
from twinstep.events.projections import ROW_TYPES, HistoryRow, rebuild
from twinstep.stores.log_check import check_log
from twinstep.stores.port import EventStore

pytestmark = pytest.mark.usefixtures("log_server")

STREAM = "pair/0001_first"
STARTED = e.RunStarted(run="r1", migration="0001_first", direction=e.APPLY, sides=("local", "remote"))
BEGUN = (STARTED, e.Validated(run="r1", lock="lock"))


@pytest.fixture(params=LOGS)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    log = LOGS[request.param](tmp_path, TickingClock())
    yield log
    log.close()


@pytest.fixture
def store(log: Log) -> EventStore:
    return log.handle()


def everything(store: EventStore) -> object:
    return list(store.read_all()), store.streams(), {table: store.rows(table) for table in ROW_TYPES}


def test_an_empty_log_is_empty(store: EventStore) -> None:
    assert store.read(STREAM) == []
    assert list(store.read_all()) == []
    assert store.streams() == []
    assert all(store.rows(table) == [] for table in ROW_TYPES)
    assert store.pair_of("key") is None
    assert not store.knows_pair("pair")
    assert not store.knows_pair("")


def test_what_is_appended_is_read_back_in_order(store: EventStore) -> None:
    first = store.append(STREAM, BEGUN, expected_version=0, expected_hash=GENESIS)
    second = store.append(STREAM, [e.BackedUp(run="r1")], expected_version=2, expected_hash=first[-1].hash)
    records = first + second
    assert store.read(STREAM) == records
    assert list(store.read_all()) == records
    assert [record.version for record in records] == [1, 2, 3]
    assert [record.position for record in records] == [1, 2, 3]
    assert [decode(record) for record in records] == [*BEGUN, e.BackedUp(run="r1")]
    assert check_stream(records) == (3, records[-1].hash)


def test_reading_starts_after_what_was_seen(store: EventStore) -> None:
    append(store, STREAM, *BEGUN)
    append(store, "pair", e.SyncChecked(conflicts=0))
    append(store, STREAM, e.BackedUp(run="r1"))
    assert [record.version for record in store.read(STREAM, after=1)] == [2, 3]
    assert [record.version for record in store.read(STREAM, after=0)] == [1, 2, 3]
    assert [record.version for record in store.read(STREAM, after=-1)] == [1, 2, 3]
    assert store.read(STREAM, after=3) == []
    assert store.read(STREAM, after=99) == []
    assert [record.position for record in store.read_all(after=2)] == [3, 4]
    assert [record.position for record in store.read_all(after=-7)] == [1, 2, 3, 4]
    assert list(store.read_all(after=4)) == []


def test_what_the_last_moment_refuses_is_not_appended(store: EventStore) -> None:
    append(store, STREAM, *BEGUN)
    records = list(store.read_all())

    def refuse() -> None:
        raise LostLock("T404", side="remote")

    with pytest.raises(LostLock):
        store.append(STREAM, [e.BackedUp(run="r1")], expected_version=2, expected_hash=records[-1].hash, fence=refuse)
    assert list(store.read_all()) == records
    append(store, STREAM, e.BackedUp(run="r1"))
    assert [(each.version, each.position) for each in store.read_all()] == [(1, 1), (2, 2), (3, 3)]


def test_an_unknown_stream_is_empty_whatever_its_name(store: EventStore) -> None:
    append(store, STREAM, *BEGUN)
    for name in ("", "pair", "pair/", STREAM + " ", STREAM.upper(), "pair/%", "pair/\udc80", "pair/0001_first\0"):
        assert store.read(name) == []


def test_streams_are_listed_in_order_of_their_first_event(store: EventStore) -> None:
    for stream in ("z/1_a", "a/1_a", "z", "z/1_a", "a/1_a"):
        append(
            store, stream, e.SyncChecked(conflicts=0) if stream == "z" else e.ValidationFailed(run="r", code="T1", message="")
        )
    assert store.streams() == ["z/1_a", "a/1_a", "z"]
    assert [record.stream for record in store.read_all()] == ["z/1_a", "a/1_a", "z", "z/1_a", "a/1_a"]


def test_appending_nothing_changes_nothing(log: Log, store: EventStore) -> None:
    crossings: list[str] = []
    probed = log.handle(probe=crossings.append)
    assert probed.append(STREAM, [], expected_version=0, expected_hash=GENESIS) == []
    assert probed.append(STREAM, [], expected_version=7, expected_hash="no hash") == []
    assert crossings == []
    assert list(store.read_all()) == []
    assert store.streams() == []


@pytest.mark.parametrize(
    ("version", "says"), [(0, "version 0 was expected, it is at 2"), (1, "version 1"), (3, "version 3"), (-1, "version -1")]
)
def test_a_writer_that_has_not_seen_the_whole_stream_appends_nothing(store: EventStore, version: int, says: str) -> None:
    append(store, STREAM, *BEGUN)
    before = everything(store)
    with pytest.raises(ConcurrencyConflict, match=says) as caught:
        store.append(STREAM, [e.BackedUp(run="r1")], expected_version=version, expected_hash=head(store, STREAM)[1])
    assert caught.value.code == "T504"
    assert caught.value.details == {"stream": STREAM, "expected": version, "actual": 2}
    assert everything(store) == before


@pytest.mark.parametrize("wrong", ["", GENESIS, "f" * 64, "not a hash"])
def test_a_writer_that_has_seen_another_event_appends_nothing(store: EventStore, wrong: str) -> None:
    append(store, STREAM, *BEGUN)
    before = everything(store)
    with pytest.raises(ConcurrencyConflict, match=r"version 2 \(hash .*\) was expected, it is at 2 \(hash") as caught:
        store.append(STREAM, [e.BackedUp(run="r1")], expected_version=2, expected_hash=wrong)
    assert caught.value.code == "T504"
    assert everything(store) == before


def test_a_new_stream_begins_with_nothing_before_it(store: EventStore) -> None:
    for version, last_hash in ((1, GENESIS), (0, "f" * 64), (0, ""), (-1, GENESIS)):
        with pytest.raises(ConcurrencyConflict):
            store.append(STREAM, BEGUN, expected_version=version, expected_hash=last_hash)
    assert list(store.read_all()) == []


def test_a_repeated_append_is_refused(store: EventStore) -> None:
    store.append(STREAM, BEGUN, expected_version=0, expected_hash=GENESIS)
    before = everything(store)
    with pytest.raises(ConcurrencyConflict):
        store.append(STREAM, BEGUN, expected_version=0, expected_hash=GENESIS)
    assert everything(store) == before


def test_a_refused_append_leaves_no_gap_in_the_positions(store: EventStore) -> None:
    append(store, STREAM, *BEGUN)
    for _ in range(3):
        with pytest.raises(ConcurrencyConflict):
            store.append(STREAM, BEGUN, expected_version=0, expected_hash=GENESIS)
    append(store, "pair", e.SyncChecked(conflicts=0))
    assert [record.position for record in store.read_all()] == [1, 2, 3]


def test_events_that_are_appended_while_the_log_is_read_are_read_too(store: EventStore) -> None:
    append(store, STREAM, *BEGUN)
    reading = store.read_all()
    assert next(reading).position == 1
    append(store, "pair", e.SyncChecked(conflicts=0))
    assert [record.position for record in reading] == [2, 3]


def test_a_log_of_more_events_than_one_batch_is_read_whole(store: EventStore) -> None:
    events = [e.SyncChecked(conflicts=number) for number in range(2500)]
    append(store, "pair", *events)
    assert [decode(record) for record in store.read_all()] == events
    assert [record.position for record in store.read_all(after=999)] == list(range(1000, 2501))
    assert check_log(store).events == 2500


def test_the_read_tables_follow_in_the_same_commit(store: EventStore) -> None:
    append(store, STREAM, *BEGUN, e.BackedUp(run="r1", backup={"id": "b1", "bytes": 7}))
    append(store, STREAM, e.StepFailed(run="r1", effect="APPLY_LOCAL", side="local", code="T301", message="no"))
    expected = list(rebuild(store.read_all()).values())
    assert {row.TABLE for row in expected} == set(ROW_TYPES)
    for table in ROW_TYPES:
        assert store.rows(table) == [row for row in expected if table == row.TABLE]
    (history,) = store.rows("migration_history")
    assert isinstance(history, HistoryRow)
    assert (history.id, history.status, history.error_message) == ("r1", "backed_up", "no")


def test_rows_keep_the_order_in_which_they_appeared(store: EventStore) -> None:
    for run in ("r3", "r1", "r2"):
        append(store, STREAM, e.ValidationFailed(run=run, code="T1", message="first"))
    append(store, STREAM, e.ValidationFailed(run="r3", code="T1", message="again"))
    ids = ["r3", "r1", "r2"]
    assert [row.id for row in store.rows("migration_history")] == ids
    store.rebuild_rows()
    assert [row.id for row in store.rows("migration_history")] == ids


def test_a_table_that_is_none_of_the_three_is_unknown(store: EventStore) -> None:
    for _ in range(2):
        with pytest.raises(KeyError):
            store.rows("twinstep_events")
        append(store, STREAM, *BEGUN)  # Also in a log that is there.


class Cut(BaseException):
    """A stand-in for whatever ends a process."""


@pytest.mark.parametrize(("crossing", "stands"), [("append:before-commit", 0), ("append:after-commit", 2)])
def test_a_cut_at_the_commit_leaves_all_or_nothing(log: Log, crossing: str, stands: int) -> None:
    def cut(here: str) -> None:
        if here == crossing:
            raise Cut

    store = log.handle(probe=cut)
    with pytest.raises(Cut):
        store.append(STREAM, BEGUN, expected_version=0, expected_hash=GENESIS)
    again = log.handle()
    assert len(again.read(STREAM)) == stands
    assert len(again.rows("migration_history")) == (1 if stands else 0)
    assert check_log(again).sound
    # And the log goes on from there.
    append(again, "pair", e.SyncChecked(conflicts=0))
    assert [record.position for record in again.read_all()] == [*range(1, stands + 2)]


def test_an_append_crosses_both_sides_of_its_commit_once(log: Log) -> None:
    crossings: list[str] = []
    store = log.handle(probe=crossings.append)
    append(store, STREAM, *BEGUN)
    assert crossings == ["append:before-commit", "append:after-commit"]


def test_a_cut_before_the_commit_shows_nothing_to_others(log: Log) -> None:
    other = log.handle()
    append(other, "pair", e.SyncChecked(conflicts=0))
    seen: list[int] = []
    store = log.handle(probe=lambda crossing: seen.append(len(other.read(STREAM))))
    append(store, STREAM, *BEGUN)
    assert seen == [0, 2]


@pytest.mark.parametrize(
    "text",
    [
        "Größe, 大きさ, 🗝",
        "half \udce9 and \ud83d",
        "\0\x1b[31m\n\r\t\u2028",
        "'; DROP TABLE twinstep_events; --",
        "%s ? :x {0}",
    ],
)
def test_any_text_is_kept(store: EventStore, text: str) -> None:
    failed = e.StepFailed(run="r1", effect="VERIFY", side="local", code=text, message=text)
    append(store, STREAM, *BEGUN, failed)
    append(store, "pair", e.ConflictResolved(kind=text, migration="0001_first", how=text))
    assert decode(store.read(STREAM)[-1]) == failed
    assert check_log(store).problems == ()
    (history,) = store.rows("migration_history")
    assert isinstance(history, HistoryRow)
    assert history.error_message is not None
    history.error_message.encode()  # It can be shown.
    assert "\0" not in history.error_message


def test_an_enormous_event_is_kept(store: EventStore) -> None:
    script = "INSERT INTO notes VALUES ('ä');\n" * 200_000
    started = e.RunStarted(run="r1", migration="0001_first", direction=e.APPLY, sides=(), local={"up": script})
    append(store, STREAM, started)
    assert decode(store.read(STREAM)[0]) == started
    assert check_log(store).sound


def test_what_cannot_be_written_down_is_not_appended(store: EventStore) -> None:
    append(store, STREAM, *BEGUN)
    before = everything(store)
    version, last_hash = head(store, STREAM)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.append(
            STREAM,
            [e.BackedUp(run="r1"), e.LocalApplied(run="r1", seconds=float("nan"))],
            expected_version=version,
            expected_hash=last_hash,
        )
    assert everything(store) == before


def test_a_closed_store_opens_again(store: EventStore) -> None:
    append(store, STREAM, *BEGUN)
    before, log_id = everything(store), store.log_id
    store.close()
    store.close()
    assert everything(store) == before
    assert store.log_id == log_id
    append(store, "pair", e.SyncChecked(conflicts=0))
    assert len(list(store.read_all())) == 3


def test_the_log_keeps_its_id(log: Log, store: EventStore) -> None:
    append(store, STREAM, *BEGUN)
    assert len(store.log_id) == 36
    assert log.handle().log_id == store.log_id


def test_a_pair_is_drawn_once(log: Log, store: EventStore) -> None:
    first = store.register_pair("/data/notes.db")
    assert len(first) == 36
    assert store.register_pair("/data/notes.db") == first
    assert store.pair_of("/data/notes.db") == first
    assert store.knows_pair(first)
    again = log.handle()
    assert again.pair_of("/data/notes.db") == first
    assert again.register_pair("/data/notes.db") == first
    second = again.register_pair("/data/Notes.db")
    assert second != first
    assert store.knows_pair(second)
    assert not store.knows_pair("/data/notes.db")
    assert not store.knows_pair(first.upper())
    assert not store.knows_pair("\udc80")


@pytest.mark.parametrize("key", ["", "/data/caf\udce9.db", "/data/caf\\udce9.db", "ü\0", "b'x'"])
def test_a_pair_may_have_any_key(store: EventStore, key: str) -> None:
    others = {store.register_pair(other) for other in ("/data/café.db", "/data/caf?.db", "ü")}
    pair = store.register_pair(key)
    assert pair not in others
    assert store.register_pair(key) == store.pair_of(key) == pair
    assert store.knows_pair(pair)


def test_who_claims_a_pair_takes_it_over_with_the_next_append(log: Log) -> None:
    first, second = log.handle(), log.handle()
    first.claim("pair")
    append(first, STREAM, *BEGUN)
    second.claim("pair")
    append(first, "pair", e.SyncChecked(conflicts=0))  # A claim alone is no news.
    append(second, "pair", e.SyncChecked(conflicts=0))
    before = everything(first)
    for stream, event in ((STREAM, e.BackedUp(run="r1")), ("pair", e.SyncChecked(conflicts=1)), ("pair/0002_new", STARTED)):
        version, last_hash = head(first, stream)
        with pytest.raises(LostLock) as caught:
            first.append(stream, [event], expected_version=version, expected_hash=last_hash)
        assert (caught.value.code, caught.value.details, caught.value.exit_code) == ("T403", {"pair": "pair"}, 4)
    assert everything(first) == before
    append(second, STREAM, e.BackedUp(run="r1"))
    first.claim("pair")
    append(first, "pair", e.SyncChecked(conflicts=0))
    with pytest.raises(LostLock):
        append(second, STREAM, e.LocalApplied(run="r1", by="r1"))
    assert check_log(second).problems == ()


def test_a_claim_is_about_one_pair_and_those_who_claimed_it(log: Log) -> None:
    first, second, third = log.handle(), log.handle(), log.handle()
    first.claim("pair")
    append(first, STREAM, *BEGUN)
    second.claim("pair1")
    append(second, "pair1", e.SyncChecked(conflicts=0))
    append(second, "pair", e.SyncChecked(conflicts=0))
    append(third, "pair", e.SyncChecked(conflicts=0))
    append(first, "pair", e.SyncChecked(conflicts=0))
    append(first, "pair1", e.SyncChecked(conflicts=0))
    append(second, "pair1", e.SyncChecked(conflicts=0))
    assert check_log(first).problems == ()


def test_a_claim_whose_append_was_refused_or_cut_takes_nothing_over(log: Log) -> None:
    def cut(crossing: str) -> None:
        if crossing == "append:before-commit":
            raise Cut

    first, second, third = log.handle(), log.handle(), log.handle(probe=cut)
    first.claim("pair")
    append(first, STREAM, *BEGUN)
    second.claim("pair")
    with pytest.raises(ConcurrencyConflict):
        second.append(STREAM, BEGUN, expected_version=0, expected_hash=GENESIS)
    third.claim("pair")
    with pytest.raises(Cut):
        append(third, STREAM, e.BackedUp(run="r1"))
    append(first, STREAM, e.BackedUp(run="r1"))
    append(second, "pair", e.SyncChecked(conflicts=0))
    with pytest.raises(LostLock):
        append(first, "pair", e.SyncChecked(conflicts=0))


def in_threads(work: list[threading.Thread]) -> None:
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()


@pytest.mark.parametrize("shared", [True, False], ids=["one handle", "a handle each"])
def test_of_writers_that_saw_the_same_at_most_one_wins(log: Log, shared: bool) -> None:
    """Threads that all try to append to one stream, on what they read: none is lost, none doubled, every refusal is one."""
    first = log.handle()
    results: list[str] = []
    barrier = threading.Barrier(4)

    def write(name: int, store: EventStore) -> None:
        barrier.wait()
        for number in range(10):
            version, last_hash = head(store, "pair")
            try:
                event = e.QuarantineRestored(table=f"{name}:{number}", rows=1)
                store.append("pair", [event], expected_version=version, expected_hash=last_hash)
                results.append(event.table)
            except ConcurrencyConflict:
                results.append("refused")

    in_threads([threading.Thread(target=write, args=(name, first if shared else log.handle())) for name in range(4)])
    assert len(results) == 40
    written = [decode(record).table for record in first.read("pair")]  # type: ignore[attr-defined]
    assert sorted(written) == sorted(result for result in results if result != "refused")
    assert check_log(first).problems == ()


def test_writers_on_different_streams_all_get_through(log: Log) -> None:
    errors: list[BaseException] = []

    def write(pair: str) -> None:
        store = log.handle()
        try:
            for number in range(10):
                append(store, pair, e.SyncChecked(conflicts=number))
        except BaseException as error:
            errors.append(error)

    in_threads([threading.Thread(target=write, args=(f"pair{name}",)) for name in range(4)])
    store = log.handle()
    assert errors == []
    assert [record.position for record in store.read_all()] == list(range(1, 41))
    assert check_log(store).sound


def test_a_pair_that_all_register_at_once_is_drawn_once(log: Log) -> None:
    """On a log that is not there yet: making it, and its id, is a race too."""
    found: list[tuple[str, str]] = []
    barrier = threading.Barrier(6)

    def register() -> None:
        store = log.handle()
        barrier.wait()
        pair = store.register_pair("key")
        found.append((pair, store.log_id))

    in_threads([threading.Thread(target=register) for _ in range(6)])
    assert len(found) == 6
    assert len(set(found)) == 1


WRITER = """
import sys
from twinstep.events import types as e
from twinstep.events.errors import ConcurrencyConflict, LostLock
{opened}
pair = store.register_pair("key")
sys.stdin.readline()
won = 0
while won < 15:
    records = store.read(pair)
    version, last = (records[-1].version, records[-1].hash) if records else (0, "0" * 64)
    try:
        store.append(pair, [e.SyncChecked(conflicts=won)], expected_version=version, expected_hash=last)
        won += 1
    except ConcurrencyConflict:
        pass
print(pair, store.log_id)
store.close()
"""


@pytest.mark.parametrize("name", [name for name in LOGS if name != "memory"])
def test_two_processes_write_one_log(name: str, tmp_path: Path) -> None:
    log = LOGS[name](tmp_path, TickingClock())
    assert log.opened_elsewhere is not None
    script = WRITER.format(opened=log.opened_elsewhere)
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(said) == 1
    pair, log_id = said.pop().split()
    store = log.handle()
    assert (store.pair_of("key"), store.log_id) == (pair, log_id)
    assert [record.version for record in store.read(pair)] == list(range(1, 31))
    assert check_log(store).problems == ()
    log.close()
