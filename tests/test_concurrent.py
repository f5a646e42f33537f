"""Statements that cannot run in a transaction: done once, whatever was there and whoever was killed.

Each on every version of PostgreSQL at hand, with sessions that are ended and clients that are killed for real.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from waiting import eventually

from twinstep.events.errors import DefinitionError, InDoubt, Refused
from twinstep.events.types import Json
from twinstep.migrations.concurrent import SingleStatement, parse_single
from twinstep.migrations.concurrent_index import CreateIndex, DropIndex
from twinstep.migrations.concurrent_partition import DetachPartition
from twinstep.migrations.concurrent_upkeep import Marked, Reindex, Vacuum
from twinstep.migrations.postgres_catalogue import read_catalogue, read_fingerprint

Connection = psycopg.Connection[tuple[Any, ...]]

SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.items (id integer PRIMARY KEY, name text NOT NULL, price integer, tags text[]);
INSERT INTO shop.items SELECT i, 'item ' || i, i % 50, ARRAY['x'] FROM generate_series(1, 200) i;
CREATE TABLE shop."Order Lines" ("order" integer, "Made ON" date);
CREATE TABLE shop.sales (at date NOT NULL, amount integer CHECK (amount > 0), PRIMARY KEY (at)) PARTITION BY RANGE (at);
CREATE TABLE shop.sales_1 PARTITION OF shop.sales FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE shop.sales_2 PARTITION OF shop.sales FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE INDEX sales_amount ON shop.sales (amount);
CREATE FUNCTION shop.twice(integer) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
"""

PRICE = "CREATE INDEX CONCURRENTLY items_price ON shop.items (price)"


def connect(url: str, **options: object) -> Connection:
    settings = " ".join(f"-c {name}={value}" for name, value in options.items())
    return psycopg.connect(url, autocommit=True, options=settings)


@pytest.fixture
def url(each_remote_url: str) -> str:
    with connect(each_remote_url) as connection:
        connection.execute(SHOP.encode())
    return each_remote_url


@pytest.fixture
def remote(url: str) -> Iterator[Connection]:
    with connect(url) as connection:
        yield connection


def run(statement: SingleStatement, connection: Connection, before: dict[str, Json], wait_seconds: float = 20) -> None:
    statement.run(connection, before, statement_timeout_seconds=20, wait_seconds=wait_seconds)


def undo(statement: SingleStatement, connection: Connection, before: dict[str, Json]) -> None:
    statement.undo(connection, before, statement_timeout_seconds=20, wait_seconds=20)


def objects(connection: Connection) -> dict[str, str]:
    return dict(read_fingerprint(connection, ["shop"]).objects)


def index_number(connection: Connection, name: str) -> object:
    return connection.execute("SELECT to_regclass(%s)::oid", (name,)).fetchall()[0][0]


def settings(connection: Connection) -> list[tuple[Any, ...]]:
    query = "SELECT name, setting FROM pg_settings WHERE name ~ 'timeout|tablespace|search_path' ORDER BY name"
    return connection.execute(query).fetchall()


@contextmanager
def old_snapshot(url: str) -> Iterator[None]:
    """A transaction that looked at the database: concurrent builds wait until it ends."""
    with connect(url) as blocker, blocker.transaction():
        blocker.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        blocker.execute("SELECT 1 FROM pg_class").fetchall()
        yield


@contextmanager
def table_lock(url: str, mode: str, table: str = "shop.items") -> Iterator[None]:
    with connect(url) as blocker, blocker.transaction():
        blocker.execute(f"LOCK TABLE {table} IN {mode} MODE".encode())
        yield


@contextmanager
def in_background(work: Callable[[], None]) -> Iterator[Future[None]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


def invalid(connection: Connection, name: str) -> bool:
    query = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid"
    return connection.execute(query, (name,)).fetchone() is not None


def active(connection: Connection, beginning: str) -> list[int]:
    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND state = 'active' AND starts_with(query, %s)"
    )
    return [row[0] for row in connection.execute(query, (beginning,)).fetchall()]


