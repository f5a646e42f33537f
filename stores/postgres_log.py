"""The connection to a log in PostgreSQL: opened late, opened again when it was lost, its errors turned into ours.

Nothing is made before the first write. One connection is held, used by one thread at a time under a lock, and left behind in
a forked child, which opens its own. `close` lets go of it; the next use opens it again.

What a lost connection means is decided by the caller: what only asks, or may be done twice, is done again within a limit
(`reading`, `writing`); what may not is reported as `ConnectionLost` (`writing_once`). A first connection that cannot be made
is not tried again: somebody waits for the answer.

Read next: `postgres_events.py`, `remote_connection.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import psycopg

from ..events.errors import Blocked, ConfigurationError, Locked, LogDamaged, TwinstepError, Unreachable
from ..events.projections import ROW_TYPES
from .envelope import new_id
from .patience import Patience
from .postgres_log_schema import BUSY, LOG_VERSION, MAKE_LOG, MAKE_SCHEMA, STALE, WRITING
from .remote_connection import is_lost, libpq_url, open_remote, shown
from .remote_fitness import OLDEST_VERSION, refuse_lost, server_version
from .remote_lock import LOCK_KEY

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    Remote: TypeAlias = psycopg.Connection[TupleRow]

Answer = TypeVar("Answer")

POLL_SECONDS: Final = 0.05
LOOK: Final = b"""
SELECT log_id, schema_version, EXISTS (SELECT FROM unnest(%s::text[]) t WHERE to_regclass('twinstep.' || t) IS NULL),
    pg_backend_pid(), current_setting('transaction_isolation'), current_setting('transaction_read_only')
