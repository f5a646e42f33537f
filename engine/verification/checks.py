"""Simple CHECKs as limits on what is drawn: ranges, lists of choices, lengths, NOT NULL.

An AND may mix what is understood with what is not; an OR is understood when it only lists choices or allows NULL. What is
not understood narrows nothing, and is left to the database, which refuses the row. So a narrowing never allows more than
the part of the CHECK that it was read from, and a text that cannot be parsed is no error.

Pure text: no database. Read next: `values.py`, which draws within a narrowing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import reduce
from typing import Final, TypeAlias

import sqlglot
from attrs import evolve, frozen
from sqlglot import expressions as e
from sqlglot.errors import SqlglotError

from ...migrations.checksums import DIALECTS
from ...migrations.definition import SideName
from ...migrations.sqlite_text import fold
from .shape import ColumnShape, TableShape

Number: TypeAlias = "int | Decimal"
Choice: TypeAlias = "int | Decimal | str"

DOMAIN_VALUE: Final = "VALUE"


@frozen(kw_only=True)
class Narrowing:
    """What a column's values are limited to; by default to nothing. `exclusive_*` says that the limit itself is not allowed."""

    minimum: Number | None = None
    maximum: Number | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    choices: tuple[Choice, ...] | None = None
    min_length: int | None = None
    max_length: int | None = None
    not_null: bool = False

    def and_also(self, other: Narrowing) -> Narrowing:
        """Both at once."""
        lower = max((self, other), key=lambda one: _low(one))
        upper = min((self, other), key=lambda one: _high(one))
        return Narrowing(
            minimum=lower.minimum,
            exclusive_minimum=lower.exclusive_minimum,
            maximum=upper.maximum,
            exclusive_maximum=upper.exclusive_maximum,
            choices=_both(self.choices, other.choices),
            min_length=max((each.min_length for each in (self, other) if each.min_length is not None), default=None),
            max_length=min((each.max_length for each in (self, other) if each.max_length is not None), default=None),
            not_null=self.not_null or other.not_null,
        )

    def takes(self, choice: Choice) -> bool:
        """Whether a text has a length that is allowed, or a number is."""
        if isinstance(choice, str):
            return (self.min_length or 0) <= len(choice) and (self.max_length is None or len(choice) <= self.max_length)
        return self.allows(choice)

    def allows(self, number: Number) -> bool:
        """Whether the number lies between the limits."""
        above = self.minimum is None or number > self.minimum or (number == self.minimum and not self.exclusive_minimum)
        below = self.maximum is None or number < self.maximum or (number == self.maximum and not self.exclusive_maximum)
        return above and below


ANYTHING: Final = Narrowing()

# A narrowing of each column that a CHECK speaks of; None where it is not understood.
_Read: TypeAlias = "Mapping[str, Narrowing] | None"


def narrowings(table: TableShape, side: SideName) -> Mapping[str, Narrowing]:
    """By column, what the table's CHECKs and its domains limit it to; a column without limits is missing."""
    found: dict[str, Narrowing] = {}
    for name, narrowing in _said_of_columns(table, table.checks, side):
        found[name] = narrowing.and_also(found.get(name, ANYTHING))
    for column in table.columns:
        found[column.name] = domain_narrowing(column).and_also(found.get(column.name, ANYTHING))
    return {name: narrowing for name, narrowing in found.items() if narrowing != ANYTHING}


def of_partitions(table: TableShape, side: SideName) -> Mapping[str, tuple[Narrowing, ...]]:
    """By column, what the rows of a partition are limited to; of those of which it is understood."""
    found: dict[str, tuple[Narrowing, ...]] = {}
    for name, narrowing in _said_of_columns(table, table.partitions, side):
        if narrowing != Narrowing(not_null=True):
            found[name] = (*found.get(name, ()), narrowing)
    return found


def _said_of_columns(table: TableShape, checks: Sequence[str], side: SideName) -> Iterator[tuple[str, Narrowing]]:
    """What each of these texts limits a column of the table to."""
    named = {_spelled(column.name, side): column.name for column in table.columns}
    for check in checks:
        for name, narrowing in read_check(check, side)[0].items():
            if name in named:
                yield named[name], narrowing


