"""The scripts of the test set, run for real: what they leave behind statement by statement is what the databases make of them.

The oracle is each database's own reading of the whole text: PostgreSQL's, sent as one message, which also tells how many
statements it has found; and SQLite's `executescript`. PostgreSQL is asked on every version that this machine has.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from types import FrameType
from typing import Any

import psycopg
import pytest
from scripts import NAMES, POSTGRES, SQLITE, counted, dialect_of, read

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.engine.postgres_binaries import choose_binaries
from twinstep.migrations.checksums import checksum
from twinstep.migrations.lexical import Dialect, normal_newlines
from twinstep.migrations.sql import split


def statements(text: str, dialect: Dialect) -> list[str]:
    return [statement.text for statement in split(text, dialect, "a.sql").statements]


# PostgreSQL


def dumped(url: str) -> list[str]:
    """The whole schema as pg_dump writes it, and the rows of each table counted."""
    program = choose_binaries().folder / "pg_dump"
    done = subprocess.run([program, "--schema-only", "--dbname", url], capture_output=True, text=True, check=True)
    # Each dump of a newer version is fenced with a random word.
    lines = [line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
    query = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'm') AND oid >= 16384 ORDER BY 1"
    with psycopg.connect(url) as connection:
        tables = [table for (table,) in connection.execute(query.encode()).fetchall()]
        counts = [(table, connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()) for table in tables]
    return [*lines, *(f"{table}: {rows}" for table, rows in counts)]


@pytest.mark.parametrize("name", POSTGRES)
def test_postgres_makes_the_same_of_the_statements_as_of_the_whole_text(
    name: str, each_postgres: EmbeddedPostgres, each_remote_url: str
) -> None:
    text = normal_newlines(read(name))
    with psycopg.connect(each_remote_url, autocommit=True) as connection, connection.cursor(binary=True) as cursor:
        for statement in statements(text, "postgres"):
            # The extended protocol refuses two commands in one, so that nothing stays glued together unnoticed.
            cursor.execute(statement.encode(), binary=True)
        with pytest.raises(psycopg.errors.SyntaxError):
            cursor.execute("SELECT 1; SELECT 2", binary=True)
    whole = each_postgres.create_database()
    try:
        with psycopg.connect(whole, autocommit=True) as connection:
            found = connection.execute(text.encode())
            results = 1
            while found.nextset():
                results += 1
        around = 2 if split(text, "postgres", name).wrapped else 0
        assert results - around == counted(name)
        assert dumped(each_remote_url) == dumped(whole)
    finally:
        each_postgres.drop_database(whole.rpartition("/")[2].partition("?")[0])


# SQLite


def content(connection: sqlite3.Connection) -> list[object]:
    """Everything in the file and in the temporary schema: texts, rows, versions."""
    schemas = [connection.execute(f"SELECT type, name, tbl_name, sql FROM {one} ORDER BY 1, 2").fetchall() for one in SCHEMAS]
    version = connection.execute("PRAGMA user_version").fetchone()
    return [*schemas, version, list(connection.iterdump())]


SCHEMAS = ("sqlite_schema", "temp.sqlite_schema")


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    # The one clock in the scripts.
    connection.create_function("strftime", -1, lambda *arguments: "0")
    return connection


@pytest.mark.parametrize("name", SQLITE)
def test_sqlite_makes_the_same_of_the_statements_as_of_the_whole_text(name: str) -> None:
    with closing(opened()) as ours, closing(opened()) as theirs:
        for statement in statements(read(name), "sqlite"):
            # One that held a second statement would be refused.
            ours.execute(statement).fetchall()
        theirs.executescript(normal_newlines(read(name)))
        assert content(ours) == content(theirs)
        assert len(content(ours)[0]) > 0  # type: ignore[arg-type]


# Seeds of 5 MB


def inserts(size: int) -> Iterator[str]:
    """Rows as a tool exports them, some with everything in their text that could end a statement."""
    written = number = 0
    while written < size:
        number += 1
        row = f"INSERT INTO notes (id, body) VALUES ({number}, 'it''s; row -- {number} /* {'lorem ipsum ' * 30}');\n"
        written += len(row)
        yield row


END = ";\n"


def one_insert(size: int) -> Iterator[str]:
    """One statement with many rows."""
    yield "INSERT INTO notes (id, body) VALUES (0, '')"
    yield from (
        row.removeprefix("INSERT INTO notes (id, body) VALUES").join((", ", "")).replace(";\n", "\n") for row in inserts(size)
    )


def updates(size: int) -> Iterator[str]:
    """Statements that both readers read."""
    yield from (
        f"UPDATE notes SET body = body || ';{'x' * 60}' WHERE id = {number} AND (1 = 1);\n" for number in range(size // 120)
    )


def one_function(size: int) -> Iterator[str]:
    """One statement with a long body, and comments that nest."""
    yield "DO $long$ BEGIN\n"
    yield from ("    PERFORM 1; -- a 'line' of it;\n" for _ in range(size // 34))
    yield "END $long$;\n"
    yield from ("/* one /* two; */ */\n" for _ in range(size // 200))


SEEDS: list[tuple[Callable[[int], Iterator[str]], Dialect, int]] = [
    # No more of it: while calls are counted, Python does not make longer texts in place, and sqlglot's reader is made of that.
    # What takes a second took a quarter of an hour in a process whose memory was in pieces.
    (inserts, "sqlite", 20_000),
    (inserts, "postgres", 20_000),
    (one_insert, "sqlite", 20_000),
    (one_insert, "postgres", 20_000),
    (updates, "sqlite", 20_000),
    (updates, "postgres", 20_000),
    (one_function, "postgres", 15_000),
]


def effort(work: Callable[[], object]) -> tuple[int, int]:
    """How many functions were called, those in C included, and how many bytes were held at most."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    tracemalloc.start()
    try:
        work()
        return calls, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def efforts(seed: Callable[[int], Iterator[str]], dialect: Dialect, size: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Of splitting and of the checksum, each with the text and with five times as much."""
    small, large = "".join(seed(size)), "".join(seed(5 * size))
    split("SELECT 1; INSERT INTO t VALUES (1)", dialect, "what is loaded once")
    works = (lambda text: split(text, dialect, "seed.sql"), lambda text: checksum([text], "local"))
    return [(effort(partial(work, small)), effort(partial(work, large))) for work in works]


@pytest.mark.parametrize(("seed", "dialect", "size"), SEEDS, ids=lambda one: getattr(one, "__name__", str(one)))
def test_five_times_the_text_is_five_times_the_work(seed: Callable[[int], Iterator[str]], dialect: Dialect, size: int) -> None:
    # In a process of its own, whose memory is in one piece.
    with get_context("spawn").Pool(1) as pool:
        for few, many in pool.apply_async(efforts, (seed, dialect, size)).get(timeout=120):
            assert many[0] <= 6 * few[0] + 100
            assert many[1] <= 6 * few[1] + 100_000


def test_a_seed_of_five_megabytes_arrives_whole_in_sqlite() -> None:
    text = "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT);\n" + "".join(inserts(5_000_000))
    assert len(text) > 5_000_000
    with closing(opened()) as ours, closing(opened()) as theirs:
        ours.execute("BEGIN")
        for statement in statements(text, "sqlite"):
            ours.execute(statement)
        ours.execute("COMMIT")
        theirs.executescript(f"BEGIN; {text} COMMIT;")
        query = "SELECT count(*), sum(length(body)), max(id) FROM notes"
        assert ours.execute(query).fetchone() == theirs.execute(query).fetchone()


def test_a_seed_of_five_megabytes_arrives_whole_in_postgres(remote_url: str) -> None:
    text = "CREATE TABLE notes (id bigint PRIMARY KEY, body text);\n" + "".join(inserts(5_000_000))
    with psycopg.connect(remote_url) as connection:
        found = statements(text, "postgres")
        for statement in found:
            connection.execute(statement.encode())
        rows = connection.execute("SELECT count(*), min(length(body)) > 300, max(id) FROM notes").fetchone()
    assert rows == (len(found) - 1, True, len(found) - 1)


def test_the_test_set_has_no_script_that_is_run_nowhere() -> None:
    assert sorted([*POSTGRES, *SQLITE]) == NAMES
    assert {dialect_of(name) for name in NAMES} == {"postgres", "sqlite"}
