"""Values of PostgreSQL columns, as texts in the server's input syntax, of any type alike.

Each type has its ordinary values and its edges: the first and the last number, infinity, NaN, dates before Christ, zones that
are odd by a few seconds, keys that come twice in a JSON object. In columns that others refer to, or that are unique, what is
written is what the server would write, so that two texts are the same value only when they are the same text; what is left
of that is in `postgres_distinct.py`.

Pure: no database. Read next: `values.py`, which makes strategies of these.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final, Literal

from hypothesis import strategies as st

from .checks import ANYTHING, Choice, Narrowing, domain_narrowing
from .pools import BLOBS, Pool, limits, text_pool, whole_numbers
from .shape import ColumnShape

WIDTHS: Final[Mapping[str, tuple[int, int]]] = {
    "int2": (-(2**15), 2**15 - 1),
    "int4": (-(2**31), 2**31 - 1),
    "int8": (-(2**63), 2**63 - 1),
    "oid": (0, 2**32 - 1),
}
TEXTS_OF_ANY_LENGTH: Final = frozenset({"text", "varchar", "citext"})
_INTEGERS: Final = (0, 1, 2, -1, 3, 7, 10, 255)
_REALS: Final = ("0", "1", "0.5", "-1", "1.5", "90", "-0.25", "10000000000")


def remote_pool(column: ColumnShape, narrowing: Narrowing, *, known: bool) -> Pool | None:
    """None for a type of which no value is known. With `known`, only texts that the server would write itself."""
    if column.kind == "enum":
        labels = column.labels if narrowing.choices is None else [each for each in column.labels if each in narrowing.choices]
        return Pool(common=labels)
    if narrowing.choices is not None:
        return Pool(common=[_written(choice, column) for choice in narrowing.choices if narrowing.takes(choice)])
    if column.kind in WIDTHS:
        return _whole(column, narrowing)
    if column.kind == "numeric":
        return _numeric(column, narrowing, known=known)
    if column.kind in ("float4", "float8"):
        return _real(column, narrowing, known=known)
    if column.kind in TEXTS_OF_ANY_LENGTH:
        return text_pool(narrowing, nul=False, limit=column.limit)
    if column.element is not None:
        return _made_of(column, column.element, known=known)
    if column.kind in _LIMITED:
        return _LIMITED[column.kind](column, narrowing)
    found = _OTHERS.get(column.kind)
    if found is None or not known:
        return found
    # A time of limited precision is rounded, and may then be another one's.
    return Pool(common=[each for each in found.common if "(" not in column.type or "." not in str(each)], free=found.free)


def _written(choice: Choice, column: ColumnShape) -> str:
    if column.kind == "bool":
        return "true" if choice in (1, "t", "true") else "false"
    return format(choice, "f") if isinstance(choice, Decimal) else str(choice)


def _texts(pool: Pool) -> Pool:
    return Pool(
        common=map(str, pool.common), odd=map(str, pool.odd), free=pool.free.map(str) if pool.free is not None else None
    )


def whole_limits(column: ColumnShape, narrowing: Narrowing) -> tuple[int, int]:
    """The smallest and the greatest integer that the column takes."""
    low, high = WIDTHS[column.kind]
    # A sequence goes on above the highest; there must be something above it.
    return limits(narrowing, low, high // 2 if column.sequence else high)


def _whole(column: ColumnShape, narrowing: Narrowing) -> Pool:
    low, high = whole_limits(column, narrowing)
    return _texts(whole_numbers(low, high, (1, 2, 3, 10, 0, -1) if column.sequence else _INTEGERS))


def _numeric(column: ColumnShape, narrowing: Narrowing, *, known: bool) -> Pool:
    if column.precision is None or column.scale is None:
        highest, step = Decimal(10) ** 18, Decimal(1)
    else:
        # The digits before the point may be fewer than none: numeric(2, 5) goes to 0.00099.
        step = Decimal(1).scaleb(-column.scale)
        highest = (10**column.precision - 1) * step
    low, high = (int(limit) for limit in _steps(narrowing, step, highest))
    if low > high:
        return Pool(common=())
    whole = whole_numbers(low, high, [int(number / step) for number in (0, 1, 2, -1, 3, 7, 10, 255) if abs(number) <= highest])
    between = [low + 1, low + (high - low) // 3, high] if high - low > 2 else []
    common = [plain_decimal(number * step) for number in dict.fromkeys([*map(_int, whole.common), *between])]
    odd = [plain_decimal(number * step) for number in map(_int, whole.odd)]
    if narrowing == ANYTHING and column.precision is None:
        odd += ["0.1", "-0.000000000000000000000000000001", "12345678901234567890.123456789", "1" + "0" * 40]
        odd += [] if known else ["NaN", "1.0", "1e3", "00", "0.10"]
    return Pool(common=common, odd=odd, free=st.integers(low, high).map(lambda number: plain_decimal(number * step)))


def _steps(narrowing: Narrowing, step: Decimal, highest: Decimal) -> tuple[Decimal, Decimal]:
    """The limits as multiples of the smallest step."""
    low, high = -highest / step, highest / step
    if narrowing.minimum is not None:
        least = (Decimal(narrowing.minimum) / step).to_integral_value(ROUND_CEILING)
        low = max(low, least + (narrowing.exclusive_minimum and least * step == narrowing.minimum))
    if narrowing.maximum is not None:
        most = (Decimal(narrowing.maximum) / step).to_integral_value(ROUND_FLOOR)
        high = min(high, most - (narrowing.exclusive_maximum and most * step == narrowing.maximum))
    return low, high


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def plain_decimal(number: Decimal) -> str:
    """As the server writes it, without zeros at the end.

    >>> plain_decimal(Decimal("1.50")), plain_decimal(Decimal("1E+3"))
    ('1.5', '1000')
    """
    written = format(number, "f")
    return written.rstrip("0").rstrip(".") if "." in written else written


def _real(column: ColumnShape, narrowing: Narrowing, *, known: bool) -> Pool:
    width: Literal[32, 64] = 32 if column.kind == "float4" else 64
    edges = [limit for limit in (narrowing.minimum, narrowing.maximum) if limit is not None]
    near = [Decimal(edge) + step for edge in edges for step in (0, 1, -1)] + ([sum(map(Decimal, edges)) / 2] if edges else [])
    common = [
        text
        for text in dict.fromkeys([*_REALS, *map(plain_decimal, map(Decimal, near))])
        if narrowing.allows(_rounded(text, width))
    ]
    if edges:
        return Pool(common=common)
    odd = ["0.1", "1e-30", "-1e+30", "Infinity", "-Infinity"] + (["1e+300", "5e-324"] if width == 64 else ["16777217", "1e-45"])
    odd += [] if known else ["NaN", "-0", "1.0", "1e3"]
    free = st.floats(width=width, allow_nan=False, allow_infinity=False, allow_subnormal=width == 64).map(repr)
    return Pool(common=common, odd=odd, free=free)


def _rounded(text: str, width: int) -> Decimal:
    return Decimal(float(text) if width == 64 else struct.unpack("f", struct.pack("f", float(text)))[0])


def _padded(column: ColumnShape, narrowing: Narrowing) -> Pool:
    """Blanks at the end of a char(n) do not count: no two values differ by them, and none is longer without."""
    pool = text_pool(narrowing, nul=False, limit=column.limit)
    return pool.only(lambda text: str(text) == str(text).rstrip(" "))


def _bytes(column: ColumnShape, narrowing: Narrowing) -> Pool:
    low, high = narrowing.min_length or 0, narrowing.max_length
    common = [blob.ljust(low, b"\0") for blob in BLOBS if high is None or max(len(blob), low) <= high]
    free = st.binary(min_size=low, max_size=low + 8 if high is None else min(low + 8, max(low, high)))
    return Pool(common=dict.fromkeys("\\x" + blob.hex() for blob in common), free=free.map(lambda blob: "\\x" + blob.hex()))


def _bits(column: ColumnShape, narrowing: Narrowing) -> Pool:
    most = column.limit or (1 if column.kind == "bit" else 8)
    lengths = [most] if column.kind == "bit" else [0, *range(1, min(most, 8) + 1)]
    common = dict.fromkeys(bit * length for length in lengths for bit in "01")
    return Pool(common=common, free=st.integers(0, 2 ** lengths[-1] - 1).map(lambda number: f"{number:0{lengths[-1]}b}"))


def _made_of(column: ColumnShape, element: ColumnShape, *, known: bool) -> Pool | None:
    pool = remote_pool(element, domain_narrowing(element), known=known)
    if pool is None or not pool.common:
        return None if column.kind != "array" or pool is None else Pool(common=["{}"])
    values = list(map(str, dict.fromkeys([*pool.common, *pool.odd])))
    if column.kind == "array":
        return _arrays(element, values)
    ranges = _ranges(element, known=known)
    if ranges is None:
        return None
    return Pool(common=ranges if column.kind == "range" else ["{}", *(f"{{{each}}}" for each in ranges if each != "empty")])


def _arrays(element: ColumnShape, values: list[str]) -> Pool:
    quoted = [array_element(value) for value in values]
    first, last = quoted[0], quoted[-1]
    null = ["{NULL}", f"{{{first},NULL}}"] if element.nullable else []
    common = ["{}", *(f"{{{each}}}" for each in quoted[:6]), f"{{{first},{last}}}", *null]
    odd = [f"{{{{{first}}},{{{last}}}}}", f"[0:1]={{{first},{first}}}"]
    free = st.lists(st.sampled_from(quoted), max_size=4).map(lambda each: "{" + ",".join(each) + "}")
    return Pool(common=common, odd=odd, free=free)


def array_element(text: str) -> str:
    """A value within the text of an array."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# Two values in order of each type that ranges are made of here.
