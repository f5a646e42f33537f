"""The shape of an SQLite database: what its PRAGMAs and its stored texts say of the rows.

Left out are SQLite's own tables, Twinstep's, views, and virtual tables with their shadow tables. Names are those of the
declaration, also where a key writes them in other letters. Must never write, and never import SQLAlchemy. Read next:
`shape.py` (the values), `../../migrations/create_table.py` (the stored text).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

from attrs import evolve

from ...migrations.create_table import CreateTable
from ...migrations.sqlite_catalogue import plain_rows
from ...migrations.sqlite_text import fold, quoted
from .shape import ColumnShape, KeyShape, Shape, TableShape, parents_first

_TABLES = r"""
    SELECT kept.name, kept.sql FROM main.sqlite_schema AS kept JOIN pragma_table_list AS listed USING (name)
    WHERE kept.type = 'table' AND listed.schema = 'main' AND listed.type = 'table'
    AND kept.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND kept.name NOT LIKE 'twinstep\_%' ESCAPE '\' ORDER BY kept.name
"""
_COLUMNS = "SELECT name, type, [notnull], dflt_value, pk, hidden FROM pragma_table_xinfo(?, 'main') ORDER BY cid"
# Without those that hold for some rows only.
_UNIQUES = "SELECT name, origin FROM pragma_index_list(?, 'main') WHERE [unique] AND NOT partial ORDER BY seq DESC"
_INDEX = "SELECT cid, name, coll FROM pragma_index_xinfo(?, 'main') WHERE key ORDER BY seqno"
_KEYS = 'SELECT id, [table], "from", "to" FROM pragma_foreign_key_list(?, \'main\') ORDER BY id DESC, seq'

# In the order in which SQLite looks for them in a declared type.
_AFFINITIES = (
    ("INT", "integer"),
    ("CHAR", "text"),
    ("CLOB", "text"),
    ("TEXT", "text"),
    ("BLOB", "blob"),
    ("REAL", "real"),
    ("FLOA", "real"),
    ("DOUB", "real"),
)


def reflect_sqlite(connection: sqlite3.Connection) -> Shape:
    """Every table that can be filled. Raises sqlite3.Error; nothing is changed."""
    with plain_rows(connection):
        tables = [_table(connection, name, sql) for name, sql in tables_of(connection)]
    return Shape(side="local", tables=parents_first(_with_parents(tables)))


def tables_of(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The name and the stored text of every table that holds rows of its own."""
    return connection.execute(_TABLES).fetchall()


def affinity(declared: str, *, strict: bool) -> str:
    """The affinity of a column of this declared type.

    >>> affinity("VARCHAR(20)", strict=False), affinity("", strict=False), affinity("DATE", strict=False)
    ('text', 'blob', 'numeric')
    """
    upper = declared.upper()
    if strict and upper == "ANY":
        return "any"
    if not upper:
        return "blob"
    return next((name for part, name in _AFFINITIES if part in upper), "numeric")


def _table(connection: sqlite3.Connection, name: str, sql: str) -> TableShape:
    text = CreateTable(sql)
    strict = "strict" in text.options
    columns = connection.execute(_COLUMNS, (name,)).fetchall()
    key = sorted((position, column) for column, _, _, _, position, _ in columns if position)
    collations, uniques, primary_index = _uniques(connection, name)
    rowid = not text.without_rowid and len(key) == 1 and not primary_index
    return TableShape(
        name=name,
        sql_name=f"main.{quoted(name)}",
        columns=tuple(
            ColumnShape(
                name=column,
                type=declared,
                kind=affinity(declared, strict=strict),
                nullable=not (not_null or (rowid and place) or (strict and place)),
                has_default=default is not None,
                generated=hidden in (2, 3),
                rowid=bool(rowid and place),
                collation=collations.get(column, ""),
            )
            for column, declared, not_null, default, place, hidden in columns
            if hidden != 1
        ),
        primary_key=tuple(column for _, column in key),
        uniques=tuple(unique for unique in uniques if unique != tuple(column for _, column in key)),
        checks=tuple(_checks(text)),
        foreign_keys=tuple(_keys(connection, name)),
        strict=strict,
        without_rowid=text.without_rowid,
        autoincrement=rowid and any(token.word == "autoincrement" for item in text.items() for _, token in item.outside()),
    )


def _uniques(connection: sqlite3.Connection, table: str) -> tuple[dict[str, str], list[tuple[str, ...]], bool]:
    """The collations of unique columns other than BINARY, the unique indexes on columns, and whether the primary key is one."""
    collations: dict[str, str] = {}
    uniques: list[tuple[str, ...]] = []
    primary = False
    for index, origin in connection.execute(_UNIQUES, (table,)).fetchall():
        parts = connection.execute(_INDEX, (index,)).fetchall()
        primary = primary or origin == "pk"
        collations |= {name: coll.lower() for cid, name, coll in parts if cid >= 0 and coll.upper() != "BINARY"}
        if all(cid >= 0 for cid, _, _ in parts):
            uniques.append(tuple(name for _, name, _ in parts))
    return collations, list(dict.fromkeys(uniques)), primary


def _checks(text: CreateTable) -> Iterator[str]:
    for item in text.items():
        for at, token in item.outside():
            if token.word == "check":
                depth = 0
                for last in item.tokens[at + 1 :]:
                    depth += (last.word == "(") - (last.word == ")")
                    if depth == 0:
                        yield text.sql[item.tokens[at + 1].end : last.start]
                        break


def _keys(connection: sqlite3.Connection, table: str) -> Iterator[KeyShape]:
    found: dict[int, list[tuple[str, str, str | None]]] = {}
    for number, parent, column, parent_column in connection.execute(_KEYS, (table,)).fetchall():
        found.setdefault(number, []).append((parent, column, parent_column))
    for parts in found.values():
        yield KeyShape(
            columns=tuple(column for _, column, _ in parts),
            parent=parts[0][0],
            # Empty where the text names none: the parent's primary key.
            parent_columns=tuple(column for _, _, column in parts if column is not None),
            deferrable=True,
        )


def _with_parents(tables: list[TableShape]) -> Iterator[TableShape]:
    """The tables with the names in their keys as the tables and columns that they mean are declared."""
    by_name = {fold(table.name): table for table in tables}
    for table in tables:
        yield evolve(table, foreign_keys=tuple(_named(key, table, by_name) for key in table.foreign_keys))


def _named(key: KeyShape, table: TableShape, by_name: Mapping[str, TableShape]) -> KeyShape:
    parent = by_name.get(fold(key.parent))
    own = {fold(column.name): column.name for column in table.columns}
    columns = tuple(own.get(fold(column), column) for column in key.columns)
    if parent is None:
        return KeyShape(columns=columns, parent=key.parent, parent_columns=key.parent_columns, deferrable=True)
    theirs = {fold(column.name): column.name for column in parent.columns}
    meant = key.parent_columns or parent.primary_key
    named = tuple(theirs.get(fold(column), column) for column in meant)
    return KeyShape(columns=columns, parent=parent.name, parent_columns=named, deferrable=True)
