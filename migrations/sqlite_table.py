"""One ordinary table of SQLite as `rebuild_table` needs to know it: its text, columns, rowid, and what hangs on it.

Only reads; what SQLite can tell (which columns are generated, whether a primary key is the rowid) is asked of SQLite and not
of the text. Read next: `rebuild/`.
"""

from __future__ import annotations

import sqlite3

from attrs import frozen

from ..events.errors import DefinitionError
from .create_table import CreateTable
from .row_values import SqlValue
from .sqlite_text import fold, quoted

_COLUMNS = """
    SELECT name, pk, hidden IN (2, 3), type, "notnull", dflt_value, hidden FROM pragma_table_xinfo(?, 'main') ORDER BY cid
"""
_DEPENDENTS = """
    SELECT type, name, sql FROM main.sqlite_schema
    WHERE type IN ('index', 'trigger') AND sql IS NOT NULL AND tbl_name = ? COLLATE NOCASE ORDER BY rowid
"""


@frozen(kw_only=True)
class Column:
    """A column; `required` is NOT NULL, `declared` is all that SQLite says about it, to compare."""

    name: str
    key_position: int
    generated: bool
    required: bool
    declared: tuple[object, ...]


@frozen(kw_only=True)
class Table:
    """What SQLite says about an ordinary table.

    `rowid` is a name that reads the rowid, None where there is none or three columns hide it; `rowid_is_column` says that it
    is the INTEGER PRIMARY KEY. `dependents` are kind, name and text of the indexes and triggers, oldest first.
    """

    name: str
    text: CreateTable
    columns: tuple[Column, ...]
    rowid: str | None
    rowid_is_column: bool
    has_index: bool
    dependents: tuple[tuple[str, str, str], ...]

    @property
    def sql_name(self) -> str:
        """The name as it stands in a statement."""
        return f"main.{quoted(self.name)}"

    @property
    def counts(self) -> bool:
        """Whether it is AUTOINCREMENT."""
        return any(promise.startswith("AUTOINCREMENT") for promise in self.text.promises())

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the primary key, in its order."""
        ranked = sorted((column.key_position, column.name) for column in self.columns if column.key_position)
        return tuple(name for _, name in ranked)

    @property
    def row_key(self) -> tuple[str, ...]:
        """What finds one row: the rowid, or the primary key where there is none; empty where the rowid is hidden."""
        if self.text.without_rowid:
            return self.primary_key
        return () if self.rowid is None else (self.rowid,)

    @property
    def stored(self) -> tuple[str, ...]:
        """The columns that a row is inserted with: not the generated ones."""
        return tuple(column.name for column in self.columns if not column.generated)


def read_table(driver: sqlite3.Connection, table: str) -> Table:
    """The table of that name, in any case. Raises DefinitionError (T311) for what is not an ordinary table of the main file."""
    query = "SELECT name, coalesce(sql, '') FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
    found = driver.execute(query, (table,)).fetchone()
    if found is None:
        raise DefinitionError("T311", table=table, problem="there is no table of that name")
    name, sql = found
    kinds = {row[2] for row in driver.execute("PRAGMA main.table_list").fetchall() if row[1] == name}
    if "shadow" in kinds or fold(name).startswith("sqlite_"):
        raise DefinitionError("T311", table=name, problem="it belongs to SQLite or to a virtual table")
    # Dropping the table would drop a temporary trigger on it, and a temporary table would catch names meant for it.
    temporary = "SELECT 1 FROM temp.sqlite_schema WHERE tbl_name = ? COLLATE NOCASE"
    if driver.execute(temporary, (name,)).fetchone():
        raise DefinitionError("T311", table=name, problem="a temporary table or trigger of this connection bears or names it")
    try:
        text = CreateTable(sql)
    except ValueError as error:
        raise DefinitionError("T311", table=name, problem="it is a virtual table") from error
    return describe(driver, name, text)


def read_any_table(driver: sqlite3.Connection, table: str) -> Table:
    """The same for a table of that very name which is known to be an ordinary one."""
    query = "SELECT name, sql FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
    name, sql = driver.execute(query, (table,)).fetchone()
    return describe(driver, name, CreateTable(sql))


def describe(driver: sqlite3.Connection, name: str, text: CreateTable) -> Table:
    """What SQLite says about the table, which has this text."""
    columns = tuple(
        Column(
            name=column,
            key_position=position,
            generated=bool(generated),
            required=bool(required),
            declared=(column, position, kind, required, *declared),
        )
        for column, position, generated, kind, required, *declared in driver.execute(_COLUMNS, (name,)).fetchall()
    )
    origins = [origin for (origin,) in driver.execute("SELECT origin FROM pragma_index_list(?, 'main')", (name,)).fetchall()]
    key = [column.name for column in columns if column.key_position]
    # INTEGER PRIMARY KEY is the rowid, INTEGER PRIMARY KEY DESC is not: the index that the latter has tells them apart.
    rowid_is_column = bool(key) and not text.without_rowid and "pk" not in origins
    taken = {fold(column.name) for column in columns}
    free = next((word for word in ("rowid", "oid", "_rowid_") if word not in taken), None)
    rowid = None if text.without_rowid else key[0] if rowid_is_column else free
    return Table(
        name=name,
        text=text,
        columns=columns,
        rowid=rowid,
        rowid_is_column=rowid_is_column,
        has_index=bool(origins),
        dependents=tuple(driver.execute(_DEPENDENTS, (name,)).fetchall()),
    )


def run(driver: sqlite3.Connection, statement: str, *values: SqlValue) -> None:
    """Run one statement to its end: one left half-way would keep its table locked."""
    driver.execute(statement, values).fetchall()
