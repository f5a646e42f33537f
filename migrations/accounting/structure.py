"""What a table of SQLite promises about its rows, so that a definition that promises less is noticed.

Asked of SQLite where it tells: columns, NOT NULL, defaults, generated columns, keys, unique indexes. Read from the text where
it does not: CHECKs, collations, AUTOINCREMENT, STRICT, WITHOUT ROWID.

Read next: `accounting.py`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from attrs import field, frozen

from ..create_table import CreateTable
from ..sqlite_text import fold, normal_form

_COLUMNS = "SELECT name, \"notnull\", dflt_value, pk, hidden, type FROM pragma_table_xinfo(?, 'main') ORDER BY cid"
_KEYS = """
    SELECT id, "table", "from", "to", on_delete, on_update FROM pragma_foreign_key_list(?, 'main') ORDER BY id, seq
"""
_UNIQUE = """
    SELECT l.name, i.name, i.coll FROM pragma_index_list(?, 'main') l, pragma_index_xinfo(l.name, 'main') i
    WHERE l.origin = 'u' AND i.key ORDER BY l.seq, i.seqno
"""

# Name, NOT NULL, default, place in the primary key, whether it is hidden or generated, and the type.
_Column: TypeAlias = "tuple[str, int, str | None, int, int, str]"


@frozen(kw_only=True)
class Structure:
    """One ordinary table: its columns in order (folded name to name), the primary key, and what it promises, in words.

    `rowid` is a name that reads the rowid, None where there is none, or where columns hide all of its names.
    """

    name: str
    columns: Mapping[str, str]
    stored: tuple[str, ...]
    primary_key: tuple[str, ...]
    rowid: str | None
    without_rowid: bool = False
    promises: Counter[str] = field(factory=Counter)


def read_structure(driver: sqlite3.Connection, name: str, sql: str) -> Structure | None:
    """What the table promises; None for what is not an ordinary table."""
    try:
        text = CreateTable(sql)
    except ValueError:
        return None
    columns = driver.execute(_COLUMNS, (name,)).fetchall()
    taken = {fold(column) for column, *_ in columns}
    free = next((word for word in ("rowid", "oid", "_rowid_") if word not in taken), None)
    return Structure(
        name=name,
        columns={fold(column): column for column, *_ in columns},
        stored=tuple(fold(column) for column, *_, hidden, _ in columns if hidden == 0),
        primary_key=primary_key_of(columns),
        rowid=None if text.without_rowid else free,
        without_rowid=text.without_rowid,
        promises=Counter(_promises(driver, name, text, columns)),
    )


def _promises(driver: sqlite3.Connection, name: str, text: CreateTable, columns: Sequence[_Column]) -> Iterator[str]:
    expressions = dict(text.generated())
    for column, required, default, _, hidden, _ in columns:
        if required:
            yield f"NOT NULL of {fold(column)}"
        if default is not None:
            yield f"DEFAULT {normal_form(default)} of {fold(column)}"
        if hidden in (2, 3):
            yield f"the generated column {fold(column)}, {expressions.get(fold(column), '')}"
    yield from _keys(driver, name)
    primary = ", ".join(fold(column) for column in primary_key_of(columns))
    if primary:
        yield f"PRIMARY KEY ({primary})"
    alone = [kind for *_, rank, _, kind in columns if rank]
    if len(alone) == 1 and fold(alone[0]) == "integer" and not text.without_rowid:
        yield f"{primary} is the rowid"
    yield from text.promises()


def _keys(driver: sqlite3.Connection, name: str) -> Iterator[str]:
    keys: dict[int, list[tuple[str, str, str | None, str, str]]] = {}
    for number, *rest in driver.execute(_KEYS, (name,)).fetchall():
        keys.setdefault(number, []).append(tuple(rest))
    for parts in keys.values():
        parent, _, _, on_delete, on_update = parts[0]
        columns = ", ".join(fold(column) for _, column, *_ in parts)
        named = ", ".join(fold(to) for _, _, to, *_ in parts if to is not None) or _own_key(driver, parent)
        actions = "".join(
            f" ON {event} {action}" for event, action in (("DELETE", on_delete), ("UPDATE", on_update)) if action != "NO ACTION"
        )
        yield f"the foreign key ({columns}) to {fold(parent)}{f' ({named})' if named else ''}{actions}"
    indexes: dict[str, list[tuple[str, str]]] = {}
    for index, column, collation in driver.execute(_UNIQUE, (name,)).fetchall():
        indexes.setdefault(index, []).append((fold(column), fold(collation)))
    for parts_of in indexes.values():
        yield f"UNIQUE ({', '.join(column for column, _ in parts_of)})"
        for column, collation in parts_of:
            if collation != "binary":
                yield f"UNIQUE with {column} COLLATE {collation}"


def _own_key(driver: sqlite3.Connection, parent: str) -> str:
    return ", ".join(primary_key_of(driver.execute(_COLUMNS, (parent,)).fetchall()))


def primary_key_of(columns: Iterable[_Column]) -> tuple[str, ...]:
    """The columns of the primary key, in its order, folded."""
    return tuple(column for _, column in sorted((rank, fold(column)) for column, _, _, rank, *_ in columns if rank))
