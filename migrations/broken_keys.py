"""The foreign keys that a table of SQLite declares, and which of its rows one of them finds broken.

`PRAGMA foreign_key_check` names rows by rowid; in a table without rowids it only counts them, and they are looked for here as
it compares: the affinity and the collation are those of the parent's column.

Only reads. Read next: `quarantine.py` (setting aside), `quarantined.py` (putting back).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from attrs import frozen

from .row_values import Value, exact_text
from .sqlite_table import Table
from .sqlite_text import fold, quoted

_KEYS = """
    SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?, 'main') ORDER BY id, seq
"""


@frozen(kw_only=True)
class Key:
    """One declared key: the child's columns, the parent, and the columns of it that they must be found in."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]

    @property
    def name(self) -> tuple[str, tuple[str, ...]]:
        """What SQLite tells of it where it is broken: parent and columns, here folded."""
        return key_name(self.parent, self.columns)


def key_name(parent: str, columns: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Parent and columns of a key, in whatever case they are written."""
    return fold(parent), tuple(map(fold, columns))


def keys_of(driver: sqlite3.Connection, table: str) -> Mapping[tuple[str, tuple[str, ...]], tuple[Key, ...]]:
    """The table's keys by name. Two of one name refer to different columns of the parent."""
    parts: dict[int, list[tuple[str, str, str | None]]] = {}
    for number, parent, column, parent_column in driver.execute(_KEYS, (table,)).fetchall():
        parts.setdefault(number, []).append((parent, column, parent_column))
    found: dict[tuple[str, tuple[str, ...]], tuple[Key, ...]] = {}
    for each in parts.values():
        parent = each[0][0]
        named = tuple(parent_column for _, _, parent_column in each if parent_column is not None)
        columns = tuple(column for _, column, _ in each)
        key = Key(columns=columns, parent=parent, parent_columns=named or _primary_key(driver, parent))
        found[key.name] = (*found.get(key.name, ()), key)
    return found


def broken_rows(driver: sqlite3.Connection, table: Table, key: Key) -> list[tuple[Value, ...]]:
    """The primary keys of the rows that refer to nothing."""
    given = " AND ".join(f"c.{quoted(child)} IS NOT NULL" for child in key.columns)
    names = ", ".join(f"c.{quoted(name)}" for name in table.primary_key)
    parent = f"main.{quoted(key.parent)}"
    missing = f"NOT EXISTS (SELECT 1 FROM {parent} p WHERE {same(key)})" if _is_table(driver, key.parent) else "1"
    with exact_text(driver):
        return driver.execute(f"SELECT {names} FROM {table.sql_name} c WHERE {given} AND {missing}").fetchall()


def same(key: Key) -> str:
    """The condition under which row c refers to row p. Plus takes the child's affinity away, so that the parent's counts."""
    pairs = zip(key.parent_columns, key.columns, strict=False)
    return " AND ".join(f"p.{quoted(parent)} = +c.{quoted(child)}" for parent, child in pairs)


def tables_with_keys(driver: sqlite3.Connection) -> list[str]:
    """The tables that declare any."""
    query = "SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY name"
    return [name for (name,) in driver.execute(query).fetchall() if parents_of(driver, name)]


def parents_of(driver: sqlite3.Connection, table: str) -> set[str]:
    """The tables that this one refers to, folded."""
    return {fold(parent) for _, parent, *_ in driver.execute(_KEYS, (table,)).fetchall()}


def _primary_key(driver: sqlite3.Connection, table: str) -> tuple[str, ...]:
    query = "SELECT name FROM pragma_table_xinfo(?, 'main') WHERE pk > 0 ORDER BY pk"
    return tuple(name for (name,) in driver.execute(query, (table,)).fetchall())


def _is_table(driver: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
    return driver.execute(query, (name,)).fetchone() is not None
