"""What the statements outside a transaction share: sending one alone, seeing who else is at it, waiting without a lock.

Raises Refused (the database said no), or InDoubt (the connection is gone, and with it the answer): never a driver's error.
This module must never import sqlalchemy, and never wait inside the database: a session that waits for a lock there holds a
snapshot, for which a concurrent build waits in turn. Read next: `concurrent_index.py`.
"""

from __future__ import annotations

import selectors
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

import psycopg
from psycopg.rows import tuple_row

from ..events.cut_short import cut_short
from ..events.errors import InDoubt, Refused
from ..stores.remote_connection import is_lost
from ..stores.watched_connection import NoAnswer, Silence, WatchedConnection
from .postgres_catalogue import PIN_OUTPUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from psycopg.pq.abc import PGresult
    from psycopg.rows import TupleRow

    from ..events.types import Json

    Remote: TypeAlias = psycopg.Connection[TupleRow]
    Before: TypeAlias = Mapping[str, Json]

State: TypeAlias = Literal["absent", "done", "half", "building", "different"]
"""Of the effect: not there; there; left half done by somebody who is gone; a backend is at it; another thing is there."""

Tick: TypeAlias = "Callable[[], None]"

POLL_SECONDS = 0.2
TICK_SECONDS = 0.5
CANCEL_SECONDS = 5.0
DEFAULT_WAIT_SECONDS = 60.0
COPYING = (psycopg.pq.ExecStatus.COPY_IN, psycopg.pq.ExecStatus.COPY_OUT, psycopg.pq.ExecStatus.COPY_BOTH)


def no_tick() -> None:
    """Nobody looks on."""


@contextmanager
def answered(connection: Remote, statement: str) -> Iterator[None]:
    """Turn the driver's errors into ours: Refused (T320) if the server said no, InDoubt (T321) if the connection is gone."""
    try:
        yield
    except psycopg.Error as error:
        if is_lost(connection, error):
            raise InDoubt("T321", statement=shortened(statement)) from error
        reason = error.diag.message_primary or str(error)
        raise Refused("T320", statement=shortened(statement), reason=reason, sqlstate=error.sqlstate or "none") from error


def send(connection: Remote, text: str, tick: Tick = no_tick) -> None:
    """One statement, alone in its message, as it is written: anything else in it would make it a transaction block.

    `tick` is called about every half second for as long as the server is at it. Whatever is raised meanwhile (by `tick`, by
    Ctrl-C) has the server end the statement first: it does not run on behind the back of who was told that it was stopped.
    """
    with answered(connection, text), connection.lock:
        try:
            result = _awaited(connection, text.encode(connection.info.encoding), tick)
        except NoAnswer:
            connection.pgconn.finish()  # there is nobody who could be told to end it
            raise
        except BaseException:
            _end(connection)
            raise
        if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result, encoding=connection.info.encoding)
        if result.status in COPYING:
            raise psycopg.ProgrammingError("COPY to or from a client cannot be used here")


