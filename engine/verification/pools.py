"""What a column's values are picked from: a list in order of simplicity, a list of oddities, and a strategy for the rest.

Also the lists that both sides share. Pure: no database. Read next: `values.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import Enum
from typing import Final

from attrs import field, frozen
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from .checks import Narrowing

# The integers of SQLite.
LOWEST, HIGHEST = -(2**63), 2**63 - 1
# AUTOINCREMENT goes on above the highest; there must be something above it.
HIGHEST_MARK: Final = 2**62


class Pick(Enum):
    """What is picked where no value is: the column is left out of the row, or the value is drawn freely."""

    LEFT_OUT = "left out"
    FREE = "free"


def _tuple(values: Iterable[object]) -> tuple[object, ...]:
    return tuple(values)


@frozen(kw_only=True)
class Pool:
    """`common` values come often, simplest first; `odd` ones rarely, and `free` ones more rarely still. Of the `hints`, which
    matter to what is tried, is about every third."""

    common: tuple[object, ...] = field(converter=_tuple)
    odd: tuple[object, ...] = field(default=(), converter=_tuple)
    free: SearchStrategy[object] | None = None
    hints: tuple[object, ...] = field(default=(), converter=_tuple)

    def only(self, keep: Callable[[object], bool]) -> Pool:
        """Without the values that are not kept, and without free ones."""
        return Pool(common=filter(keep, self.common), odd=filter(keep, self.odd))

    def strategy(self, *, null: bool = False, left_out: bool = False) -> SearchStrategy[object]:
        """The picks, with NULL and the default among them where asked for; nothing at all where there is no value."""
        values = [*self.common, *([Pick.FREE] if self.free is not None else [])]
        # About one in ten is odd, and one in twelve free.
        often = max(1, 8 * len(self.odd) // max(1, len(self.common)))
        usual = [*self.common] * often
        picks = usual + list(self.odd) + [Pick.FREE] * (max(1, len(usual) // 12) if self.free is not None else 0)
        picks += [*self.hints] * (max(1, len(picks) // (2 * len(self.hints))) if self.hints else 0)
        size = len(picks) or 1
        nulls = [None] * max(1, size // 6) if null else []
        defaults = [Pick.LEFT_OUT] * max(1, size // 4) if left_out else []
        picks = defaults + nulls + picks
        if not picks:
            return st.nothing()
        picked = st.sampled_from(picks)
        return picked if self.free is None or not values else _picked(picked, self.free)


@st.composite
def _picked(draw: DrawFn, picks: SearchStrategy[object], free: SearchStrategy[object]) -> object:
    value = draw(picks)
    return draw(free) if value is Pick.FREE else value


# Digits as text, quotes, blanks inside and at the end, both cases of a letter, what is long and what is not ASCII, what an
# editor or a shell would stumble over, JSON and a time as nobody else writes them, a letter that is two characters.
TEXTS: Final = ("", "a", "b", "A", "0", "1", "é", "it's", "x Y", "cc ", "z", "A longer Text")
ODD_TEXTS: Final = (
    'say "x"',
    "007",
    "1e3",
    " a",
    "a ",
    "NULL",
    "null",
    "😀",
    "\\",
    "%_",
    "line\nline",
    "line\r\nline",
    "\t",
    "{}",
    '{"b": 2, "a": 1.0}',
    "2024-02-29T23:59:59.5+05:30",
    "É",
    "e\u0301",
    "ß",
    "1.0",
    "--",
)
WITH_NUL: Final = ("a\0b", "\0")
BLOBS: Final = (b"", b"a", b"b", b"\0", b"\xff\x00'", b"0")


def texts(*, nul: bool, min_size: int = 0, max_size: int = 8) -> SearchStrategy[str]:
    """Any text without half characters; NUL where it is allowed."""
    alphabet = st.characters(codec="utf-8", exclude_characters="" if nul else "\0")
    return st.text(alphabet, min_size=min_size, max_size=max_size)


def whole_numbers(low: int, high: int, usual: Iterable[int]) -> Pool:
    """Integers between two limits: of the usual ones those that lie there, the limits and their neighbours, any other."""
    if low > high:
        return Pool(common=())
    inside = [number for number in usual if low <= number <= high]
    edges = [number for number in (low, low + 1, high - 1, high) if low <= number <= high]
    common = list(dict.fromkeys([*inside, *(edges if len(inside) < 4 else [])]))
    odd = [number for number in edges if number not in common]
    return Pool(common=common, odd=odd, free=st.integers(low, high) if high - low > 8 else None)


def limits(narrowing: Narrowing, low: int, high: int) -> tuple[int, int]:
    """The smallest and the greatest integer that are allowed."""
    if narrowing.minimum is not None:
        least = int(Decimal(narrowing.minimum).to_integral_value(ROUND_CEILING))
        low = max(low, least + (narrowing.exclusive_minimum and least == narrowing.minimum))
    if narrowing.maximum is not None:
        most = int(Decimal(narrowing.maximum).to_integral_value(ROUND_FLOOR))
        high = min(high, most - (narrowing.exclusive_maximum and most == narrowing.maximum))
    return low, high


def text_pool(narrowing: Narrowing, *, nul: bool, limit: int | None = None) -> Pool:
    """Texts of the lengths that are allowed. SQLite's length() ends at a NUL: where it is asked for, there is none."""
    low = narrowing.min_length or 0
    most = [each for each in (narrowing.max_length, limit) if each is not None]
    high = min(most, default=None)
    if high is not None and high < low:
        return Pool(common=())
    free = texts(nul=nul and not low and high is None, min_size=low, max_size=low + 8 if high is None else min(high, low + 8))
    if not low and high is None:
        return Pool(common=TEXTS, odd=ODD_TEXTS + (WITH_NUL if nul else ()), free=free)

    def fits(value: object) -> bool:
        return low <= len(str(value)) and (high is None or len(str(value)) <= high)

    padded = [text + "a" * (low - len(text)) for text in TEXTS if len(text) < low]
    edge = ["é" * high] if high is not None and high <= 4_096 else []
    return Pool(common=dict.fromkeys(filter(fits, [*TEXTS, *padded])), odd=filter(fits, [*ODD_TEXTS, *edge]), free=free)


def blob_pool(narrowing: Narrowing) -> Pool:
    """Byte strings of the lengths that are allowed."""
    low, high = narrowing.min_length or 0, narrowing.max_length
    if high is not None and high < low:
        return Pool(common=())
    padded = [blob.ljust(low, b"\0") for blob in BLOBS]
    common = [blob for blob in dict.fromkeys(padded) if high is None or len(blob) <= high]
    return Pool(common=common, free=st.binary(min_size=low, max_size=low + 8 if high is None else min(high, low + 8)))
