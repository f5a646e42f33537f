"""Large databases out of small ones: drawn rows copied as groups, until every table has as many as are asked for.

A copy differs from its row in what must be unique, and in the parents that it refers to: those of its own group, or, where a
table has fewer groups, one of them by chance. All else is repeated. A pure function: the same arguments, the same rows.

No database here. Read next: `distinct.py` (how a value becomes another one).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from random import Random
from typing import Final, TypeAlias

from attrs import define, field

from .checks import narrowings
from .distinct import Distinct
from .shape import SEQUENCES, Content, KeyShape, Shape, TableShape
from .standing import leads_nowhere, references, standing

Row: TypeAlias = "Mapping[str, object]"

DEPTH: Final = 64


def replicate(shape: Shape, content: Content, *, rows: int, seed: int) -> Content:
    """The content with copies of its rows, up to `rows` in every table that has any; the rows themselves come first.

    A table stays smaller where there are not enough different values: a unique column of an enum, a key made of other
    tables' keys. Marks of AUTOINCREMENT stay above the rows.
    """
    dangling = leads_nowhere(shape, content)
    copying = _Copying(shape=shape, content=content, rows=rows, random=Random(seed))
    for table in shape.tables:
        if content.get(table.name):
            copying.copy(table)
    for table in shape.tables:
        copying.refer_later(table)
    # A reference that waited may have made two rows alike.
    copied = {
        table.name: _unlike(shape, table, copying.copied[table.name]) for table in shape.tables if table.name in copying.copied
    }
    found = standing(shape, copied, dangling=dangling)
    marks = tuple(_raised(shape, found, mark) for mark in content.get(SEQUENCES, ()))
    return {**found, SEQUENCES: marks} if marks else found


def _unlike(shape: Shape, table: TableShape, rows: Sequence[Row]) -> tuple[Row, ...]:
    distinct = Distinct(shape.side, table, {}, fixed=frozenset(table.by_name))
    return tuple(row for row in rows if distinct.let_in(dict(row)))


def _raised(shape: Shape, content: Content, mark: Row) -> Row:
    table = shape.by_name[str(mark["name"])]
    numbers = [row[name] for row in content.get(table.name, ()) for name in table.primary_key]
    return {**mark, "seq": max(number for number in (mark["seq"], *numbers) if isinstance(number, int))}


@define(kw_only=True)
class _Copying:
    shape: Shape
    content: Content
    rows: int
    random: Random
    copied: dict[str, list[dict[str, object]]] = field(init=False, factory=dict)
    _groups: dict[tuple[str, int], list[dict[str, object]]] = field(init=False, factory=dict)
    """By table and place of a drawn row: it, and its copies, one for each group."""
    _turn: int = field(init=False, default=0)
    _full: set[str] = field(init=False, factory=set)
    """Tables for which no parents are left that have no such row yet."""
    _waiting: list[tuple[str, KeyShape, dict[str, object], tuple[str, int], int]] = field(init=False, factory=list)

    def copy(self, table: TableShape) -> None:
        """Fill one table; the parents that come later are given by `refer_later`."""
        drawn = self.content[table.name]
        distinct = Distinct(self.shape.side, table, narrowings(table, self.shape.side))
        keys = [(key, self._parents(table, key)) for key in sorted(table.foreign_keys, key=lambda key: -len(key.columns))]
        made = self.copied[table.name] = []
        for group in range(max(1, -(-self.rows // len(drawn)))):
            for place, row in enumerate(drawn[: len(drawn) if group == 0 else self.rows - len(made)]):
                copy = dict(row)
                if group:
                    self._refer(table, copy, [(key, of_row[place]) for key, of_row in keys], group)
                    self._deepen(table, copy, place, group)
                if distinct.let_in(copy) or (group and self._let_in_elsewhere(table, copy, distinct)):
                    made.append(copy)
                    self._groups.setdefault((table.name, place), []).append(copy)

    def _deepen(self, table: TableShape, copy: dict[str, object], place: int, group: int) -> None:
        """A root becomes a child of the copy before it: trees grow as deep as `DEPTH`."""
        before = self._groups.get((table.name, place))
        if not before or not group % DEPTH:
            return
        for key in table.foreign_keys:
            is_root = key.parent == table.name and all(name in copy and copy[name] is None for name in key.columns)
            if is_root and all(theirs in before[-1] for theirs in key.parent_columns):
                copy.update(_referring(key, before[-1]))

    def _let_in_elsewhere(self, table: TableShape, copy: dict[str, object], distinct: Distinct) -> bool:
        """Move a row that its parents make like another one to the next parents that have none like it."""
        keys = [key for key in table.foreign_keys if self.copied.get(key.parent) and key.parent != table.name]
        names = [name for key in keys for name in key.columns]
        if not keys or len(names) > len(set(names)) or table.name in self._full:
            return False
        for _ in range(max(len(self.copied[key.parent]) for key in keys)):
            self._turn += 1
            for key in keys:
                parent = self.copied[key.parent][self._turn % len(self.copied[key.parent])]
                moved = zip(key.columns, key.parent_columns, strict=True)
                copy.update({mine: parent[theirs] for mine, theirs in moved if copy[mine] is not None})
            if distinct.let_in(copy):
                return True
        self._full.add(table.name)
        return False

    def _parents(self, table: TableShape, key: KeyShape) -> list[int | None]:
        wanted, offered = references(self.shape, table, key)
        places: dict[Hashable, int] = {}
        for place, row in enumerate(self.content.get(key.parent, ())):
            places.setdefault(offered(row), place)
        return [None if (found := wanted(row)) is None else places.get(found) for row in self.content[table.name]]

    def _refer(self, table: TableShape, copy: dict[str, object], keys: list[tuple[KeyShape, int | None]], group: int) -> None:
        bound = set[str]()
        for key, place in keys:
            if place is None or bound >= set(key.columns):
                continue
            copies = self._groups.get((key.parent, place))
            if copies is None:
                # Itself, a row behind it, or a table that comes later.
                self._waiting.append((table.name, key, copy, (key.parent, place), group))
                continue
            parent = copies[group] if group < len(copies) else self.random.choice(copies)
            for name, theirs in zip(key.columns, key.parent_columns, strict=True):
                if name not in bound:
                    copy[name] = parent[theirs]
            bound |= set(key.columns)

    def refer_later(self, table: TableShape) -> None:
        """Give the table's copies the parents that were not there yet."""
        for name, key, copy, place, group in self._waiting:
            copies = self._groups.get(place) if name == table.name else None
            if copies:
                parent = copies[group] if group < len(copies) else self.random.choice(copies)
                copy.update(_referring(key, parent))


def _referring(key: KeyShape, parent: Row) -> Row:
    """The part of a row that refers to that parent."""
    return {mine: parent[theirs] for mine, theirs in zip(key.columns, key.parent_columns, strict=True)}
