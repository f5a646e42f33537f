"""Damage to a log is found, whatever was done to it; and what a log cannot tell about itself is said here, too.

The damage is done with SQL on the raw file, its triggers dropped first: what anybody with the file can do.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from event_stores import LOGS, TickingClock, append
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import logs

from twinstep.events import types as e
from twinstep.events.chain import GENESIS, check_stream
from twinstep.events.errors import Defect, LogDamaged
from twinstep.events.projections import ROW_TYPES, columns_of
from twinstep.stores.envelope import enveloped
from twinstep.stores.log_check import check_log
from twinstep.stores.memory import MemoryEventStore
from twinstep.stores.sqlite_events import SQLiteEventStore

FIRST, SECOND = "pair/0001_first", "pair/0002_second"
COLUMNS = ("stream", "version", "position", "type", "schema_version", "recorded_at", "payload", "previous_hash", "hash")
EVENTS = 9


def fill(store: SQLiteEventStore | MemoryEventStore) -> None:
    """Nine events: two migrations' streams of four and three, and two of the pair's own, interleaved."""
    append(
        store,
        FIRST,
        e.RunStarted(run="r1", migration="0001_first", direction=e.APPLY, sides=("local",)),
        e.Validated(run="r1", lock="l"),
    )
    append(store, "pair", e.SyncChecked(conflicts=0))
    append(store, SECOND, e.ValidationFailed(run="r2", code="T1", message="no"))
    append(store, FIRST, e.BackedUp(run="r1", backup={"id": "b1", "bytes": 1}))
    append(
        store,
        SECOND,
        e.RunStarted(run="r3", migration="0002_second", direction=e.APPLY, sides=()),
        e.Validated(run="r3", lock="l"),
    )
    append(store, FIRST, e.LocalApplied(run="r1", by="r1"))
    append(store, "pair", e.ConflictDetected(kind="drift", migration="0001_first", message="differs"))


@pytest.fixture(scope="module")
def pristine() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        with closing(SQLiteEventStore(path)) as store:
            fill(store)
        unlocked = Path(folder) / "unlocked.db"
        shutil.copy(path, unlocked)
        with closing(sqlite3.connect(unlocked, isolation_level=None)) as connection:
            for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")
        yield unlocked


def problems_after(pristine: Path, *statements: str) -> list[Defect]:
    """What is found once these statements have been run on a copy of the log."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        shutil.copy(pristine, path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)
        with closing(SQLiteEventStore(path, readonly=True)) as store:
            return list(check_log(store).problems)


def test_a_whole_log_has_no_problems(pristine: Path) -> None:
    with closing(SQLiteEventStore(pristine, readonly=True)) as store:
        report = check_log(store)
        assert (report.streams, report.events, report.problems, report.sound) == (3, EVENTS, (), True)
        assert report.log_id == store.log_id


EDITS = {
    "stream": ["'pair/0001_firs'", "'pair/0002_second'", "'new'", "''", "x'00'"],
    "version": ["version + 1", "version - 1", "-version", "0", "99", "'x'", "1.5", "x'01'"],
    "position": ["position + 100", "-position", "0"],
    "type": ["'Verified'", "'SyncChecked'", "lower(type)", "type || ' '", "''", "x'00'"],
    "schema_version": ["0", "2", "-1", "'x'"],
    "recorded_at": ["'2020-01-01T00:00:00.000000+00:00'", "''", "5"],
    "payload": [
        "'{}'",
        "replace(payload, '\"', '\" ')",
        "payload || ' '",
        "''",
        "CAST(payload AS BLOB)",
        "CAST(x'ff' AS TEXT)",
    ],
    "previous_hash": [f"'{GENESIS}'", "upper(previous_hash) || 'x'", "''", "hash"],
    "hash": ["upper(hash)", "''", "previous_hash", f"'{GENESIS}'"],
}


@pytest.mark.parametrize("position", range(1, EVENTS + 1))
@pytest.mark.parametrize("column", COLUMNS)
def test_any_edit_of_any_column_of_any_event_is_found(pristine: Path, column: str, position: int) -> None:
    checked = 0
    for value in EDITS[column]:
        where = f"WHERE position = {position}"
        with closing(sqlite3.connect(f"{pristine.as_uri()}?mode=ro", uri=True)) as connection:
            connection.text_factory = bytes  # Also what is no text.
            # Some edits leave an event as it is.
            before, after = connection.execute(f"SELECT {column}, {value} FROM twinstep_events {where}").fetchone()
        if before == after and not value.startswith("CAST"):
            continue
        try:
            found = problems_after(pristine, f"UPDATE twinstep_events SET {column} = {value} {where}")
        except sqlite3.IntegrityError:
            continue  # The file's own keys forbid this edit.
        assert found, f"{column} = {value} of event {position} went unnoticed"
        assert {problem.code for problem in found} <= {"T501", "T507"}
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("position", range(1, EVENTS + 1))
def test_a_removed_event_is_found(pristine: Path, position: int) -> None:
    found = problems_after(pristine, f"DELETE FROM twinstep_events WHERE position = {position}")
    if position == EVENTS:
        # The log's own tail: the read tables still show it, as long as nobody makes them again.
        assert {problem.code for problem in found} == {"T509"}
    else:
        assert {problem.code for problem in found} == {"T501"}


