"""What the statements of a change named themselves: dropped, renamed, a version set. The rest is a side effect.

Every statement that ran is seen, of SQL files and of functions alike, because SQLite tells of it. DROP TABLE takes indexes and
triggers along without naming them: that is how they are lost. Read from tokens; any other statement says nothing.

No database here. Read next: `accounting.py`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from attrs import field, frozen

from ..sqlite_text import Token, fold, meaning

_KINDS = ("table", "index", "trigger", "view")
# Behind blank space and comments, as they stand before a statement in a function's text.
_WORDS = "drop|alter|pragma|analyze|savepoint|release|rollback"
_HEARD = re.compile(rf"(?:\s+|--[^\n]*\n|/\*.*?\*/)*(?:{_WORDS})\b", re.IGNORECASE | re.DOTALL)


@frozen
class Said:
    """What the statements so far have named. Names are folded; an object's key is its kind and name."""

    dropped: set[tuple[str, str]] = field(factory=set, init=False)
    tables_renamed: dict[str, str] = field(factory=dict, init=False)
    columns_renamed: dict[tuple[str, str], str] = field(factory=dict, init=False)
    columns_dropped: set[tuple[str, str]] = field(factory=set, init=False)
    marks_set: set[str] = field(factory=set, init=False)
    analyzed: set[str] = field(factory=set, init=False)
    _savepoints: list[tuple[str, tuple[Any, ...]]] = field(factory=list, init=False)

    def hear(self, statement: str) -> None:
        """Take in one statement, as SQLite's trace tells it: those of triggers come as comments."""
        if _HEARD.match(statement):
            self._read(meaning(statement))

    def now(self, table: str) -> str:
        """The name that the table bears after all renaming."""
        return self.tables_renamed.get(fold(table), fold(table))

    def column_now(self, table: str, column: str) -> str:
        """The name that the table's column bears after all renaming; the table by its first name."""
        return self.columns_renamed.get((fold(table), fold(column)), fold(column))

    def _read(self, found: list[Token]) -> None:
        words = [token.word for token in found]
        match words[:2]:
            case ["drop", kind] if kind in _KINDS:
                at = 4 if words[2:4] == ["if", "exists"] else 2
                self.dropped.add((kind, _name(found, at)))
            case ["alter", "table"]:
                self._altered(found, words)
            case ["savepoint", *_]:
                self._savepoints.append((_name(found, 1), copy.deepcopy(self._all())))
            case ["release", *_]:
                del self._savepoints[self._place(found, 1) :]
            case ["rollback", *_] if "to" in words:
                # What was undone was not said.
                place = self._place(found, words.index("to") + 1)
                for mine, then in zip(self._all(), copy.deepcopy(self._savepoints[place][1]), strict=True):
                    mine.clear()
                    mine.update(then)
                del self._savepoints[place + 1 :]
            case ["analyze", *_]:
                self.analyzed.add(_name(found, 1) if len(found) > 1 else "")
            case ["pragma", _]:
                at = 3 if words[2:3] == ["."] else 1
                if words[at + 1 : at + 2] in (["="], ["("]):
                    self.marks_set.add(fold(found[at].name))
            case _:
                pass

    def _all(self) -> tuple[set[Any] | dict[Any, Any], ...]:
        return (
            self.dropped, self.tables_renamed, self.columns_renamed, self.columns_dropped, self.marks_set, self.analyzed,
        )  # fmt: skip

    def _place(self, found: list[Token], at: int) -> int:
        """Which savepoint is named there: the youngest of that name."""
        name = _name(found, at + (found[at].word == "savepoint"))
        return max(place for place, (each, _) in enumerate(self._savepoints) if each == name)

    def _altered(self, found: list[Token], words: list[str]) -> None:
        at = 4 if words[3:4] == ["."] else 2
        table, rest = fold(found[at].name), words[at + 1 :]
        if rest[:2] == ["rename", "to"]:
            self._rename_table(table, fold(found[at + 3].name))
        elif rest[:1] == ["rename"]:
            first = at + (3 if rest[1:2] == ["column"] and rest[2:3] != ["to"] else 2)
            self._rename_column(table, fold(found[first].name), fold(found[first + 2].name))
        elif rest[:1] == ["drop"]:
            named = at + (3 if rest[1:2] == ["column"] and len(found) > at + 3 else 2)
            self.columns_dropped.add((table, fold(found[named].name)))

    def _rename_table(self, old: str, new: str) -> None:
        # The name may by now be that of another table than before, which was dropped and made anew under it: both follow.
        for first in self._firsts(old):
            self.tables_renamed[first] = new
            if first == new:
                del self.tables_renamed[first]

    def _rename_column(self, table: str, old: str, new: str) -> None:
        for of in self._firsts(table):
            was = next((column for (on, column), now in self.columns_renamed.items() if on == of and now == old), old)
            self.columns_renamed[of, was] = new

    def _firsts(self, table: str) -> list[str]:
        """The names that what bears this name now has borne first."""
        firsts = [name for name, now in self.tables_renamed.items() if now == table]
        return firsts if table in self.tables_renamed else [*firsts, table]


def _name(found: list[Token], at: int) -> str:
    """The name that stands there, behind a schema's if one is given."""
    parts = list(_dotted(found, at))
    return fold(parts[-1].name) if parts else ""


def _dotted(found: list[Token], at: int) -> Iterator[Token]:
    while at < len(found):
        yield found[at]
        if at + 1 < len(found) and found[at + 1].word == ".":
            at += 2
        else:
            return
