"""Filling the new table of a rebuild from the old one, and proving that every row arrived as it was.

Nothing is filtered, ignored or trusted: after the copy each row of the old table is looked up in the new one by rowid (or
primary key, without rowids) and compared value for value by SQLite. Read next: `rebuilding.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ...events.errors import Refused
from ..row_values import SqlValue
from ..sqlite_table import Table, run
from ..sqlite_text import quoted

NAMED_ROWS = 5
# SQLite limits the depth of an expression to 1 000: a table with 2 000 columns is compared in several passes.
_COLUMNS_A_PASS = 200


def fill(driver: sqlite3.Connection, old: Table, new: Table) -> None:
    """Copy all rows with their rowids, and compare.

    Raises Refused (T313) naming rows that would not be the same, or break a rule that the table has, and (T316) where rowids
    exist that no name reads.
    """
    (rows,) = driver.execute(f"SELECT count(*) FROM {old.sql_name}").fetchone()
    if not rows:
        return
    if not old.row_key:
        raise Refused("T316", table=old.name)
    if _transfer(driver, old, new) and not _different_rows(driver, old, new, converted=False):
        return
    run(driver, f"DELETE FROM {new.sql_name}")
    _copy_by_name(driver, old, new)
    if different := _different_rows(driver, old, new, converted=True):
        problem = f"a copy would have other values; the first such rows are {'; '.join(different)}"
        raise Refused("T313", table=old.name, problem=problem)


def rows_named(driver: sqlite3.Connection, table: Table, rest: str, values: Sequence[SqlValue] = ()) -> list[str]:
    """How a person finds these rows of the table, which `rest` (FROM and so on) calls o: by primary key, else by rowid."""
    names = table.primary_key or table.row_key
    before, driver.text_factory = driver.text_factory, _readable
    try:
        found = driver.execute(f"SELECT {', '.join(f'o.{quoted(name)}' for name in names)} {rest}", values).fetchall()
    finally:
        driver.text_factory = before
    return [", ".join(f"{name}={value!r}" for name, value in zip(names, row, strict=True)) for row in found]


def _readable(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _transfer(driver: sqlite3.Connection, old: Table, new: Table) -> bool:
    """Let SQLite move the records as they lie on disk: five times as fast as by column. False if it cannot be asked to.

    SQLite does so for SELECT * between tables of the same columns (the caller has seen that they are), keeps the rowids
    where they are a column or the new table has an index, and converts nothing. It is free to decline, and may then number
    the rows anew: the comparison afterwards finds out, and the rows are copied by name.
    """
    if len(old.stored) < len(old.columns):
        return False
    statement = f"INSERT INTO {new.sql_name} SELECT * FROM {old.sql_name}"
    try:
        if new.has_index or old.rowid_is_column or old.text.without_rowid:
            run(driver, statement)
            return True
        # Without an index the rowid is copied as one more column. That is one too many for a table with the most
        # columns that there can be: an index for the time of the transfer makes it keep the rowids.
        if len(old.stored) < driver.getlimit(sqlite3.SQLITE_LIMIT_COLUMN):
            return False
        with _indexed(driver, old, new):
            run(driver, statement)
        return True
    except sqlite3.IntegrityError:
        # Declined, and a row breaks a rule of the table: copying by name says which rule.
        return False


@contextmanager
def _indexed(driver: sqlite3.Connection, *tables: Table) -> Iterator[None]:
    names = [f"twinstep_index_{table.name}" for table in tables]
    for name, table in zip(names, tables, strict=True):
        run(driver, f"CREATE INDEX main.{quoted(name)} ON {quoted(table.name)} ({quoted(table.stored[0])})")
    try:
        yield
    finally:
        for name in names:
            run(driver, f"DROP INDEX main.{quoted(name)}")


def _copy_by_name(driver: sqlite3.Connection, old: Table, new: Table) -> None:
    names = old.stored if old.rowid is None or old.rowid_is_column else (old.rowid, *old.stored)
    columns = ", ".join(map(quoted, names))
    try:
        # OR ABORT, because a table may say ON CONFLICT IGNORE itself.
        run(driver, f"INSERT OR ABORT INTO {new.sql_name} ({columns}) SELECT {columns} FROM {old.sql_name}")
    except sqlite3.IntegrityError as error:
        raise Refused("T313", table=old.name, problem=f"some break a rule that the table already has ({error})") from error


def _different_rows(driver: sqlite3.Connection, old: Table, new: Table, *, converted: bool) -> list[str]:
    """The first rows of the old table that are not, value for value, in the new one, and a word on rows too many.

    Plus, COLLATE BINARY and IS, lest an affinity or a collation call different values equal, or NULL hide one. A copy by name
    may have turned 1 into 1.0, which are equal; a transfer cannot.
    """
    same_row = " AND ".join(f"n.{quoted(name)} = o.{quoted(name)}" for name in old.row_key)
    source = f"FROM {old.sql_name} o LEFT JOIN {new.sql_name} n ON {same_row}"
    names = [quoted(column.name) for column in old.columns]
    for first in range(0, len(names), _COLUMNS_A_PASS):
        some = names[first : first + _COLUMNS_A_PASS]
        differs = [f"+o.{name} IS NOT +n.{name} COLLATE BINARY" for name in some]
        differs += [f"typeof(o.{name}) <> typeof(n.{name})" for name in some] if converted else []
        missing = f"n.{quoted(old.row_key[0])} IS NULL"
        found = rows_named(driver, old, f"{source} WHERE {' OR '.join([missing, *differs])} LIMIT {NAMED_ROWS}")
        if found:
            return found
    counts = f"SELECT (SELECT count(*) FROM {new.sql_name}) - (SELECT count(*) FROM {old.sql_name})"
    (more,) = driver.execute(counts).fetchone()
    return [f"{more} rows that were not there"] if more else []
