"""The log in PostgreSQL: what the database itself refuses and grants, how it is made, and what a lost connection means."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg
import pytest
from cut_connection import Network, network
from event_stores import NEXT, PostgresLog, TickingClock, append, head, inserting
from pooling_proxy import pooling

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events import types as e
from twinstep.events.chain import GENESIS, link
from twinstep.events.errors import Blocked, ConcurrencyConflict, ConfigurationError, InDoubt, Locked, LogDamaged, Unreachable
from twinstep.events.projections import ROW_TYPES, columns_of
from twinstep.migrations import postgres_ledger
from twinstep.migrations.ledger import HEAD, LedgerRow
from twinstep.stores import postgres_log, remote_connection
from twinstep.stores.log_check import check_log
from twinstep.stores.postgres_events import PostgresEventStore
from twinstep.stores.postgres_log_schema import LOG_VERSION, READ_COLUMNS
from twinstep.stores.remote_lock import take_lock

STREAM = "pair/0001_first"
BEGUN = (
    e.RunStarted(run="r1", migration="0001_first", direction=e.APPLY, sides=("local", "remote")),
    e.Validated(run="r1", lock="lock"),
)
CHECKED = e.SyncChecked(conflicts=0)
FAILED = e.StepFailed(run="r1", effect="VERIFY", side="local", code="T1", message="no")


@pytest.fixture
def log(log_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[PostgresLog]:
    log = PostgresLog(tmp_path, TickingClock())
    yield log
    log.close()


@pytest.fixture
def filled(log: PostgresLog) -> str:
    """The URL of a log of three events, two streams and a pair."""
    with closing(log.handle()) as store:
        store.register_pair("key")
        append(store, STREAM, *BEGUN)
        append(store, "pair", CHECKED)
    return log.url


def run_sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """What anybody with this login can do; the rows of the last statement."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
        return rows


TABLES = ("log", "events", "pairs", "claims", *ROW_TYPES)


def content(url: str) -> dict[str, list[tuple[Any, ...]]]:
    return {table: run_sql(url, f"SELECT * FROM twinstep.{table} ORDER BY 1, 2") for table in TABLES}


