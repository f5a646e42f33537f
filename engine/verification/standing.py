"""Which rows can stand: those whose references lead somewhere, and theirs too.

Pure: no database. Read next: `rows.py` and `filling.py`, which leave out what cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from .distinct import comparable, stored
from .shape import SEQUENCES, Content, KeyShape, Shape, TableShape


def standing(shape: Shape, content: Content, *, dangling: bool = False) -> Content:
    """The rows without those whose references lead nowhere, and without what refers to them in turn.

    With `dangling`, references of keys that are not enforced may lead nowhere; on SQLite no key is then.
    """
    kept = {name: list(rows) for name, rows in content.items()}
    keys = [(table, key) for table in shape.tables for key in table.foreign_keys if not (dangling and _is_lax(shape, key))]
    changed = True
    while changed:
        changed = False
        for table, key in keys:
            rows = kept.get(table.name)
            if not rows:
                continue
            left = list(_met(shape, table, key, rows, kept.get(key.parent, ())))
            if len(left) < len(rows):
                kept[table.name], changed = left, True
    return {name: tuple(rows) for name, rows in kept.items() if rows or name == SEQUENCES}


def leads_nowhere(shape: Shape, content: Content) -> bool:
    """Whether there is a reference to nothing, by a key that is enforced or not."""
    return any(
        len(list(_met(shape, table, key, content.get(table.name, ()), content.get(key.parent, ())))) < len(content[table.name])
        for table in shape.tables
        for key in table.foreign_keys
        if content.get(table.name)
    )


def references(shape: Shape, table: TableShape, key: KeyShape) -> tuple[Callable[[Mapping[str, object]], Hashable], ...]:
    """Two functions: the key that a row of the table refers to, None where it refers to nothing; and the one a parent has."""
    parent = shape.by_name.get(key.parent)

    def wanted(row: Mapping[str, object]) -> Hashable:
        values = [row.get(name) for name in key.columns]
        if any(value is None for value in values):
            return None if not key.match_full or all(value is None for value in values) else ("not", "full")
        if parent is None or len(key.columns) != len(key.parent_columns):
            return "no", "parent"
        return tuple(
            comparable(shape.side, parent.by_name[theirs], _as_stored(shape, table, name, value))
            if theirs in parent.by_name
            else ""
            for name, theirs, value in zip(key.columns, key.parent_columns, values, strict=True)
        )

    def offered(row: Mapping[str, object]) -> Hashable:
        if parent is None or any(row.get(name) is None for name in key.parent_columns):
            return None
        return tuple(comparable(shape.side, parent.by_name[name], row[name]) for name in key.parent_columns)

    return wanted, offered


def _as_stored(shape: Shape, table: TableShape, name: str, value: object) -> object:
    return stored(table.by_name[name], value) if shape.side == "local" else value


def _is_lax(shape: Shape, key: KeyShape) -> bool:
    return shape.side == "local" or not key.enforced


def _met(
    shape: Shape,
    table: TableShape,
    key: KeyShape,
    rows: Iterable[Mapping[str, object]],
    parents: Iterable[Mapping[str, object]],
) -> Iterable[Mapping[str, object]]:
    wanted, offered = references(shape, table, key)
    there = {offered(row) for row in parents}
    return (row for row in rows if (reference := wanted(row)) is None or reference in there)


def admitted(
    shape: Shape,
    content: Content,
    insert: Callable[[TableShape, Sequence[Mapping[str, object]]], Sequence[Mapping[str, object]]],
    *,
    dangling: bool,
) -> tuple[Content, bool]:
    """Insert table by table, and what may stand of the rows that went in; False where some went in that may not.

    `insert` returns the rows that the table took. What refers to a row that was refused is not tried.
    """
    inserted = 0
    for table in shape.tables:
        rows = content.get(table.name, ())
        taken = insert(table, rows) if rows else rows
        inserted += len(taken)
        if len(taken) < len(rows):
            content = standing(shape, {**content, table.name: tuple(taken)}, dangling=dangling)
    return content, inserted == sum(len(rows) for name, rows in content.items() if name != SEQUENCES)
