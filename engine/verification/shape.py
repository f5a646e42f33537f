"""What a schema says of its rows, as values: tables, columns, keys and checks, the same words for both sides.

Nothing here touches a database. The order of the tables is that in which they are filled: a parent comes before its
children as far as there are no cycles. Read next: `sqlite_shape.py` and `postgres_shape.py`, which read a shape out of a
database, and `rows.py`, which draws what it admits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from attrs import field, frozen

from ...migrations.definition import SideName

Content: TypeAlias = "Mapping[str, tuple[Mapping[str, object], ...]]"
"""Table name to rows, in the order in which they are inserted. A column that is left out takes its default.

A table without rows may be missing. On the local side, `sqlite_sequence` may hold the marks of AUTOINCREMENT.
"""

SEQUENCES = "sqlite_sequence"


@frozen(kw_only=True)
class ColumnShape:
    """One column. `kind` is the affinity in SQLite ("integer", "text", "blob", "real", "numeric", and "any" in a STRICT
    table), in PostgreSQL the name of the base type ("int4", "text") or "enum", "array", "range", "multirange".

    `type` is the declared text, or PostgreSQL's full name of the type, which may stand in a cast. A domain has the kind of
    its base, and its checks, which speak of VALUE. `element` is the element of an array or the subtype of a range.
    """

    name: str
    type: str
    kind: str
    nullable: bool = True
    has_default: bool = False
    generated: bool = False
    identity: bool = False
    rowid: bool = False
    """Whether it is SQLite's rowid under a name of its own."""
    collation: str = ""
    """Of SQLite, in lower case, where it is not BINARY."""
    labels: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    element: ColumnShape | None = None
    limit: int | None = None
    """Characters of a text, bits of a bit string."""
    precision: int | None = None
    scale: int | None = None
    sequence: str = ""
    """PostgreSQL's sequence that belongs to the column, quoted and with its schema."""


@frozen(kw_only=True)
class KeyShape:
    """A foreign key. On SQLite every key is enforced or not as the connection says; here it counts as enforced."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    enforced: bool = True
    deferrable: bool = False
    match_full: bool = False
    name: str = ""
    """As it is written in a statement of PostgreSQL, quoted and with its schema."""


@frozen(kw_only=True)
class TableShape:
    """One table that can be filled. `sql_name` is how it is written in a statement, quoted and with its schema."""

    name: str
    sql_name: str
    columns: tuple[ColumnShape, ...]
    primary_key: tuple[str, ...] = ()
    uniques: tuple[tuple[str, ...], ...] = ()
    nulls_not_distinct: frozenset[tuple[str, ...]] = frozenset()
    """Those of the uniques in which NULL is equal to NULL."""
    checks: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    """Of each partition of PostgreSQL what holds of its rows."""
    foreign_keys: tuple[KeyShape, ...] = ()
    strict: bool = False
    without_rowid: bool = False
    autoincrement: bool = False
    by_name: Mapping[str, ColumnShape] = field(init=False, repr=False, eq=False)

    @by_name.default
    def _by_name(self) -> Mapping[str, ColumnShape]:
        return {column.name: column for column in self.columns}

    def distinct(self) -> tuple[tuple[str, ...], ...]:
        """The sets of columns in which no two rows are alike: the primary key, and the uniques."""
        return tuple(dict.fromkeys(([self.primary_key] if self.primary_key else []) + list(self.uniques)))


@frozen(kw_only=True)
class Shape:
    """The tables of one side, parents first."""

    side: SideName
    tables: tuple[TableShape, ...]
    by_name: Mapping[str, TableShape] = field(init=False, repr=False, eq=False)

    @by_name.default
    def _by_name(self) -> Mapping[str, TableShape]:
        return {table.name: table for table in self.tables}


def parents_first(tables: Iterable[TableShape]) -> tuple[TableShape, ...]:
    """The tables by name, each after its parents. In a cycle, the keys that may be NULL give way first."""
    waiting = {table.name: table for table in sorted(tables, key=lambda table: table.name)}
    placed: list[TableShape] = []
    while waiting:
        chosen = min(waiting.values(), key=lambda table: _missing(table, waiting))
        placed.append(waiting.pop(chosen.name))
    return tuple(placed)


def _missing(table: TableShape, waiting: Mapping[str, TableShape]) -> tuple[int, int]:
    """How many parents are not placed yet: those that a row cannot do without, and all."""
    keys = [key for key in table.foreign_keys if key.parent in waiting and key.parent != table.name]
    needed = [key for key in keys if not any(table.by_name[column].nullable for column in key.columns)]
    return len(needed), len(keys)
