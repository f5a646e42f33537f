"""Which tables hold the very rows of before, asked in SQL: several times faster than making their digests again.

Only reads. Read next: `accounting.py`.
"""

from __future__ import annotations

import sqlite3

from ..sqlite_text import quoted
from .rows import BEFORE
from .structure import Structure

# SQLite limits the depth of an expression.
_COLUMNS = 200


def is_unchanged(driver: sqlite3.Connection, before: Structure, after: Structure) -> bool:
    """Whether each row is where it was, with the same values; False also where that cannot be asked in one query."""
    names = list(before.columns.values())
    if before.name != after.name or set(names) != set(after.columns.values()) or len(names) > _COLUMNS:
        return False
    if before.rowid is not None and after.rowid is not None:
        row = [(before.rowid, after.rowid)]
    elif before.without_rowid and after.without_rowid and before.primary_key == after.primary_key:
        row = [(column, column) for column in before.primary_key]
    else:
        return False
    old, new = f"{BEFORE}.{quoted(before.name)}", f"main.{quoted(after.name)}"
    if _count(driver, old) != _count(driver, new):
        return False
    same_row = " AND ".join(f"n.{quoted(mine)} = o.{quoted(its)}" for its, mine in row)
    # Plus and COLLATE BINARY: neither an affinity nor a collation may call two values equal.
    differs = " OR ".join(
        f"typeof(o.{name}) <> typeof(n.{name}) OR +o.{name} IS NOT +n.{name} COLLATE BINARY" for name in map(quoted, names)
    )
    query = f"SELECT 1 FROM {old} o LEFT JOIN {new} n ON {same_row} WHERE n.{quoted(row[0][1])} IS NULL OR {differs} LIMIT 1"
    return driver.execute(query).fetchone() is None


def _count(driver: sqlite3.Connection, table: str) -> int:
    (number,) = driver.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(number)
