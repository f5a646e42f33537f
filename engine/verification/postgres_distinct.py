"""When two texts are the same value to PostgreSQL, and how one becomes another.

Only of types that can be in a unique index. Of those whose texts say one value in several ways (zones, intervals), keys hold
the way in which the server writes them (`postgres_values.py`): then the text tells.

Pure: no database. Read next: `distinct.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final
from uuid import UUID

from .checks import Narrowing, domain_narrowing
from .pools import limits
from .postgres_values import TEXTS_OF_ANY_LENGTH, WIDTHS, array_element
from .shape import ColumnShape

_TRUE: Final = frozenset({"t", "true", "y", "yes", "on", "1"})


def remote_comparable(column: ColumnShape, value: str) -> Hashable:
    """Equal for two texts that stand for the same value."""
    read = _READ.get(column.kind)
    if read is None:
        return value
    try:
        return read(value)
    except (ValueError, InvalidOperation, OverflowError, struct.error):
        # Not a text of that type: the server will say so.
        return value


def _real(value: str) -> Hashable:
    # NaN is equal to itself there.
    return "NaN" if value.lower() == "nan" else float(value)


def _single(value: str) -> Hashable:
    return "NaN" if value.lower() == "nan" else struct.unpack("f", struct.pack("f", float(value)))[0]


def _exact(value: str) -> Hashable:
    return "NaN" if value.lower() == "nan" else Decimal(value)


_READ: Final[Mapping[str, Callable[[str], Hashable]]] = {
    **dict.fromkeys(WIDTHS, int),
    "numeric": _exact,
    "float8": _real,
    "float4": _single,
    "bool": lambda value: value.strip().lower() in _TRUE,
    "uuid": UUID,
    "bpchar": lambda value: value.rstrip(" "),
    "citext": str.casefold,
    "bytea": str.lower,
    "macaddr": lambda value: "".join(filter(str.isalnum, value.lower())),
    "money": Decimal,
}


def remote_varied(column: ColumnShape, narrowing: Narrowing, value: object, number: int) -> str | None:
    """Another value for each number, as far as there are others; None where there is no way to change it."""
    text = str(value)
    options = column.labels or narrowing.choices
    if options is not None and (options or column.kind == "enum"):
        return str(options[number % len(options)]) if options else None
    if column.kind in WIDTHS:
        low, high = WIDTHS[column.kind]
        low, high = limits(narrowing, low, high // 2 if column.sequence else high)
        start = int(text) if text.lstrip("-").isdecimal() else 0
        return str(low + (start - low + number) % (high - low + 1)) if low <= high else None
    if column.kind in TEXTS_OF_ANY_LENGTH or column.kind in ("bpchar", "name"):
        return _longer(text, number, column.limit, narrowing)
    if column.kind == "array" and column.element is not None:
        another = remote_varied(column.element, domain_narrowing(column.element), "", number)
        return None if another is None else "{" + array_element(another) + "}"
    vary = _VARIED.get(column.kind)
    return None if vary is None else vary(column, narrowing, text, number)


def _longer(text: str, number: int, limit: int | None, narrowing: Narrowing) -> str | None:
    most = min((each for each in (limit, narrowing.max_length) if each is not None), default=None)
    suffix = str(number)
    if most is not None and len(suffix) > most:
        return None
    kept = text if most is None else text[: most - len(suffix)]
    return kept.ljust((narrowing.min_length or 0) - len(suffix), "a") + suffix


def _number(column: ColumnShape, narrowing: Narrowing, text: str, number: int) -> str | None:
    highest = 2**20 if column.kind == "float4" else 2**53
    if column.precision is not None and column.scale is not None:
        highest = 10 ** max(0, column.precision - max(0, column.scale)) - 1
    step = 10 ** max(0, -(column.scale or 0))
    low, high = limits(narrowing, -highest, highest)
    low, high = -(-low // step), high // step
    return str((low + (number - low) % (high - low + 1)) * step) if low <= high else None


_NO_BYTES: Final = "\\x"


def _uuid(text: str) -> int:
    return int("".join(filter(str.isalnum, text)) or "0", 16)


def _moment(number: int) -> str:
    return str(datetime(2001, 1, 1) + timedelta(seconds=number))


def _clock(number: int) -> str:
    return f"{number // 3_600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}"


def _of_bits(column: ColumnShape, narrowing: Narrowing, text: str, number: int) -> str:
    length = column.limit or (1 if column.kind == "bit" else 0)
    return f"{number % 2**length:0{length}b}" if length else f"{number:b}"


def _address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


_VARIED: Final[Mapping[str, Callable[[ColumnShape, Narrowing, str, int], str | None]]] = {
    "numeric": _number,
    "float4": _number,
    "float8": _number,
    "money": _number,
    "bool": lambda column, narrowing, text, number: ("false", "true")[number % 2],
    "uuid": lambda column, narrowing, text, number: str(UUID(int=(_uuid(text) + number) % 2**128)),
    "bytea": lambda column, narrowing, text, number: (
        f"{text or _NO_BYTES}{number:08x}" if narrowing.max_length is None else None
    ),
    "date": lambda column, narrowing, text, number: str(date(2001, 1, 1) + timedelta(days=number % 10**6)),
    "time": lambda column, narrowing, text, number: _clock(number),
    "timetz": lambda column, narrowing, text, number: f"{_clock(number)}+00",
    "timestamp": lambda column, narrowing, text, number: _moment(number),
    "timestamptz": lambda column, narrowing, text, number: f"{_moment(number)}+00",
    "interval": lambda column, narrowing, text, number: f"{1_000 + number} days",
    "jsonb": lambda column, narrowing, text, number: str(number),
    "bit": _of_bits,
    "varbit": _of_bits,
    "inet": lambda column, narrowing, text, number: _address(number),
    "cidr": lambda column, narrowing, text, number: f"{_address(number)}/32",
    "macaddr": lambda column, narrowing, text, number: f"{number % 2**48:012x}",
    "macaddr8": lambda column, narrowing, text, number: f"{number % 2**64:016x}",
}
