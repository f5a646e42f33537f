"""One row of SQLite as JSON that loses nothing, and back: what the quarantine keeps of a row.

JSON has one kind of number, and no bytes. Whole numbers and finite reals are told apart by their text (1 and 1.0); what has no
JSON of its own is an object with one key: {"blob": hex}, {"text": hex} for text that is not UTF-8, {"real": "inf"}.

Only values here, and how a connection reads and binds them. Read next: `quarantine.py`.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from ..events.cut_short import cut_short

SqlValue: TypeAlias = "str | int | float | bytes | None"
Value: TypeAlias = "str | int | float | bytes | RawText | None"


class RawText(bytes):
    """Text of a database that is not UTF-8. To SQLite it is another value than the bytes alone, and so it is here."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RawText) and super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((RawText, bytes(self)))


def read_text(raw: bytes) -> str | RawText:
    """A `text_factory` for connections whose rows are to be written down exactly."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return RawText(raw)


@contextmanager
def exact_text(driver: sqlite3.Connection) -> Iterator[None]:
    """Text is read exactly inside, also where it is not UTF-8."""
    before, driver.text_factory = driver.text_factory, read_text
    try:
        yield
    finally:
        driver.text_factory = before


def mark(value: Value) -> str:
    """How the value stands in a statement: as a question mark, which binds what `bindable` makes of it."""
    return "CAST(? AS TEXT)" if isinstance(value, RawText) else "?"


def bindable(values: Iterable[Value]) -> tuple[SqlValue, ...]:
    """The values as the driver takes them."""
    return tuple(bytes(value) if isinstance(value, RawText) else value for value in values)


def to_json(names: Sequence[str], values: Sequence[Value]) -> str:
    """The row as the text of a JSON object.

    >>> to_json(["id", "body", "size"], [1, b"\\x00", 1.0])
    '{"id": 1, "body": {"blob": "00"}, "size": 1.0}'
    """
    return json.dumps({name: _encoded(value) for name, value in zip(names, values, strict=True)}, ensure_ascii=False)


def from_json(text: str) -> dict[str, Value]:
    """The row again.

    >>> from_json('{"id": 1, "body": {"blob": "00"}, "size": 1.0}')
    {'id': 1, 'body': b'\\x00', 'size': 1.0}
    """
    found: Mapping[str, object] = json.loads(text)
    return {name: _decoded(value) for name, value in found.items()}


def shown(text: str) -> str:
    """The row in one line for people."""
    return ", ".join(f"{name}={_short(value)}" for name, value in from_json(text).items())


def _short(value: Value) -> str:
    said = repr(bytes(value)) if isinstance(value, RawText) else "NULL" if value is None else repr(value)
    return cut_short(said, 40)


def _encoded(value: Value) -> object:
    if isinstance(value, RawText):
        return {"text": value.hex()}
    if isinstance(value, bytes):
        return {"blob": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"real": repr(value)}
    return value


def _decoded(value: object) -> Value:
    match value:
        case {"text": str(digits)}:
            return RawText(bytes.fromhex(digits))
        case {"blob": str(digits)}:
            return bytes.fromhex(digits)
        case {"real": str(number)}:
            return float(number)
        case str() | int() | float() | None:
            return value
    raise ValueError(f"not a value of a row: {value!r}")
