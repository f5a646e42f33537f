"""Which tables hold the very rows of before, asked in SQL: several times faster than making their digests again.

Only reads. Read next: `accounting.py`.
"""

from __future__ import annotations

import sqlite3

from ..sqlite_text import quoted
from .rows import BEFORE, COLUMNS_A_PASS, count, differ
from .structure import Structure


def is_unchanged(driver: sqlite3.Connection, before: Structure, after: Structure) -> bool:
    """Whether each row is where it was, with the same values; False also where that cannot be asked in one query."""
    names = list(before.columns.values())
    if before.name != after.name or set(names) != set(after.columns.values()) or len(names) > COLUMNS_A_PASS:
        return False
    if before.rowid is not None and after.rowid is not None:
        row = [(before.rowid, after.rowid)]
    elif before.without_rowid and after.without_rowid and before.primary_key == after.primary_key:
        row = [(column, column) for column in before.primary_key]
    else:
        return False
    old, new = f"{BEFORE}.{quoted(before.name)}", f"main.{quoted(after.name)}"
    if count(driver, f"FROM {old}") != count(driver, f"FROM {new}"):
        return False
    same_row = " AND ".join(f"n.{quoted(mine)} = o.{quoted(its)}" for its, mine in row)
    differs = " OR ".join(differ(f"o.{name}", f"n.{name}") for name in map(quoted, names))
    query = f"SELECT 1 FROM {old} o LEFT JOIN {new} n ON {same_row} WHERE n.{quoted(row[0][1])} IS NULL OR {differs} LIMIT 1"
    return driver.execute(query).fetchone() is None
