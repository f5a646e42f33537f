"""Connections to the local database: what is refused when opening, how transactions begin and commit, what cannot end them."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy
from sqlalchemy import text

from twinstep.events.errors import Blocked, ConfigurationError, Defect, InDoubt, Refused, TwinstepError
from twinstep.stores.held_sqlalchemy import sqlalchemy_connection
from twinstep.stores.local_connection import (
    LocalConnection,
    begin_exclusive,
    begin_immediate,
    commit,
    guarded,
    open_local,
    open_to_read,
    path_of,
    restore_foreign_keys,
    roll_back,
    set_foreign_keys_off,
)
from twinstep.stores.sqlite_errors import translate, translate_commit

MODES = ["wal", "delete"]


def make(path: Path, mode: str = "delete") -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, value TEXT NOT NULL)")
        connection.execute("INSERT INTO item VALUES (1, 'kept')")
    return path


def values(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return [value for (value,) in connection.execute("SELECT value FROM item ORDER BY id")]


@pytest.fixture(params=MODES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(tmp_path / "local.db", request.param)


@pytest.fixture
def connection(database: Path) -> Iterator[LocalConnection]:
    opened = open_local(database, busy_seconds=0.1)
    yield opened
    opened.close()


# --- opening ---------------------------------------------------------------------------------------------------------


def code_of(opening: Callable[[], object]) -> tuple[type[TwinstepError], str]:
    with pytest.raises(TwinstepError) as caught:
        opening()
    return type(caught.value), caught.value.code


def test_each_thing_that_is_no_database_is_refused_by_its_own_message(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to have a header of a hundred bytes" * 4)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    found = {name: code_of(lambda name=name: open_local(name)) for name in (":memory:", "")}  # type: ignore[misc]
    for name in ("folder", "pipe", "missing.db", "missing/deep.db", "text.db"):
        found[name] = code_of(lambda name=name: open_local(tmp_path / name))  # type: ignore[misc]
    assert found == {
        ":memory:": (ConfigurationError, "T210"),
        "": (ConfigurationError, "T210"),
        "folder": (ConfigurationError, "T210"),
        "pipe": (ConfigurationError, "T210"),
        "missing.db": (ConfigurationError, "T211"),
        "missing/deep.db": (ConfigurationError, "T211"),
        "text.db": (ConfigurationError, "T212"),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe", "text.db"]


def test_what_is_no_database_may_be_an_encrypted_one_and_the_message_says_so(tmp_path: Path) -> None:
    (tmp_path / "secret.db").write_bytes(os.urandom(8192))
    with pytest.raises(ConfigurationError, match=r"encrypted.*on_local_connect"):
        open_local(tmp_path / "secret.db")


def test_a_damaged_schema_is_blocked_when_opening(tmp_path: Path) -> None:
    path = make(tmp_path / "local.db")
    image = bytearray(path.read_bytes())
    image[100:140] = b"\xff" * 40  # the root page of the schema
    path.write_bytes(image)
    assert code_of(lambda: open_local(path)) == (Blocked, "T216")


def test_a_name_full_of_signs_is_opened_as_it_is_and_links_are_followed(tmp_path: Path) -> None:
    path = make(tmp_path / "a?mode=memory#b %41'ü.db")
    (tmp_path / "link.db").symlink_to(path)
    for name in (path, tmp_path / "link.db", str(path)):
        with closing(open_local(name)) as connection:
            assert connection.execute("SELECT value FROM item").fetchone() == ("kept",)
            assert path_of(connection) == str(path)


def test_an_empty_file_is_an_empty_database(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with closing(open_local(tmp_path / "empty.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_read_only_connection_cannot_write_and_leaves_a_wal_file_as_it_is(database: Path) -> None:
    before = database.read_bytes()
    with closing(open_local(database, readonly=True)) as connection:
        assert connection.execute("SELECT value FROM item").fetchone() == ("kept",)
        assert code_of(lambda: begin_immediate(connection, 0)) == (Defect, "T230")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM item")
    assert database.read_bytes() == before


def test_writers_commit_with_the_folder_synced_whatever_the_host_sets(database: Path) -> None:
    def careless(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    with closing(open_local(database, on_connect=careless)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)
        assert connection.isolation_level is None


def test_the_hosts_own_functions_are_there_before_the_first_look(database: Path) -> None:
    with closing(open_local(database, on_connect=lambda one: one.create_function("twice", 1, lambda x: x * 2))) as connection:
        assert connection.execute("SELECT twice(value) FROM item").fetchone() == ("keptkept",)


def test_a_connection_that_could_not_be_made_ready_is_closed(database: Path) -> None:
    seen: list[sqlite3.Connection] = []

    def failing(connection: sqlite3.Connection) -> None:
        seen.append(connection)
        connection.execute("SELECT * FROM nowhere")

    assert code_of(lambda: open_local(database, on_connect=failing)) == (Refused, "T217")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        seen[0].execute("SELECT 1")


def test_a_database_that_somebody_holds_for_himself_is_busy_when_opening(tmp_path: Path) -> None:
    path = make(tmp_path / "local.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert code_of(lambda: open_local(path, busy_seconds=0.05)) == (Blocked, "T214")


RIGHTS = """
import os, sys
import urllib.parse  # What is imported late could not be read any more by somebody without rights.
from twinstep.stores.local_connection import open_local
from twinstep.events.errors import Blocked
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
for name, readonly in (("unreadable.db", True), ("readonly.db", False), ("closed/local.db", False), ("readonly.db", True)):
    try:
        open_local(os.path.join(sys.argv[1], name), readonly=readonly).close()
        print(name, "opened")
    except Blocked as error:
        print(error.code, error.details["problem"])
