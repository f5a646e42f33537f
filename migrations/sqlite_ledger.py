"""The ledger inside SQLite: the table `twinstep_ledger`, and the SQL that reads and writes its rows.

Everything here runs inside the caller's transaction, which is the change's own. Raises the driver's errors.
Read next: `ledger.py` (what a row means), `sqlite_target.py`.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from .ledger import COLUMNS, HEAD, INTEGERS, KEY, LedgerRow, SideLedger, row_from
from .target import Head, Whole

_COLUMNS: Final = ", ".join(COLUMNS)
_DEFINITIONS: Final = ",\n    ".join(f'"{name}" {"INTEGER" if name in INTEGERS else "TEXT"} NOT NULL' for name in COLUMNS)
_NAMES: Final = ", ".join(f'"{name}"' for name in COLUMNS)

_MAKE: Final = f"""
CREATE TABLE IF NOT EXISTS twinstep_ledger (
    {_DEFINITIONS},
    PRIMARY KEY ({", ".join(f'"{name}"' for name in KEY)})
)
"""
_SELECT: Final = f"SELECT {_NAMES} FROM main.twinstep_ledger"
_ORDER: Final = "ORDER BY stream_version, applied_at, step"


def read(connection: sqlite3.Connection, migration: str) -> SideLedger:
    """The rows of one migration, oldest first; empty where there is no ledger yet."""
    if not _is_there(connection):
        return SideLedger()
    found = connection.execute(f"{_SELECT} WHERE migration = ? AND direction <> '{HEAD}' {_ORDER}", (migration,))
    return SideLedger(rows=tuple(row_from(values) for values in found.fetchall()))


def read_whole(connection: sqlite3.Connection) -> Whole:
    """The head, all rows, and the user_version that they belong to."""
    (user_version,) = connection.execute("PRAGMA main.user_version").fetchone()
    head = Head()
    by_migration: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in read_rows(connection):
        if row.direction == HEAD:
            head = Head.of(row)
        else:
            by_migration[row.migration].append(row)
    ledgers = {name: SideLedger(rows=tuple(rows)) for name, rows in by_migration.items()}
    return Whole(head=head, ledgers=ledgers, user_version=int(user_version))


def read_rows(connection: sqlite3.Connection) -> list[LedgerRow]:
    """Every row, the head too; empty where there is no ledger yet."""
    if not _is_there(connection):
        return []
    return [row_from(values) for values in connection.execute(f"{_SELECT} {_ORDER}").fetchall()]


def write(connection: sqlite3.Connection, rows: Iterable[LedgerRow]) -> None:
    """Make the ledger where it is missing and add the rows; one with the same key takes the place of the old one."""
    connection.execute(_MAKE)
    marks = ", ".join("?" * len(COLUMNS))
    for row in rows:
        values = tuple(getattr(row, name) for name in COLUMNS)
        connection.execute(f"INSERT OR REPLACE INTO main.twinstep_ledger ({_NAMES}) VALUES ({marks})", values)


def _is_there(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'twinstep_ledger'")
    return found.fetchone() is not None