def domain_narrowing(column: ColumnShape) -> Narrowing:
    """What the domain limits the values to."""
    read = (read_check(check, "remote")[0].get(DOMAIN_VALUE, ANYTHING) for check in column.checks)
    return reduce(Narrowing.and_also, read, ANYTHING)


def read_check(check: str, side: SideName) -> tuple[Mapping[str, Narrowing], bool]:
    """What a CHECK limits each column to, and whether that is all that it says.

    >>> read_check("length(title) <= 9 AND mood(title)", "local")
    ({'title': Narrowing(minimum=None, maximum=None, exclusive_minimum=False, exclusive_maximum=False, choices=None, \
min_length=None, max_length=9, not_null=False)}, False)
    """
    try:
        parsed = sqlglot.parse_one(check, dialect=DIALECTS[side])
    except (SqlglotError, RecursionError):
        return {}, False
    return _all_of(parsed, side)


def _all_of(node: e.Expr, side: SideName) -> tuple[Mapping[str, Narrowing], bool]:
    parts = [_read(part, side) for part in _conjuncts(node)]
    understood = [part for part in parts if part is not None]
    return reduce(_met, understood, {}), len(understood) == len(parts)


def _met(one: Mapping[str, Narrowing], other: Mapping[str, Narrowing]) -> Mapping[str, Narrowing]:
    names = dict.fromkeys([*one, *other])
    return {name: one.get(name, ANYTHING).and_also(other.get(name, ANYTHING)) for name in names}


def _conjuncts(node: e.Expr) -> list[e.Expr]:
    node = _bare(node)
    if isinstance(node, e.And):
        return [*_conjuncts(node.left), *_conjuncts(node.right)]
    return [node]


def _read(node: e.Expr, side: SideName) -> _Read:
    match node:
        case e.Or():
            return _either(node, side)
        case e.Not(this=e.Is(this=target, expression=e.Null()) as inner) if not inner.args.get("negate"):
            return _not_null(target, side)
        case e.Is(this=target, expression=e.Null()) if node.args.get("negate"):
            return _not_null(target, side)
        case _ if node.args.get("negate"):
            # The parser has two ways to write NOT.
            return None
        case e.Not(this=e.Column() as target) | (e.Column() as target) if side == "remote":
            name = _column(target, side)
            return {name: Narrowing(choices=(int(target is node),))} if name else None
        case e.Between() if not node.args.get("symmetric"):
            low = _compared(node.this, e.GTE, node.args["low"], side)
            high = _compared(node.this, e.LTE, node.args["high"], side)
            return _met(low, high) if low is not None and high is not None else None
        case e.In() if node.expressions:
            return _chosen(node.this, node.expressions, side)
        case e.EQ(expression=e.Any(this=listed)):
            array = _without_casts(listed)
            return _chosen(node.this, array.expressions, side) if isinstance(array, e.Array) else None
        case e.EQ() | e.GT() | e.GTE() | e.LT() | e.LTE():
            return _comparison(node, side)
    return None


def _not_null(target: e.Expr, side: SideName) -> _Read:
    name = _column(target, side)
    return {name: Narrowing(not_null=True)} if name else None


def _either(node: e.Or, side: SideName) -> _Read:
    left, right = _bare(node.left), _bare(node.right)
    for null, other in ((left, right), (right, left)):
        if isinstance(null, e.Is) and isinstance(null.expression, e.Null) and not null.args.get("negate"):
            name = _column(null.this, side)
            found, whole = _all_of(other, side)
            return {name: evolve(found[name], not_null=False)} if name and whole and set(found) == {name} else None
    one, two = _read(left, side), _read(right, side)
    if one is None or two is None or len(one) != 1 or set(one) != set(two):
        return None
    ((name, first),), ((_, second),) = one.items(), two.items()
    if first != Narrowing(choices=first.choices) or second != Narrowing(choices=second.choices):
        return None
    if first.choices is None or second.choices is None:
        return None
    return {name: Narrowing(choices=tuple(dict.fromkeys(first.choices + second.choices)))}