"""


def test_missing_rights_are_named_as_what_they_are() -> None:
    with tempfile.TemporaryDirectory() as made:  # not tmp_path, which only its owner may enter
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "closed").mkdir()
        for name, mode in (("unreadable.db", 0o000), ("readonly.db", 0o444), ("closed/local.db", 0o666)):
            make(folder / name).chmod(mode)
        (folder / "closed").chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", RIGHTS, made], env=importing(), capture_output=True, text=True, check=True, timeout=60
        )
        (folder / "closed").chmod(0o755)
    assert done.stdout.splitlines() == [
        "T213 the file may not be read",
        "T213 the file may not be written to",
        "T213 its folder may not be written to, and the journal must be kept there",
        "readonly.db opened",
    ]


def importing() -> dict[str, str]:
    """An environment in which a child finds what this process imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


# --- beginning and committing ------------------------------------------------------------------------------------------


def test_what_is_committed_is_there_and_what_is_rolled_back_is_not(connection: LocalConnection, database: Path) -> None:
    begin_immediate(connection, 0)
    connection.execute("CREATE TABLE other (x)")
    connection.execute("INSERT INTO item VALUES (2, 'second')")
    commit(connection, 0)
    begin_immediate(connection, 0)
    connection.execute("DROP TABLE other")
    connection.execute("DELETE FROM item")
    roll_back(connection)
    roll_back(connection)  # nothing open: nothing happens
    assert values(database) == ["kept", "second"]
    assert connection.execute("SELECT count(*) FROM other").fetchone() == (0,)


def test_a_busy_writer_lock_is_waited_for_and_then_named(connection: LocalConnection, database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as rival:
        rival.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        assert code_of(lambda: begin_immediate(connection, 0.2)) == (Blocked, "T214")
        assert 0.15 < time.monotonic() - started < 5
        release = threading.Timer(0.2, lambda: rival.execute("ROLLBACK"))
        release.start()
        begin_immediate(connection, 10)
        release.join()
        assert connection.in_transaction
        roll_back(connection)


def test_waiting_changes_nothing_about_how_long_other_statements_wait(database: Path) -> None:
    with closing(open_local(database, busy_seconds=1.25)) as connection:
        begin_immediate(connection, 0)
        commit(connection, 0)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (1250,)


def test_a_commit_that_a_reader_blocks_is_tried_again_until_the_reader_ends(tmp_path: Path) -> None:
    path = make(tmp_path / "local.db", "delete")
    with closing(open_local(path)) as connection, closing(sqlite3.connect(path, check_same_thread=False)) as reader:
        begin_immediate(connection, 0)
        connection.execute("INSERT INTO item VALUES (2, 'waited for')")
        cursor = reader.execute("SELECT * FROM item UNION ALL SELECT * FROM item")
        cursor.fetchone()
        end = threading.Timer(0.2, cursor.close)
        end.start()
        commit(connection, 10)
        end.join()
    assert values(path) == ["kept", "waited for"]


def test_a_commit_that_stays_blocked_is_rolled_back_and_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "local.db", "delete")
    with closing(open_local(path)) as connection, closing(sqlite3.connect(path)) as reader:
        begin_immediate(connection, 0)
        connection.execute("INSERT INTO item VALUES (2, 'never')")
        reading = reader.execute("SELECT * FROM item UNION ALL SELECT * FROM item")
        reading.fetchone()
        assert code_of(lambda: commit(connection, 0.1)) == (Blocked, "T214")
        assert not connection.in_transaction
        reading.close()
    assert values(path) == ["kept"]