@pytest.mark.parametrize("position", range(1, EVENTS))
def test_a_removed_event_is_found_also_when_the_rest_moves_up(pristine: Path, position: int) -> None:
    moved = f"UPDATE twinstep_events SET position = position - 1 WHERE position = {position} + "
    found = problems_after(
        pristine,
        f"DELETE FROM twinstep_events WHERE position = {position}",
        *(moved + str(number) for number in range(1, EVENTS)),
    )
    tails_of_streams = {7: "SECOND", 8: "FIRST"}
    assert {problem.code for problem in found} == ({"T509"} if position in tails_of_streams else {"T501"})


@pytest.mark.parametrize(("one", "other"), [(one, other) for one in range(1, EVENTS + 1) for other in range(1, one)])
def test_two_events_that_changed_places_are_found(pristine: Path, one: int, other: int) -> None:
    """In the log (positions), and in their streams (versions)."""
    swapped = problems_after(
        pristine,
        f"UPDATE twinstep_events SET position = -1 WHERE position = {one}",
        f"UPDATE twinstep_events SET position = {one} WHERE position = {other}",
        f"UPDATE twinstep_events SET position = {other} WHERE position = -1",
    )
    content = f"(SELECT {', '.join(COLUMNS[3:7])} FROM twinstep_events WHERE position = {{}})"
    columns = ", ".join(COLUMNS[3:7])
    exchanged = problems_after(
        pristine,
        f"CREATE TABLE kept AS SELECT * FROM twinstep_events WHERE position = {one}",
        f"UPDATE twinstep_events SET ({columns}) = {content.format(other)} WHERE position = {one}",
        f"UPDATE twinstep_events SET ({columns}) = (SELECT {columns} FROM kept) WHERE position = {other}",
        "DROP TABLE kept",
    )
    assert {problem.code for problem in exchanged} == {"T501"}
    # How two streams lie to each other is not in any hash.
    one_stream = {1: FIRST, 2: FIRST, 3: "pair", 4: SECOND, 5: FIRST, 6: SECOND, 7: SECOND, 8: FIRST, 9: "pair"}
    if one_stream[one] == one_stream[other]:
        assert {problem.code for problem in swapped} == {"T501"}


def test_a_cut_off_tail_is_a_whole_log_and_only_a_ledger_can_tell(pristine: Path) -> None:
    """The limit of what a log knows about itself: its last hash must be kept elsewhere, and is, in both databases."""
    with closing(SQLiteEventStore(pristine, readonly=True)) as store:
        in_the_ledger = store.read(FIRST)[-1].hash
    for left in range(EVENTS):
        drop_tables = [f"DROP TABLE {table}" for table in ROW_TYPES]
        assert problems_after(pristine, f"DELETE FROM twinstep_events WHERE position > {left}", *drop_tables) == []
        with closing(SQLiteEventStore(pristine, readonly=True)) as store:
            remaining = [record for record in store.read(FIRST) if record.position <= left]
            assert (in_the_ledger in {record.hash for record in remaining}) == (left >= 8)


@pytest.mark.usefixtures("log_server")
def test_an_event_that_a_person_wrote_with_the_right_hash_is_still_refused_where_the_lifecycle_forbids_it(
    tmp_path: Path,
) -> None:
    for kind in LOGS.values():
        log = kind(tmp_path, TickingClock())
        store = log.handle()
        append(store, FIRST, e.Verified(run="r1"))
        append(store, "pair", e.Verified(run="r1"))
        append(store, SECOND, e.SyncChecked(conflicts=0))
        assert [problem.code for problem in check_log(store).problems] == ["T505", "T505", "T505"]
        log.close()