@contextmanager
def orphan(url: str, statement: str) -> Iterator[None]:
    """A backend that goes on with a statement after its client was killed."""
    script = "import psycopg, sys; psycopg.connect(sys.argv[1], autocommit=True).execute(sys.argv[2].encode())"
    client = subprocess.Popen([sys.executable, "-c", script, url, statement])
    beginning = statement[:100]
    with connect(url) as watcher:
        eventually(lambda: active(watcher, beginning) != [])
        client.send_signal(signal.SIGKILL)
        client.wait()
        try:
            yield
        finally:
            for pid in active(watcher, beginning):
                watcher.execute("SELECT pg_terminate_backend(%s)", (pid,))
            eventually(lambda: active(watcher, beginning) == [])


# Reading


def test_the_head_of_an_index_statement_is_read_whatever_its_names_and_comments() -> None:
    plain = parse_single("create index concurrently a on b(c)")
    assert isinstance(plain, CreateIndex)
    assert (plain.name, plain.table, plain.unique, plain.guarded, plain.rest) == ("a", "b", False, False, "(c)")

    full = parse_single(
        '/* why /* nested */ */ CREATE UNIQUE INDEX -- here\nCONCURRENTLY IF NOT EXISTS "a ""ON"" b" ON ONLY "S".t * '
        "USING gin (x) WHERE y = ';' ;"
    )
    assert isinstance(full, CreateIndex)
    assert (full.name, full.table, full.unique, full.guarded) == ('"a ""ON"" b"', '"S".t', True, True)
    assert full.rest == " USING gin (x) WHERE y = ';' ;"

    odd = parse_single("CREATE INDEX CONCURRENTLY if ON ONLY (größe.naïve) (c)")
    assert isinstance(odd, CreateIndex)
    assert (odd.name, odd.table, odd.guarded) == ("if", "größe.naïve", False)


