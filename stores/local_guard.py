"""A transaction that the code running inside it cannot end: what a migration's own functions are given.

A function that commits, rolls back or closes would leave rows without their ledger row. Three things stand against it: an
authorizer denies the statements; `LocalConnection` refuses what no authorizer sees; and whoever gets past both (INSERT OR
ROLLBACK, say) finds every later statement denied, and the step refused. What was tried is remembered: swallowing the refusal
does not help. Savepoints are allowed: they cannot end a transaction that BEGIN opened.

This module must never import SQLAlchemy before it is asked for a SQLAlchemy connection. Read next: `held_sqlalchemy.py`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, cast

from ..events.errors import Defect, Refused
from .explanation import Explanation
from .sqlite_errors import primary_code

# In steps of SQLite's virtual machine: how often it asks whether the time is over (some 0.2 ms), and lets signals in (20 ms).
# Each costs a turn at Python's lock, for which a host's busy threads may let us wait.
STEPS_BETWEEN_LOOKS = 10_000
STEPS_BETWEEN_SIGNALS = 1_000_000

Authorizer: TypeAlias = "Callable[[int, str | None, str | None, str | None, str | None], int]"

FORBIDDEN = {
    sqlite3.SQLITE_TRANSACTION: "to {first} the transaction",
    sqlite3.SQLITE_ATTACH: "to attach another database",
    sqlite3.SQLITE_DETACH: "to detach a database",
}

# What says which steps stand is for no step to change.
LEDGER = "twinstep_ledger"
# Rows are set aside by Twinstep while steps run, and put back by it.
QUARANTINE = "twinstep_quarantine"
CHANGING = frozenset(
    {
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_ALTER_TABLE,
        sqlite3.SQLITE_CREATE_TRIGGER,
    }
)


class Guard:
    """The authorizer of one guarded stretch, and its memory of what was tried."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.attempts: list[str] = []
        self.released = False

    def __call__(self, action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
        """Called by SQLite for each thing that a statement would do, when it is prepared."""
        if not self._connection.in_transaction:
            return self._deny("to go on after the transaction had ended")
        if action in FORBIDDEN:
            return self._deny(FORBIDDEN[action].format(first=first))
        if LEDGER in (first, second) and action in CHANGING:
            return self._deny("to change Twinstep's ledger")
        if QUARANTINE in (first, second) and action in CHANGING and not self._sets_aside(action):
            return self._deny("to change what lies in quarantine")
        if (
            action == sqlite3.SQLITE_UPDATE
            and trigger is None
            and database == "main"
            and isinstance(self._connection, LocalConnection)
        ):
            self._connection.updated.add((str(first), str(second)))
        # In a rollback journal's transaction OFF or MEMORY is accepted until the first write, and then ROLLBACK undoes nothing.
        if action == sqlite3.SQLITE_PRAGMA and first is not None and first.lower() == "journal_mode" and second is not None:
            return self._deny("to change the journal mode")
        return sqlite3.SQLITE_OK

    def _sets_aside(self, action: int) -> bool:
        # INSERT OR REPLACE would overwrite what lies there, and SQLite asks about no more than an INSERT.
        setting_aside = isinstance(self._connection, LocalConnection) and self._connection.setting_aside
        return setting_aside and action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE)

    def _deny(self, attempt: str) -> int:
        self.attempts.append(attempt)
        return sqlite3.SQLITE_DENY

    def refuse(self, attempt: str) -> None:
        """Remember the attempt and raise Refused."""
        self.attempts.append(attempt)
        raise self.refusal()

    def refusal(self) -> Refused:
        return Refused("T219", problem=self.attempts[0])

    def settle(self) -> Refused | None:
        """What is to be raised at the end, if anything."""
        if not self.attempts and not _in_transaction(self._connection):
            self.attempts.append("to end the transaction")
        return self.refusal() if self.attempts else None


class LocalCursor(sqlite3.Cursor):
    """What runs the statements of a `LocalConnection`: one that a Ctrl-C has stopped ends with KeyboardInterrupt.

    Python calls a signal's handler while a callback of ours runs inside SQLite. What is raised there is not raised out of the
    statement: SQLite says that it was interrupted, or not authorised, and without this it would be taken for a refusal.
    """

    def execute(self, *given: Any) -> LocalCursor:
        with self._stopped():
            super().execute(*given)
        return self

    def executemany(self, *given: Any) -> LocalCursor:
        with self._stopped():
            super().executemany(*given)
        return self

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(self.connection, LocalConnection) and self.connection.was_stopped(error):
                raise KeyboardInterrupt from error
            raise


