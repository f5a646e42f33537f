"""Statements that PostgreSQL refuses inside a transaction: each knows whether it is done, and how it is taken back.

Such a statement cannot commit together with its ledger row. So every one answers four questions instead::

    before = statement.look(connection)         what is there now, as JSON: into the ledger row, before the statement
    statement.probe(connection, before)         is the effect absent, done, half done, being built, or something different?
    statement.run(connection, before, ...)      makes it done, from whichever state; done already: changes nothing
    statement.undo(connection, before, ...)     makes it as before, from whichever state; as before already: changes nothing

`before` is always the look that was taken before the first attempt, also when another session resumes after a crash.
The connection is in autocommit, and stays the caller's: no statement here reconnects, since the session may hold the
advisory lock that fences it. `look` and `probe` leave nothing behind and work inside a transaction too.

Only the head of a statement is read here, up to the name of its table; what follows is the server's to understand, and is
asked of the server. Recognising such statements in a file, and splitting, is `script.py`'s.
This module must never import sqlalchemy. Read next: `concurrent_index.py`, `concurrent_upkeep.py`, `concurrent_session.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias, final

from ..events.errors import DefinitionError
from .concurrent_index import CreateIndex, DropIndex
from .concurrent_partition import DetachPartition
from .concurrent_session import shortened
from .concurrent_upkeep import Marked, Reindex, Vacuum

if TYPE_CHECKING:
    from .concurrent_upkeep import Probe

SingleStatement: TypeAlias = CreateIndex | DropIndex | Reindex | Vacuum | DetachPartition | Marked


def parse_single(text: str, *, probe: Probe | None = None) -> SingleStatement:
    """The statement as a value. `probe` answers for one that was marked by hand: true when it is done.

    Raises DefinitionError: T322 for one that cannot be read, or could not be told apart afterwards (an index without a
    name), T323 for one of another kind that has no probe.
    """
    head = _Head(text)
    found = _create_index(head) or _drop_index(head) or _reindex(head) or _vacuum(head) or _detach(head)
    if found is not None:
        return found
    if probe is None:
        raise DefinitionError("T323", statement=shortened(text))
    return Marked(text=text, ask=probe)


def _create_index(head: _Head) -> CreateIndex | None:
    head.rewind()
    if not head.take("create"):
        return None
    unique = head.take("unique")
    if not head.take("index", "concurrently"):
        return None
    guarded = head.take("if", "not", "exists")
    if head.sees("on"):
        raise head.problem("the index has no name, so that nobody could tell afterwards whether it is there; name it")
    name = head.identifier()
    head.expect("on")
    table = head.relation()
    if not head.sees("using") and not head.sees("("):
        raise head.problem("its columns do not follow the table's name")
    return CreateIndex(text=head.text, name=name, table=table, unique=unique, guarded=guarded, rest=head.rest)


def _drop_index(head: _Head) -> DropIndex | None:
    head.rewind()
    if not head.take("drop", "index", "concurrently"):
        return None
    guarded = head.take("if", "exists")
    name = head.qualified()
    if head.sees(","):
        raise head.problem("only one index at a time can be dropped concurrently; write one statement for each")
    if head.sees("cascade"):
        raise head.problem("an index cannot be dropped concurrently with CASCADE")
    head.take("restrict")
    head.end()
    return DropIndex(text=head.text, name=name, guarded=guarded)


def _reindex(head: _Head) -> Reindex | None:
    head.rewind()
    if not head.take("reindex"):
        return None
    head.parentheses()
    for kind in ("index", "table", "schema", "database", "system"):
        if head.take(kind):
            head.take("concurrently")
            name = None if head.at_end else head.qualified()
            head.end()
            return Reindex(text=head.text, kind=kind, name=name)
    raise head.problem("what to reindex is missing: INDEX, TABLE, SCHEMA, DATABASE or SYSTEM")


def _vacuum(head: _Head) -> Vacuum | None:
    head.rewind()
    if not head.take("vacuum"):
        return None
    head.parentheses()
    while any(head.take(word) for word in ("full", "freeze", "verbose", "analyze", "analyse")):
        pass
    tables: list[str] = []
    while not head.at_end:
        tables.append(head.relation())
        head.parentheses()
        if not head.take(","):
            break
    head.end()
    return Vacuum(text=head.text, tables=tuple(tables))


def _detach(head: _Head) -> DetachPartition | None:
    head.rewind()
    if not head.take("alter", "table"):
        return None
    head.take("if", "exists")
    parent = head.relation()
    if not head.take("detach", "partition"):
        return None
    partition = head.qualified()
    if not head.take("concurrently"):
        return None
    head.end()
    return DetachPartition(text=head.text, parent=parent, partition=partition)


_TOKEN = re.compile(
    r"""(?P<blank>[ \t\n\r\f\v]+|--[^\n\r]*)|(?P<comment>/\*)
    |(?P<quoted>"(?:[^"]|"")+")|(?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)|(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)


@final
class _Head:
    """Reads a statement word by word from its start; names keep their spelling, since folding them is the server's."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._at = 0

    def rewind(self) -> None:
        self._at = 0

    @property
    def rest(self) -> str:
        return self.text[self._at :]

    @property
    def at_end(self) -> bool:
        return self._token(self._at)[1] in ("", ";")

    def take(self, *words: str) -> bool:
        """Step over these words if all of them come next."""
        at = self._at
        for word in words:
            _, found, at = self._token(at)
            if found.lower() != word:
                return False
        self._at = at
        return True

    def sees(self, word: str) -> bool:
        return self._token(self._at)[1].lower() == word

    def expect(self, word: str) -> None:
        if not self.take(word):
            raise self.problem(f"{word.upper()} was expected")

    def end(self) -> None:
        self.take(";")
        if self._token(self._at)[1]:
            raise self.problem(f"it goes on with {shortened(self.rest)}")

    def identifier(self) -> str:
        kind, found, at = self._token(self._at)
        # U&"..." would be read as a column named u, and is rarer than a slip of the pen.
        if kind not in ("word", "quoted") or self.text[at : at + 1] == "&":
            raise self.problem("a name was expected")
        self._at = at
        return found

    def qualified(self) -> str:
        name = self.identifier()
        while self.take("."):
            name = f"{name}.{self.identifier()}"
        return name

    def relation(self) -> str:
        """A table as ALTER TABLE names it: perhaps with ONLY, in parentheses, with a star."""
        if self.take("only") and self.take("("):
            name = self.qualified()
            self.expect(")")
            return name
        name = self.qualified()
        self.take("*")
        return name

    def parentheses(self) -> None:
        """Step over what is in parentheses, if anything is."""
        if not self.take("("):
            return
        depth = 1
        while depth:
            _, found, self._at = self._token(self._at)
            depth += (found == "(") - (found == ")")
            if not found:
                raise self.problem("a parenthesis is not closed")

    def problem(self, problem: str) -> DefinitionError:
        return DefinitionError("T322", statement=shortened(self.text), problem=problem)

    def _token(self, at: int) -> tuple[str, str, int]:
        """Kind, text and end of the next token that means something; empty text at the end."""
        while match := _TOKEN.match(self.text, at):
            kind = match.lastgroup or ""
            if kind == "comment":
                at = self._after_comment(match.end())
            elif kind == "blank":
                at = match.end()
            else:
                return kind, match[0], match.end()
        return "", "", at

    def _after_comment(self, at: int) -> int:
        depth = 1
        for mark in re.compile(r"/\*|\*/").finditer(self.text, at):
            depth += 1 if mark[0] == "/*" else -1
            if not depth:
                return mark.end()
        return len(self.text)