def _chosen(target: e.Expr, values: list[e.Expr], side: SideName) -> _Read:
    name, choices = _column(target, side), [_literal(value) for value in values]
    known = tuple(choice for choice in choices if choice is not None)
    if name is None or len(known) < len(choices):
        return None
    return {name: Narrowing(choices=tuple(dict.fromkeys(known)))}


_MIRRORED: Final[Mapping[type[e.Expr], type[e.Expr]]] = {e.GT: e.LT, e.GTE: e.LTE, e.LT: e.GT, e.LTE: e.GTE, e.EQ: e.EQ}


def _comparison(node: e.Binary, side: SideName) -> _Read:
    if _literal(node.left) is not None:
        return _compared(node.right, _MIRRORED[type(node)], node.left, side)
    return _compared(node.left, type(node), node.right, side)


def _compared(target: e.Expr, operator: type[e.Expr], value: e.Expr, side: SideName) -> _Read:
    limit = _literal(value)
    bare = _bare(target)
    if isinstance(bare, e.Length) and isinstance(limit, int):
        name = _column(bare.this, side)
        return {name: _length(operator, limit)} if name else None
    name = _column(bare, side)
    if name is None or limit is None:
        return None
    if operator is e.EQ:
        return {name: Narrowing(choices=(limit,))}
    if isinstance(limit, str):
        return None
    if operator in (e.GT, e.GTE):
        return {name: Narrowing(minimum=limit, exclusive_minimum=operator is e.GT)}
    return {name: Narrowing(maximum=limit, exclusive_maximum=operator is e.LT)}


def _length(operator: type[e.Expr], limit: int) -> Narrowing:
    low = limit + (operator is e.GT) if operator in (e.GT, e.GTE, e.EQ) else None
    high = limit - (operator is e.LT) if operator in (e.LT, e.LTE, e.EQ) else None
    return Narrowing(min_length=low, max_length=high)


# To these PostgreSQL casts a column by itself, and no value is changed by it.
_HARMLESS: Final = frozenset({"TEXT", "VARCHAR", "BPCHAR", "DECIMAL", "DOUBLE", "BIGINT"})


def _column(node: e.Expr, side: SideName) -> str | None:
    node = _bare(node)
    while side == "remote" and isinstance(node, e.Cast) and node.to.this.name in _HARMLESS:
        node = _bare(node.this)
    if not isinstance(node, e.Column) or node.table or not isinstance(node.this, e.Identifier):
        return None
    return _spelled(node.name, side)


def _spelled(name: str, side: SideName) -> str:
    return fold(name) if side == "local" else name


def _bare(node: e.Expr) -> e.Expr:
    while isinstance(node, e.Paren):
        node = node.this
    return node


def _without_casts(node: e.Expr) -> e.Expr:
    while isinstance(node, e.Paren | e.Cast):
        node = node.this
    return node


def _literal(node: e.Expr) -> Choice | None:
    node = _bare(node)
    match node:
        case e.Neg():
            inner = _literal(node.this)
            return None if inner is None or isinstance(inner, str) else -inner
        case e.Boolean():
            return int(bool(node.this))
        case e.Literal():
            return str(node.this) if node.is_string else _number(str(node.this))
        case e.Cast(this=inner, to=kind):
            value = _literal(inner)
            return _number(value) if isinstance(value, str) and kind.this in e.DataType.NUMERIC_TYPES else value
    return None


def _number(text: str) -> Number | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    return int(value) if "." not in text and "e" not in text.lower() else value


def _low(narrowing: Narrowing) -> tuple[Decimal, bool]:
    limit = Decimal("-Infinity") if narrowing.minimum is None else Decimal(narrowing.minimum)
    return limit, narrowing.exclusive_minimum


def _high(narrowing: Narrowing) -> tuple[Decimal, bool]:
    limit = Decimal("Infinity") if narrowing.maximum is None else Decimal(narrowing.maximum)
    return limit, not narrowing.exclusive_maximum


def _both(one: tuple[Choice, ...] | None, other: tuple[Choice, ...] | None) -> tuple[Choice, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    return tuple(choice for choice in one if choice in other)
