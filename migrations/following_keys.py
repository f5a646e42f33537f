"""Which rows refer to which, read once: so that a long chain of rows that follow each other is not looked for link by link.

An aid to `quarantine.py` and nothing more: it only knows tables with rowids, and whoever uses it has SQLite check all keys
once more in the end.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence

from attrs import frozen

from .broken_keys import Key, keys_of, parents_of, same, tables_with_keys
from .sqlite_catalogue import ForeignKeyViolation
from .sqlite_table import Table, read_any_table
from .sqlite_text import fold, quoted


@frozen(kw_only=True)
class Settled:
    """A row that was dealt with: it has moved, or, where there are `cleared` columns, only those are NULL now."""

    table: str
    rowid: int | None
    cleared: tuple[str, ...] = ()


@frozen(kw_only=True)
class _Link:
    row: ForeignKeyViolation
    key: Key


class Links:
    """The rows that refer to a row, by its table and rowid, as it was when this was made."""

    def __init__(self, driver: sqlite3.Connection, tables: Iterable[str]) -> None:
        self._links: dict[tuple[str, int], list[_Link]] = {}
        self._moved: set[tuple[str, int]] = set()
        self._cleared: dict[tuple[str, int], set[str]] = {}
        for name in _reached(driver, tables):
            child = read_any_table(driver, name)
            for keys in keys_of(driver, name).values():
                for key in keys:
                    self._read(driver, child, key)

    def _read(self, driver: sqlite3.Connection, child: Table, key: Key) -> None:
        query = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
        if child.rowid is None or driver.execute(query, (key.parent,)).fetchone() is None:
            return
        parent = read_any_table(driver, key.parent)
        if parent.rowid is None:
            return
        numbers = f"p.{quoted(parent.rowid)}, c.{quoted(child.rowid)}"
        rows = driver.execute(f"SELECT {numbers} FROM {child.sql_name} c CROSS JOIN {parent.sql_name} p ON {same(key)}")
        for above, below in rows.fetchall():
            row = ForeignKeyViolation(table=child.name, rowid=below, parent=key.parent, columns=key.columns)
            self._links.setdefault((fold(parent.name), above), []).append(_Link(row=row, key=key))

    def followers(self, settled: Sequence[Settled]) -> Counter[ForeignKeyViolation]:
        """The references that are broken by what was done to these rows."""
        for each in settled:
            if each.rowid is not None and each.cleared:
                self._cleared.setdefault((fold(each.table), each.rowid), set()).update(map(fold, each.cleared))
            elif each.rowid is not None:
                self._moved.add((fold(each.table), each.rowid))
        found: Counter[ForeignKeyViolation] = Counter()
        for each in settled:
            for link in self._links.get((fold(each.table), each.rowid or 0), ()) if each.rowid is not None else ():
                if self._is_broken(link, each):
                    found[link.row] += 1
        return found

    def _is_broken(self, link: _Link, above: Settled) -> bool:
        if above.cleared and not {*map(fold, above.cleared)} & {*map(fold, link.key.parent_columns)}:
            return False
        row = fold(link.row.table), link.row.rowid or 0
        return row not in self._moved and not self._cleared.get(row, set()) & {*map(fold, link.key.columns)}


def _reached(driver: sqlite3.Connection, tables: Iterable[str]) -> list[str]:
    """The tables that refer to these, and those that refer to them in turn."""
    parents = {name: parents_of(driver, name) for name in tables_with_keys(driver)}
    reached = set(map(fold, tables))
    found: list[str] = []
    while more := [name for name, above in parents.items() if name not in found and above & reached]:
        found += more
        reached |= set(map(fold, more))
    return found
