"""The values that a migration itself speaks of: `WHERE status = 'obsolete'` does nothing to rows that have other ones.

They are read from the literals of its SQL, up and down, and from the constants of its functions, and are given to rows beside
the values that are drawn for any migration. Which column a literal stands next to is not looked at: each goes to all columns
that the migration names and that take it. (Fuzzers call this a dictionary; libFuzzer and AFL have it for the same reason.)

Pure: no database. Read next: `values.py` (who gives them to columns), `../../migrations/lexical.py` (where literals begin).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from math import isfinite
from types import CellType, CodeType, FunctionType
from typing import Final, TypeAlias

from attrs import frozen

from ...migrations.checksums import DIALECTS
from ...migrations.definition import SideName
from ...migrations.lexical import Dialect, normal_newlines, regions
from ...migrations.script import CompiledSide
from ...migrations.sql import Statement
from .checks import Narrowing
from .pools import HIGHEST, HIGHEST_MARK, LOWEST, limits
from .postgres_values import TEXTS_OF_ANY_LENGTH, WIDTHS, plain_decimal, whole_limits
from .shape import ColumnShape, TableShape

Number: TypeAlias = "int | Decimal"

# More than these are hardly ever met by a row.
MOST: Final = 24
LONGEST: Final = 60
LONGEST_SEPARATOR: Final = 3
# Of a length that is spoken of: shorter ones are common in any case.
SHORTEST, LONG = 12, 2_000

_NUMBER: Final = re.compile(r"(?<![\w.$])(?P<sign>(?<=[=<>(,])\s*-)?(?P<digits>\d{1,18}(?:\.\d{1,9})?)(?![\w.])")
_WORD: Final = re.compile(r"\w+")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_YEAR: Final = re.compile(r"(?:19|20)\d\d")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_QUOTED: Final = re.compile(r"[eE]?'(?P<text>.*)'", re.DOTALL)
_STATEMENT: Final = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:SELECT|WITH|VALUES|INSERT|REPLACE|UPDATE|DELETE|MERGE|CREATE|ALTER|DROP)\s",
    re.IGNORECASE | re.DOTALL,
)
_PATH: Final = re.compile(r"(?:\$\.|\{)?(?P<keys>\"?\w+\"?(?:[.,]\"?\w+\"?)*)\}?")
_GLOB_SET: Final = re.compile(r"\[(.)[^]]*\]")
# Of what earlier migrations made: what acts on rows that this one changes, or that it reads from.
_AT_WORK: Final = re.compile(
    r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?:TEMP\s+|TEMPORARY\s+|MATERIALIZED\s+)?(?:CONSTRAINT\s+)?(?:TRIGGER|VIEW|FUNCTION|RULE)\s",
    re.IGNORECASE,
)
_DOLLARS: Final = re.compile(r"(?P<tag>\$\w*\$)(?P<text>.*)(?P=tag)", re.DOTALL)

# A document that is not as a database would write it, and times of several forms, with all their parts.
_JSON: Final = ("json", "to_json")
_TIME: Final = ("date", "time", "julianday", "strf", "strp", "unixepoch", "epoch", "fromiso", "fromtime", "to_date", "to_time")
_GIVEN_TO: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    _JSON: ('{"b": 2, "a": 1.0}', "[1,  null]"),
    _TIME: ("2024-02-29T23:59:59.5+05:30", "2024-02-29 23:59:59", "2024-02-29"),
    ("normalize", "unicodedata"): ("e\u0301",),
    ("html", "escape", "unescape"): ("&lt;b&gt; &amp; <i>",),
}


@frozen(kw_only=True)
class Mentioned:
    """Texts and numbers, in the order in which they were met first, and JSON that is made of them. `words` are all that may
    be names, in small letters."""

    texts: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()
    documents: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()

    @property
    def digits(self) -> tuple[str, ...]:
        """The numbers as texts."""
        return tuple(map(str, self.numbers))

    def names(self, column: str) -> bool:
        """Whether a column of that name may be meant."""
        return column.casefold() in self.words


NOTHING: Final = Mentioned()


def mentioned_by(side: SideName, compiled: CompiledSide, earlier: Iterable[str] = ()) -> Mentioned:
    """What a side's statements and functions speak of, and those of the `earlier` statements that are at work meanwhile."""
    texts: dict[str, None] = {}
    numbers: dict[Number, None] = {}
    words: set[str] = set()
    at_work = (found for text in earlier if _AT_WORK.match(text) for found in _of_text(text, DIALECTS[side]))
    for found in chain(_spoken(side, compiled), at_work):
        if isinstance(found, _Words):
            words |= {word.casefold() for word in _WORD.findall(found.text)}
        elif isinstance(found, str):
            texts.update(dict.fromkeys(_as_texts(found)))
        else:
            numbers[found] = None
    said = tuple(texts)[:MOST]
    if any(word.startswith(_TIME) for word in words):
        numbers.update(dict.fromkeys(_epochs(said)))
    counted = tuple(numbers)[:MOST]
    documents = tuple(dict.fromkeys(_documents(said, counted)))[:MOST]
    given = [*_of_functions(words), *(documents if any(word.startswith(_JSON) for word in words) else ())]
    return Mentioned(texts=tuple(dict.fromkeys([*said, *given])), numbers=counted, documents=documents, words=frozenset(words))