@contextmanager
def login(url: str, *statements: str) -> Iterator[str]:
    """The URL with a role of its own, which the statements are about; they name it as {role}."""
    role = f"role_{token_hex(4)}"
    run_sql(url, f"CREATE ROLE {role} LOGIN", *(statement.format(role=role) for statement in statements))
    try:
        yield url.replace("postgresql://postgres@", f"postgresql://{role}@")
    finally:
        run_sql(url, f"REASSIGN OWNED BY {role} TO postgres", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


# --- append-only, held by the database

insert = partial(inserting, "twinstep.events")


FORBIDDEN = [
    *(f"UPDATE twinstep.events SET {column} = {column}" for column in NEXT),
    "UPDATE twinstep.events SET payload = '{}' WHERE false",
    "DELETE FROM twinstep.events WHERE position = 3",
    "TRUNCATE twinstep.events",
    "INSERT INTO twinstep.events SELECT * FROM twinstep.events WHERE position = 1",
    *(insert(version=version) for version in (-1, 0, 1, 2, 4, "NULL")),
    *(insert(position=position) for position in (-1, 0, 1, 3, 5, "NULL")),
    *(insert(previous_hash=before) for before in (f"'{GENESIS}'", "''", "NULL", "'h'")),
    insert(stream="'new'", version=1),
    insert(stream="'new'", version=2, previous_hash=f"'{GENESIS}'"),
    insert(version=2) + " ON CONFLICT (stream, version) DO UPDATE SET payload = '{}'",
    insert() + ", (6, 'new', 1, '', 1, '', '', '" + GENESIS + "', 'h')",
    "UPDATE twinstep.log SET log_id = 'mine'",
    "UPDATE twinstep.log SET last_position = 2",
    "UPDATE twinstep.log SET last_position = 4",
    "DELETE FROM twinstep.log",
    "TRUNCATE twinstep.log",
    "INSERT INTO twinstep.log VALUES ('mine', 1, '', 3)",
    "UPDATE twinstep.pairs SET key = 'other'",
    "DELETE FROM twinstep.pairs",
    "TRUNCATE twinstep.pairs",
    "INSERT INTO twinstep.pairs VALUES ('key', 'mine')",
    "INSERT INTO twinstep.pairs SELECT 'other', pair FROM twinstep.pairs",
    "INSERT INTO twinstep.pairs VALUES ('key', 'mine') ON CONFLICT (key) DO UPDATE SET pair = 'mine'",
]


def test_the_database_refuses_what_is_no_append_from_a_superuser_too(filled: str) -> None:
    before = content(filled)
    for setting in ("SET session_replication_role = DEFAULT", "SET session_replication_role = replica"):
        for statement in FORBIDDEN:
            with pytest.raises((psycopg.errors.IntegrityError, psycopg.DatabaseError)) as caught:
                run_sql(filled, setting, statement)
            assert caught.value.sqlstate in ("TW511", "23505", "23502"), (statement, caught.value)
    assert content(filled) == before


def test_the_database_accepts_the_next_events_of_their_streams(filled: str) -> None:
    """So that the refusals above are refusals of what is wrong in them."""
    run_sql(filled, insert())
    run_sql(
        filled,
        insert(position=5, stream="'new'", version=1, previous_hash=f"'{GENESIS}'")
        + ", (6, 'new', 2, '', 1, '', '', 'h', 'i'), (7, 'pair/0001_first', 4, '', 1, '', '', 'h', 'i')",
    )
    assert run_sql(filled, "SELECT count(*), max(last_position) FROM twinstep.events, twinstep.log") == [(7, 7)]


# --- rights

DEVICE = (
    "GRANT USAGE ON SCHEMA twinstep TO {role}",
    "GRANT SELECT ON twinstep.log, twinstep.events, twinstep.pairs, twinstep.migration_history, twinstep.migration_backups, "
    "twinstep.migration_sync_status TO {role}",
    "GRANT EXECUTE ON FUNCTION twinstep.append, twinstep.know_pair TO {role}",
)


def test_the_rights_that_a_device_needs_are_those_in_the_documentation() -> None:
    page = (Path(__file__).parent.parent / "docs" / "log.md").read_text(encoding="utf-8")
    told = re.sub(r"\s+", " ", page)
    for statement in DEVICE:
        assert statement.format(role="device") + ";" in told


def test_a_role_that_may_look_and_append_can_do_nothing_else(filled: str) -> None:
    with login(filled, *DEVICE) as url:
        with closing(PostgresEventStore(url)) as store:
            pair = store.register_pair("mine")
            store.claim(pair)
            append(store, f"{pair}/0001_first", *BEGUN)
            append(store, pair, CHECKED)
            assert store.knows_pair(pair)
            assert check_log(store).problems == ()
            with pytest.raises(Blocked) as caught:
                store.rebuild_rows()
            assert caught.value.code == "T513"
        before = content(filled)
        for statement in (
            *FORBIDDEN,
            insert(),
            "SELECT * FROM twinstep.claims",
            "DELETE FROM twinstep.claims",
            "UPDATE twinstep.claims SET token = 'mine'",
            *(f"DELETE FROM twinstep.{table}" for table in ROW_TYPES),
            *(f"UPDATE twinstep.{table} SET pair = 'mine'" for table in ROW_TYPES),
            "SELECT twinstep.replace_rows(5, NULL, NULL, NULL)",
            "ALTER TABLE twinstep.events DISABLE TRIGGER ALL",
            "CREATE TABLE twinstep.mine ()",
            "SELECT * FROM twinstep.log FOR UPDATE",
            "SET session_replication_role = replica",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                run_sql(url, statement)
        assert content(filled) == before


def test_the_owner_of_a_log_who_is_no_superuser_can_use_it_and_not_change_it(log: PostgresLog) -> None:
    database = log.url.partition("?")[0].rpartition("/")[2]
    with login(log.url, f'GRANT CREATE ON DATABASE "{database}" TO {{role}}') as url:
        with closing(PostgresEventStore(url)) as store:
            append(store, f"{store.register_pair('key')}/0001_first", *BEGUN)
            append(store, "pair", CHECKED)
            store.rebuild_rows()
            assert check_log(store).problems == ()
        for statement in (
            "UPDATE twinstep.events SET payload = ''",
            "DELETE FROM twinstep.events",
            "TRUNCATE twinstep.events",
            "DELETE FROM twinstep.pairs",
            "DELETE FROM twinstep.log",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                run_sql(url, statement)


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        ((), "permission denied for schema twinstep"),
        (DEVICE[:1], "permission denied for table log"),
        (DEVICE[:2], "permission denied for function (append|know_pair)"),
    ],
)
def test_a_missing_right_is_named_with_the_role(filled: str, granted: tuple[str, ...], missing: str) -> None:
    with login(filled, *granted) as url, closing(PostgresEventStore(url)) as store, pytest.raises(Blocked) as caught:
        append(store, store.register_pair("mine"), CHECKED)
    assert (caught.value.code, caught.value.exit_code) == ("T513", 5)
    assert re.search(f"The role role_.* lacks a right that it needs for the log at .*{missing}", str(caught.value))


def test_a_role_that_may_not_make_the_log_is_told_so_and_reads_an_empty_one(log: PostgresLog) -> None:
    with login(log.url) as url, closing(PostgresEventStore(url)) as store:
        assert (store.log_id, list(store.read_all())) == ("", [])
        with pytest.raises(Blocked, match="permission denied for database") as caught:
            store.register_pair("key")
    assert caught.value.code == "T513"


# --- the tables, for any SQL tool


def test_the_read_tables_have_the_columns_of_their_rows(filled: str) -> None:
    for table in ROW_TYPES:
        query = f"SELECT column_name FROM information_schema.columns WHERE table_schema = 'twinstep' AND table_name = '{table}'"
        found = [name for (name,) in run_sql(filled, query + " ORDER BY ordinal_position")]
        assert found == [*columns_of(table), "first_position"]
        assert tuple(READ_COLUMNS[table]) == columns_of(table)


@pytest.mark.parametrize("table", ROW_TYPES)
def test_a_dropped_read_table_is_read_from_the_log_and_made_again_by_the_next_write(filled: str, table: str) -> None:
    with closing(PostgresEventStore(filled)) as store:
        append(store, "pair", e.BackupCreated(backup={"id": "b1"}))
        before = {name: store.rows(name) for name in ROW_TYPES}
        run_sql(filled, f"DROP TABLE twinstep.{table}")
        assert {name: store.rows(name) for name in ROW_TYPES} == before
    with closing(PostgresEventStore(filled, readonly=True)) as store:
        assert check_log(store).problems == ()
    assert run_sql(filled, f"SELECT to_regclass('twinstep.{table}')") == [(None,)]
    with closing(PostgresEventStore(filled)) as store:
        append(store, "pair", CHECKED)
        assert {name: store.rows(name) for name in ROW_TYPES} == before
        assert check_log(store).problems == ()
    assert run_sql(filled, f"SELECT count(*) FROM twinstep.{table}") == [(len(before[table]),)]


def test_the_hash_in_the_table_is_the_documented_one(filled: str) -> None:
    columns = "previous_hash, stream, version, type, schema_version, recorded_at, payload, hash"
    for before, stream, version, type, schema, when, payload, own in run_sql(filled, f"SELECT {columns} FROM twinstep.events"):
        told: dict[str, Any] = {"stream": stream, "version": version, "type": type, "schema_version": schema}
        assert link(before, **told, recorded_at=when, payload=payload) == own


# --- how it is made


def test_nothing_is_made_before_the_first_write(log: PostgresLog) -> None:
    with closing(log.handle()) as store:
        assert (store.log_id, store.read(STREAM), list(store.read_all()), store.streams()) == ("", [], [], [])
        assert (store.rows("migration_history"), store.pair_of("key"), store.knows_pair("p")) == ([], None, False)
    with closing(PostgresEventStore(log.url, readonly=True)) as store, pytest.raises(Blocked, match="for reading only"):
        store.register_pair("key")
    assert run_sql(log.url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'twinstep'") == [(0,)]


def make_a_ledger(url: str, name: str) -> None:
    """As a coordinator does: under the lock of all coordinators, which is polled for."""
    with closing(remote_connection.open_remote(url)) as connection:
        take_lock(connection, 30)
        values = {"migration": "", "direction": HEAD, "token": name, "state": "done", "pair": name}
        postgres_ledger.make(connection, LedgerRow(**values))


def test_all_who_make_the_schema_at_once_find_one_log_and_one_ledger(log: PostgresLog) -> None:
    """Logs and ledgers, whose makers take different locks, on a database that has neither."""
    for _ in range(3):
        barrier = threading.Barrier(8)

        def make(number: int, barrier: threading.Barrier = barrier) -> str:
            if number % 2:
                barrier.wait()
                make_a_ledger(log.url, str(number))
                return ""
            with closing(PostgresEventStore(log.url)) as store:
                assert store.log_id == ""
                barrier.wait()
                store.register_pair(str(number))
                append(store, f"pair{number}", CHECKED)
                return store.log_id

        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(make, range(8))) - {""}
        assert len(found) == 1
        with closing(PostgresEventStore(log.url)) as store:
            assert len(list(store.read_all())) == 4
            assert check_log(store).problems == ()
        assert run_sql(log.url, f"SELECT count(*) FROM twinstep.ledger WHERE direction = '{HEAD}'") == [(1,)]
        run_sql(log.url, "DROP SCHEMA twinstep CASCADE")


def test_a_log_waits_for_a_ledger_that_is_being_made(log: PostgresLog) -> None:
    """The ledger's maker has the schema, uncommitted, and the lock of all coordinators."""
    asked = b"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%DO $make$%'"
    with (
        psycopg.connect(log.url, autocommit=True) as look,
        closing(remote_connection.open_remote(log.url)) as maker,
        ThreadPoolExecutor(1) as pool,
    ):
        take_lock(maker, 0)
        maker.execute("BEGIN")
        maker.execute(postgres_ledger.MAKE.encode())
        with closing(PostgresEventStore(log.url, retry_for_seconds=0.1)) as store, pytest.raises(Locked) as caught:
            store.register_pair("key")
        assert (caught.value.code, caught.value.exit_code) == ("T401", 4)
        with closing(PostgresEventStore(log.url)) as store:
            known = len(look.execute(asked).fetchall())
            made = pool.submit(store.register_pair, "key")
            while len(look.execute(asked).fetchall()) == known:
                assert not made.done()
            maker.execute("COMMIT")
            maker.close()
            assert store.knows_pair(made.result(30))


def test_a_database_that_cannot_hold_every_text_is_refused(log_server: EmbeddedPostgres) -> None:
    name = f"latin_{token_hex(4)}"
    run_sql(log_server.url(), f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with closing(PostgresEventStore(log_server.url(name))) as store, pytest.raises(Blocked, match="LATIN1") as caught:
            store.register_pair("key")
        assert caught.value.code == "T506"
    finally:
        log_server.drop_database(name)


# --- round trips, and the rows that follow


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Callable[[], int]]:
    """How often the server has answered since it was asked last, as libpq's own trace has it."""
    # Given to libpq, which makes a stream of its own of it.
    file = os.open(folder / "trace", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    opened = postgres_log.open_remote

    def traced(url: str) -> Any:
        connection = opened(url)
        connection.pgconn.trace(file)
        return connection

    monkeypatch.setattr(postgres_log, "open_remote", traced)
    known = 0

    def answers() -> int:
        nonlocal known
        before, known = known, (folder / "trace").read_text().count("\tReadyForQuery\t")
        return known - before

    yield answers
    os.close(file)


def test_an_append_is_one_round_trip(filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with counted(monkeypatch, tmp_path) as answers, closing(PostgresEventStore(filled)) as store:
        version, last_hash = head(store, STREAM)
        answers()

        def send(*events: e.Event) -> int:
            nonlocal version, last_hash
            last = store.append(STREAM, events, expected_version=version, expected_hash=last_hash)[-1]
            version, last_hash = last.version, last.hash
            return answers()

        assert send(e.BackedUp(run="r1")) == 2  # The rows of the pair are read once.
        assert send(e.LocalApplied(run="r1", by="r1")) == 1
        assert send(e.RemoteStarted(run="r1"), e.RemoteApplied(run="r1", by="r1")) == 1
        store.claim("pair")
        assert send(FAILED) == 1
        # Another handle has written to another stream of the pair: refused as stale, read, sent again.
        with closing(PostgresEventStore(filled)) as other:
            append(other, "pair", CHECKED)
        answers()
        assert send(FAILED) == 3
        assert send(FAILED) == 1
        # Another pair is no matter.
        with closing(PostgresEventStore(filled)) as other:
            append(other, "pair2", CHECKED)
        answers()
        assert send(FAILED) == 1
        assert check_log(store).problems == ()


# --- settings that are not ours, and poolers


def test_no_setting_of_role_or_database_makes_an_append_less_than_durable_or_wrong(filled: str) -> None:
    run_sql(
        filled,
        "CREATE TABLE public.seen (commit text, isolation text)",
        "CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES "
        "(current_setting('synchronous_commit'), current_setting('transaction_isolation')); RETURN NULL; END $$",
        "CREATE TRIGGER look AFTER INSERT OR UPDATE ON twinstep.migration_sync_status EXECUTE FUNCTION public.look()",
    )
    careless = (
        "ALTER ROLE {role} SET synchronous_commit = off",
        "ALTER ROLE {role} SET default_transaction_isolation = 'serializable'",
        "ALTER ROLE {role} SET default_transaction_read_only = on",
        "ALTER ROLE {role} SET search_path = public, twinstep",
        "ALTER ROLE {role} SET standard_conforming_strings = off",
        "GRANT INSERT ON public.seen TO {role}",
    )
    with login(filled, *DEVICE, *careless) as url:
        stores = [PostgresEventStore(url) for _ in range(2)]
        for number in range(4):
            append(stores[number % 2], STREAM, e.StepFailed(run="r1", effect="VERIFY", side="local", code="\\'", message="\\"))
        stores[0].register_pair("\\mine'")
        assert stores[1].pair_of("\\mine'") is not None
        assert check_log(stores[0]).problems == ()
        for store in stores:
            store.close()
    assert run_sql(filled, "SELECT DISTINCT * FROM public.seen") == [("on", "read committed")]
    run_sql(filled, "DROP TABLE public.seen", "DROP FUNCTION public.look() CASCADE")


def test_a_stricter_commit_is_kept(filled: str) -> None:
    run_sql(
        filled,
        "CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF current_setting('synchronous_commit') "
        "<> 'remote_apply' THEN RAISE 'not kept'; END IF; RETURN NULL; END $$",
        "CREATE TRIGGER look AFTER INSERT OR UPDATE ON twinstep.migration_sync_status EXECUTE FUNCTION public.look()",
    )
    strict = "ALTER ROLE {role} SET synchronous_commit = remote_apply"
    with login(filled, *DEVICE, strict) as url, closing(PostgresEventStore(url)) as store:
        append(store, STREAM, e.BackedUp(run="r1"))
    run_sql(filled, "DROP FUNCTION public.look() CASCADE")


def test_a_pooler_that_hands_out_transactions_is_no_obstacle(log: PostgresLog, log_server: EmbeddedPostgres) -> None:
    database = log.url.partition("?")[0].rpartition("/")[2]
    with pooling(f"{log_server.folder}/.s.PGSQL.5432", database, sessions=2, in_turn=True) as port:
        stores = [PostgresEventStore(f"postgresql://postgres@127.0.0.1:{port}/{database}") for _ in range(3)]
        for number in range(9):
            append(stores[number % 3], "pair", e.SyncChecked(conflicts=number))
            append(stores[number % 3], STREAM, e.ValidationFailed(run=f"r{number}", code="T1", message=""))
        assert stores[0].register_pair("key") == stores[1].pair_of("key")
        stores[2].rebuild_rows()
        assert check_log(stores[1]).problems == ()
        for store in stores:
            store.close()
    assert len(run_sql(log.url, "SELECT 1 FROM twinstep.events")) == 18


# --- a reader that follows misses nothing


def test_who_follows_the_log_sees_each_event_once_in_order_while_others_write_late_or_give_up(log: PostgresLog) -> None:
    """Some writers hold their transaction open before they commit it, or roll it back: others must not pass them."""
    writers, appends = 3, 12
    done = threading.Event()
    seen: list[int] = []

    def write(number: int) -> None:
        with closing(PostgresEventStore(log.url)) as store:
            for count in range(appends):
                append(store, f"pair{number}/0001_first", e.ValidationFailed(run=f"{number}:{count}", code="T1", message=""))

    def write_late() -> None:
        """The very append of the store, in a transaction that stays open until others wait for it."""
        with psycopg.connect(log.url, autocommit=True) as look, psycopg.connect(log.url) as connection:
            for count in range(8):
                with connection.transaction(force_rollback=count % 2 == 1):
                    connection.execute(APPEND_BY_HAND, {"stream": f"late{count}", "hash": token_hex(32)})
                    while not done.is_set() and not look.execute(WAITING).fetchone():
                        pass

    def follow() -> None:
        with closing(PostgresEventStore(log.url, readonly=True)) as store:
            while True:
                over = done.is_set()
                seen.extend(record.position for record in store.read_all(after=seen[-1] if seen else 0))
                if over:
                    return

    with closing(log.handle()) as store:
        append(store, "pair", CHECKED)
    with ThreadPoolExecutor(writers + 2) as pool:
        following, late = pool.submit(follow), pool.submit(write_late)
        try:
            for work in [pool.submit(write, number) for number in range(writers)]:
                work.result(60)
        finally:
            done.set()
        late.result(60)
        following.result(60)
    with closing(log.handle()) as store:
        everything = [record.position for record in store.read_all()]
    assert len(everything) == 1 + writers * appends + 4
    assert everything == [*range(1, len(everything) + 1)]
    assert seen == everything[: len(seen)]
    assert len(seen) >= 1 + writers * appends


WAITING = b"""
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%twinstep.append%'
"""
APPEND_BY_HAND = f"""
SELECT twinstep.append(%(stream)s, 0, '{GENESIS}', '{{SyncChecked}}', '{{1}}', '2026-01-01', ARRAY['{{}}'], ARRAY[%(hash)s],
    0, NULL, NULL, NULL, NULL, false, 60000)
""".encode()


def test_a_log_that_somebody_holds_is_waited_for_and_then_blocks(filled: str) -> None:
    with psycopg.connect(filled) as holder, closing(PostgresEventStore(filled, retry_for_seconds=0.2)) as store:
        holder.execute("SELECT FROM twinstep.log FOR UPDATE")
        with pytest.raises(Blocked, match="another session holds it") as caught:
            append(store, "pair", CHECKED)
        assert caught.value.code == "T506"
        holder.rollback()
        append(store, "pair", CHECKED)
        assert check_log(store).problems == ()


# --- lost connections


@pytest.fixture
def net(log: PostgresLog, log_server: EmbeddedPostgres) -> Iterator[Network]:
    with network(f"{log_server.folder}/.s.PGSQL.5432") as made:
        yield made


@pytest.fixture
def far(filled: str, net: Network) -> Iterator[PostgresEventStore]:
    """A handle on the filled log, at the other end of the network, that has written already."""
    database = filled.partition("?")[0].rpartition("/")[2]
    with closing(PostgresEventStore(f"postgresql://postgres@127.0.0.1:{net.port}/{database}", retry_for_seconds=20)) as store:
        append(store, STREAM, e.BackedUp(run="r1"))
        yield store


@pytest.mark.parametrize("what", ["request", "answer"])
def test_an_append_whose_connection_was_lost_is_there_once(far: PostgresEventStore, net: Network, what: Any) -> None:
    version, last_hash = head(far, STREAM)
    net.lose_next("twinstep.append", what)
    net.at_the_cut.clear()
    (record,) = far.append(STREAM, [e.LocalApplied(run="r1", by="r1")], expected_version=version, expected_hash=last_hash)
    assert net.cut.is_set()
    assert far.read(STREAM)[-1] == record
    assert record.position == 5
    append(far, "pair", CHECKED)
    assert [each.position for each in far.read_all()] == [1, 2, 3, 4, 5, 6]
    assert check_log(far).problems == ()


def test_a_lost_append_that_the_server_commits_late_is_not_taken_for_anothers(
    far: PostgresEventStore, net: Network, filled: str
) -> None:
    """The server has the order and waits for a lock; the second try waits behind it, and finds it carried out."""
    version, last_hash = head(far, STREAM)
    net.at_the_cut.clear()
    with psycopg.connect(filled) as holder, psycopg.connect(filled, autocommit=True) as look, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT FROM twinstep.log FOR UPDATE")
        net.lose_next("twinstep.append", "answer")
        events = [e.LocalApplied(run="r1", by="r1")]
        sent = pool.submit(far.append, STREAM, events, expected_version=version, expected_hash=last_hash)
        while len(look.execute(WAITING).fetchall()) < 2:
            assert not sent.done()
        holder.rollback()
        (record,) = sent.result(30)
    assert far.read(STREAM)[-1] == record
    assert [each.position for each in far.read_all()] == [1, 2, 3, 4, 5]
    assert check_log(far).problems == ()


def test_a_lost_append_is_found_below_what_others_have_appended_since(
    far: PostgresEventStore, net: Network, filled: str
) -> None:
    version, last_hash = head(far, STREAM)
    net.at_the_cut.clear()
    net.lose_next("twinstep.append", "answer")
    with ThreadPoolExecutor(1) as pool, closing(PostgresEventStore(filled)) as other:
        net.down_after_cut = True
        events = [e.LocalApplied(run="r1", by="r1")]
        sent = pool.submit(far.append, STREAM, events, expected_version=version, expected_hash=last_hash)
        net.cut.wait(30)
        while len(other.read(STREAM)) == version:
            assert not sent.done()
        append(other, STREAM, e.RemoteStarted(run="r1"))
        net.down_after_cut = net.down = False
        (record,) = sent.result(30)
    assert (record.version, record.position) == (4, 5)
    assert far.read(STREAM)[3] == record
    append(far, "pair", CHECKED)
    assert check_log(far).problems == ()


def test_where_another_was_first_a_lost_append_is_refused(far: PostgresEventStore, net: Network, filled: str) -> None:
    version, last_hash = head(far, STREAM)
    net.lose_next("twinstep.append", "request")
    with ThreadPoolExecutor(1) as pool, closing(PostgresEventStore(filled)) as other:
        net.down_after_cut = True
        events = [e.LocalApplied(run="r1", by="r1")]
        sent = pool.submit(far.append, STREAM, events, expected_version=version, expected_hash=last_hash)
        net.cut.wait(30)
        append(other, STREAM, e.LocalApplied(run="r1", by="r1"))
        net.down_after_cut = net.down = False
        with pytest.raises(ConcurrencyConflict) as caught:
            sent.result(30)
    assert caught.value.code == "T504"
    assert len(far.read(STREAM)) == 4
    assert check_log(far).problems == ()


def test_what_cannot_be_found_out_in_time_is_in_doubt(filled: str, net: Network) -> None:
    database = filled.partition("?")[0].rpartition("/")[2]
    url = f"postgresql://postgres:the-secret@127.0.0.1:{net.port}/{database}"
    with closing(PostgresEventStore(url, retry_for_seconds=0.3)) as store:
        version, last_hash = head(store, STREAM)
        net.down_after_cut = True
        net.lose_next("twinstep.append", "answer")
        with pytest.raises(InDoubt) as caught:
            store.append(STREAM, [e.BackedUp(run="r1")], expected_version=version, expected_hash=last_hash)
        assert (caught.value.code, caught.value.exit_code) == ("T510", 6)
        with pytest.raises(Unreachable) as reading:
            store.read(STREAM)
        assert reading.value.code == "T511"
        assert "the-secret" not in f"{caught.value} {caught.value.details} {reading.value} {store.location}"
        net.down_after_cut = net.down = False
        # And the handle goes on from what is there.
        append(store, "pair", CHECKED)
        assert check_log(store).problems == ()


def test_what_only_asks_or_may_be_done_twice_is_done_again(far: PostgresEventStore, net: Network) -> None:
    for text, use in (
        ("FROM twinstep.events", lambda: far.read(STREAM)),
        ("FROM twinstep.events", lambda: list(far.read_all())),
        ("FROM twinstep.migration_history", lambda: far.rows("migration_history")),
        ("twinstep.know_pair", lambda: far.register_pair(token_hex(4))),
        ("twinstep.replace_rows", far.rebuild_rows),
    ):
        for what in ("request", "answer"):
            net.lose_next(text, "answer" if what == "answer" else "request")
            use()
            assert net.cut.is_set()
    assert check_log(far).problems == ()


def test_a_session_that_was_ended_between_two_appends_is_no_trouble(filled: str) -> None:
    ours = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with closing(PostgresEventStore(filled)) as store:
        append(store, STREAM, e.BackedUp(run="r1"))
        for _ in range(3):
            version, last_hash = head(store, STREAM)
            run_sql(filled, f"SELECT pg_terminate_backend(pid, 10000) {ours}")
            store.append(STREAM, [FAILED], expected_version=version, expected_hash=last_hash)
        assert [record.version for record in store.read(STREAM)] == [1, 2, 3, 4, 5, 6]
        assert [record.position for record in store.read_all()] == [1, 2, 3, 4, 5, 6, 7]


def test_a_forked_child_opens_its_own_connection(filled: str) -> None:
    with closing(PostgresEventStore(filled)) as store:
        append(store, "pair", CHECKED)
        child = os.fork()
        if child == 0:
            append(store, "pair", CHECKED)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        append(store, "pair", CHECKED)
        assert [record.position for record in store.read_all()] == [1, 2, 3, 4, 5, 6]


# --- what is said when it cannot be used


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("postgresql://me:the-secret@127.0.0.1:1/x", "T511", "The log at postgresql://me@127.0.0.1:1/x cannot be reached"),
        ("postgresql://me:the-secret@nowhere.invalid/x", "T512", "its name cannot be looked up"),
    ],
)
def test_a_log_without_a_way_in_is_named_without_its_password(url: str, code: str, says: str) -> None:
    with closing(PostgresEventStore(url)) as store:
        for use in (lambda: store.log_id, lambda: store.register_pair("key"), lambda: append(store, "pair", CHECKED)):
            with pytest.raises(Unreachable, match=says) as caught:
                use()
            assert caught.value.code == code
            assert "the-secret" not in f"{caught.value!r} {caught.value} {caught.value.details} {store.location}"


def test_a_login_that_is_refused_is_no_server_that_is_away(log: PostgresLog) -> None:
    for url, says in (
        (log.url.replace("//postgres@", "//nobody_knows@"), "it does not let this user in"),
        (re.sub(r"@/[^?]*", "@/nowhere", log.url), "it has no such database"),
    ):
        with closing(PostgresEventStore(url)) as store, pytest.raises(Unreachable, match=says) as caught:
            store.read(STREAM)
        assert caught.value.code == "T512"


@pytest.mark.parametrize("url", ["postgresql://me:the-secret/1@host/x", "postgresql://me:the-secret@host:x/y"])
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PostgresEventStore(url)
    assert caught.value.code == "T516"
    assert "the-secret" not in f"{caught.value} {caught.value.details}"


def test_a_standby_is_read_and_not_written() -> None:
    with (
        EmbeddedPostgres.started(durable=False) as server,
        closing(PostgresEventStore(server.create_database(), retry_for_seconds=20)) as store,
    ):
        append(store, STREAM, *BEGUN)
        server.stop()
        (server.folder / "data" / "standby.signal").touch()
        server.restart()
        with pytest.raises(Blocked, match="as a standby does not") as caught:
            append(store, "pair", CHECKED)
        assert caught.value.code == "T506"
        assert len(store.read(STREAM)) == 2
        assert check_log(store).problems == ()


def unguarded(url: str, statement: str) -> None:
    """Past the triggers that guard the log, as a superuser can."""
    disabled = (f"ALTER TABLE twinstep.{table} DISABLE TRIGGER ALL" for table in ("log", "events", "pairs"))
    run_sql(url, *disabled, statement)


@pytest.mark.parametrize(
    ("statement", "code", "says"),
    [
        ("UPDATE twinstep.events SET payload = replace(payload, 'lock', 'luck') WHERE position = 2", "T501", "was changed"),
        ("DELETE FROM twinstep.events WHERE position = 1", "T501", "version 1 is missing"),
        ("UPDATE twinstep.events SET position = 9 WHERE position = 3", "T501", "lies at position 9"),
        ("UPDATE twinstep.migration_history SET status = 'verified'", "T509", "row r1 of pair pair differs"),
        ("UPDATE twinstep.log SET schema_version = 99", "T508", f"log version 99; this one knows {LOG_VERSION}"),
        ("DELETE FROM twinstep.log", "T514", "it has lost its id"),
        ("DROP TABLE twinstep.events", "T514", 'relation "twinstep.events" does not exist'),
    ],
)
def test_damage_past_the_guards_is_found_by_the_check(filled: str, statement: str, code: str, says: str) -> None:
    unguarded(filled, statement)
    with closing(PostgresEventStore(filled)) as store:
        problem = check_log(store).problems[0]
    assert isinstance(problem, LogDamaged)
    assert problem.code == code
    assert says in str(problem)


def test_a_tail_that_was_cut_off_leaves_a_gap_before_what_comes_next(filled: str) -> None:
    unguarded(filled, "DELETE FROM twinstep.events WHERE position = 3")
    with closing(PostgresEventStore(filled)) as store:
        # What is left is a whole log, only an older one: but the log itself counts what it has handed out.
        assert [problem.code for problem in check_log(store).problems] == ["T293"]
        append(store, STREAM, e.BackedUp(run="r1"))
        assert [problem.code for problem in check_log(store).problems] == ["T501"]


def test_a_stream_of_a_name_that_cannot_be_kept_is_refused(log: PostgresLog) -> None:
    with closing(log.handle()) as store:
        for name in ("pair/\0", "pair/\udc80"):
            with pytest.raises(ValueError, match="PostgreSQL cannot hold"):
                append(store, name, CHECKED)
            assert store.read(name) == []