@pytest.mark.parametrize("table", ROW_TYPES)
def test_any_edit_of_a_read_table_is_found(pristine: Path, table: str) -> None:
    for column in columns_of(table):
        for value in ("'edited'", "NULL", "12345"):
            try:
                found = problems_after(pristine, f"UPDATE {table} SET {column} = {value}")
            except sqlite3.IntegrityError:
                continue
            with closing(sqlite3.connect(f"{pristine.as_uri()}?mode=ro", uri=True)) as connection:
                changed = connection.execute(f"SELECT count(*) FROM {table} WHERE {column} IS NOT {value}").fetchone()[0]
            assert bool(found) == bool(changed), f"{column} = {value}"
            assert {problem.code for problem in found} <= {"T509"}
    assert [problem.code for problem in problems_after(pristine, f"DELETE FROM {table}")] == ["T509"]
    copied = ", ".join(
        "'copy'" if column == "id" else "id || 'x'" if column in ("backup_id", "migration_version") else column
        for column in columns_of(table)
    )
    (surplus,) = problems_after(pristine, f"INSERT INTO {table} SELECT {copied} FROM {table} LIMIT 1")
    assert "1 rows are too many" in str(surplus)


def test_the_first_damage_of_each_stream_is_reported_by_name(pristine: Path) -> None:
    found = problems_after(pristine, "UPDATE twinstep_events SET payload = '{}' WHERE position IN (2, 5, 6)")
    assert [(problem.details["stream"], problem.details["version"]) for problem in found] == [(FIRST, 2), (SECOND, 2)]
    assert all("its content was changed" in str(problem) for problem in found)


def test_an_index_that_lost_an_event_is_found(pristine: Path) -> None:
    """The event lies in the table, but a look by stream does not find it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        shutil.copy(pristine, path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            # The unique index is taken for one that is empty, as after damage to its page.
            connection.execute("CREATE TABLE elsewhere (stream, version, UNIQUE (stream, version))")
            page = connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_elsewhere_1'"
            ).fetchone()
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = 'sqlite_autoindex_twinstep_events_1'", page)
        with closing(SQLiteEventStore(path, readonly=True)) as store:
            assert not check_log(store).sound


def test_the_chain_says_what_is_wrong() -> None:
    records = enveloped(
        FIRST, [e.RemoteStarted(run=run) for run in "abc"], version=0, previous_hash=GENESIS, position=0, recorded_at=""
    )
    assert check_stream([]) == (0, GENESIS)
    assert check_stream(records) == (3, records[-1].hash)
    for damaged, says in (
        (records[1:], "event 2 of stream .* version 1 is missing"),
        ([records[0], records[2]], "event 3 of stream .* version 2 is missing"),
        ([records[0], records[0]], "version 2 is missing"),
        (
            enveloped(FIRST, [e.RemoteStarted(run="x")], version=0, previous_hash="f" * 64, position=0, recorded_at=""),
            "does not follow",
        ),
    ):
        with pytest.raises(LogDamaged, match=says) as caught:
            check_stream(damaged)
        assert caught.value.code == "T501"


def test_no_two_events_feed_the_same_bytes() -> None:
    """Fields that run into each other would: the boundary between two fields is part of what is hashed."""
    hashes = {
        enveloped(stream, [e.RemoteStarted(run=run)], version=version, previous_hash=GENESIS, position=0, recorded_at=when)[
            0
        ].hash
        for stream, version, when, run in [
            ("a", 1, "", "r"),
            ("a1", 1, "", "r"),
            ("a", 11, "", "r"),
            ("a", 1, "1", "r"),
            ("", 1, "a", "r"),
        ]
    }
    assert len(hashes) == 5


@settings(max_examples=25, deadline=None)
@given(logs(), st.data())
def test_any_single_change_of_any_legal_log_is_found(log: list[tuple[str, tuple[e.Event, ...]]], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        with closing(SQLiteEventStore(path, clock=TickingClock(), synchronous="NORMAL")) as store:
            for stream, events in log:
                append(store, stream, *events)
            total = len(list(store.read_all()))
            assert check_log(store).problems == ()
        if total < 2:
            return
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for trigger in ("twinstep_events_update", "twinstep_events_delete"):
                connection.execute(f"DROP TRIGGER {trigger}")
            position = data.draw(st.integers(1, total - 1))
            column = data.draw(st.sampled_from(["type", "recorded_at", "payload", "previous_hash", "hash", None]))
            if column is None:
                connection.execute("DELETE FROM twinstep_events WHERE position = ?", (position,))
            else:
                (value,) = connection.execute(
                    f"SELECT {column} FROM twinstep_events WHERE position = ?", (position,)
                ).fetchone()
                at = data.draw(st.integers(0, len(value) - 1))
                edited = value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
                connection.execute(f"UPDATE twinstep_events SET {column} = ? WHERE position = ?", (edited, position))
        with closing(SQLiteEventStore(path, readonly=True)) as store:
            assert not check_log(store).sound