@frozen
class _Words:
    """Text that is no literal, or may be a name in quotes."""

    text: str


_Spoken: TypeAlias = "str | Number | _Words"


def _spoken(side: SideName, compiled: CompiledSide) -> Iterator[_Spoken]:
    units = compiled.script.units
    for step in (*(step for unit in units for step in unit.up), *(step for unit in units for step in unit.down or ())):
        if isinstance(step, Statement):
            yield from _of_text(step.text, DIALECTS[side])
        else:
            yield from _of_function(compiled.callables[step.name], DIALECTS[side], set())


def _of_text(text: str, dialect: Dialect) -> Iterator[_Spoken]:
    text = normal_newlines(text)
    for kind, start, end in regions(text, dialect):
        piece = text[start:end]
        if kind == "code":
            yield _Words(piece)
            if "->" in piece:
                yield _Words("json")
            yield from (_number(found) for found in _NUMBER.finditer(piece))
        elif kind == "literal" and (found := _QUOTED.fullmatch(piece)):
            yield found["text"].replace("''", "'")
        elif kind == "literal" and (found := _DOLLARS.fullmatch(piece)):
            yield from _of_text(found["text"], dialect)
        elif kind == "literal":
            yield _Words(piece)


def _number(found: re.Match[str]) -> Number:
    digits = found["digits"]
    number = Decimal(digits) if "." in digits else int(digits)
    return -number if found["sign"] else number


