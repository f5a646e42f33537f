"""Whole databases that a schema admits, drawn: every table's rows, unique where they must be, with references that lead
somewhere, or to nothing where that is asked for.

Tables are drawn parents first, and each row picks its parents among the rows that are there; a reference to a table that is
drawn later waits for it. A row that clashes with another one is changed, not thrown away; only where it cannot be is it left
out, and what cannot stand without it. A drawn database shrinks to few tables with few rows of simple values: each row is
there or not by a choice of its own, and 0, NULL and the default come first everywhere.

Pure: no database. Read next: `values.py` (the values), `filling.py` (into a database).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeAlias

from attrs import define, field, frozen
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from ...events.errors import ConfigurationError
from .checks import ANYTHING, Narrowing, narrowings, of_partitions
from .distinct import Distinct
from .mentioned import NOTHING, Mentioned, hints_for
from .pools import Pick
from .shape import SEQUENCES, Content, KeyShape, Shape, TableShape
from .standing import references, standing
from .values import column_values

__all__ = ["Content", "contents"]

Row: TypeAlias = "MutableMapping[str, object]"

_NOTHING: Final[Mapping[str, SearchStrategy[object]]] = MappingProxyType({})
# Hypothesis keeps a drawn example below some thousand choices: wide schemas get fewer rows a table.
_MOST_CHOICES: Final = 1_500
_PICK: Final = st.integers(0, 251)
# About one row in sixteen is left out, so that it can be left out by one choice when shrinking.
_THERE: Final = st.sampled_from([False, *[True] * 15])
# How far above the highest number the mark of AUTOINCREMENT is: rows were deleted.
_MARKS: Final = st.sampled_from([None, None, 1, 7, 1_000, 2**33])
_RETRIES: Final = 4
# In every second database about half of the values are such as stand there already, in whatever column of the same type: rows
# of different tables belong together although no key says so, and what should be unique is not, or differs in case only.
_ALIKE: Final = st.booleans()
_SAME: Final = st.integers(0, 7)
# Columns that may be NULL or left out are drawn in groups, most of which are not: half the choices of a row, in drawing and in
# shrinking.
_GROUP: Final = 4
_DRAWN: Final = st.sampled_from([False, False, False, True, True])
# In one row of four all that the migration speaks of comes together: conditions may ask for several values at once.
_SPOKEN: Final = st.sampled_from([False, False, False, True])


def contents(
    shape: Shape,
    *,
    columns: Mapping[str, SearchStrategy[object]] = _NOTHING,
    max_rows: int = 6,
    dangling: bool = False,
    mentioned: Mentioned = NOTHING,
) -> SearchStrategy[Content]:
    """Databases of the shape with up to `max_rows` rows a table, fewer where the schema has very many columns.

    A strategy in `columns`, under "table.column", gives that column's values, which are used as they are. With `dangling`,
    some references lead to nothing, by keys that are not enforced; on SQLite by any. Values that are `mentioned` come more
    often than others. Tables without rows are left out.

    Raises ConfigurationError at once: T373 for a column that needs a value of a type of which none is known, T374 for a
    name in `columns` that the shape does not have.
    """
    known = {f"{table.name}.{column.name}" for table in shape.tables for column in table.columns if not column.generated}
    for name in columns:
        if name not in known:
            raise ConfigurationError("T374", column=name, known=_told(shape, name))
    plans = _plans(shape, columns, dangling=dangling, mentioned=mentioned)
    choices = sum(len(plan.plain) + 3 * len(plan.optional) + len(plan.keys) + 1 for plan in plans)
    most = max(1, min(max_rows, _MOST_CHOICES // max(1, choices))) if max_rows > 0 else 0
    # Small tables more often than large ones, and seldom an empty one, which takes its children with it.
    sizes = st.sampled_from([0, *(size for size in range(1, most + 1) for _ in range(1 + 8 * (most - size) // most))])
    return _databases(_Whole(shape=shape, plans=plans, sizes=sizes, dangling=dangling))


def _told(shape: Shape, name: str) -> str:
    """The columns of the table that is meant, or the tables."""
    table = shape.by_name.get(name.rpartition(".")[0])
    names = [f"{table.name}.{each.name}" for each in table.columns] if table is not None else list(shape.by_name)
    return ", ".join(names) or "none"


class _Reference(Enum):
    NULL = "null"
    TO_NOTHING = "to nothing"
    TO_ITSELF = "to itself"


@frozen(kw_only=True)
class _Key:
    """A foreign key as it is drawn; `waits` says that the parents are drawn later, `lax` that it may lead to nothing."""

    shape: KeyShape
    own: bool
    waits: bool
    lax: bool
    nullable: tuple[str, ...]


@frozen(kw_only=True)
class _Plan:
    table: TableShape
    narrowings: Mapping[str, Narrowing]
    plain: Mapping[str, SearchStrategy[object]]
    optional: Sequence[Mapping[str, SearchStrategy[object]]]
    """Those that are NULL or left out in most rows."""
    loose: Mapping[str, SearchStrategy[object]]
    """Columns of keys, for when a key gives no value."""
    spoken: Mapping[str, SearchStrategy[object]]
    """Columns with values that the migration speaks of, and these."""
    fixed: frozenset[str]
    alike: frozenset[str]
    """Those that take any value of their type, as other columns of it do."""
    keys: tuple[_Key, ...]


def _plans(shape: Shape, columns: Mapping[str, SearchStrategy[object]], *, dangling: bool, mentioned: Mentioned) -> list[_Plan]:
    referred = {(key.parent, name) for table in shape.tables for key in table.foreign_keys for name in key.parent_columns}
    plans, before = list[_Plan](), set[str]()
    for table in shape.tables:
        known = {name for parent, name in referred if parent == table.name}
        plans.append(_plan(shape, table, columns, before, known, dangling, mentioned))
        before.add(table.name)
    return plans


def _plan(
    shape: Shape,
    table: TableShape,
    columns: Mapping[str, SearchStrategy[object]],
    before: set[str],
    referred: set[str],
    dangling: bool,
    mentioned: Mentioned,
) -> _Plan:
    limits = narrowings(table, shape.side)
    in_keys = {name for key in table.foreign_keys for name in key.columns}
    known = in_keys | referred | {name for unique in table.distinct() for name in unique}
    given = {name: columns[f"{table.name}.{name}"] for name in table.by_name if f"{table.name}.{name}" in columns}

    parts = of_partitions(table, shape.side)

    def values(name: str) -> SearchStrategy[object]:
        limit = limits.get(name, ANYTHING)
        # Anything else lies in a default partition, if there is one.
        limited = [limit.and_also(part) for part in parts.get(name, ())]
        column, is_known = table.by_name[name], name in known
        return st.one_of(
            *(column_values(shape.side, table, column, each, known=is_known, mentioned=mentioned) for each in (limit, *limited))
        )

    inserted = [column.name for column in table.columns if not column.generated]
    plain = {name: given[name] if name in given else values(name) for name in inserted if name not in in_keys or name in given}
    # What the migration names is what matters to it, and is drawn in every row.
    meant = {name for name in plain if mentioned.names(name)}
    optional = [
        name for name in plain if name not in known | given.keys() | meant and _simplest(table, limits, name) is not None
    ]
    return _Plan(
        table=table,
        narrowings=limits,
        plain={name: strategy for name, strategy in plain.items() if name not in optional},
        optional=[
            {name: plain[name] for name in optional[start : start + _GROUP]} for start in range(0, len(optional), _GROUP)
        ],
        loose={name: _unless_unknown(shape, table, name, limits) for name in inserted if name in in_keys - given.keys()},
        spoken={
            name: st.sampled_from(hints.weighed)
            for name in plain
            if name not in given
            if (hints := hints_for(shape.side, table, table.by_name[name], limits.get(name, ANYTHING), mentioned)).all
        },
        fixed=frozenset(given),
        alike=frozenset(
            name
            for name in plain
            if limits.get(name, ANYTHING) == ANYTHING
            and (name not in known | given.keys() or (_is_a_unique_text(table, name) and name not in referred | in_keys))
        ),
        keys=tuple(
            _Key(
                shape=key,
                own=key.parent == table.name,
                waits=key.parent != table.name and key.parent not in before and key.parent in shape.by_name,
                lax=dangling and (shape.side == "local" or not key.enforced),
                nullable=tuple(
                    name
                    for name in key.columns
                    if table.by_name[name].nullable and not limits.get(name, ANYTHING).not_null and name not in given
                ),
            )
            # Wide ones first: what they pick binds the narrow ones that share their columns.
            for key in sorted(table.foreign_keys, key=lambda key: (key.parent == table.name, -len(key.columns)))
        ),
    )


def _is_a_unique_text(table: TableShape, name: str) -> bool:
    column = table.by_name[name]
    return (name,) in table.uniques and column.kind == "text" and column.limit is None and not column.checks


def _simplest(table: TableShape, limits: Mapping[str, Narrowing], name: str) -> Mapping[str, object] | None:
    """The part of a row that the column is where nothing is drawn for it."""
    column = table.by_name[name]
    if column.has_default:
        return {}
    return {name: None} if column.nullable and not limits.get(name, ANYTHING).not_null else None


def _unless_unknown(shape: Shape, table: TableShape, name: str, limits: Mapping[str, Narrowing]) -> SearchStrategy[object]:
    try:
        found = column_values(shape.side, table, table.by_name[name], limits.get(name, ANYTHING), known=True)
    except ConfigurationError:
        return st.nothing()
    return found


@frozen(kw_only=True, repr=False)
class _Whole:
    """What is drawn; of few words, because Hypothesis shows it when a draw fails."""

    shape: Shape
    plans: Sequence[_Plan]
    sizes: SearchStrategy[int]
    dangling: bool

    def __repr__(self) -> str:
        return f"<{len(self.plans)} tables>"


@st.composite
def _databases(draw: DrawFn, whole: _Whole) -> Content:
    shape, plans = whole.shape, whole.plans
    built: dict[str, list[Row]] = {}
    seen: dict[str, list[object]] | None = {} if draw(_ALIKE) else None
    for plan in plans:
        rows = _Rows(shape=shape, plan=plan, built=built, seen=seen)
        # No values, no rows: a CHECK that admits nothing.
        possible = not any(strategy.is_empty for strategy in plan.plain.values())
        for _ in range(draw(whole.sizes) if possible else 0):
            if draw(_THERE):
                rows.add(draw)
    for plan in plans:
        _refer_later(draw, shape, plan, built)
    content = {name: tuple(_ordered(shape.by_name[name], row) for row in rows) for name, rows in built.items() if rows}
    content = dict(standing(shape, content, dangling=whole.dangling))
    marks = [mark for table in shape.tables if table.autoincrement and (mark := _mark(table, content, draw(_MARKS)))]
    return content | {SEQUENCES: tuple(marks)} if marks else content


def _mark(table: TableShape, content: Content, gap: int | None) -> Mapping[str, object] | None:
    if gap is None:
        return None
    (key,) = table.primary_key
    highest = max((number for row in content.get(table.name, ()) if isinstance(number := row[key], int)), default=0)
    return {"name": table.name, "seq": max(highest, 0) + gap}


def _ordered(table: TableShape, row: Mapping[str, object]) -> Mapping[str, object]:
    return {column.name: row[column.name] for column in table.columns if column.name in row}


@define(kw_only=True)
class _Rows:
    """The rows of one table as they are drawn; they are added to `built`, where later rows find their parents."""

    shape: Shape
    plan: _Plan
    built: dict[str, list[Row]]
    seen: dict[str, list[object]] | None = None
    """By type, the values that stand in the database so far, where they are to come again."""
    _let_in: Distinct = field(init=False)

    @_let_in.default
    def _first_row(self) -> Distinct:
        return Distinct(self.shape.side, self.plan.table, self.plan.narrowings, fixed=self.plan.fixed)

    def add(self, draw: DrawFn) -> None:
        """Draw a row; it is left out where it cannot be told from another one, or needs a parent and there is none."""
        plain = _drawn(draw, self.plan.plain)
        for group in self.plan.optional:
            if draw(_DRAWN):
                plain |= _drawn(draw, group)
            else:
                for name in group:
                    plain |= _simplest(self.plan.table, self.plan.narrowings, name) or {}
        all_at_once = draw(_SPOKEN) if self.plan.spoken else False
        if all_at_once:
            plain |= _drawn(draw, self.plan.spoken)
        if self.seen is not None:
            plain = self._alike(draw, plain, self.seen)
        picks = [draw(_PICK) for key in self.plan.keys if not key.waits]
        for shift in range(_RETRIES if picks else 1):
            row = dict(plain)
            to_itself = self._refer(draw, row, [pick + shift for pick in picks])
            if to_itself is not None and self._let_in.let_in(row):
                for key in to_itself:
                    row.update(_taken_from(key.shape, row, {name: row[name] for name in key.shape.parent_columns}))
                self.built.setdefault(self.plan.table.name, []).append(row)
                return

    def _alike(self, draw: DrawFn, row: dict[str, object], seen: dict[str, list[object]]) -> dict[str, object]:
        """The row with values that were seen before, in columns that take any value of their type."""
        unique = {name for columns in self.plan.table.distinct() for name in columns}
        for name in sorted(self.plan.alike & row.keys()):
            value = row[name]
            if value is None or (name in unique and not isinstance(value, str)):
                continue
            # A STRICT table refuses what another one takes into a column of the same type.
            known = seen.setdefault(f"{self.plan.table.strict} {self.plan.table.by_name[name].type}", [])
            pick = draw(_SAME)
            if pick and known and pick < 5:
                again = known[pick % len(known)]
                row[name] = again.swapcase() if name in unique and isinstance(again, str) else again
            else:
                known.append(value)
        return row

    def _refer(self, draw: DrawFn, row: Row, picks: Sequence[int]) -> list[_Key] | None:
        """Give the row its parents; the keys by which it refers to itself, or None where it lacks a parent."""
        to_itself = []
        for key, pick in zip((key for key in self.plan.keys if not key.waits), picks, strict=True):
            chosen = self._choose(row, key, pick)
            if chosen is None:
                return None
            if chosen is _Reference.TO_ITSELF:
                to_itself.append(key)
                chosen = row
            _take(draw, self.plan, row, key, chosen)
        for key in self.plan.keys:
            if key.waits:
                row.update({name: None for name in key.nullable if name not in row})
        waiting = {name for key in self.plan.keys if key.waits for name in key.shape.columns}
        for name in self.plan.loose:
            if name not in row and name not in waiting:
                row[name] = draw(self.plan.loose[name])
        return to_itself

    def _choose(self, row: Row, key: _Key, pick: int) -> Row | _Reference | None:
        candidates = _candidates(self.shape, self.plan.table, key, row, self.built.get(key.shape.parent, ()))
        options: list[Row | _Reference] = [_Reference.NULL] if _may_be_null(key, row) else []
        options += candidates
        if key.own:
            # Most often the last row: chains, not only stars.
            options += candidates[:1] * 2 * len(candidates)
            if all(name in row for name in key.shape.parent_columns):
                options.append(_Reference.TO_ITSELF)
        if key.lax:
            options += [_Reference.TO_NOTHING] * (1 + len(options) // 5)
        return options[pick % len(options)] if options else None


def _drawn(draw: DrawFn, strategies: Mapping[str, SearchStrategy[object]]) -> dict[str, object]:
    drawn = {name: draw(strategy) for name, strategy in strategies.items()}
    return {name: value for name, value in drawn.items() if value is not Pick.LEFT_OUT}


def _candidates(shape: Shape, table: TableShape, key: _Key, row: Mapping[str, object], parents: Sequence[Row]) -> list[Row]:
    """The parents that agree with what the row has already, the last first."""
    wanted, offered = references(shape, table, key.shape)
    found = []
    for parent in reversed(parents):
        offer = offered(parent)
        if offer is not None and wanted(_taken_from(key.shape, parent, row)) == offer:
            found.append(parent)
    return found


def _taken_from(key: KeyShape, parent: Mapping[str, object], row: Mapping[str, object]) -> dict[str, object]:
    pairs = zip(key.columns, key.parent_columns, strict=True)
    return {name: row[name] if name in row else parent[theirs] for name, theirs in pairs}


def _may_be_null(key: _Key, row: Mapping[str, object]) -> bool:
    open_to_null = [name for name in key.nullable if name not in row or row[name] is None]
    return len(open_to_null) == len(key.shape.columns) if key.shape.match_full else bool(open_to_null)


def _take(draw: DrawFn, plan: _Plan, row: Row, key: _Key, chosen: Row | _Reference) -> None:
    if chosen is _Reference.NULL:
        row.update({name: None for name in key.nullable if name not in row})
    elif chosen is _Reference.TO_NOTHING:
        row.update({name: draw(plan.loose[name]) for name in key.shape.columns if name not in row})
    elif not isinstance(chosen, _Reference):
        row.update(_taken_from(key.shape, chosen, row))


def _refer_later(draw: DrawFn, shape: Shape, plan: _Plan, built: dict[str, list[Row]]) -> None:
    """Give the rows the parents that were drawn after them; a row that needs one and finds none is left out."""
    waiting = [key for key in plan.keys if key.waits]
    rows = built.get(plan.table.name, [])
    if not waiting or not rows:
        return
    let_in = Distinct(shape.side, plan.table, plan.narrowings, fixed=frozenset(plan.table.by_name))
    kept = []
    for row in rows:
        if all(_refers(draw, shape, plan, key, row, built) for key in waiting) and let_in.let_in(row):
            kept.append(row)
    built[plan.table.name] = kept


def _refers(draw: DrawFn, shape: Shape, plan: _Plan, key: _Key, row: Row, built: Mapping[str, list[Row]]) -> bool:
    null = _may_be_null(key, row)
    bound = {name: value for name, value in row.items() if name not in key.nullable or value is not None}
    candidates = _candidates(shape, plan.table, key, bound, built.get(key.shape.parent, ()))
    options: list[Row | _Reference] = [_Reference.NULL] if null else []
    options += candidates
    if key.lax:
        options += [_Reference.TO_NOTHING] * (1 + len(options) // 5)
    pick = draw(_PICK)
    if not options:
        return False
    chosen = options[pick % len(options)]
    if chosen is not _Reference.NULL:
        for name in key.shape.columns:
            if name not in bound:
                row.pop(name, None)
    _take(draw, plan, row, key, chosen)
    return True