def test_a_deferred_constraint_at_commit_is_a_refusal_and_nothing_stays(connection: LocalConnection, database: Path) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    begin_immediate(connection, 0)
    connection.execute("CREATE TABLE child (p REFERENCES item DEFERRABLE INITIALLY DEFERRED)")
    connection.execute("INSERT INTO child VALUES (99)")
    assert code_of(lambda: commit(connection, 0)) == (Refused, "T217")
    assert not connection.in_transaction
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)


def test_taking_the_file_for_oneself_shuts_readers_out_of_a_rollback_journal_database(tmp_path: Path) -> None:
    path = make(tmp_path / "local.db", "delete")
    with closing(open_local(path)) as connection, closing(sqlite3.connect(path, timeout=0)) as other:
        begin_exclusive(connection, 0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("SELECT * FROM item")


FULL = """
import resource, sys
from twinstep.events.errors import TwinstepError
from twinstep.stores.local_connection import begin_immediate, commit, open_local, roll_back
from twinstep.stores.sqlite_errors import translate
import sqlite3
connection = open_local(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    begin_immediate(connection, 0)
    try:
        for number in range(2, 400):
            connection.execute("INSERT INTO item VALUES (?, ?)", (number, "x" * 1000))
    except sqlite3.Error as error:
        roll_back(connection)
        raise translate(error, path="it", doing="inserting") from error
    commit(connection, 0)
except TwinstepError as error:
    print(type(error).__name__, error.code, connection.in_transaction)
"""


def test_a_file_that_cannot_grow_while_committing_is_never_half_written(database: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(database)], env=importing(), capture_output=True, text=True, check=True, timeout=60
    )
    # The limit stands for a failing disk: SQLite calls it an I/O error, and at COMMIT nobody then knows.
    assert done.stdout.strip() in ("InDoubt T218 False", "Blocked T216 False")
    assert values(database) == ["kept"]


def test_a_database_that_may_not_grow_further_is_full(connection: LocalConnection, database: Path) -> None:
    connection.execute("PRAGMA max_page_count = 3")
    begin_immediate(connection, 0)
    with pytest.raises(sqlite3.Error) as caught:
        connection.executemany("INSERT INTO item (value) VALUES (?)", [("x" * 1000,)] * 50)
    error = translate(caught.value, path=str(database), doing="inserting")
    assert (type(error), error.code) == (Blocked, "T215")
    assert "inserting" in str(error)
    roll_back(connection)
    assert values(database) == ["kept"]


def test_an_io_error_at_commit_leaves_the_answer_to_the_ledger() -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
    assert isinstance(translate_commit(error, path="local.db", doing="committing"), InDoubt)
    assert isinstance(translate(error, path="local.db", doing="reading"), Blocked)