def _awaited(connection: Remote, statement: bytes, tick: Tick) -> PGresult:
    """The statement's result. `PQsendQuery`: the driver looks for no placeholders in it, and nothing is put around it."""
    libpq = connection.pgconn
    # One answer is awaited, and whatever comes is a part of it.
    silence = Silence(connection.at_work) if isinstance(connection, WatchedConnection) else None

    def wait() -> None:
        if selector.select(TICK_SECONDS):
            libpq.consume_input()
            return
        if silence is not None:
            silence.goes_on()
        tick()

    libpq.send_query(statement)
    with selectors.DefaultSelector() as selector:
        selector.register(libpq.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while libpq.flush():
            wait()
        selector.modify(libpq.socket, selectors.EVENT_READ)
        result: PGresult | None = None
        # A COPY has no end before somebody copies.
        while result is None or result.status not in COPYING:
            # Never by `PQgetResult` alone, which waits for as long as nothing comes.
            while libpq.is_busy():
                wait()
            another = libpq.get_result()
            if another is None:
                break
            result = another
    assert result is not None
    return result


def _end(connection: Remote) -> None:
    """Have the server end what it is at, and read its answer; a session that gives none within the limit is closed."""
    libpq = connection.pgconn
    try:
        if libpq.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
            connection.cancel_safe(timeout=CANCEL_SECONDS)
        deadline = time.monotonic() + CANCEL_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(libpq.socket, selectors.EVENT_READ)
            while libpq.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                while libpq.is_busy():
                    if not selector.select(max(0.0, deadline - time.monotonic())):
                        raise psycopg.errors.CancellationTimeout
                    libpq.consume_input()
                if libpq.get_result() is None:
                    break
    except psycopg.Error:
        libpq.finish()  # the server ends it by itself once its client is gone
    except BaseException:
        libpq.finish()
        raise


def rows(connection: Remote, query: str, **parameters: object) -> list[TupleRow]:
    """The answer to a question of ours, in tuples whatever the connection's own way of making rows is."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(query.encode(), parameters or None)
        return cursor.fetchall()


def pin_output(connection: Remote) -> None:
    """From here to the end of the transaction, definitions read the same in every session, and are fully qualified."""
    connection.execute(PIN_OUTPUT)


@contextmanager
def alone(connection: Remote, statement_timeout_seconds: float, *, tablespace: str | None = None) -> Iterator[None]:
    """Session settings for a long statement: no lock_timeout, since a concurrent build waits for others by design."""
    settings = {
        "lock_timeout": "0",
        "transaction_timeout": "0",  # 17 and later
        "statement_timeout": f"{int(statement_timeout_seconds * 1000)}ms",
    }
    if tablespace is not None:
        settings["default_tablespace"] = tablespace
    with answered(connection, "SET"):
        saved = _set(connection, settings)
    try:
        yield
    finally:
        # A session that is gone needs no settings; what happened to it is the error that the caller must see.
        with suppress(psycopg.OperationalError):
            _set(connection, saved)


def _set(connection: Remote, settings: Mapping[str, str]) -> dict[str, str]:
    """Set those that this server knows; what they were before."""
    names, values = list(settings), list(settings.values())
    known = "FROM unnest(%(names)s::text[], %(values)s::text[]) AS given (name, value) JOIN pg_settings s USING (name)"
    saved: dict[str, str] = dict(rows(connection, f"SELECT name, current_setting(name) {known}", names=names, values=values))
    rows(connection, f"SELECT set_config(name, value, false) {known}", names=names, values=values)
    return saved


def settled(connection: Remote, probe: Callable[[], State], texts: Sequence[str], wait_seconds: float) -> State:
    """The state once no backend is building any more. Raises Refused (T324) when the wait is over and one still is."""
    deadline = time.monotonic() + wait_seconds
    while (state := probe()) == "building":
        if time.monotonic() >= deadline:
            busy = ", ".join(str(pid) for pid in at_work(connection, texts)) or "of another kind"
            raise Refused("T324", statement=shortened(texts[0]), backends=busy, seconds=wait_seconds)
        time.sleep(POLL_SECONDS)
    return state


def at_work(connection: Remote, texts: Sequence[str], index: str | None = None) -> tuple[int, ...]:
    """Other backends that run one of these very statements (also those waiting for their first lock), or build `index`.

    A statement of another role hides its text and its table from us, but neither that it builds nor its locks.
    """
    found = rows(connection, _AT_WORK, texts=list(texts), index=index)
    return tuple(int(row[0]) for row in found)


_AT_WORK = """
SELECT a.pid FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.state = 'active' AND EXISTS (
    SELECT FROM unnest(%(texts)s::text[]) AS t (query) WHERE a.query = t.query
    -- The server keeps the beginning of a long statement only, cut between characters.
    OR octet_length(a.query) > pg_size_bytes(current_setting('track_activity_query_size')) - 6
        AND starts_with(t.query, a.query))
UNION
SELECT p.pid FROM pg_stat_progress_create_index p
WHERE p.datname = current_database() AND p.pid <> pg_backend_pid() AND (
    p.index_relid = to_regclass(%(index)s::text)
    OR p.relid IS NULL AND EXISTS (
        SELECT FROM pg_locks l JOIN pg_index i ON i.indrelid = l.relation
        WHERE l.pid = p.pid AND l.mode = 'ShareUpdateExclusiveLock' AND i.indexrelid = to_regclass(%(index)s::text)))
ORDER BY 1
"""


def shortened(statement: str) -> str:
    """On one line and short enough for a message."""
    line = " ".join(statement.split())
    return cut_short(line, 160)


def text_of(before: Before, name: str) -> str | None:
    """A text in what was recorded, or None."""
    found = before.get(name)
    return found if isinstance(found, str) else None


def texts_of(before: Before, name: str) -> tuple[str, ...]:
    """A list of texts in what was recorded; empty where there is none."""
    found = before.get(name)
    return tuple(str(item) for item in found) if isinstance(found, list | tuple) else ()