_ORDERED: Final[Mapping[str, tuple[str, str, str]]] = {
    "int4": ("1", "5", "2147483646"),
    "int8": ("1", "5", "9223372036854775806"),
    "numeric": ("0.5", "1", "1000000"),
    "float8": ("0.5", "1", "1e+300"),
    "date": ("2024-02-29", "2024-12-31", "5874896-12-31"),
    "timestamp": ("2024-02-29 00:00:00", "2024-12-31 23:59:59", "infinity"),
    "timestamptz": ("2024-02-29 00:00:00+00", "2024-12-31 23:59:59+00", "infinity"),
}


def _ranges(element: ColumnShape, *, known: bool) -> list[str] | None:
    found = _ORDERED.get(element.kind)
    if found is None:
        return None
    low, high, last = (f'"{value}"' for value in found)
    plain = ["empty", f"[{low},{high})", f"[{low},)", f"(,{high})", f"[{high},{last})"]
    return plain if known else [*plain, "(,)", f"({low},{high}]", f"({low},{low})", f"[{low},{low}]"]


_LIMITED: Final[Mapping[str, Callable[[ColumnShape, Narrowing], Pool]]] = {
    "bpchar": _padded,
    "bytea": _bytes,
    "bit": _bits,
    "varbit": _bits,
}

