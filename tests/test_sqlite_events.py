"""The log in an SQLite file: what the file itself refuses, how it is made, and what is said when it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from event_stores import NEXT, append, inserting

from twinstep.events import types as e
from twinstep.events.chain import GENESIS, link
from twinstep.events.errors import Blocked, ConcurrencyConflict, LogDamaged
from twinstep.events.projections import ROW_TYPES, columns_of
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore
from twinstep.stores.sqlite_schema import LOG_VERSION

STREAM = "pair/0001_first"
BEGUN = (
    e.RunStarted(run="r1", migration="0001_first", direction=e.APPLY, sides=("local", "remote")),
    e.Validated(run="r1", lock="lock"),
)
CHECKED = e.SyncChecked(conflicts=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "log.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteEventStore]:
    store = SQLiteEventStore(path, synchronous="NORMAL")
    yield store
    store.close()


@pytest.fixture
def filled(store: SQLiteEventStore, path: Path) -> Path:
    """A closed log of three events, two streams and a pair."""
    store.register_pair("key")
    append(store, STREAM, *BEGUN)
    append(store, "pair", CHECKED)
    store.close()
    return path


def run_sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """What anybody with the file can do to it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


# --- append-only, held by the file

insert = partial(inserting, "twinstep_events")


FORBIDDEN = [
    *(f"UPDATE twinstep_events SET {column} = {column}" for column in NEXT),
    "UPDATE OR REPLACE twinstep_events SET position = 1 WHERE position = 2",
    "UPDATE twinstep_events SET payload = '{}' WHERE position = 3",
    "DELETE FROM twinstep_events",
    "DELETE FROM twinstep_events WHERE position = 3",
    "INSERT INTO twinstep_events SELECT * FROM twinstep_events WHERE position = 1",
    "INSERT OR REPLACE INTO twinstep_events SELECT * FROM twinstep_events WHERE position = 1",
    *(
        insert(how, version=version)
        for how in ("INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE")
        for version in (-1, 0, 1, 2, 4, "NULL", "'x'", "2.5")
    ),
    *(insert(how, position=position) for how in ("INSERT", "INSERT OR REPLACE") for position in (-1, 0, 1, 3, 5, "NULL")),
    *(insert(previous_hash=before) for before in (f"'{GENESIS}'", "''", "NULL", "'h'")),
    insert(stream="'new'", version=1),
    insert(stream="'new'", version=2, previous_hash=f"'{GENESIS}'"),
    insert(version=2) + " ON CONFLICT (stream, version) DO UPDATE SET payload = '{}'",
    "UPDATE twinstep_log SET log_id = 'mine'",
    "DELETE FROM twinstep_log",
    "INSERT INTO twinstep_log VALUES ('mine', 1, '')",
    "INSERT OR REPLACE INTO twinstep_log SELECT * FROM twinstep_log",
    "UPDATE twinstep_pairs SET key = 'other'",
    "DELETE FROM twinstep_pairs",
    "INSERT OR REPLACE INTO twinstep_pairs VALUES ('key', 'mine')",
    "INSERT OR REPLACE INTO twinstep_pairs SELECT 'other', pair FROM twinstep_pairs",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_file_refuses_what_is_no_append(filled: Path, statement: str) -> None:
    before = content(filled)
    with pytest.raises(sqlite3.IntegrityError):
        run_sql(filled, statement)
    assert content(filled) == before


def test_the_file_accepts_the_next_event_of_a_stream(filled: Path) -> None:
    """So that the refusals above are refusals of what is wrong in them."""
    run_sql(filled, insert())
    run_sql(filled, insert(position=5, stream="'new'", version=1, previous_hash=f"'{GENESIS}'"))
    assert run_sql(filled, "SELECT count(*) FROM twinstep_events") == [(5,)]


def test_deferred_and_recursive_settings_do_not_open_the_file(filled: Path) -> None:
    before = content(filled)
    for setting in ("recursive_triggers = ON", "ignore_check_constraints = ON", "defer_foreign_keys = ON"):
        with pytest.raises(sqlite3.IntegrityError):
            run_sql(filled, f"PRAGMA {setting}", "DELETE FROM twinstep_events")
    assert content(filled) == before


# --- the tables, for any SQL tool


def test_the_read_tables_have_the_columns_of_their_rows(filled: Path) -> None:
    for table in ROW_TYPES:
        assert tuple(row[1] for row in run_sql(filled, f"PRAGMA table_info({table})")) == columns_of(table)


def test_the_read_tables_have_their_keys_and_indexes(filled: Path) -> None:
    found = {
        (table, bool(unique), tuple(f"{name} desc" if desc else name for _, _, name, desc, _, key in columns if key))
        for table in ROW_TYPES
        for _, index, unique, _, _ in run_sql(filled, f"PRAGMA index_list({table})")
        for columns in [run_sql(filled, f"PRAGMA index_xinfo({index})")]
    }
    assert found == {
        ("migration_history", True, ("pair", "id")),
        ("migration_history", False, ("version", "status")),
        ("migration_history", False, ("applied_at desc",)),
        ("migration_backups", True, ("pair", "id")),
        ("migration_backups", True, ("pair", "backup_id")),
        ("migration_sync_status", True, ("pair", "id")),
        ("migration_sync_status", True, ("pair", "migration_version")),
    }


def test_the_read_tables_are_readable_with_plain_sql(filled: Path) -> None:
    assert run_sql(filled, "SELECT version, status FROM migration_history") == [("0001_first", "validated")]
    assert run_sql(filled, "SELECT migration_version, local_status, remote_status FROM migration_sync_status") == [
        ("0001_first", "in_progress", "in_progress")
    ]


@pytest.mark.parametrize("table", ROW_TYPES)
def test_a_dropped_read_table_is_read_from_the_log_and_made_again_by_the_next_write(filled: Path, table: str) -> None:
    with closing(SQLiteEventStore(filled)) as store:
        before = {name: store.rows(name) for name in ROW_TYPES}
    run_sql(filled, f"DROP TABLE {table}")
    for readonly in (True, False):
        with closing(SQLiteEventStore(filled, readonly=readonly)) as store:
            assert {name: store.rows(name) for name in ROW_TYPES} == before
            assert check_log(store).problems == ()
    assert run_sql(filled, f"SELECT count(*) FROM sqlite_master WHERE name = '{table}'") == [(0,)]
    with closing(SQLiteEventStore(filled)) as store:
        append(store, "pair", CHECKED)
    assert run_sql(filled, f"SELECT count(*) FROM {table}") == [(len(before[table]),)]


def test_a_log_that_was_made_before_there_were_claims_gets_its_table_with_the_next_write(filled: Path) -> None:
    run_sql(filled, "DROP TABLE twinstep_claims")
    with closing(SQLiteEventStore(filled, readonly=True)) as store:
        assert check_log(store).problems == ()
    with closing(SQLiteEventStore(filled)) as store:
        store.claim("pair")
        append(store, "pair", CHECKED)
        assert check_log(store).problems == ()
    assert run_sql(filled, "SELECT pair, length(token) FROM twinstep_claims") == [("pair", 32)]
    assert run_sql(filled, "SELECT schema_version FROM twinstep_log") == [(1,)]


# --- how the file is made


def test_nothing_is_made_before_the_first_write(store: SQLiteEventStore, path: Path) -> None:
    assert store.log_id == ""
    assert store.read(STREAM) == []
    assert list(store.read_all()) == []
    assert store.rows("migration_history") == []
    assert store.append(STREAM, [], expected_version=0, expected_hash=GENESIS) == []
    assert check_log(store).sound
    assert list(path.parent.parent.iterdir()) == []
    append(store, STREAM, *BEGUN)
    assert store.log_id
    assert path.is_file()


def test_the_file_and_its_folder_belong_to_their_owner_alone(store: SQLiteEventStore, path: Path) -> None:
    before = os.umask(0)
    try:
        append(store, STREAM, *BEGUN)
        files = list(path.parent.iterdir())
        assert {file.name for file in files} == {"log.db", "log.db-wal", "log.db-shm"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_a_file_and_a_folder_that_are_there_keep_their_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "log.db"
    file.touch()
    file.chmod(0o640)
    with closing(SQLiteEventStore(file)) as store:
        append(store, STREAM, *BEGUN)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_the_log_is_durable_at_each_commit(filled: Path) -> None:
    seen: list[object] = []

    def look(crossing: str) -> None:
        connection = store._file._connection
        assert connection is not None
        seen.append(
            (connection.execute("PRAGMA journal_mode").fetchone()[0], connection.execute("PRAGMA synchronous").fetchone()[0])
        )

    store = SQLiteEventStore(filled, probe=look)
    append(store, "pair", CHECKED)
    store.close()
    assert seen == [("wal", 2), ("wal", 2)]  # 2 is FULL


def test_an_append_is_one_commit(filled: Path) -> None:
    with closing(SQLiteEventStore(filled)) as store:
        append(store, "pair", CHECKED)
        connection = store._file._connection
        assert connection is not None
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        append(store, STREAM, e.BackedUp(run="r1", backup={"id": "b"}), e.LocalApplied(run="r1"), e.RemoteStarted(run="r1"))
    assert [statement for statement in statements if statement.startswith(("BEGIN", "COMMIT", "ROLLBACK"))] == [
        "BEGIN IMMEDIATE",
        "COMMIT",
    ]


def test_closing_leaves_one_file(filled: Path) -> None:
    assert [file.name for file in filled.parent.iterdir()] == ["log.db"]


def test_a_relative_path_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = SQLiteEventStore("log.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    append(store, STREAM, *BEGUN)
    store.close()
    assert store.location == str(tmp_path / "log.db")
    assert (tmp_path / "log.db").is_file()


# --- reading only


def test_a_missing_file_is_an_empty_log_to_a_reader(path: Path) -> None:
    with closing(SQLiteEventStore(path, readonly=True)) as store:
        assert store.log_id == ""
        assert [store.read(STREAM), store.streams(), list(store.read_all()), store.rows("migration_history")] == [[]] * 4
        assert store.pair_of("key") is None
        assert not store.knows_pair("pair")
        for write in (lambda: append(store, STREAM, *BEGUN), lambda: store.register_pair("key"), store.rebuild_rows):
            with pytest.raises(Blocked, match="it was opened for reading only") as caught:
                write()
            assert caught.value.code == "T506"
    assert not path.parent.exists()


def test_a_reader_changes_nothing_and_sees_what_is_written_meanwhile(filled: Path) -> None:
    before = filled.read_bytes()
    with closing(SQLiteEventStore(filled, readonly=True)) as reader:
        assert len(list(reader.read_all())) == 3
        assert reader.register_pair("key") == reader.pair_of("key")
        with pytest.raises(Blocked):
            append(reader, "pair", CHECKED)
    assert filled.read_bytes() == before
    with closing(SQLiteEventStore(filled, readonly=True)) as reader, closing(SQLiteEventStore(filled)) as writer:
        assert len(list(reader.read_all())) == 3
        append(writer, "pair", CHECKED)
        assert len(list(reader.read_all())) == 4


def test_a_reader_that_came_first_finds_the_log_when_it_is_made(store: SQLiteEventStore, path: Path) -> None:
    with closing(SQLiteEventStore(path, readonly=True)) as reader:
        assert reader.log_id == ""
        append(store, STREAM, *BEGUN)
        assert reader.log_id == store.log_id
        assert len(reader.read(STREAM)) == 2


# --- what cannot be used


def both_ways(path: Path) -> Iterator[Exception]:
    """The errors of reading and of writing."""
    for work in (lambda store: store.read(STREAM), lambda store: append(store, "pair", CHECKED)):
        with (
            closing(SQLiteEventStore(path, busy_timeout_seconds=0.05)) as store,
            pytest.raises((Blocked, LogDamaged)) as caught,
        ):
            work(store)
        assert caught.value.details["path"] == path
        yield caught.value


@pytest.mark.parametrize("text", [b"these are my notes", b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "log.db"
    file.write_bytes(text)
    for error in both_ways(file):
        assert isinstance(error, LogDamaged)
        assert error.code == "T507"
    assert file.read_bytes() == text
    with closing(SQLiteEventStore(file)) as store:
        assert [problem.code for problem in check_log(store).problems] == ["T507"]


def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    run_sql(file, "CREATE TABLE notes (id)")
    before = file.read_bytes()
    for error in both_ways(file):
        assert isinstance(error, LogDamaged)
        assert "it has other tables than a log" in str(error)
    assert file.read_bytes() == before


def test_a_log_of_a_newer_program_is_refused_and_left_alone(filled: Path) -> None:
    run_sql(filled, "DROP TRIGGER twinstep_log_update", f"UPDATE twinstep_log SET schema_version = {LOG_VERSION + 1}")
    before = filled.read_bytes()
    for error in both_ways(filled):
        assert isinstance(error, LogDamaged)
        assert error.code == "T508"
        assert error.exit_code == 5
    assert filled.read_bytes() == before


def test_a_log_without_its_id_is_refused(filled: Path) -> None:
    run_sql(filled, "DROP TRIGGER twinstep_log_delete", "DELETE FROM twinstep_log")
    assert ["it has lost its id" in str(error) for error in both_ways(filled)] == [True, True]


def test_a_log_without_its_events_is_refused(filled: Path) -> None:
    run_sql(filled, "DROP TABLE twinstep_events")
    assert [error.code for error in both_ways(filled)] == ["T507", "T507"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("left", [0.97, 0.5, 0.2])
def test_a_torn_log_is_damaged(store: SQLiteEventStore, path: Path, left: float) -> None:
    for number in range(40):
        append(store, "pair", e.ConflictDetected(kind="drift", migration="0001_first", message=f"{number} " * 400))
    store.close()
    size = path.stat().st_size
    os.truncate(path, int(size * left))
    with closing(SQLiteEventStore(path)) as torn, pytest.raises(LogDamaged) as caught:
        list(torn.read_all())
    assert caught.value.code == "T507"
    with closing(SQLiteEventStore(path)) as torn:
        assert [problem.code for problem in check_log(torn).problems] == ["T507"]


def test_a_log_that_is_busy_is_waited_for_and_then_blocks(filled: Path) -> None:
    with closing(sqlite3.connect(filled, isolation_level=None, check_same_thread=False)) as rival:
        rival.execute("BEGIN IMMEDIATE")
        with closing(SQLiteEventStore(filled, busy_timeout_seconds=0.05)) as store:
            assert len(store.read(STREAM)) == 2  # Readers do not wait.
            with pytest.raises(Blocked, match="another program holds its file") as caught:
                append(store, "pair", CHECKED)
            assert caught.value.code == "T506"
            assert caught.value.exit_code == 5
        threading.Timer(0.2, rival.execute, ["COMMIT"]).start()
        with closing(SQLiteEventStore(filled)) as patient:
            append(patient, "pair", CHECKED)
            assert len(patient.read("pair")) == 2


def test_a_log_that_another_process_is_making_is_waited_for(path: Path) -> None:
    """SQLite itself does not wait here: changing the journal mode beside a writer fails at once."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as rival:
        rival.execute("BEGIN IMMEDIATE")
        with (
            closing(SQLiteEventStore(path, busy_timeout_seconds=0.05)) as store,
            pytest.raises(Blocked, match="another program"),
        ):
            append(store, "pair", CHECKED)
        threading.Timer(0.2, rival.execute, ["COMMIT"]).start()
        with closing(SQLiteEventStore(path)) as patient:
            append(patient, "pair", CHECKED)
            assert check_log(patient).events == 1


def test_a_full_disk_appends_nothing(filled: Path) -> None:
    """SQLite's own limit on the size of a file stands in for the disk: it gives the same error."""
    with closing(SQLiteEventStore(filled)) as store:
        append(store, "pair", CHECKED)
        connection = store._file._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Blocked, match="the disk is full") as caught:
            append(store, "pair", e.ConflictDetected(kind="drift", migration="0001_first", message="x" * 50_000))
        assert caught.value.code == "T506"
        assert len(store.read("pair")) == 2
        connection.execute("PRAGMA max_page_count = 1000000")
        append(store, "pair", CHECKED)
        assert check_log(store).problems == ()


def test_a_path_that_cannot_be_one_is_blocked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "log.db")
    for path in (tmp_path, tmp_path / "file" / "log.db"):
        assert [error.code for error in both_ways(path)] == ["T506", "T506"]  # type: ignore[attr-defined]
    with closing(SQLiteEventStore(tmp_path / "dangling")) as store, pytest.raises(Blocked, match="cannot be opened"):
        append(store, "pair", CHECKED)
    with closing(SQLiteEventStore(tmp_path / "file" / "deeper" / "log.db")) as store, pytest.raises(Blocked):
        append(store, "pair", CHECKED)


AS_SOMEBODY = """
import os, sys
import urllib.parse  # What is imported late could not be read any more by somebody without rights.
from twinstep.events import types as e
from twinstep.events.errors import Blocked
from twinstep.stores.sqlite_events import SQLiteEventStore
if os.geteuid() == 0:  # Whom no rights bind.
    os.setgid(65534); os.setuid(65534)
try:
    SQLiteEventStore(sys.argv[1]).append("pair", [e.SyncChecked(conflicts=0)], expected_version=0, expected_hash="0" * 64)
except Blocked as error:
    print(error.code, error.details["problem"])
"""


@pytest.mark.parametrize(
    ("is_there", "file_mode", "folder_mode", "says"),
    [
        (True, 0o444, 0o555, "its file, or the folder around it, is read-only"),
        (True, 0o000, 0o555, "its file cannot be opened"),
        (False, 0, 0o555, "its file cannot be opened"),
        (False, 0, 0o000, "its file cannot be looked at (Permission denied)"),
    ],
)
def test_missing_rights_are_named(is_there: bool, file_mode: int, folder_mode: int, says: str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "log.db"
        if is_there:
            with closing(SQLiteEventStore(file)) as store:
                append(store, STREAM, *BEGUN)
            file.chmod(file_mode)
        folder.chmod(folder_mode)
        try:
            done = subprocess.run(
                [sys.executable, "-c", AS_SOMEBODY, str(file)], capture_output=True, text=True, timeout=60, check=False
            )
        finally:
            folder.chmod(0o700)
        assert done.stdout.strip() == f"T506 {says}", done.stderr


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        deep = Path(name) / "state" / "log.db"
        done = subprocess.run(
            [sys.executable, "-c", AS_SOMEBODY, str(deep)], capture_output=True, text=True, timeout=60, check=False
        )
        Path(name).chmod(0o700)
    assert done.stdout.strip() == "T506 its folder cannot be made (Permission denied)", done.stderr


def test_a_file_that_is_taken_away_while_it_is_open_is_not_written_any_more(filled: Path) -> None:
    with closing(SQLiteEventStore(filled)) as store:
        append(store, "pair", CHECKED)
        away = filled.with_name("away.db")
        filled.rename(away)
        for work in (lambda: append(store, "pair", CHECKED), lambda: store.read("pair")):
            with pytest.raises(Blocked, match="moved or replaced"):
                work()
        filled.write_bytes(b"")
        with pytest.raises(Blocked, match="moved or replaced"):
            append(store, "pair", CHECKED)
    assert filled.stat().st_size == 0


def test_an_interrupted_making_is_made_good(path: Path) -> None:
    """An empty file is what a crash between making the file and the first commit leaves."""
    path.parent.mkdir()
    path.touch()
    with closing(SQLiteEventStore(path, readonly=True)) as reader:
        assert (reader.log_id, reader.streams()) == ("", [])
    with closing(SQLiteEventStore(path)) as store:
        assert store.log_id == ""
        append(store, STREAM, *BEGUN)
        assert check_log(store).sound


def test_a_refused_write_does_not_hold_the_log(filled: Path) -> None:
    with closing(SQLiteEventStore(filled)) as store, closing(SQLiteEventStore(filled, busy_timeout_seconds=0.05)) as other:
        with pytest.raises(ConcurrencyConflict):
            store.append(STREAM, BEGUN, expected_version=0, expected_hash=GENESIS)
        append(other, "pair", CHECKED)


def test_a_forked_child_opens_its_own_connection(filled: Path) -> None:
    store = SQLiteEventStore(filled)
    append(store, "pair", CHECKED)
    parents = store._file._connection
    child = os.fork()
    if child == 0:
        append(store, "pair", CHECKED)
        own = store._file._connection is not parents and len(store.read("pair")) == 3
        store.close()
        os._exit(0 if own else 1)
    assert os.waitpid(child, 0)[1] == 0
    append(store, "pair", CHECKED)
    assert len(store.read("pair")) == 4
    assert store._file._connection is parents
    assert check_log(store).problems == ()
    store.close()


def test_a_killed_writer_leaves_whole_appends(filled: Path) -> None:
    """The process dies at the crossing, not just the call."""
    for crossing, stands in (("append:before-commit", 1), ("append:after-commit", 2)):
        script = (
            "import os, signal, sys\n"
            "from twinstep.events import types as e\n"
            "from twinstep.stores.sqlite_events import SQLiteEventStore\n"
            f"die = lambda here: os.kill(os.getpid(), signal.SIGKILL) if here == {crossing!r} else None\n"
            f"store = SQLiteEventStore({str(filled)!r}, probe=die)\n"
            "last = store.read('pair')[-1]\n"
            "store.append('pair', [e.SyncChecked(conflicts=1)], expected_version=last.version, expected_hash=last.hash)\n"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == -9
        with closing(SQLiteEventStore(filled)) as store:
            assert len(store.read("pair")) == stands
            assert check_log(store).problems == ()


def test_the_hash_in_the_file_is_the_documented_one(filled: Path) -> None:
    stream, version, kind, schema, when, payload, before, own = run_sql(
        filled,
        "SELECT stream, version, type, schema_version, recorded_at, payload, previous_hash, hash FROM twinstep_events "
        "WHERE position = 2",
    )[0]
    assert own == link(
        str(before),
        stream=str(stream),
        version=int(str(version)),
        type=str(kind),
        schema_version=int(str(schema)),
        recorded_at=str(when),
        payload=str(payload),
    )
