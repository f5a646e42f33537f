"""The ledger inside PostgreSQL: schema `twinstep`, table `ledger`, and the SQL that reads and writes its rows.

The head row is locked `FOR SHARE` by every transaction that changes anything, and its token compared there: a coordinator
whose session was ended and whose place another one took cannot commit any more. A plain SELECT does not fence.

A row is `running` only inside the transaction of a step that runs a function: a deferred trigger refuses COMMIT while it is,
so that the function cannot commit its work without its row.

Raises the driver's errors; `postgres_target.py` turns them into ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

import psycopg
from psycopg.rows import tuple_row

from ..events.errors import LostLock
from .ledger import COLUMNS, HEAD, INTEGERS, KEY, LedgerRow, SideLedger, row_from
from .target import Head, Whole

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    Remote: TypeAlias = psycopg.Connection[TupleRow]

RUNNING: Final = "running"
# The SQLSTATE of our own trigger, which tells that a function tried to COMMIT.
ENDED_BY_FUNCTION: Final = "TW219"

_COLUMNS: Final = ", ".join(COLUMNS)
_DEFINITIONS: Final = ",\n    ".join(f"{name} {'bigint' if name in INTEGERS else 'text'} NOT NULL" for name in COLUMNS)

MAKE: Final = f"""
CREATE SCHEMA IF NOT EXISTS twinstep;
CREATE TABLE IF NOT EXISTS twinstep.ledger (
    {_DEFINITIONS},
    PRIMARY KEY ({", ".join(KEY)})
);
CREATE OR REPLACE FUNCTION twinstep.refuse_running() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    IF EXISTS (SELECT FROM twinstep.ledger WHERE state = '{RUNNING}') THEN
        RAISE EXCEPTION 'a step of a migration tried to end the transaction that it runs in'
            USING ERRCODE = '{ENDED_BY_FUNCTION}';
    END IF;
    RETURN NULL;
END $$;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgname = 'refuse_running'
        AND tgrelid = 'twinstep.ledger'::regclass) THEN
        CREATE CONSTRAINT TRIGGER refuse_running AFTER INSERT OR UPDATE ON twinstep.ledger
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.state = '{RUNNING}')
            EXECUTE FUNCTION twinstep.refuse_running();
    END IF;
END $$;
"""

_SELECT: Final = f"SELECT {_COLUMNS} FROM twinstep.ledger"
_ORDER: Final = "ORDER BY stream_version, applied_at, step"
_INSERT: Final = (
    f"INSERT INTO twinstep.ledger ({_COLUMNS}) VALUES ({', '.join(['%s'] * len(COLUMNS))}) "
    f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS if name not in KEY)
)


def read(connection: Remote, migration: str) -> SideLedger:
    """The rows of one migration, oldest first; empty where there is no ledger yet."""
    rows = _rows(connection, f"{_SELECT} WHERE migration = %s AND direction <> '{HEAD}' {_ORDER}", migration)
    return SideLedger(rows=tuple(rows))


def read_whole(connection: Remote) -> Whole:
    """The head and all rows."""
    head = Head()
    by_migration: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in _rows(connection, f"{_SELECT} {_ORDER}"):
        if row.direction == HEAD:
            head = Head.of(row)
        else:
            by_migration[row.migration].append(row)
    return Whole(head=head, ledgers={name: SideLedger(rows=tuple(rows)) for name, rows in by_migration.items()})


def make(connection: Remote, head: LedgerRow) -> None:
    """Make the ledger where it is missing, and put the token of whoever holds the lock into its head.

    The advisory lock must be held: two that create at once get in each other's way, IF NOT EXISTS or not.
    """
    row = connection.execute("SELECT to_regclass('twinstep.ledger') IS NULL").fetchone()
    if row is not None and row[0]:
        connection.execute(MAKE.encode())
    cursor = connection.execute(f"UPDATE twinstep.ledger SET token = %s WHERE direction = '{HEAD}'".encode(), (head.token,))
    if cursor.rowcount == 0:
        write(connection, (head,))


def fence(connection: Remote, token: str) -> None:
    """Lock the head row until the transaction ends, or raise LostLock (T402) where another coordinator's token is in it."""
    row = connection.execute(f"SELECT token FROM twinstep.ledger WHERE direction = '{HEAD}' FOR SHARE".encode()).fetchone()
    if row is None or row[0] != token:
        raise LostLock("T402", side="remote")


def token(connection: Remote) -> str:
    """The token in the head row, of whoever changed this database last; empty where there is no ledger yet."""
    row = _first(connection, f"SELECT token FROM twinstep.ledger WHERE direction = '{HEAD}'")
    return "" if row is None else str(row[0])


def is_whole(connection: Remote, token: str) -> bool:
    """Whether the head row is still there, as a step found it that has just run."""
    row = connection.execute(f"SELECT token FROM twinstep.ledger WHERE direction = '{HEAD}'".encode()).fetchone()
    return row is not None and row[0] == token


def write(connection: Remote, rows: Iterable[LedgerRow]) -> None:
    """Add the rows; one with the same key takes the place of the old one (open becomes done)."""
    for row in rows:
        connection.execute(_INSERT.encode(), tuple(getattr(row, name) for name in COLUMNS))


def _first(connection: Remote, query: str) -> TupleRow | None:
    try:
        return connection.execute(query.encode()).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None


def _rows(connection: Remote, query: str, *parameters: str) -> list[LedgerRow]:
    try:
        with connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(query.encode(), parameters or None)
            return [row_from(values) for values in cursor]
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return []