class LocalConnection(sqlite3.Connection):
    """A driver connection that refuses, while it is guarded, what would end the transaction or take the guard away.

    Also in a long statement it looks now and then whether a signal has come. `deadline` (of `time.monotonic()`) is when
    statements are to be interrupted because their time is over.
    """

    guard: Guard | None = None
    deadline: float | None = None
    readonly = False
    setting_aside = False
    going_back: Callable[[sqlite3.Connection, str], None] | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.explained: list[Explanation] = []
        # Table and column of each UPDATE that a guarded statement names itself; those of triggers are not among them.
        self.updated: set[tuple[str, str]] = set()
        self.limit_statements(None)

    def cursor(self, factory: Any = LocalCursor) -> Any:
        return super().cursor(factory)

    def execute(self, *given: Any) -> sqlite3.Cursor:
        return cast("sqlite3.Cursor", self.cursor().execute(*given))

    def executemany(self, *given: Any) -> sqlite3.Cursor:
        return cast("sqlite3.Cursor", self.cursor().executemany(*given))

    def limit_statements(self, deadline: float | None) -> None:
        """Interrupt statements that run after the deadline; without one, let only signals in."""
        self.deadline = deadline
        if deadline is None:
            self.set_progress_handler(let_signals_in, STEPS_BETWEEN_SIGNALS)
        else:
            self.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)

    def was_stopped(self, error: sqlite3.Error) -> bool:
        """Whether a statement failed because of what was raised in a callback of ours, or was interrupted by hand."""
        match primary_code(error):
            case sqlite3.SQLITE_INTERRUPT:
                return self.deadline is None or time.monotonic() <= self.deadline
            case sqlite3.SQLITE_AUTH:
                return self.guard is not None and not self.guard.attempts  # the guard remembers what it denies
            case _:
                return False

    def close(self) -> None:
        if self.guard is not None:
            self.guard.refuse("to close the connection")
        super().close()

    def set_authorizer(self, authorizer_callback: Authorizer | None) -> None:
        if self.guard is not None:
            self.guard.refuse("to replace the authorizer")
        super().set_authorizer(authorizer_callback)


def let_signals_in() -> int:
    """Go on. That this is called at all gives Python the occasion to call a signal's handler."""
    return 0


def put_back_first(connection: sqlite3.Connection, table: str) -> None:
    """While a change is taken back: what it has set aside of this table goes back before the table is made as it was."""
    if isinstance(connection, LocalConnection) and connection.going_back is not None:
        connection.going_back(connection, table)


@contextmanager
def setting_aside(connection: sqlite3.Connection) -> Iterator[None]:
    """Inside, rows may be added to the quarantine and marked as put back; a step's own statements may do neither."""
    if not isinstance(connection, LocalConnection):
        yield
        return
    connection.setting_aside = True
    try:
        yield
    finally:
        connection.setting_aside = False


@contextmanager
def guarded(connection: sqlite3.Connection) -> Iterator[Guard]:
    """Let code run inside the open transaction of `connection`, which it cannot end; afterwards the transaction is still open.

    Raises Refused (T219), from the code's own error if there is one, when it tried to; the transaction may then be gone (rolled
    back whole) or still be open, and the caller rolls back either way. Raises Defect (T230) where no transaction is open.
    """
    if not connection.in_transaction:
        raise Defect("T230", problem="no transaction is open")
    guard = Guard(connection)
    connection.set_authorizer(guard)
    if isinstance(connection, LocalConnection):
        connection.guard = guard
    try:
        yield guard
    except Exception as error:
        _release(connection, guard)
        refusal = guard.settle()
        if refusal is None or isinstance(error, Refused):
            raise
        raise refusal from error
    finally:
        _release(connection, guard)
    refusal = guard.settle()
    if refusal is not None:
        raise refusal


def _release(connection: sqlite3.Connection, guard: Guard) -> None:
    if guard.released:
        return
    guard.released = True
    if isinstance(connection, LocalConnection):
        connection.guard = None
    with suppress(sqlite3.ProgrammingError):  # closed behind our back; `settle` tells
        connection.set_authorizer(None)


def _in_transaction(connection: sqlite3.Connection) -> bool:
    try:
        return connection.in_transaction
    except sqlite3.ProgrammingError:
        return False