_JSON: Final = ("{}", "[]", "0", "null", '""', '{"a": 1, "b": null}', "true", '[1, "b", null]', '{"a": {"b": [{}]}}', "[[]]")
_ODD_JSON: Final = (
    '"é"',
    '"it\'s"',
    '"\\""',
    "-0.5",
    '{"": ""}',
    '{"a": 1, "A": 2}',
    '"\\\\"',
    "12345678901234567890123",
    "1e3",
)
_JSON_LEAVES: Final = st.none() | st.booleans() | st.integers(-1000, 1000) | st.sampled_from(["", "a", "é", "x y"])
_ANY_JSON: Final = st.recursive(
    _JSON_LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
).map(json.dumps)

_DATES: Final = ("2024-01-01", "2024-02-29", "1970-01-01", "2000-12-31", "1999-12-31", "2024-03-31")
_ODD_DATES: Final = ("infinity", "-infinity", "0001-01-01 BC", "4713-01-01 BC", "5874897-12-31", "0001-01-01", "1582-10-10")
_TIMES: Final = ("00:00:00", "12:00:00", "23:59:59.5", "00:00:01", "02:30:00.000001")


def _moments(days: Iterable[str], zone: str) -> list[str]:
    return [f"{day} {time}{zone}" for day, time in zip(days, (*_TIMES, "12:00:00"), strict=False)]


