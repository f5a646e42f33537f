"""Which views and triggers of a SQLite database work: whether SQLite can still read what they name. Nothing is run for it.

Must never write. Read next: `accounting/accounting.py`, `rebuild/rebuilding.py` (who asks before and after).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from .sqlite_text import quoted


def working(driver: sqlite3.Connection, objects: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Of these (kind, name, table), the views that can be read, and the triggers whose table or view can be written to."""
    writable: dict[str, bool] = {}
    for kind, name, table in objects:
        if kind == "view" and _prepares(driver, f"SELECT * FROM main.{quoted(name)}"):
            yield f"view {name}"
        elif kind == "trigger":
            if table not in writable:
                writable[table] = _can_be_written_to(driver, table)
            if writable[table]:
                yield f"trigger {name}"


def all_working(driver: sqlite3.Connection) -> set[str]:
    """The same of all views and triggers that there are."""
    query = "SELECT type, name, tbl_name FROM main.sqlite_schema WHERE type IN ('view', 'trigger')"
    return set(working(driver, driver.execute(query).fetchall()))


def _can_be_written_to(driver: sqlite3.Connection, table: str) -> bool:
    try:
        found = driver.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
    except sqlite3.OperationalError:
        return False  # a view that does not work itself
    columns = [quoted(name) for (name,) in found]
    target = f"main.{quoted(table)}"
    values = ", ".join("NULL" for _ in columns)
    # In pieces: an UPDATE of very many columns would be a long statement for nothing.
    pieces = [columns[at : at + 100] for at in range(0, len(columns), 100)]
    updates = [f"UPDATE {target} SET {', '.join(f'{name} = {name}' for name in piece)}" for piece in pieces]
    writes = [f"DELETE FROM {target}", f"INSERT INTO {target} ({', '.join(columns)}) VALUES ({values})", *updates]
    return all(_prepares(driver, statement) for statement in writes)


def _prepares(driver: sqlite3.Connection, statement: str) -> bool:
    try:
        driver.execute(f"EXPLAIN {statement}").fetchall()
    except sqlite3.OperationalError:
        return False
    return True