def test_foreign_keys_are_off_before_begin_and_can_be_set_back(connection: LocalConnection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    assert set_foreign_keys_off(connection) is True
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (0,)
    assert set_foreign_keys_off(connection) is False
    restore_foreign_keys(connection, True)
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_switching_foreign_keys_inside_a_transaction_is_found_out(connection: LocalConnection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    begin_immediate(connection, 0)
    assert code_of(lambda: set_foreign_keys_off(connection)) == (Defect, "T230")
    assert code_of(lambda: restore_foreign_keys(connection, False)) == (Defect, "T230")
    roll_back(connection)


# --- what a migration's function cannot do ---------------------------------------------------------------------------------


def driver(lent: sqlalchemy.Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", lent.connection.driver_connection)


def lend(connection: sqlite3.Connection, function: Callable[[sqlalchemy.Connection], object]) -> None:
    with sqlalchemy_connection(connection) as lent:
        function(lent)


def leave_block_normally(lent: sqlalchemy.Connection) -> None:
    with lent.begin_nested():
        pass
    lent.get_transaction().commit()  # type: ignore[union-attr]


WAYS_OUT: dict[str, Callable[[sqlalchemy.Connection], object]] = {
    "commit": lambda lent: lent.commit(),
    "rollback": lambda lent: lent.rollback(),
    "close": lambda lent: lent.close(),
    "a transaction object's commit": leave_block_normally,
    "COMMIT as text": lambda lent: lent.exec_driver_sql("COMMIT"),
    "END as text": lambda lent: lent.execute(text("end transaction")),
    "ROLLBACK as text": lambda lent: lent.execute(text("ROLLBACK")),
    "the driver's commit": lambda lent: driver(lent).commit(),
    "the driver's rollback": lambda lent: driver(lent).rollback(),
    "the driver's close": lambda lent: driver(lent).close(),
    "the driver's close by its base": lambda lent: sqlite3.Connection.close(driver(lent)),
    "executescript": lambda lent: driver(lent).executescript("INSERT INTO item VALUES (3, 'script')"),
    "executescript on a cursor": lambda lent: driver(lent).cursor().executescript("SELECT 1"),
    "with driver": lambda lent: driver(lent).__exit__(None, None, None),
    "isolation level of the driver": lambda lent: setattr(driver(lent), "isolation_level", None),
    "invalidate": lambda lent: lent.invalidate(),
    "taking the guard away": lambda lent: driver(lent).set_authorizer(None),
    "INSERT OR ROLLBACK": lambda lent: lent.execute(text("INSERT OR ROLLBACK INTO item VALUES (1, 'twice')")),
    "journal_mode=OFF": lambda lent: lent.execute(text("PRAGMA journal_mode = OFF")),
    "attach": lambda lent: lent.execute(text("ATTACH ':memory:' AS other")),
}


@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_way_out_of_the_transaction_leaves_anything_behind(database: Path, way: str, swallowed: bool) -> None:
    connection = open_local(database, busy_seconds=0.1)
    begin_immediate(connection, 0)

    def function(lent: sqlalchemy.Connection) -> None:
        lent.execute(text("INSERT INTO item VALUES (2, 'before')"))
        driver(lent).execute("INSERT INTO item (value) VALUES ('around')")
        if swallowed:
            with suppress(Exception):
                WAYS_OUT[way](lent)
            with suppress(Exception):
                lent.execute(text("INSERT INTO item VALUES (4, 'after')"))
            with suppress(Exception):
                driver(lent).execute("INSERT INTO item (value) VALUES ('around')")  # known to the driver already
        else:
            WAYS_OUT[way](lent)

    assert code_of(lambda: lend(connection, function)) == (Refused, "T219")
    assert values(database) == ["kept"]  # nothing of it was committed
    with suppress(sqlite3.ProgrammingError):
        roll_back(connection)
    connection.close()
    assert values(database) == ["kept"]


@pytest.mark.parametrize("way", ["COMMIT", "ROLLBACK", "PRAGMA journal_mode = OFF", "DETACH other"])
def test_a_guarded_plain_connection_is_held_by_the_authorizer_alone(database: Path, way: str) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO item VALUES (2, 'before')")
        with pytest.raises(Refused) as caught, guarded(connection):
            connection.execute(way)
        assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
        assert connection.in_transaction
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")  # the guard is gone
        connection.execute("COMMIT")
    assert values(database) == ["kept"]


def test_what_is_lent_works_in_our_transaction_and_is_committed_by_us_alone(database: Path) -> None:
    connection = open_local(database)
    begin_immediate(connection, 0)
    with sqlalchemy_connection(connection) as lent:
        lent.execute(text("INSERT INTO item VALUES (:id, :value)"), [{"id": 2, "value": "a"}, {"id": 3, "value": "b"}])
        with suppress(sqlalchemy.exc.IntegrityError), lent.begin_nested():
            lent.execute(text("INSERT INTO item VALUES (4, 'undone')"))
            lent.execute(text("INSERT INTO item VALUES (1, 'twice')"))
        with lent.begin_nested():
            lent.execute(text("INSERT INTO item VALUES (5, 'c')"))
        table = sqlalchemy.Table("item", sqlalchemy.MetaData(), autoload_with=lent)
        assert lent.execute(sqlalchemy.select(table.c.value).order_by(table.c.id)).scalars().all() == ["kept", "a", "b", "c"]
    assert connection.in_transaction
    assert values(database) == ["kept"]
    commit(connection, 0)
    connection.close()
    assert values(database) == ["kept", "a", "b", "c"]


def test_a_refused_close_leaves_connection_and_transaction_open(connection: LocalConnection) -> None:
    begin_immediate(connection, 0)
    connection.execute("INSERT INTO item VALUES (2, 'x')")
    for way in ("the driver's close", "invalidate"):
        assert code_of(lambda way=way: lend(connection, WAYS_OUT[way])) == (Refused, "T219")  # type: ignore[misc]
    assert connection.execute("SELECT count(*) FROM item").fetchone() == (2,)
    roll_back(connection)
    connection.close()  # and now it may


def test_another_isolation_level_is_not_to_be_had(connection: LocalConnection) -> None:
    begin_immediate(connection, 0)
    connection.execute("INSERT INTO item VALUES (2, 'x')")
    first_thing = lambda lent: lent.execution_options(isolation_level="AUTOCOMMIT")  # noqa: E731
    assert code_of(lambda: lend(connection, first_thing)) == (Refused, "T219")
    with sqlalchemy_connection(connection) as lent:
        lent.execute(text("INSERT INTO item VALUES (3, 'y')"))
        with pytest.raises(sqlalchemy.exc.InvalidRequestError):
            lent.execution_options(isolation_level="AUTOCOMMIT")
    assert connection.in_transaction
    roll_back(connection)
    assert connection.execute("SELECT count(*) FROM item").fetchone() == (1,)


def test_the_functions_own_error_is_what_the_caller_sees(connection: LocalConnection) -> None:
    def function(lent: sqlalchemy.Connection) -> None:
        lent.execute(text("INSERT INTO item VALUES (2, 'x')"))
        print(1 // 0)

    begin_immediate(connection, 0)
    with pytest.raises(ZeroDivisionError):
        lend(connection, function)
    assert connection.in_transaction
    roll_back(connection)


def test_an_error_that_passes_a_block_of_its_own_is_the_cause_of_the_refusal(connection: LocalConnection) -> None:
    def function(lent: sqlalchemy.Connection) -> None:
        with lent.begin():
            lent.execute(text("INSERT INTO item VALUES (2, 'x')"))
            print(1 // 0)

    begin_immediate(connection, 0)
    with pytest.raises(Refused) as caught:
        lend(connection, function)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    roll_back(connection)


def test_lending_replaces_no_function_of_the_host_or_of_sqlite(database: Path) -> None:
    def speak(connection: sqlite3.Connection) -> None:
        connection.create_function("regexp", 2, lambda pattern, value: "the host's")

    with closing(open_local(database, on_connect=speak)) as connection:
        has_floor = connection.execute("SELECT 1 FROM pragma_function_list WHERE name = 'floor'").fetchone()
        begin_immediate(connection, 0)
        with sqlalchemy_connection(connection) as lent:
            assert lent.scalar(text("SELECT 'a' REGEXP 'b'")) == "the host's"
            assert isinstance(lent.scalar(text("SELECT floor(2.5)")), float if has_floor else int)
        roll_back(connection)


def test_a_guard_without_a_transaction_is_a_defect(connection: LocalConnection) -> None:
    assert code_of(lambda: guarded(connection).__enter__()) == (Defect, "T230")


KILLED = """
import os, signal, sys
from sqlalchemy import text
from twinstep.stores.held_sqlalchemy import sqlalchemy_connection
from twinstep.stores.local_connection import begin_immediate, open_local
connection = open_local(sys.argv[1])
begin_immediate(connection, 0)
with sqlalchemy_connection(connection) as lent:
    lent.execute(text("CREATE TABLE made (x)"))
    lent.execute(text("DELETE FROM item"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_inside_a_function_leaves_nothing(database: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(database)], env=importing(), check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    with closing(open_local(database)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    assert values(database) == ["kept"]


# A small cache spills: pages of the transaction reach the file, and the journal is what can take them back.
KILLED_HALF_WAY = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 5")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE t SET a = a || 'changed'")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_whose_writer_was_killed_half_way_is_rolled_back_and_read(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE t (a)")
        made.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 500)
        made.commit()
    subprocess.run([sys.executable, "-c", KILLED_HALF_WAY, str(path)], check=False, timeout=60)
    assert path.with_name("app.db-journal").exists()
    with pytest.raises(Blocked, match="journal"):
        open_local(path, readonly=True)
    with closing(open_to_read(path)) as connection:
        assert connection.execute("SELECT count(*) FROM t WHERE a LIKE '%changed'").fetchone() == (0,)
