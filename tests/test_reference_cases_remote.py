"""What went wrong on PostgreSQL in the reference application's own attempt, case by case, on a real server.

Each test asserts a property of the server after the engine's run, and sees the same assertion fail after the application's
own statements, which really run:

=== ==============================================================================================
R1  builds an index concurrently in a transaction
R2  runs the remote part from every device
R3  IF NOT EXISTS, where another index has the name
R4  IF NOT EXISTS, where an interrupted build left an invalid index
R5  builds while its own second connection holds a snapshot
R6  builds plainly, in a transaction that goes on
R7  runs a file that ends the transaction it is run in
R8  VACUUM and ANALYZE in a transaction
=== ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from naive_steps import remote
from small_pair import REMOTE_UP, SmallPair, on_the_remote

from twinstep.events.errors import TwinstepError

INDEX = "CREATE INDEX CONCURRENTLY item_n ON item (n)"
GUARDED = INDEX.replace("item_n", "IF NOT EXISTS item_n")
STATE = "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid = to_regclass('item_n')"
WANTED = [(True, "CREATE INDEX item_n ON public.item USING btree (n)")]


@pytest.fixture
def pair(tmp_path: Path, remote_url: str) -> SmallPair:
    return SmallPair.made(tmp_path / "device", remote_url)


def migrated(pair: SmallPair, *statements: str) -> bool:
    """Whether the engine says that it is done."""
    return pair.coordinator(on_the_remote(*statements)).migrate().exit_code == 0


def test_r1_an_index_is_built_concurrently_outside_of_any_transaction(pair: SmallPair) -> None:
    def holds() -> None:
        assert pair.remote(STATE) == WANTED

    error = remote(pair.url, [INDEX], one_transaction=True)
    assert error is not None
    assert error.sqlstate == "25001"
    with pytest.raises(AssertionError):
        holds()
    assert migrated(pair, INDEX)
    holds()


def test_r2_the_remote_part_is_done_once_whoever_comes(pair: SmallPair, tmp_path: Path) -> None:
    def holds() -> None:
        assert pair.remote("SELECT n FROM item ORDER BY id") == [(101,), (102,)]

    for name in ("device", "second", "third"):
        device = pair if name == "device" else SmallPair.made(tmp_path / name, pair.url)
        assert device.coordinator().migrate().outcome == "verified"
        assert device.user_version() == 12
    holds()
    for statement in ("UPDATE item SET n = n - 100", *REMOTE_UP[1:] * 2):
        pair.remote(statement)
    with pytest.raises(AssertionError):
        holds()


def test_r3_another_index_under_the_name_is_not_taken_for_ours(pair: SmallPair) -> None:
    pair.remote("CREATE INDEX item_n ON item (id)")

    def holds(done: bool) -> None:
        assert (pair.remote(STATE) == WANTED) == done

    holds(migrated(pair, GUARDED))
    with pytest.raises(AssertionError):
        holds(remote(pair.url, [GUARDED]) is None)


def test_r4_an_invalid_leftover_is_built_again(pair: SmallPair) -> None:
    unique = GUARDED.replace("INDEX", "UNIQUE INDEX")

    def holds() -> None:
        assert pair.remote(STATE) == [(True, WANTED[0][1].replace("INDEX", "UNIQUE INDEX"))]

    pair.remote("UPDATE item SET n = 1")
    assert remote(pair.url, [unique]) is not None
    pair.remote("UPDATE item SET n = id")
    assert remote(pair.url, [unique]) is None  # "done"
    with pytest.raises(AssertionError):
        holds()
    assert migrated(pair, unique)
    holds()


def test_r5_no_connection_of_the_engine_keeps_its_own_build_waiting(pair: SmallPair) -> None:
    def holds() -> None:
        assert pair.remote(STATE) == WANTED

    with closing(psycopg.connect(pair.url)) as second:
        second.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        second.execute("SELECT count(*) FROM item")
        error = remote(pair.url, ["SET statement_timeout = '300ms'", INDEX])
        assert error is not None
        assert error.sqlstate == "57014"
        with pytest.raises(AssertionError):
            holds()
    assert migrated(pair, INDEX)  # gives up after a second
    holds()


def test_r6_others_write_while_an_index_is_built(pair: SmallPair) -> None:
    refused: list[str] = []

    def write(crossing: str) -> None:
        with closing(psycopg.connect(pair.url, autocommit=True)) as other:
            other.execute("SET lock_timeout = '200ms'")
            try:
                other.execute("UPDATE item SET n = n + 1")
            except psycopg.errors.LockNotAvailable:
                refused.append(crossing)

    def holds(build: Callable[[], object]) -> None:
        before = pair.remote("SELECT sum(n) FROM item")
        build()
        assert pair.remote("SELECT sum(n) FROM item") > before
        assert refused == []

    holds(pair.coordinator(on_the_remote(INDEX), probe=write).migrate)
    pair.remote("DROP INDEX item_n")

    def naive() -> None:
        with psycopg.connect(pair.url) as connection:
            connection.execute("CREATE INDEX item_n ON item (n)")
            write("in the transaction")

    with pytest.raises(AssertionError):
        holds(naive)


def test_r7_a_text_cannot_end_the_transaction_it_runs_in(pair: SmallPair) -> None:
    text = ("UPDATE item SET n = 0", "COMMIT", "BEGIN", "SELECT 1 / 0")

    def holds() -> None:
        assert pair.remote("SELECT n FROM item ORDER BY id") == [(1,), (2,)]

    try:
        report = pair.coordinator(on_the_remote(*text)).migrate()
    except TwinstepError as error:
        code = error.code
    else:
        assert report.error is not None
        code = report.error.code
    assert code == "T112"
    holds()
    assert remote(pair.url, text, one_transaction=True) is not None  # and rolled back, as it believes
    with pytest.raises(AssertionError):
        holds()


def test_r8_statistics_and_vacuum_are_there_afterwards(pair: SmallPair) -> None:
    def holds() -> None:
        assert pair.remote("SELECT reltuples FROM pg_class WHERE oid = 'item'::regclass") == [(2.0,)]
        assert pair.remote("SELECT count(*) FROM pg_stats WHERE tablename = 'item'") == [(2,)]

    vacuum = remote(pair.url, ["VACUUM ANALYZE item"], one_transaction=True)
    assert vacuum is not None
    assert vacuum.sqlstate == "25001"
    assert remote(pair.url, ["ANALYZE item", "SELECT 1 / 0"], one_transaction=True) is not None
    with pytest.raises(AssertionError):
        holds()
    assert migrated(pair, "VACUUM ANALYZE item")
    holds()
