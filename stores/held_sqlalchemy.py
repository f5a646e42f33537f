"""A SQLAlchemy connection over a driver connection that is ours: it runs statements, and neither begins nor ends anything.

SQLAlchemy's own habits would: its set-up rolls back, its pool resets and closes, `commit()` commits. The dialect below does
none of it. Importing this module imports SQLAlchemy, so it is imported only for migrations with functions.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import StaticPool

from .local_guard import Guard, guarded

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPIModule, IsolationLevel
    from sqlalchemy.pool import PoolProxiedConnection


@contextmanager
def sqlalchemy_connection(connection: sqlite3.Connection) -> Iterator[Connection]:
    """A SQLAlchemy `Connection` over this driver connection and its open transaction, guarded as by `guarded`.

    Statements run in our transaction. `begin_nested()` makes savepoints. `commit()` is refused, and so is `rollback()`, since
    neither can be done as asked; one that comes while an error is on its way is remembered, and refused at the end.
    """
    with guarded(connection) as guard, held(connection, guard) as lent:
        yield lent


@contextmanager
def held(connection: sqlite3.Connection, guard: Guard) -> Iterator[Connection]:
    """Lend the connection to SQLAlchemy. Closing what was lent, here or by the borrower, leaves the driver's open."""
    dialect = _HeldDialect(guard)
    pool = StaticPool(lambda: cast("DBAPIConnection", connection), reset_on_return=None, dialect=dialect)
    # Not create_engine: it would register set-up that rolls back, and functions that would replace the host's own.
    engine = Engine(pool, dialect, make_url("sqlite://"))
    _lend_functions(dialect, connection)
    lent = engine.connect()
    try:
        dialect.initialize(lent)
        dialect.lent = True
        yield lent
    finally:
        dialect.lent = False
        lent.close()


class _HeldDialect(SQLiteDialect_pysqlite):
    """SQLite's dialect, without any way to begin, end or close."""

    supports_statement_cache = True

    def __init__(self, guard: Guard) -> None:
        super().__init__(dbapi=cast("DBAPIModule", sqlite3))
        self._guard = guard
        self.lent = False

    def do_begin(self, dbapi_connection: PoolProxiedConnection) -> None:
        """The transaction is open already."""

    def do_commit(self, dbapi_connection: PoolProxiedConnection) -> None:
        self._guard.refuse("to COMMIT the transaction")

    def do_rollback(self, dbapi_connection: PoolProxiedConnection) -> None:
        if not self.lent:
            return
        if sys.exc_info()[0] is None:
            self._guard.refuse("to ROLLBACK the transaction")
        # The error on its way is worth more than this one; if somebody catches it, the guard still refuses at the end.
        self._guard.attempts.append("to ROLLBACK the transaction")

    def do_close(self, dbapi_connection: DBAPIConnection) -> None:
        """The driver connection is its owner's to close. Refused at the end, since the pool logs what is raised here."""
        if self.lent:
            self._guard.attempts.append("to close the connection")

    def do_terminate(self, dbapi_connection: DBAPIConnection) -> None:
        """As for closing."""
        self.do_close(dbapi_connection)

    def set_isolation_level(self, dbapi_connection: DBAPIConnection, level: IsolationLevel) -> None:
        self._guard.refuse(f"to change the isolation level to {level}")

    def reset_isolation_level(self, dbapi_connection: DBAPIConnection) -> None:
        """It was never changed."""


class _OnlyWhatIsMissing:
    """Takes the functions that SQLAlchemy registers on each connection, and passes on those that it lacks."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._present = {str(name).lower() for (name,) in connection.execute("SELECT DISTINCT name FROM pragma_function_list")}

    def create_function(self, name: str, narg: int, func: Callable[..., object], **options: bool) -> None:
        if name not in self._present:
            self._connection.create_function(name, narg, func, **options)  # type: ignore[arg-type]


def _lend_functions(dialect: SQLiteDialect_pysqlite, connection: sqlite3.Connection) -> None:
    # regexp() and floor(): replacing the host's, or SQLite's own floor(), would change what its statements compute.
    dialect.on_connect()(cast("DBAPIConnection", _OnlyWhatIsMissing(connection)))
