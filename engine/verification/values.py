"""A strategy for each column: mostly ordinary values, and some that a type admits though nobody thinks of them.

A value is picked from a short list, simplest first, so that it shrinks to a small one, that equal values meet in several
rows, and that a whole database is drawn fast; a few picks are free. On the local side values are what the driver binds. A
column takes what its affinity lets through; the rowid and the columns of a STRICT table take what they must. What a CHECK
says is kept where `checks.py` understands it, and nothing is filtered. What a column's name suggests is never guessed at.

Pure: no database. Read next: `postgres_values.py` (the remote side), `rows.py` (whole databases).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ...events.errors import ConfigurationError
from ...migrations.definition import SideName
from .checks import ANYTHING, Choice, Narrowing
from .mentioned import NOTHING, Mentioned, hints_for
from .pools import (
    BLOBS,
    HIGHEST,
    HIGHEST_MARK,
    LOWEST,
    ODD_TEXTS,
    TEXTS,
    WITH_NUL,
    Pool,
    blob_pool,
    limits,
    text_pool,
    whole_numbers,
)
from .postgres_values import remote_pool
from .shape import ColumnShape, TableShape

_INTEGERS: Final = (0, 1, 2, -1, 3, 7, 11, 255, 2**31, -(2**31) - 1, 2**53 + 1, HIGHEST, LOWEST)
_REALS: Final = (0.0, 1.0, 0.5, -1.0, 1.5, 90.0, -0.25, 1e10)
_ODD_REALS: Final = (1e300, -1e-300, 0.1, 2.0**53 + 2, float("inf"), float("-inf"))
# What INTEGER, REAL and NUMERIC let through; some of it becomes a number, some stays as it is.
_NOT_NUMBERS: Final = ("", "x", "007", "1e3", "12345678901234567890", " 1", "A", "a", "é", "it's", "a\0b", b"", b"1", b"\0")


def column_values(
    side: SideName,
    table: TableShape,
    column: ColumnShape,
    narrowing: Narrowing = ANYTHING,
    *,
    known: bool = False,
    mentioned: Mentioned = NOTHING,
) -> SearchStrategy[object]:
    """Values of one column, Pick.LEFT_OUT where its default may stand; nothing at all where no value is admitted.

    Those that are `mentioned` and that it takes are among them. With `known`, the default is no choice: others refer to the
    value. Raises ConfigurationError (T373) for a type of which no value is known, in a column that needs one.
    """
    null = column.nullable and not narrowing.not_null
    left_out = column.has_default and not known
    pool = _local_pool(table, column, narrowing) if side == "local" else remote_pool(column, narrowing, known=known)
    if pool is None:
        if not null and not column.has_default:
            raise ConfigurationError("T373", table=table.name, column=column.name, type=column.type)
        # A key's column too: rather the default than no rows.
        return Pool(common=()).strategy(null=null, left_out=column.has_default)
    return evolve(pool, hints=hints_for(side, table, column, narrowing, mentioned).all).strategy(null=null, left_out=left_out)


def _local_pool(table: TableShape, column: ColumnShape, narrowing: Narrowing) -> Pool:
    if narrowing.choices is not None:
        return Pool(common=[_bound(choice) for choice in narrowing.choices if narrowing.takes(choice)])
    if column.rowid:
        low, high = limits(narrowing, LOWEST, HIGHEST_MARK if table.autoincrement else HIGHEST)
        return whole_numbers(low, high, (1, 2, 3, 10, 0, -1, 2**31, 2**53 + 1))
    if column.kind == "text":
        return _texts(table, narrowing)
    if narrowing.minimum is not None or narrowing.maximum is not None:
        return _between(column, narrowing, strict=table.strict)
    if narrowing.min_length is not None or narrowing.max_length is not None:
        return blob_pool(narrowing) if table.strict and column.kind == "blob" else text_pool(narrowing, nul=False)
    return _BY_STRICT_KIND[column.kind] if table.strict else _BY_KIND[column.kind]


def _texts(table: TableShape, narrowing: Narrowing) -> Pool:
    pool = text_pool(narrowing, nul=True)
    if narrowing.min_length is not None or narrowing.max_length is not None:
        return pool
    return Pool(common=pool.common, odd=[*pool.odd, 7, *(() if table.strict else (1.5, b"a", b"\0"))], free=pool.free)


def _between(column: ColumnShape, narrowing: Narrowing, *, strict: bool) -> Pool:
    """Numbers only: every text and blob is greater than any number, so that the half of the limits would let it pass."""
    if column.kind == "real" or (column.kind in ("numeric", "blob", "any") and _between_whole(narrowing).common == ()):
        return _reals_between(narrowing)
    whole = _between_whole(narrowing)
    # Past 2**53 a real is another number, which a limit may refuse.
    reals = () if strict else [float(number) for number in _INTEGERS[:4] if number in whole.common]
    return Pool(common=whole.common, odd=[*whole.odd, *reals], free=whole.free)


def _between_whole(narrowing: Narrowing) -> Pool:
    return whole_numbers(*limits(narrowing, LOWEST, HIGHEST), _INTEGERS)


def _reals_between(narrowing: Narrowing) -> Pool:
    low, high = _as_float(narrowing.minimum), _as_float(narrowing.maximum)
    edges = [edge for edge in (low, high) if edge is not None]
    inner = [edge + step for edge in edges for step in (1.0, -1.0)]
    if low is not None and high is not None:
        inner.append((low + high) / 2)
    fitting = [real for real in dict.fromkeys([*_REALS, *edges, *inner]) if narrowing.allows(Decimal(real))]
    free = st.floats(
        min_value=low,
        max_value=high,
        exclude_min=narrowing.exclusive_minimum and low is not None,
        exclude_max=narrowing.exclusive_maximum and high is not None,
        allow_nan=False,
        allow_infinity=False,
    )
    return Pool(common=fitting, odd=[real for real in _ODD_REALS[:4] if narrowing.allows(Decimal(real))], free=free)


def _as_float(limit: int | Decimal | None) -> float | None:
    return None if limit is None else float(limit)


def _bound(choice: Choice) -> object:
    return float(choice) if isinstance(choice, Decimal) else choice


_ANY_INTEGER: Final = st.integers(LOWEST, HIGHEST)
_ANY_REAL: Final = st.floats(allow_nan=False, allow_infinity=False)
_ANY_BLOB: Final = st.binary(max_size=8)

_BY_KIND: Final = {
    "integer": Pool(common=_INTEGERS, odd=(1.0, 1.5, 1e300, *_NOT_NUMBERS), free=_ANY_INTEGER),
    "real": Pool(common=_REALS, odd=(*_ODD_REALS, 1, 2**53 + 1, *_NOT_NUMBERS), free=_ANY_REAL),
    "numeric": Pool(common=(*_INTEGERS[:9], *_REALS[2:6]), odd=(HIGHEST, 1e300, *_NOT_NUMBERS), free=_ANY_INTEGER),
    "blob": Pool(common=(*BLOBS, 1, "a", 0.5), odd=(1.0, "1", "", "A", "007", *WITH_NUL), free=_ANY_BLOB),
}
_BY_STRICT_KIND: Final = {
    "integer": Pool(common=_INTEGERS, odd=(1.0, "7", "007"), free=_ANY_INTEGER),
    "real": Pool(common=_REALS, odd=(*_ODD_REALS, 1, "1e3"), free=_ANY_REAL),
    "blob": Pool(common=BLOBS, free=_ANY_BLOB),
    "any": Pool(common=(0, "a", 1, b"a", 0.5, *TEXTS[2:6]), odd=(1.0, "007", *ODD_TEXTS[:4], *BLOBS), free=_ANY_INTEGER),
}