FROM twinstep.log
"""

# What the server says when the circumstances do not allow it, by the first signs of its code; the rest is about the content.
CIRCUMSTANCES: Final = {
    "08": "the connection failed",
    "0A000": "the server does not allow it, as a standby does not",
    "22021": "its database does not keep text as UTF-8",
    "22P05": "its database does not keep text as UTF-8",
    "25006": "it can only be read there, as on a standby",
    "40": "another session was in the way",
    "53": "the server lacks space, memory or connections",
    "54": "an event is larger than PostgreSQL can keep",
    "55": "another session holds it",
    "57": "the server ended the statement",
    "58": "the server could not use its files",
}

# How `open_remote` says why nobody is let in.
LOGIN: Final = {
    "T226": "it does not accept this password",
    "T227": "it does not let this user in",
    "T228": "it has no such database",
    "T229": "its name cannot be looked up",
    "T263": "no encrypted connection could be agreed on",
}


class ConnectionLost(Exception):
    """The connection was lost while the server was asked: what it was asked for may have been done."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class PostgresLog:
    """One address, the connection held to it, and the id of the log that is there (empty until one is).

    `is_plain`: the session is ours alone, and writes in read committed by itself.
    `fill` makes the read tables again from the log; it is called, with the log made, where one of them is missing.
    """

    def __init__(
        self,
        url: str,
        *,
        created_at: Callable[[], str],
        fill: Callable[[Remote], None],
        readonly: bool,
        retry_for_seconds: float,
    ) -> None:
        self.location = shown(url)
        try:
            self._url = libpq_url(url)
        except ConfigurationError as error:
            # Not chained: it speaks of the remote, and what the driver said before it may quote a part of the password.
            raise ConfigurationError("T516", url=self.location, problem=error.details["problem"]) from None
        self.log_id = ""
        self.retry_for_seconds = retry_for_seconds
        self._created_at = created_at
        self._fill = fill
        self._readonly = readonly
        self._lock = RLock()
        self._connection: Remote | None = None
        self.is_plain = self._is_looked_at = self._lacks_tables = self._is_ready_for_writing = False
        self._process = os.getpid()
        self._left_behind: list[Remote] = []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other threads out, over several calls that belong together."""
        self._leave_behind_after_fork()
        with self._lock:
            yield

    def reading(self, ask: Callable[[Remote], Answer], *, nothing: Answer) -> Answer:
        """What is answered, or `nothing` where there is no log yet. Asked again where the connection is lost."""

        def once() -> Answer:
            with self._errors():
                connection = self._opened()
                return ask(connection) if self._is_log(connection) else nothing

        with self.held():
            return self._or_again(once)

    def writing(self, do: Callable[[Remote], Answer]) -> Answer:
        """Do what may be done twice, in a log that is made where it is missing; again where the connection is lost."""
        with self.held():
            return self._or_again(lambda: self.writing_once(do))

    def writing_once(self, do: Callable[[Remote], Answer]) -> Answer:
        """Do what may not be done twice, in a log that is made where it is missing. Raises ConnectionLost."""
        with self.held():
            if not self._is_ready_for_writing:
                # Nothing of what may not be said twice has been said yet.
                self._or_again(self._make_ready)
            with self._errors():
                return do(self._opened())

    def again(self, once: Callable[[], Answer]) -> Answer:
        """Try until the connection holds, with backoff and jitter, within `retry_for_seconds`.

        Raises ConnectionLost, or Unreachable (T511) where there was none at the end.
        """
        patience = Patience(self.retry_for_seconds)
        while True:
            try:
                return once()
            except (ConnectionLost, Unreachable) as error:
                if not _is_away(error) or not patience.wait():
                    raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self.held():
            self._drop()
            self.log_id = ""

    def _or_again(self, once: Callable[[], Answer]) -> Answer:
        try:
            return once()
        except ConnectionLost:
            pass
        try:
            return self.again(once)
        except ConnectionLost as lost:
            raise Unreachable("T511", url=self.location, problem=lost.problem) from lost

    def _opened(self) -> Remote:
        if self._connection is None:
            try:
                self._connection = open_remote(self._url)
            except Unreachable as error:
                raise self._not_let_in(error) from error
            version = server_version(self._connection)
            if version < OLDEST_VERSION:
                problem = f"it is in a PostgreSQL {version // 10000}, and {OLDEST_VERSION // 10000} or newer is needed"
                raise self._blocked(problem)
        return self._connection

    def _is_log(self, connection: Remote) -> bool:
        """Whether a log is there, and then its id is known. Refuses one that is newer than this program, or another one."""
        if self._is_looked_at:
            return True
        try:
            found = connection.execute(LOOK, ([*ROW_TYPES],)).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            found = None
            if not self.log_id:
                return False
        if found is None:
            raise self._damaged("it has lost its id")
        log_id, version, self._lacks_tables, *session = found
        if version != LOG_VERSION:
            raise LogDamaged("T508", path=self.location, schema=version, known=LOG_VERSION)
        if self.log_id not in ("", log_id):
            raise self._blocked("another log is there than the one that was there before")
        self.log_id, self._is_looked_at = log_id, True
        # Not where a pooler answers for sessions that others have had, and may have changed.
        self.is_plain = session == [connection.pgconn.backend_pid, "read committed", "off"]
        return True

    def _make_ready(self) -> None:
        if self._readonly:
            raise self._blocked("it was opened for reading only")
        with self._errors():
            connection = self._opened()
            if not self._is_log(connection):
                self._make(connection)
            if self._lacks_tables:
                self._fill(connection)
        self._is_ready_for_writing = True

    def _make(self, connection: Remote) -> None:
        refuse_lost(connection)
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise self._blocked(f"its database keeps text as {encoding}, and only UTF8 holds every text")
        self._polled(connection, MAKE_SCHEMA.format(lock_key=LOCK_KEY), ())
        self._polled(connection, MAKE_LOG, (new_id(), self._created_at()))
        self._is_log(connection)

    def _polled(self, connection: Remote, statement: str, values: tuple[str, ...]) -> None:
        """Run it as soon as nobody else is at it. Raises Locked (T401) after `retry_for_seconds`."""
        deadline = time.monotonic() + self.retry_for_seconds
        patience = f"SET LOCAL lock_timeout = {max(1, round(1000 * self.retry_for_seconds))}"
        while True:
            try:
                with psycopg.ClientCursor(connection) as cursor:
                    cursor.execute(f"{WRITING}; {patience}; {statement}".encode(), values or None)
                return
            except psycopg.Error as error:
                if error.sqlstate != BUSY:
                    raise
                if time.monotonic() >= deadline:
                    raise Locked("T401", side="log's", holder="it is about to make its tables there") from error
                time.sleep(POLL_SECONDS)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._forget()

    def _forget(self) -> None:
        self._connection = None
        self.is_plain = self._is_looked_at = self._lacks_tables = self._is_ready_for_writing = False

    def _leave_behind_after_fork(self) -> None:
        if os.getpid() == self._process:
            return
        self._process = os.getpid()
        # Neither used nor closed here: the connection, and whoever held the lock, belong to the parent.
        self._lock = RLock()
        if self._connection is not None:
            self._left_behind.append(self._connection)
        self._forget()
        self.log_id = ""

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            if self._connection is not None and is_lost(self._connection, error):
                self._drop()
                raise ConnectionLost(_words(error)) from error
            if error.sqlstate is None or error.sqlstate == STALE:
                raise  # A wrong use of the driver is our bug, and no news about the log; the other one is its caller's.
            raise self._as_ours(error, error.sqlstate) from error

    def _as_ours(self, error: psycopg.Error, sqlstate: str) -> TwinstepError:
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            role = "?" if self._connection is None else self._connection.info.user
            return Blocked("T513", role=role, url=self.location, missing=_words(error))
        for signs, problem in CIRCUMSTANCES.items():
            if sqlstate.startswith(signs):
                return self._blocked(f"{problem} ({_words(error)})")
        return self._damaged(f"PostgreSQL says: {_words(error)}")

    def _not_let_in(self, error: Unreachable) -> Unreachable:
        problem = error.details["problem"]
        if error.code in LOGIN:
            return Unreachable("T512", url=self.location, reason=LOGIN[error.code], problem=problem)
        return Unreachable("T511", url=self.location, problem=problem)

    def _blocked(self, problem: str) -> Blocked:
        return Blocked("T506", path=self.location, problem=problem)

    def _damaged(self, problem: str) -> LogDamaged:
        return LogDamaged("T514", url=self.location, problem=problem)


def _is_away(error: BaseException) -> bool:
    return isinstance(error, ConnectionLost) or (isinstance(error, Unreachable) and error.code == "T511")


def _words(error: psycopg.Error) -> str:
    """The server's own, or the driver's first line."""
    said = error.diag.message_primary or next((line for line in str(error).splitlines() if line.strip()), "no reason was given")
    return said.strip().rstrip(".")
