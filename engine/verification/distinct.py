"""When two values are the same to a database, and how a value becomes another one: what unique columns are made distinct by.

`comparable` follows the affinities and collations of SQLite and the types of PostgreSQL as far as they make two values one
('1' and 1.0 in an INTEGER column, 'a' and 'A' where case is not looked at). Where it is not sure, it says that two values
are the same: a value is then changed without need, and nothing is lost. `varied` gives the next ones, the same ones for the
same number.

Of a database it asks only what a real is as a text. Read next: `rows.py` and `replicating.py`, which use it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Hashable, Mapping, MutableMapping
from contextlib import closing
from typing import Final

from ...migrations.definition import SideName
from ...migrations.sqlite_text import fold
from .checks import ANYTHING, Narrowing
from .pools import limits
from .postgres_distinct import remote_comparable, remote_varied
from .shape import ColumnShape, TableShape

_NUMBER: Final = re.compile(r"[ \t\n\v\f\r]*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t\n\v\f\r]*", re.ASCII)
_NUMERIC: Final = frozenset({"integer", "real", "numeric"})
_TRIES: Final = 200


def comparable(side: SideName, column: ColumnShape, value: object) -> Hashable:
    """Equal for two values that a unique index on the column takes for one; None is NULL."""
    if value is None:
        return None
    if side == "remote":
        return remote_comparable(column, str(value))
    kept = stored(column, value)
    if isinstance(kept, bytes):
        return "blob", kept
    if isinstance(kept, str):
        return "text", _collated(column.collation, kept)
    return "number", kept


def stored(column: ColumnShape, value: object) -> object:
    """What SQLite makes of a value by the column's affinity; a real that is whole may stand for the integer."""
    if column.kind == "real" and isinstance(value, int):
        return float(value)
    if column.kind == "text" and isinstance(value, int | float):
        return _as_text(value)
    if column.kind in _NUMERIC and isinstance(value, str) and _NUMBER.fullmatch(value):
        return _as_number(value, real=column.kind == "real")
    return value


def _collated(collation: str, text: str) -> str:
    if collation in ("", "rtrim"):
        return text.rstrip(" ") if collation else text
    # NOCASE, or one of the application's, of which nothing is known. Without regard to case SQLite stops at a NUL.
    return fold(text).split("\0")[0] if collation == "nocase" else text.casefold().strip()


def _as_text(value: int | float) -> str:
    """SQLite is asked: what it makes of a real that lies between two of fifteen digits is its own."""
    if isinstance(value, int):
        return str(value)
    with closing(sqlite3.connect(":memory:")) as asked:
        return str(asked.execute("SELECT CAST(? AS TEXT)", (value,)).fetchone()[0])


def _as_number(text: str, *, real: bool) -> int | float:
    plain = text.strip(" \t\n\v\f\r")
    if plain.lstrip("+-").isdigit() and not real and -(2**63) <= int(plain) < 2**63:
        return int(plain)
    return float(plain)


def varied(side: SideName, column: ColumnShape, narrowing: Narrowing, value: object, number: int) -> object:
    """A value like this one, another for each number as far as there are others; None where there is no way to change it."""
    if side == "remote":
        return remote_varied(column, narrowing, value, number)
    if narrowing.choices is not None:
        return narrowing.choices[number % len(narrowing.choices)] if narrowing.choices else None
    if isinstance(value, bytes):
        return value + str(number).encode()
    if isinstance(value, str):
        return varied_text(value, number, narrowing.max_length)
    if isinstance(value, int | float):
        low, high = limits(
            narrowing, -(2**53) if column.kind == "real" else -(2**63), 2**53 if column.kind == "real" else 2**62
        )
        return varied_number(value, number, low, high)
    return None


def varied_text(text: str, number: int, limit: int | None) -> str | None:
    """The text with the number behind it, no longer than the limit."""
    suffix = str(number)
    if limit is None:
        return text + suffix
    return text[: limit - len(suffix)] + suffix if len(suffix) <= limit else None


def varied_number(value: int | float, number: int, low: int, high: int) -> int | None:
    """The integer that lies so many above the value, and goes on at the lower limit past the upper one."""
    if low > high:
        return None
    start = int(value) if abs(value) < 2**63 else 0
    return low + (start - low + number) % (high - low + 1)


class Distinct:
    """The rows of one table that were let in, so that no two of them are alike where they must not be."""

    def __init__(
        self, side: SideName, table: TableShape, narrowings: Mapping[str, Narrowing], *, fixed: frozenset[str] = frozenset()
    ) -> None:
        """`fixed` are columns whose values are never changed, besides those of foreign keys."""
        self._side = side
        self._table = table
        self._narrowings = narrowings
        in_keys = {column for key in table.foreign_keys for column in key.columns}
        known = [unique for unique in table.distinct() if not any(table.by_name[name].generated for name in unique)]
        # The columns to change, the last first: in a composite key that is what counts within the rest.
        self._uniques = {unique: [name for name in reversed(unique) if name not in in_keys | fixed] for unique in known}
        self._taken: dict[tuple[str, ...], set[Hashable]] = {unique: set() for unique in known}
        self._next: dict[tuple[str, ...], int] = dict.fromkeys(known, 0)

    def let_in(self, row: MutableMapping[str, object]) -> bool:
        """Change the row as far as it must be to be unlike all before, and remember it. False where that is impossible."""
        for _ in range(len(self._uniques) + 1):
            clashing = [unique for unique in self._uniques if self._key(unique, row) in self._taken[unique]]
            if not clashing:
                for unique in self._uniques:
                    self._remember(unique, row)
                return True
            if not all(self._change(unique, row) for unique in clashing):
                return False
        return False

    def _remember(self, unique: tuple[str, ...], row: Mapping[str, object]) -> None:
        key = self._key(unique, row)
        if key is not None:
            self._taken[unique].add(key)

    def _key(self, unique: tuple[str, ...], row: Mapping[str, object]) -> Hashable:
        """None for a row that is unlike any other because of a NULL, or of a default that is not known here."""
        if any(name not in row for name in unique):
            return None
        key = tuple(comparable(self._side, self._table.by_name[name], row[name]) for name in unique)
        return None if None in key and unique not in self._table.nulls_not_distinct else key

    def _change(self, unique: tuple[str, ...], row: MutableMapping[str, object]) -> bool:
        taken = self._taken[unique]
        for name in self._uniques[unique]:
            before = row[name]
            for _ in range(_TRIES):
                number = self._next[unique] = self._next[unique] + 1
                value = varied(self._side, self._table.by_name[name], self._narrowings.get(name, ANYTHING), before, number)
                if value is None:
                    break
                row[name] = value
                if self._key(unique, row) not in taken:
                    return True
            row[name] = before
        return False
