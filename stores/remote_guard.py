"""A SQLAlchemy connection over a PostgreSQL transaction that the code running in it cannot end.

SQLAlchemy's own `commit()`, `rollback()` and close are refused or do nothing, and so are statements that control the
transaction. Whoever takes the driver's connection from underneath meets the ledger: the step's row is then `running`, and a
deferred trigger refuses any COMMIT while it is. Afterwards the transaction must be the one that it was.

Importing this module imports SQLAlchemy, so it is imported only for migrations with functions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import psycopg
from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.pool import StaticPool

from ..events.errors import Refused

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPIModule
    from sqlalchemy.pool import PoolProxiedConnection

    from .remote_connection import Remote

CONTROL = frozenset({"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "PREPARE"})


def _unheard(statement: str) -> None:
    """Nobody asks."""


@contextmanager
def sqlalchemy_connection(connection: Remote, *, heard: Callable[[str], None] = _unheard) -> Iterator[Connection]:
    """Lend the open transaction; `heard` is told each statement. Raises Refused (T219) where the borrower tried to end it."""
    before = _transaction(connection)
    dialect = _HeldDialect()
    pool = StaticPool(lambda: cast("DBAPIConnection", connection), reset_on_return=None, dialect=dialect)
    engine = Engine(pool, dialect, make_url("postgresql+psycopg://"))
    event.listen(engine, "before_cursor_execute", _refuse_control)
    event.listen(engine, "before_cursor_execute", lambda _connection, _cursor, statement, *_rest: heard(statement))
    lent = engine.connect()
    try:
        dialect.initialize(lent)  # type: ignore[no-untyped-call]
        dialect.lent = True
        yield lent
    except Exception as error:
        if connection.closed and not connection.broken:  # not lost: nobody but the borrower closes it, and nothing stands
            raise Refused("T219", problem="to close the connection of the transaction") from error
        raise
    finally:
        dialect.lent = False
        lent.close()
    if dialect.tried or (not _failed(connection) and _transaction(connection) != before):
        raise Refused("T219", problem=dialect.tried or "to end the transaction")


class _HeldDialect(PGDialect_psycopg):
    """PostgreSQL's dialect over psycopg, without any way to begin, end or close."""

    supports_statement_cache = True

    def __init__(self) -> None:
        super().__init__(dbapi=cast("DBAPIModule", psycopg))  # type: ignore[no-untyped-call]
        self.lent = False
        self.tried = ""

    def do_begin(self, dbapi_connection: PoolProxiedConnection) -> None:
        """The transaction is open already."""

    def do_commit(self, dbapi_connection: PoolProxiedConnection) -> None:
        self.tried = "to COMMIT the transaction"
        raise Refused("T219", problem=self.tried)

    def do_rollback(self, dbapi_connection: PoolProxiedConnection) -> None:
        if self.lent:
            self.tried = "to ROLLBACK the transaction"
            if sys.exc_info()[0] is None:
                raise Refused("T219", problem=self.tried)

    def do_close(self, dbapi_connection: DBAPIConnection) -> None:
        """The driver connection is its owner's to close."""

    def do_terminate(self, dbapi_connection: DBAPIConnection) -> None:
        """As for closing."""


def _refuse_control(
    connection: Connection, cursor: object, statement: str, parameters: object, context: object, executemany: bool
) -> None:
    words = statement.split(None, 1)
    if words and words[0].upper().rstrip(";") in CONTROL and "SAVEPOINT" not in statement.upper():
        raise Refused("T219", problem=f"to run {words[0].upper()}")


def _failed(connection: Remote) -> bool:
    """Whether a statement in the transaction was refused, so that it is still open and can only be rolled back."""
    return connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR


def _transaction(connection: Remote) -> str | None:
    """The id of the open transaction, drawn by now; None where none is open or it can no longer be asked."""
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
        return None
    row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    return None if row is None else str(row[0])