def _of_function(function: object, dialect: Dialect, seen: set[CodeType]) -> Iterator[_Spoken]:
    """What its code holds, its defaults and what encloses it, and what its module has under the names that it uses: values,
    and functions in turn."""
    if not isinstance(function, FunctionType) or function.__code__ in seen:
        return
    seen.add(function.__code__)
    used: set[str] = set()
    for code in _with_inner(function.__code__):
        used |= set(code.co_names)
        for constant in code.co_consts:
            yield from _of_constant(constant, dialect)
    yield _Words(" ".join(used))
    enclosed = [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    for value in (*defaults, *enclosed, *(function.__globals__[name] for name in sorted(used & function.__globals__.keys()))):
        if not isinstance(value, FunctionType):
            yield from _of_constant(value, dialect)
        elif value.__globals__ is function.__globals__:
            yield from _of_function(value, dialect, seen)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


def _of_constant(value: object, dialect: Dialect) -> Iterator[_Spoken]:
    """A text may be a statement or a part of one, a value, a name."""
    if isinstance(value, str):
        if not _STATEMENT.match(value):
            yield value
        yield _Words(value)
        yield from _of_text(value, dialect)
    elif isinstance(value, Decimal | int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, float) and isfinite(value):
        yield Decimal(repr(value))
    elif isinstance(value, tuple | list | set | frozenset):
        # A set has another order in another process, and the same seed is to draw the same.
        for each in value if isinstance(value, tuple | list) else sorted(value, key=repr):
            yield from _of_constant(each, dialect)
    elif isinstance(value, dict):
        yield from _of_constant((*value.keys(), *value.values()), dialect)


def _as_texts(literal: str) -> Iterator[str]:
    """Itself, texts that fit it where it is a pattern of LIKE or GLOB, and one of three parts where it is what parts them.

    >>> list(_as_texts("____-__%")), list(_as_texts("[a-c]?*")), list(_as_texts("; "))
    (['____-__%', '1111-11', 'aaaa-aa'], ['[a-c]?*', 'a1'], ['; ', 'a; b; c'])
    """
    if len(literal) > LONGEST or "\0" in literal:
        return
    yield literal
    if "%" in literal:
        bare = literal.replace("%", "")
        yield from dict.fromkeys((bare.replace("_", "1"), bare.replace("_", "a")))
    if any(sign in literal for sign in "*?["):
        yield _GLOB_SET.sub(r"\1", literal).replace("*", "").replace("?", "1")
    if _YEAR.fullmatch(literal):
        yield f"{literal}-06-15"
    if 0 < len(literal) <= LONGEST_SEPARATOR and not any(map(str.isalnum, literal)):
        yield f"a{literal}b{literal}c"


def _documents(texts: Iterable[str], numbers: Iterable[Number]) -> Iterator[str]:
    """JSON in which each text that may be a key or a path is one, with each other text or number.

    >>> list(_documents(["$.state.name", "old"], [7]))[:4]
    ['{"state": {"name": 1}}', '{"state": {"name": ["b", "a", "b"]}}', '{"state": {"name": "old"}}', '{"state": {"name": 7}}']
    """
    spoken = [*texts, *(_plain(number) for number in numbers)]
    for path in spoken:
        if isinstance(path, str) and (found := _PATH.fullmatch(path)):
            keys = re.split(r"[.,]", found["keys"].replace('"', ""))
            for value in (1, ["b", "a", "b"], *(each for each in spoken if each != path)):
                document: object = value
                for key in reversed(keys):
                    document = {key: document}
                yield json.dumps(document, ensure_ascii=False)


def _epochs(texts: Iterable[str]) -> Iterator[int]:
    """The days that are spoken of, as seconds and as milliseconds."""
    for day in _days_of(texts):
        seconds = int(datetime.combine(date.fromisoformat(day), time(), UTC).timestamp())
        yield from (seconds, 1000 * seconds)


def _of_functions(words: Collection[str]) -> Iterator[str]:
    """What is given to functions of these names."""
    for beginnings, texts in _GIVEN_TO.items():
        if any(word.startswith(beginnings) for word in words):
            yield from texts


# What a column takes of it


@frozen(kw_only=True)
class Hints:
    """Values for a column: those that are its own kind's, the neighbours of whole numbers, and what else it takes."""

    own: tuple[object, ...] = ()
    near: tuple[object, ...] = ()
    other: tuple[object, ...] = ()

    @property
    def all(self) -> tuple[object, ...]:
        """Each once."""
        return tuple(dict.fromkeys((*self.own, *self.near, *self.other)))

    @property
    def weighed(self) -> tuple[object, ...]:
        """What the migration most likely asks of the column, most of all exactly what it says."""
        return self.own * 3 + self.near or self.other


def hints_for(side: SideName, table: TableShape, column: ColumnShape, narrowing: Narrowing, mentioned: Mentioned) -> Hints:
    """The values that the column takes; none where the migration does not name it."""
    if narrowing.choices is not None or not mentioned.names(column.name):
        return Hints()
    if side == "local":
        return _local_hints(table, column, narrowing, mentioned)
    return _remote_hints(column, narrowing, mentioned)


def _texts_of(mentioned: Mentioned, narrowing: Narrowing) -> Hints:
    """For a column of texts on either side."""
    near = (*_long(mentioned.numbers), *_days_of(mentioned.texts, (-1, 1)))
    kinds = (mentioned.texts, near, mentioned.digits)
    own, near, other = (tuple(text for text in texts if narrowing.takes(text)) for texts in kinds)
    return Hints(own=own, near=near, other=other)


def _local_hints(table: TableShape, column: ColumnShape, narrowing: Narrowing, mentioned: Mentioned) -> Hints:
    """As SQLite's driver binds them. A column of no STRICT table takes texts and numbers alike."""
    texts = tuple(text for text in mentioned.texts if narrowing.takes(text))
    if column.kind == "text" and not column.rowid:
        return _texts_of(mentioned, narrowing)
    if narrowing.min_length is not None or narrowing.max_length is not None:
        return Hints(other=() if table.strict else texts)
    if table.strict and column.kind == "blob":
        return Hints()
    low, high = limits(narrowing, LOWEST, HIGHEST_MARK if table.autoincrement else HIGHEST)

    def taken(numbers: Iterable[Number]) -> list[Number]:
        return [each for each in numbers if low <= each <= high and narrowing.takes(each)]

    numbers = taken(mentioned.numbers)
    whole = [each for each in numbers if isinstance(each, int)]
    is_limited = column.rowid or narrowing.minimum is not None or narrowing.maximum is not None
    own: Iterable[object] = whole
    if column.kind in ("real", "numeric") and not column.rowid:
        own = (float(each) if column.kind == "real" else _plain(each) for each in numbers)
    return Hints(
        own=tuple(own),
        near=tuple(taken(_near(whole))),
        other=() if is_limited or (table.strict and column.kind != "any") else texts,
    )


def _plain(number: Number) -> object:
    return number if isinstance(number, int) else float(number)


def _remote_hints(column: ColumnShape, narrowing: Narrowing, mentioned: Mentioned) -> Hints:
    """As the server reads them."""
    own: Iterable[str] = ()
    near: Iterable[str] = ()
    if column.kind in TEXTS_OF_ANY_LENGTH:
        return _texts_of(mentioned, narrowing.and_also(Narrowing(max_length=column.limit)))
    if column.kind in WIDTHS:
        low, high = whole_limits(column, narrowing)
        whole = [each for each in mentioned.numbers if isinstance(each, int)]
        own = (str(each) for each in whole if low <= each <= high)
        near = (str(each) for each in _near(whole) if low <= each <= high)
    elif column.kind in ("numeric", "float4", "float8"):
        fitting = (each for each in mentioned.numbers if narrowing.takes(each) and _has_room(column, each))
        own = (plain_decimal(Decimal(each)) for each in fitting)
    elif column.kind in ("date", "timestamp", "timestamptz"):
        rest = {"date": "", "timestamp": " 00:00:00", "timestamptz": " 00:00:00+00"}[column.kind]
        own = (f"{day}{rest}" for day in _days_of(mentioned.texts))
        near = (f"{day}{rest}" for day in _days_of(mentioned.texts, (-1, 1)))
    elif column.kind in ("json", "jsonb"):
        own = mentioned.documents
    elif column.kind == "uuid":
        own = filter(_UUID.fullmatch, mentioned.texts)
    return Hints(own=tuple(own), near=tuple(near))


def _near(numbers: Iterable[int]) -> Iterator[int]:
    return (number + step for number in numbers for step in (1, -1))


def _has_room(column: ColumnShape, number: Number) -> bool:
    """Whether a numeric takes it as it is."""
    if column.precision is None or column.scale is None:
        return True
    scaled = Decimal(number).scaleb(column.scale)
    return scaled == scaled.to_integral_value() and abs(scaled) < Decimal(10) ** column.precision


def _days_of(texts: Iterable[str], steps: Iterable[int] = (0,)) -> Iterator[str]:
    """Days so far from those that are spoken of; none where there is no such day."""
    steps = tuple(steps)
    for text in texts:
        for found in _DAY.findall(text):
            with suppress(ValueError, OverflowError):
                day = date.fromisoformat(found)
                yield from [str(day + timedelta(days=step)) for step in steps]


def _long(numbers: Iterable[Number]) -> Iterator[str]:
    """Texts that are one character longer than is spoken of."""
    return ("x" * (number + 1) for number in numbers if isinstance(number, int) and SHORTEST <= number <= LONG)