_MOMENTS: Final = st.datetimes().map(lambda moment: moment.replace(microsecond=0).isoformat(" "))
_ZONES: Final = ("+00", "+02", "-05", "+05:30", "-00:00:01", "+15:59", "-15:59:59")

_OTHERS: Final[Mapping[str, Pool]] = {
    "bool": Pool(common=("false", "true"), odd=("t", "no")),
    "uuid": Pool(
        common=[f"00000000-0000-0000-0000-{number:012x}" for number in range(6)],
        odd=(
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
        ),
        free=st.uuids().map(str),
    ),
    "json": Pool(common=_JSON, odd=(*_ODD_JSON, '{"a": 1, "a": 2}', " { } ", '"\\u0000"'), free=_ANY_JSON),
    "jsonb": Pool(common=_JSON, odd=(*_ODD_JSON, '{"a": 1, "a": 2}', "1.0", "1.00"), free=_ANY_JSON),
    "date": Pool(common=_DATES, odd=_ODD_DATES, free=st.dates().map(str)),
    "time": Pool(common=_TIMES, odd=("24:00:00", "00:00:00.000001", "12:00", "23:59:59.999999"), free=st.times().map(str)),
    "timetz": Pool(common=[f"{time}+00" for time in _TIMES], odd=[f"12:00:00{zone}" for zone in _ZONES] + ["24:00:00+00"]),
    "timestamp": Pool(
        common=_moments(_DATES, ""),
        odd=(
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59",
            "2024-01-01",
            "2024-02-29 12:00:00.000001",
        ),
        free=_MOMENTS,
    ),
    "timestamptz": Pool(
        common=_moments(_DATES, "+00"),
        odd=("infinity", "-infinity", "294276-12-31 23:59:59+00", *(f"2024-03-31 02:30:00{zone}" for zone in _ZONES)),
        free=_MOMENTS.map(lambda text: text + "+00"),
    ),
    "interval": Pool(
        common=("00:00:00", "00:00:01", "1 day", "1 mon", "1 year", "-1 days", "30:00:00"),
        odd=("1 day -00:00:01", "1 mon -30 days", "24:00:00", "P1Y2M3DT4H5M6S", "178000000 years", "00:00:00.000001"),
    ),
    "inet": Pool(common=("10.0.0.1", "127.0.0.1", "10.0.0.0/8", "::1"), odd=("0.0.0.0/0", "::ffff:1.2.3.4", "10.0.0.1/8")),
    "cidr": Pool(common=("10.0.0.0/8", "192.168.1.0/24", "::/0"), odd=("10.0.0.1/32", "2001:db8::/32", "10/8")),
    "macaddr": Pool(common=("08:00:2b:01:02:03", "00:00:00:00:00:00"), odd=("08002b:010203", "FF-FF-FF-FF-FF-FF")),
    "macaddr8": Pool(common=("08:00:2b:01:02:03:04:05", "00:00:00:00:00:00:00:00"), odd=("08-00-2b-01-02-03-04-05",)),
    "money": Pool(common=("0", "1", "-1", "0.01", "1000"), odd=("92233720368547758.07", "-92233720368547758.08")),
    "name": Pool(common=("a", "b", "A", "", "é")),
    "char": Pool(common=("a", "b", "A", "0")),
}
