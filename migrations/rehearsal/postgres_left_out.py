"""What a rehearsal could only look up, and whether a later refusal comes of nothing but that. Pure.

The server's error class is read, never its text; names are looked for in the statement, which is ours.
Read next: `postgres_inside.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import psycopg
from attrs import frozen

EXISTING_ROWS: Final = (
    "tried on an empty copy of the table; whether the rows that are there allow it (uniqueness), its size and its time were "
    "not. While it is built, reads and writes go on"
)
MISSING: Final = (psycopg.errors.UndefinedObject, psycopg.errors.UndefinedTable)
TAKEN: Final = (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject)
# ON CONFLICT and a foreign key need a unique index on their columns.
NOT_UNIQUE: Final = (psycopg.errors.InvalidColumnReference, psycopg.errors.InvalidForeignKey)


@frozen(kw_only=True)
class LeftOut:
    """A statement outside a transaction: the index that it makes or drops; `unknown` where nobody can tell what it does."""

    made: str = ""
    dropped: str = ""
    unique: bool = False
    unknown: bool = False


def only_because(error: psycopg.Error, text: str, left_out: Sequence[LeftOut]) -> str | None:
    """Why the statement was refused here and need not be in the real run; None where it would be there too.

    Of a function only the name is known, so that anything it misses may be what was left out.
    """
    function = text.endswith("()")
    for each in left_out:
        if each.unknown:
            return "it comes after a statement that could only be looked up"
        named = function or names(text, each.made or each.dropped)
        if each.made and ((isinstance(error, MISSING) and named) or (isinstance(error, NOT_UNIQUE) and each.unique)):
            return f"it needs the index {each.made}, which is built outside a transaction"
        if each.dropped and isinstance(error, TAKEN) and named:
            return f"it needs the name of the index {each.dropped}, which is dropped outside a transaction"
    return None


def names(text: str, name: str) -> bool:
    """Whether a statement names it, qualified or not, quoted or not."""
    bare = re.split(r'\.(?=(?:[^"]*"[^"]*")*[^"]*$)', name)[-1]
    plain = bare[1:-1].replace('""', '"') if bare.startswith('"') else bare
    flags = 0 if bare.startswith('"') else re.IGNORECASE
    return re.search(rf"(?<![\w$]){re.escape(plain)}(?![\w$])", text, flags) is not None