def test_the_other_statements_are_read() -> None:
    assert parse_single('DROP INDEX CONCURRENTLY IF EXISTS s."I" RESTRICT;') == DropIndex(
        text='DROP INDEX CONCURRENTLY IF EXISTS s."I" RESTRICT;', name='s."I"', guarded=True
    )
    for text, kind, name in (
        ("REINDEX INDEX CONCURRENTLY s.i", "index", "s.i"),
        ("REINDEX (VERBOSE, CONCURRENTLY true) TABLE t;", "table", "t"),
        ("reindex database", "database", None),
    ):
        assert parse_single(text) == Reindex(text=text, kind=kind, name=name)
    for text, tables in (
        ("VACUUM", ()),
        ("VACUUM (FULL, PARALLEL 2) a (x, y), ONLY s.b;", ("a", "s.b")),
        ("vacuum full freeze verbose analyze a", ("a",)),
    ):
        assert parse_single(text) == Vacuum(text=text, tables=tables)
    text = "ALTER TABLE IF EXISTS s.p DETACH PARTITION s.p1 CONCURRENTLY"
    assert parse_single(text) == DetachPartition(text=text, parent="s.p", partition="s.p1")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("CREATE INDEX CONCURRENTLY ON t (a)", "T322"),
        ("CREATE INDEX CONCURRENTLY IF NOT EXISTS ON t (a)", "T322"),
        ("CREATE INDEX CONCURRENTLY i ON t", "T322"),
        ('CREATE INDEX CONCURRENTLY U&"i" ON t (a)', "T322"),
        ("CREATE INDEX CONCURRENTLY i t (a)", "T322"),
        ("DROP INDEX CONCURRENTLY a, b", "T322"),
        ("DROP INDEX CONCURRENTLY a CASCADE", "T322"),
        ("DROP INDEX CONCURRENTLY a; SELECT 1", "T322"),
        ("REINDEX (VERBOSE TABLE t", "T322"),
        ("REINDEX", "T322"),
        ("VACUUM t garbage", "T322"),
        ("CREATE INDEX i ON t (a)", "T323"),
        ("ALTER TABLE p DETACH PARTITION p1", "T323"),
        ("ALTER SYSTEM SET work_mem = '1GB'", "T323"),
        ("", "T323"),
    ],
)
def test_what_could_not_be_told_apart_afterwards_is_refused_by_name(text: str, code: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_single(text)

    assert caught.value.code == code
    assert " ".join(text.split()) in str(caught.value)


# Building an index

SPELLINGS = [
    PRICE,
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS items_price ON shop.items (price);",
    "CREATE UNIQUE INDEX CONCURRENTLY items_x ON shop.items USING btree (id DESC NULLS LAST) INCLUDE (name) WHERE price > 3",
    "CREATE INDEX CONCURRENTLY items_x ON shop.items (lower(items.name) text_pattern_ops, (price + 1)) -- why not",
    "CREATE INDEX CONCURRENTLY items_x ON ONLY shop.items USING gin (tags) WITH (fastupdate = off)",
    'CREATE INDEX CONCURRENTLY items_x ON shop.items (name COLLATE "C")',
    'CREATE INDEX CONCURRENTLY "Items USING" ON shop."Order Lines" ("order", "Made ON")',
    f"CREATE INDEX CONCURRENTLY {'long' * 20} ON shop.items (price)",
    "CREATE INDEX CONCURRENTLY ITEMS_X ON Shop.Items (PRICE)",
]


def test_an_index_is_built_once_and_taken_back_once_however_it_is_written(remote: Connection) -> None:
    start, session = objects(remote), settings(remote)
    for text in SPELLINGS:
        statement = parse_single(text)
        before = statement.look(remote)
        assert before["definition"] is None
        assert objects(remote) == start
        assert statement.probe(remote, before) == "absent"

        run(statement, remote, before)
        assert statement.probe(remote, before) == "done"
        number = index_number(remote, str(before["index"]))
        assert number is not None
        run(statement, remote, before)
        assert index_number(remote, str(before["index"])) == number
        assert len(objects(remote)) == len(start) + 1

        undo(statement, remote, before)
        undo(statement, remote, before)
        assert objects(remote) == start
    assert settings(remote) == session


def test_the_session_s_own_search_path_finds_the_table_and_later_sessions_need_none(url: str) -> None:
    statement = parse_single("CREATE INDEX CONCURRENTLY items_price ON items (twice(price))")
    with connect(url, search_path="shop") as first:
        before = statement.look(first)
        run(statement, first, before)
        assert statement.probe(first, before) == "done"
    assert before["index"] == "shop.items_price"

    with connect(url) as second:
        assert statement.probe(second, before) == "done"
        undo(statement, second, before)
        assert statement.probe(second, before) == "absent"


def test_the_probe_works_inside_a_transaction_and_leaves_nothing_behind(remote: Connection) -> None:
    statement = parse_single(PRICE)
    with remote.transaction():
        remote.execute("SET LOCAL search_path = shop")
        before = statement.look(remote)
        assert statement.probe(remote, before) == "absent"
        assert remote.execute("SHOW search_path").fetchone() == ("shop",)
    temporary = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname ~ '^pg_temp'"
    assert remote.execute(temporary).fetchone() == (0,)


def test_an_index_that_was_there_before_as_wanted_is_neither_built_nor_dropped(remote: Connection) -> None:
    remote.execute("CREATE INDEX items_price ON shop.items USING btree (price ASC NULLS LAST)")
    start, number = objects(remote), index_number(remote, "shop.items_price")
    statement = parse_single(PRICE)
    before = statement.look(remote)

    run(statement, remote, before)
    assert index_number(remote, "shop.items_price") == number
    undo(statement, remote, before)
    assert (objects(remote), index_number(remote, "shop.items_price")) == (start, number)


@pytest.mark.parametrize("guard", ["", "IF NOT EXISTS "])
@pytest.mark.parametrize(
    "there",
    [
        "CREATE INDEX items_price ON shop.items (price DESC)",
        "CREATE UNIQUE INDEX items_price ON shop.items (price) WHERE id < 10",
        'CREATE INDEX items_price ON shop."Order Lines" ("order")',
        "CREATE VIEW shop.items_price AS SELECT 1 AS one",
    ],
)
def test_another_thing_of_that_name_is_a_refusal_that_shows_both(remote: Connection, guard: str, there: str) -> None:
    remote.execute(there.encode())
    start = objects(remote)
    statement = parse_single(f"CREATE INDEX CONCURRENTLY {guard}items_price ON shop.items (price)")
    before = statement.look(remote)
    assert statement.probe(remote, before) == "different"

    with pytest.raises(Refused) as caught:
        run(statement, remote, before)
    assert caught.value.code == "T325"
    assert str(before["definition"]) in str(caught.value)
    assert "CREATE INDEX items_price ON shop.items USING btree (price)" in str(caught.value)

    undo(statement, remote, before)
    assert objects(remote) == start


def test_another_index_that_comes_at_the_last_moment_is_not_taken_for_ours(remote: Connection, url: str) -> None:
    statement = parse_single("CREATE INDEX CONCURRENTLY IF NOT EXISTS items_price ON shop.items (price)")
    before = statement.look(remote)
    with connect(url) as watcher, connect(url) as rival:
        rival.execute("BEGIN; CREATE INDEX items_price ON shop.items (price DESC)")
        with in_background(lambda: run(statement, remote, before)) as running:
            eventually(lambda: active(watcher, statement.text) != [])
            rival.execute("COMMIT")
            refused = running.exception(20)

    assert isinstance(refused, Refused)
    assert refused.code == "T325"
    undo(statement, remote, before)
    assert index_number(remote, "shop.items_price") is not None


@pytest.mark.parametrize("guard", ["", "IF NOT EXISTS "])
def test_an_invalid_leftover_is_dropped_and_built_again(remote: Connection, guard: str) -> None:
    statement = parse_single(f"CREATE UNIQUE INDEX CONCURRENTLY {guard}items_price ON shop.items (price)")
    start, before = objects(remote), statement.look(remote)
    with pytest.raises(psycopg.errors.UniqueViolation):
        remote.execute("CREATE UNIQUE INDEX CONCURRENTLY items_price ON shop.items (price)")
    assert statement.probe(remote, before) == "half"
    remote.execute("UPDATE shop.items SET price = id")

    run(statement, remote, before)
    assert statement.probe(remote, before) == "done"
    assert not invalid(remote, "shop.items_price")
    undo(statement, remote, before)
    assert objects(remote) == start


def test_an_invalid_leftover_is_dropped_when_taken_back(remote: Connection) -> None:
    statement = parse_single("CREATE UNIQUE INDEX CONCURRENTLY items_price ON shop.items (price)")
    start, before = objects(remote), statement.look(remote)
    with pytest.raises(psycopg.errors.UniqueViolation):
        remote.execute(statement.text.encode())

    undo(statement, remote, before)
    assert objects(remote) == start


def test_a_build_that_meets_duplicates_is_refused_and_leaves_nothing(remote: Connection) -> None:
    statement = parse_single("CREATE UNIQUE INDEX CONCURRENTLY items_price ON shop.items (price)")
    start, before, session = objects(remote), statement.look(remote), settings(remote)

    with pytest.raises(Refused) as caught:
        run(statement, remote, before)

    assert (caught.value.code, caught.value.details["sqlstate"]) == ("T320", "23505")
    assert objects(remote) == start
    assert settings(remote) == session


def test_a_build_that_takes_too_long_is_refused_and_leaves_nothing(remote: Connection, url: str) -> None:
    statement = parse_single(PRICE)
    start, before = objects(remote), statement.look(remote)

    with old_snapshot(url), pytest.raises(Refused) as caught:
        statement.run(remote, before, statement_timeout_seconds=1)

    assert caught.value.details["sqlstate"] == "57014"
    assert objects(remote) == start


def test_a_build_waits_for_others_however_short_the_session_s_lock_timeout_is(url: str) -> None:
    statement = parse_single(PRICE)
    with connect(url, lock_timeout=100) as remote:
        before = statement.look(remote)
        with ExitStack() as others:
            others.enter_context(old_snapshot(url))
            with in_background(lambda: run(statement, remote, before)) as running:
                with connect(url) as watcher:
                    eventually(lambda: invalid(watcher, "shop.items_price"))
                time.sleep(0.4)
                assert not running.done()
                others.close()
                running.result()
        assert statement.probe(remote, before) == "done"
        assert remote.execute("SHOW lock_timeout").fetchone() == ("100ms",)


REFUSED = [
    ("CREATE INDEX CONCURRENTLY i ON shop.items (nothing)", "42703"),
    ("CREATE INDEX CONCURRENTLY i ON shop.items (now())", "42P17"),
    ("CREATE INDEX CONCURRENTLY i ON shop.nothing (a)", "42P01"),
    ("CREATE INDEX CONCURRENTLY i ON shop.sales (amount)", "0A000"),
    ("DROP INDEX CONCURRENTLY shop.nothing", "42704"),
    ("DROP INDEX CONCURRENTLY shop.items", "42809"),
    ("DROP INDEX CONCURRENTLY shop.items_pkey", "2BP01"),
    ("REINDEX TABLE shop.nothing", "42P01"),
    ("VACUUM shop.nothing", "42P01"),
    ("ALTER TABLE shop.sales DETACH PARTITION shop.items CONCURRENTLY", "42P01"),
    ("ALTER TABLE shop.nothing DETACH PARTITION shop.sales_1 CONCURRENTLY", "42P01"),
]


def test_what_the_server_refuses_is_refused_with_its_code_and_changes_nothing(remote: Connection) -> None:
    start = objects(remote)
    for text, sqlstate in REFUSED:
        statement = parse_single(text)
        with pytest.raises(Refused) as caught:
            run(statement, remote, statement.look(remote))
        assert (text, caught.value.code, caught.value.details["sqlstate"]) == (text, "T320", sqlstate)
        assert objects(remote) == start


# Others at work, and the killed


def test_a_backend_whose_client_was_killed_is_waited_for_and_not_disturbed(remote: Connection, url: str) -> None:
    statement = parse_single(PRICE)
    before = statement.look(remote)
    with old_snapshot(url), orphan(url, PRICE):
        eventually(lambda: invalid(remote, "shop.items_price"))
        number = index_number(remote, "shop.items_price")
        assert number is not None
        assert statement.probe(remote, before) == "building"

        with pytest.raises(Refused) as caught:
            run(statement, remote, before, wait_seconds=0.5)
        assert caught.value.code == "T324"
        assert index_number(remote, "shop.items_price") == number


def test_what_an_orphan_finishes_is_not_built_again(remote: Connection, url: str) -> None:
    statement = parse_single(PRICE)
    before = statement.look(remote)
    with ExitStack() as blocked:
        blocked.enter_context(old_snapshot(url))
        with orphan(url, PRICE):
            eventually(lambda: invalid(remote, "shop.items_price"))
            number = index_number(remote, "shop.items_price")
            with in_background(lambda: run(statement, remote, before)) as running:
                time.sleep(0.3)
                assert not running.done()
                blocked.close()
                running.result(20)
    assert index_number(remote, "shop.items_price") == number
    assert statement.probe(remote, before) == "done"


def test_what_an_orphan_builds_is_dropped_once_it_has_ended_when_taken_back(remote: Connection, url: str) -> None:
    statement = parse_single(PRICE)
    start, before = objects(remote), statement.look(remote)
    with ExitStack() as blocked:
        blocked.enter_context(old_snapshot(url))
        with orphan(url, PRICE):
            eventually(lambda: invalid(remote, "shop.items_price"))
            with in_background(lambda: undo(statement, remote, before)) as running:
                time.sleep(0.3)
                assert not running.done()
                blocked.close()
                running.result(20)
    assert objects(remote) == start


@pytest.mark.parametrize("length", [1, 3000], ids=["short", "longer_than_the_server_shows"])
def test_an_orphan_that_still_waits_for_its_first_lock_is_seen(remote: Connection, url: str, length: int) -> None:
    statement = parse_single(f"{PRICE} WHERE name <> '{'ö' * length}'")
    before = statement.look(remote)
    with table_lock(url, "SHARE UPDATE EXCLUSIVE"):
        with orphan(url, statement.text):
            assert index_number(remote, "shop.items_price") is None
            assert statement.probe(remote, before) == "building"
        assert statement.probe(remote, before) == "absent"


def test_a_build_by_a_role_that_hides_its_statements_is_seen(remote: Connection, url: str) -> None:
    statement = parse_single(PRICE)
    remote.execute(
        "CREATE ROLE owner_of_items; GRANT CREATE, TEMPORARY ON DATABASE "
        f'"{remote.info.dbname}" TO owner_of_items; GRANT USAGE, CREATE ON SCHEMA shop TO owner_of_items;'
        "ALTER TABLE shop.items OWNER TO owner_of_items".encode()
    )
    try:
        with connect(url) as plain, old_snapshot(url), orphan(url, PRICE):
            plain.execute("SET ROLE owner_of_items")
            eventually(lambda: invalid(remote, "shop.items_price"))
            before = statement.look(plain)
            assert plain.execute("SELECT query FROM pg_stat_activity WHERE query ~ '^CREATE INDEX'").fetchall() == []
            assert statement.probe(plain, before) == "building"
        assert statement.probe(remote, before) == "half"
    finally:
        remote.execute("DROP OWNED BY owner_of_items CASCADE; DROP ROLE owner_of_items")


def test_a_connection_lost_during_the_build_is_in_doubt_and_the_next_session_finishes(url: str) -> None:
    statement = parse_single(PRICE)
    with connect(url) as watcher:
        remote = connect(url)
        before = statement.look(remote)
        with old_snapshot(url), in_background(lambda: run(statement, remote, before)) as running:
            eventually(lambda: invalid(watcher, "shop.items_price"))
            watcher.execute("SELECT pg_terminate_backend(%s)", (remote.info.backend_pid,))
            lost = running.exception(20)
        assert isinstance(lost, InDoubt)
        assert lost.code == "T321"

        assert statement.probe(watcher, before) == "half"
        run(statement, watcher, before)
        assert statement.probe(watcher, before) == "done"


CLIENT = """
import json, sys
import psycopg
from twinstep.migrations.concurrent import parse_single
connection = psycopg.connect(sys.argv[1], autocommit=True, options="-c client_connection_check_interval=1000")
statement = parse_single(sys.argv[2])
statement.run(connection, json.loads(sys.argv[3]), statement_timeout_seconds=60)
"""


def test_a_killed_client_s_backend_ends_by_itself_and_the_next_run_finishes(remote: Connection, url: str) -> None:
    statement = parse_single(PRICE)
    before = statement.look(remote)
    with old_snapshot(url):
        client = subprocess.Popen([sys.executable, "-c", CLIENT, url, PRICE, json.dumps(before)])
        eventually(lambda: invalid(remote, "shop.items_price"))
        client.send_signal(signal.SIGKILL)
        client.wait()
        eventually(lambda: statement.probe(remote, before) == "half", seconds=10)

    run(statement, remote, before)
    assert statement.probe(remote, before) == "done"


# Dropping an index


@pytest.fixture
def dressed(remote: Connection) -> str:
    remote.execute(
        'CREATE UNIQUE INDEX "Items x" ON shop.items (id, (price + 1)) INCLUDE (name) WITH (fillfactor = 70);'
        "COMMENT ON INDEX shop.\"Items x\" IS 'it''s'; ALTER INDEX shop.\"Items x\" ALTER COLUMN 2 SET STATISTICS 7;"
        'ALTER TABLE shop.items CLUSTER ON "Items x"'
    )
    return 'DROP INDEX CONCURRENTLY shop."Items x"'


def test_a_dropped_index_comes_back_with_everything_that_was_said_of_it(remote: Connection, dressed: str) -> None:
    statement = parse_single(dressed)
    start, before, session = objects(remote), statement.look(remote), settings(remote)
    assert statement.probe(remote, before) == "absent"

    run(statement, remote, before)
    run(statement, remote, before)
    assert statement.probe(remote, before) == "done"
    assert len(objects(remote)) == len(start) - 2

    undo(statement, remote, before)
    assert objects(remote) == start
    number = index_number(remote, 'shop."Items x"')
    undo(statement, remote, before)
    assert index_number(remote, 'shop."Items x"') == number
    assert settings(remote) == session


@pytest.mark.parametrize("way", ["on", "back"])
def test_a_drop_that_was_cut_off_is_finished_or_taken_back(remote: Connection, url: str, dressed: str, way: str) -> None:
    statement = parse_single(dressed)
    start, before = objects(remote), statement.look(remote)
    with table_lock(url, "ACCESS SHARE"), pytest.raises(Refused) as caught:
        statement.run(remote, before, statement_timeout_seconds=1)
    assert caught.value.details["sqlstate"] == "57014"
    assert statement.probe(remote, before) == "half"

    if way == "on":
        run(statement, remote, before)
        assert statement.probe(remote, before) == "done"
    undo(statement, remote, before)
    assert objects(remote) == start


def test_an_index_that_is_not_there_is_dropped_only_if_that_was_allowed(remote: Connection) -> None:
    start = objects(remote)
    statement = parse_single("DROP INDEX CONCURRENTLY IF EXISTS shop.nothing")
    before = statement.look(remote)

    assert statement.probe(remote, before) == "done"
    run(statement, remote, before)
    undo(statement, remote, before)
    assert objects(remote) == start


def test_an_index_that_was_made_anew_since_is_neither_dropped_nor_replaced(remote: Connection, dressed: str) -> None:
    statement = parse_single(dressed)
    before = statement.look(remote)
    remote.execute('DROP INDEX shop."Items x"; CREATE INDEX "Items x" ON shop.items (name)')
    start = objects(remote)

    for act in (run, undo):
        with pytest.raises(Refused) as caught:
            act(statement, remote, before)
        assert caught.value.code == "T325"
    assert objects(remote) == start


# Upkeep


@pytest.mark.parametrize(
    "text",
    [
        "REINDEX INDEX CONCURRENTLY shop.items_pkey",
        "REINDEX TABLE CONCURRENTLY shop.items",
        "REINDEX TABLE shop.sales",
        "REINDEX INDEX shop.sales_amount",
        "REINDEX SCHEMA shop",
    ],
)
def test_a_reindex_is_done_once(remote: Connection, text: str) -> None:
    statement = parse_single(text)
    start, before = objects(remote), statement.look(remote)
    assert statement.probe(remote, before) == "absent"

    run(statement, remote, before)
    assert statement.probe(remote, before) == "done"
    nodes = statement.look(remote)
    assert nodes != before
    run(statement, remote, before)
    assert statement.look(remote) == nodes
    undo(statement, remote, before)
    assert objects(remote) == start


@pytest.mark.parametrize("way", ["run", "undo"])
def test_what_a_failed_reindex_leaves_behind_is_dropped(remote: Connection, url: str, way: str) -> None:
    statement = parse_single("REINDEX TABLE CONCURRENTLY shop.items")
    start, before = objects(remote), statement.look(remote)
    with old_snapshot(url):
        remote.execute("SET statement_timeout = '300ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            remote.execute(statement.text.encode())
        remote.execute("RESET statement_timeout")
    assert "index shop.items_pkey_ccnew" in objects(remote)
    assert statement.probe(remote, before) == "half"

    (run if way == "run" else undo)(statement, remote, before)
    assert objects(remote) == start


def test_a_refused_reindex_drops_what_it_left_itself(remote: Connection, url: str) -> None:
    statement = parse_single("REINDEX TABLE CONCURRENTLY shop.items")
    start, before = objects(remote), statement.look(remote)

    with old_snapshot(url), pytest.raises(Refused):
        statement.run(remote, before, statement_timeout_seconds=0.5)
    assert objects(remote) == start


@pytest.mark.parametrize("text", ["VACUUM shop.items", "VACUUM (ANALYZE) shop.items, shop.sales", "VACUUM FULL shop.items"])
def test_a_vacuum_is_done_once(remote: Connection, text: str) -> None:
    statement = parse_single(text)
    before = statement.look(remote)
    assert statement.probe(remote, before) == "absent"

    run(statement, remote, before)
    after = statement.look(remote)
    assert statement.probe(remote, before) == "done"
    run(statement, remote, before)
    assert statement.look(remote) == after
    undo(statement, remote, before)


def test_a_vacuum_of_everything_runs(remote: Connection) -> None:
    statement = parse_single("VACUUM")
    counted = parse_single("VACUUM shop.items")
    earlier = counted.look(remote)
    run(statement, remote, statement.look(remote))
    assert counted.probe(remote, earlier) == "done"


# Partitions

DETACH = "ALTER TABLE shop.sales DETACH PARTITION shop.sales_1 CONCURRENTLY"


def test_a_partition_is_detached_once_and_attached_again_as_it_was(remote: Connection) -> None:
    statement = parse_single(DETACH)
    remote.execute("INSERT INTO shop.sales VALUES ('2024-05-01', 5)")
    start, before = objects(remote), statement.look(remote)
    assert statement.probe(remote, before) == "absent"

    run(statement, remote, before)
    run(statement, remote, before)
    assert statement.probe(remote, before) == "done"
    assert remote.execute("SELECT count(*) FROM shop.sales").fetchone() == (0,)
    assert any("sales_1_at_check" in key for key in objects(remote))

    undo(statement, remote, before)
    undo(statement, remote, before)
    assert remote.execute("SELECT count(*) FROM shop.sales").fetchone() == (1,)
    assert objects(remote) == start


@pytest.mark.parametrize("way", ["on", "back"])
def test_a_detaching_that_was_cut_off_is_finished_or_taken_back(remote: Connection, url: str, way: str) -> None:
    statement = parse_single(DETACH)
    start, before = objects(remote), statement.look(remote)
    with table_lock(url, "ACCESS SHARE", "shop.sales"), pytest.raises(Refused):
        statement.run(remote, before, statement_timeout_seconds=1)
    assert statement.probe(remote, before) == "half"

    if way == "on":
        run(statement, remote, before)
        assert statement.probe(remote, before) == "done"
    undo(statement, remote, before)
    assert statement.probe(remote, before) == "absent"
    assert objects(remote) == start


def test_rows_that_break_the_bound_keep_a_partition_apart_and_are_kept(remote: Connection) -> None:
    statement = parse_single(DETACH)
    before = statement.look(remote)
    run(statement, remote, before)
    remote.execute(
        "ALTER TABLE shop.sales_1 DROP CONSTRAINT sales_1_at_check; INSERT INTO shop.sales_1 VALUES ('1999-01-01', 1)"
    )

    with pytest.raises(Refused) as caught:
        undo(statement, remote, before)

    assert caught.value.details["sqlstate"] == "23514"
    assert remote.execute("SELECT count(*) FROM shop.sales_1").fetchone() == (1,)
    assert statement.probe(remote, before) == "done"


# Marked by hand


def test_a_marked_statement_is_sent_until_its_own_probe_is_content(remote: Connection) -> None:
    text = "INSERT INTO shop.items (id, name) VALUES (999, 'one more')"
    query = "SELECT count(*) FROM shop.items WHERE id = 999"
    statement = parse_single(text, probe=lambda connection: connection.execute(query).fetchall()[0][0] == 1)
    assert isinstance(statement, Marked)
    before = statement.look(remote)
    undo(statement, remote, before)
    assert statement.probe(remote, before) == "absent"

    run(statement, remote, before)
    run(statement, remote, before)
    assert statement.probe(remote, before) == "done"

    assert not statement.reversible
    with pytest.raises(Refused) as caught:
        undo(statement, remote, before)
    assert caught.value.code == "T326"
    undo(statement, remote, statement.look(remote))


def test_a_probe_that_does_not_see_what_was_done_is_named(remote: Connection) -> None:
    statement = parse_single("SELECT 1", probe=lambda connection: False)
    with pytest.raises(Refused) as caught:
        run(statement, remote, statement.look(remote))
    assert caught.value.code == "T327"


def test_every_look_survives_being_written_down(remote: Connection) -> None:
    remote.execute("CREATE INDEX items_price ON shop.items (price)")
    texts = [
        PRICE,
        "DROP INDEX CONCURRENTLY shop.items_price",
        "REINDEX TABLE shop.items",
        "VACUUM shop.items",
        DETACH,
    ]
    for text in texts:
        seen = parse_single(text).look(remote)
        assert json.loads(json.dumps(seen)) == seen
        assert parse_single(text).probe(remote, json.loads(json.dumps(seen))) in ("absent", "done")
    assert read_catalogue(remote, ["shop"]).objects["index shop.items_price"].valid
