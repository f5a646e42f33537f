"""SQL text into statements: each one whole, with its line and its leading words, and nothing that would end our transaction.

`split` promises that the statements, in order, are all of the text but comments, blank space and a BEGIN ... COMMIT around the
whole, or it raises a DefinitionError with the line. Two readers that know nothing of each other must agree on that: the regions
of `lexical.py`, which checksums are made of, and sqlglot's tokenizer. What the one counts as text and the other as comment
is refused, not guessed. `INSERT INTO` statements alone are left to the first reader: a seed of 5 MB takes 0.6 s so, and 5 s and
hundreds of megabytes of tokens otherwise.

Names and values are never interpreted here, and nothing is known of what a statement means to a migration: that is
`script.py`. This is the only module that knows sqlglot, and loads it only when there is text to split. It is long because
cutting and refusing are one pass: a text is refused at the first line that is wrong, before the rest of it is read.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from attrs import evolve, frozen

from ..events.cut_short import cut_short
from ..events.errors import DefinitionError
from .lexical import BLANKS, Dialect, Region, normal_newlines, regions, significant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlglot.tokenizer_core import TokenType

    from ..events.types import Json

WORDS_KEPT = 16
TOKENS_KEPT = 64
SHOWN_CHARACTERS = 80

_MARK = re.compile(r"--[ \t]*twinstep[ \t]*:(?P<rest>[^\n\r]*)", re.IGNORECASE)
_OPENING = re.compile(r"/\*|[eE]'|\$\w*\$")
_CONTINUED = re.compile(r"'[ \t\f\v]*\n[ \t\f\v\n]*'")
_SEED = re.compile(r"insert\s+into\b", re.IGNORECASE)
_NAME_QUOTES = ('"', "`", "[")


@frozen(kw_only=True)
class Statement:
    """One statement, without its semicolon and without comments around it. `line` counts from 1.

    `words` are its first words, unquoted ones in upper case, quoted names with their quotes; punctuation and strings are
    left out. Enough to recognise what kind of statement it is, not to read it.
    """

    text: str
    line: int
    words: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """As it lies in the log."""
        return {"sql": self.text, "line": self.line, "words": list(self.words)}


@frozen(kw_only=True)
class Mark:
    """A line `-- twinstep: group` or `-- twinstep: single [NAME]`, standing before what it is about."""

    kind: Literal["group", "single"]
    name: str | None
    line: int


Item: TypeAlias = "Statement | Mark"


@frozen(kw_only=True)
class SqlText:
    """A text split: statements and marks in the order of the text. `wrapped` if BEGIN ... COMMIT stood around the whole."""

    items: tuple[Item, ...]
    wrapped: bool = False

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Without the marks."""
        return tuple(item for item in self.items if isinstance(item, Statement))


def split(text: str, dialect: Dialect, path: str) -> SqlText:
    """The text's statements and marks; none for a text of comments only. `path` is what messages call the text.

    CRLF counts as LF, also inside literals, so that a checkout's line ends change nothing. A missing last semicolon is allowed.
    Raises DefinitionError: T111 something unclosed or unreadable, T114 cut off, T112 transaction control, T113 psql
    commands and COPY from or to the client, T119 a mark that is misspelt or not on a line of its own, T122 what SQLite refuses
    or ignores inside a transaction.

    >>> [item.text for item in split("BEGIN; SELECT ';'; -- two\\nSELECT 2; COMMIT;", "sqlite", "an example").items]
    ["SELECT ';'", 'SELECT 2']
    """
    items: list[Item] = []
    for item in _items(normal_newlines(text), dialect, path):
        if isinstance(item, Statement) and dialect == "sqlite":
            _refuse_in_sqlite(item, path)
        items.append(item)
    return _unwrapped(items, path)


def shown(statement: Statement) -> str:
    """The statement in a message: one line, not too long."""
    line = " ".join(statement.text.split())
    return cut_short(line, SHOWN_CHARACTERS)


# What a text may not hold


# Of a BEGIN around the whole text: what asks for nothing that would be lost with it (an isolation level would be).
_PLAIN_BEGIN = frozenset({"BEGIN", "START", "TRANSACTION", "WORK", "DEFERRED", "IMMEDIATE", "EXCLUSIVE"})
_PLAIN_COMMIT = frozenset({"COMMIT", "END", "TRANSACTION", "WORK"})
_CONTROL = frozenset(
    {
        ("BEGIN",),
        ("START", "TRANSACTION"),
        ("COMMIT",),
        ("END",),
        ("ROLLBACK",),
        ("ABORT",),
        ("SAVEPOINT",),
        ("RELEASE",),
        ("PREPARE", "TRANSACTION"),
        ("SET", "TRANSACTION"),
        ("SET", "SESSION", "CHARACTERISTICS"),
        ("INSERT", "OR", "ROLLBACK"),
        ("UPDATE", "OR", "ROLLBACK"),
    }
)


def _unwrapped(items: list[Item], path: str) -> SqlText:
    """The items without a BEGIN first and a COMMIT last; any other transaction control is refused (T112)."""
    statements = [item for item in items if isinstance(item, Statement)]
    wrapped = (
        len(statements) > 1
        and statements[0].words[0:1] in {("BEGIN",), ("START",)}
        and _PLAIN_BEGIN.issuperset(statements[0].words)
        and statements[-1].words[0:1] in {("COMMIT",), ("END",)}
        and _PLAIN_COMMIT.issuperset(statements[-1].words)
    )
    wrapping = (statements[0], statements[-1]) if wrapped else ()
    kept = [item for item in items if not any(item is one for one in wrapping)]
    for item in kept:
        if isinstance(item, Statement) and any(item.words[:length] in _CONTROL for length in (1, 2, 3)):
            raise DefinitionError("T112", path=path, line=item.line, statement=shown(item))
    return SqlText(items=tuple(kept), wrapped=wrapped)


_NOT_IN_A_TRANSACTION = {
    "VACUUM": "SQLite refuses it inside a transaction; run it outside the migration",
    "ATTACH": "What is written to an attached file is in no backup, and with a WAL not in the same transaction",
    "DETACH": "SQLite refuses it inside a transaction",
}
_PRAGMA_NOT_IN_A_TRANSACTION = {
    "FOREIGN_KEYS": "SQLite ignores it inside a transaction; Twinstep switches enforcement off before, and restores it after",
    "JOURNAL_MODE": "It cannot change inside a transaction; let the host set it when it opens the file",
    "SYNCHRONOUS": "It cannot change inside a transaction; Twinstep sets it for its own commits",
}


def _refuse_in_sqlite(statement: Statement, path: str) -> None:
    first, *others = statement.words or ("",)
    reason = _NOT_IN_A_TRANSACTION.get(first)
    if first == "PRAGMA":
        # PRAGMA name, or PRAGMA schema.name
        names = [word.strip('"`[]').upper() for word in others[:2]]
        reason = next((_PRAGMA_NOT_IN_A_TRANSACTION[name] for name in names if name in _PRAGMA_NOT_IN_A_TRANSACTION), None)
    if reason is not None:
        raise DefinitionError("T122", path=path, line=statement.line, statement=shown(statement), reason=reason)


# From regions to statements


@frozen(kw_only=True)
class _Piece:
    """What stands between two semicolons: from its first to its last significant character. `open_brackets`: ( less )."""

    start: int
    end: int
    line: int
    open_brackets: int
    closed: bool


def _items(text: str, dialect: Dialect, path: str) -> Iterator[Item]:
    """Statements and marks as they come; a statement may be of several pieces (bodies of triggers and routines)."""
    begun: list[_Piece] = []
    tokens: list[str] = []
    brackets = 0
    body = _Body(dialect=dialect)
    for found in _pieces(text, dialect, path):
        if isinstance(found, Mark):
            if begun:
                raise DefinitionError("T119", path=path, line=found.line, problem="it stands inside a statement")
            yield found
            continue
        here = _tokens(text[found.start : found.end], dialect, path, found.line, seed_allowed=not begun)
        if not begun and here[:1] == ["COPY"] and {("FROM", "STDIN"), ("TO", "STDOUT")} & set(pairwise(here)):
            # Refused before the next piece is read: the lines of data after it are no SQL.
            statement = " ".join(text[found.start : found.end].split())[:SHOWN_CHARACTERS]
            raise DefinitionError("T113", path=path, line=found.line, statement=statement)
        begun.append(found)
        tokens += here[:TOKENS_KEPT]
        body = body.after(tokens, here)
        # PostgreSQL's rules with several actions: CREATE RULE ... DO (a; b)
        brackets += found.open_brackets
        if found.closed and not body.is_open and not (dialect == "postgres" and brackets > 0):
            yield _statement(text, begun, tokens)
            begun, tokens, brackets, body = [], [], 0, _Body(dialect=dialect)
    if begun:
        if body.is_open or begun[-1].closed or brackets > 0:
            raise DefinitionError("T114", path=path, line=begun[0].line)
        yield _statement(text, begun, tokens)


def _statement(text: str, pieces: list[_Piece], tokens: list[str]) -> Statement:
    words = [token for token in tokens if _is_word(token)]
    return Statement(text=text[pieces[0].start : pieces[-1].end], line=pieces[0].line, words=tuple(words[:WORDS_KEPT]))


@frozen(kw_only=True)
class _Body:
    """Whether a semicolon is inside a body that belongs to the statement.

    SQLite's own rule (sqlite3_complete): a trigger ends with END that stands alone between two semicolons, so CASE ... END
    needs no counting. PostgreSQL's routines with BEGIN ATOMIC: that and CASE open, END closes. psql counts any BEGIN, and any
    END, and waits for ever where a column bears such a name.
    """

    dialect: Dialect
    is_open: bool = False
    depth: int = 0

    def after(self, statement: list[str], piece: list[str]) -> _Body:
        """As it is after one more piece; `statement` are the tokens of all pieces, of each the first few."""
        if self.dialect == "sqlite":
            return evolve(self, is_open=_is_trigger(statement) and piece != ["END"])
        if not _is_routine(statement):
            return self
        depth = self.depth
        for before, word, following in zip(["", *piece], piece, [*piece[1:], ""], strict=False):
            # A reserved word is a name all the same after AS and after a dot, and BEGIN alone is one anywhere.
            if before in {"AS", "."}:
                continue
            if (word == "BEGIN" and following == "ATOMIC") or (word == "CASE" and depth):
                depth += 1
            elif word == "END" and depth:
                depth -= 1
        return evolve(self, is_open=depth > 0, depth=depth)


def _is_trigger(tokens: list[str]) -> bool:
    head = [word for word in tokens[:3] if word not in {"TEMP", "TEMPORARY"}]
    return head[:2] == ["CREATE", "TRIGGER"]


def _is_routine(tokens: list[str]) -> bool:
    head = tokens[3:4] if tokens[1:3] == ["OR", "REPLACE"] else tokens[1:2]
    return tokens[:1] == ["CREATE"] and head in (["FUNCTION"], ["PROCEDURE"])


def _pieces(text: str, dialect: Dialect, path: str) -> Iterator[_Piece | Mark]:
    lines = _Lines(text)
    start = end = brackets = 0
    empty = True
    for kind, first, last in _checked(regions(text, dialect), text, dialect, path, lines):
        if kind == "comment":
            mark = _mark(text, first, last, path, lines)
            if mark and not empty:
                raise DefinitionError("T119", path=path, line=mark.line, problem="it stands inside a statement")
            if mark:
                yield mark
            continue
        if kind == "semicolon":
            if not empty:
                yield _Piece(start=start, end=end, line=lines.at(start), open_brackets=brackets, closed=True)
            empty, brackets = True, 0
            continue
        if kind == "code":
            code = text[first:last]
            if not code.strip(BLANKS):
                continue
            brackets += code.count("(") - code.count(")")
            first, last = last - len(code.lstrip(BLANKS)), first + len(code.rstrip(BLANKS))
        start, empty, end = (first if empty else start), False, last
    if not empty:
        yield _Piece(start=start, end=end, line=lines.at(start), open_brackets=brackets, closed=False)


def _checked(found: Iterator[Region], text: str, dialect: Dialect, path: str, lines: _Lines) -> Iterator[Region]:
    """The regions, refusing what is open at the end of the text, NUL characters, psql's commands, and E'' with a comment in it.

    PostgreSQL reads the part after such a comment as one with backslashes, neither of the two readers here does.
    """
    escaped = interrupted = False
    for kind, start, end in found:
        if kind == "literal":
            if interrupted and text[start] == "'":
                problem = "a comment stands between the parts of one string"
                raise DefinitionError("T111", path=path, line=lines.at(start), problem=problem)
            escaped, interrupted = text[start] in "eE", False
        elif kind == "comment":
            interrupted = escaped and text.startswith("--", start)
        elif kind != "code" or text[start:end].strip(BLANKS):
            escaped = interrupted = False
        if kind == "unclosed":
            opening = _OPENING.match(text, start)
            problem = f"{opening[0] if opening else text[start]} is never closed"
            raise DefinitionError("T111", path=path, line=lines.at(start), problem=problem)
        if (zero := text.find("\0", start, end)) >= 0:
            raise DefinitionError("T111", path=path, line=lines.at(zero), problem="it has a NUL character")
        if kind == "code" and dialect == "postgres" and (slash := text.find("\\", start, end)) >= 0:
            command = text[slash:].split("\n", 1)[0].strip()
            raise DefinitionError("T113", path=path, line=lines.at(slash), statement=command[:SHOWN_CHARACTERS])
        yield kind, start, end


def _mark(text: str, start: int, end: int, path: str, lines: _Lines) -> Mark | None:
    found = _MARK.fullmatch(text, start, end)
    if found is None:
        return None
    line = lines.at(start)
    if text[text.rfind("\n", 0, start) + 1 : start].strip(BLANKS):
        raise DefinitionError("T119", path=path, line=line, problem="it does not stand on a line of its own")
    match found["rest"].split():
        case ["group"]:
            return Mark(kind="group", name=None, line=line)
        case ["single"]:
            return Mark(kind="single", name=None, line=line)
        case ["single", name]:
            return Mark(kind="single", name=name, line=line)
        case _:
            raise DefinitionError("T119", path=path, line=line, problem="it is neither 'group' nor 'single [NAME]'")


class _Lines:
    """Line numbers of positions that only grow, without counting from the start each time."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._line = 1

    def at(self, position: int) -> int:
        self._line += self._text.count("\n", self._position, position)
        self._position = position
        return self._line


# The second reader


def _tokens(piece: str, dialect: Dialect, path: str, line: int, *, seed_allowed: bool) -> list[str]:
    """The piece's tokens, in upper case but for quoted names. Raises T111 where the two readers do not see the same text."""
    if seed_allowed and _SEED.match(piece):
        return ["INSERT", "INTO"]
    from sqlglot.errors import TokenError

    try:
        spans = [piece[start:end] for start, end in _tokenizer(dialect)(piece)]
    except TokenError as error:
        raise DefinitionError("T111", path=path, line=line, problem="its words cannot be told apart") from error
    # The parts of one E'' over several lines are one literal to the first reader, with the blank space between them.
    if _CONTINUED.sub("''", "".join(spans)) != _CONTINUED.sub("''", significant(piece, dialect, between="")):
        problem = "it can be read in two ways; look for unusual blank characters"
        raise DefinitionError("T111", path=path, line=line, problem=problem)
    return [span if span[0] in _NAME_QUOTES else span.upper() for span in spans]


def _is_word(token: str) -> bool:
    quoted_name = token[0] in _NAME_QUOTES and len(token) > 1
    return quoted_name or (token[-1] != "'" and (token[0] == "_" or token[0].isalnum()))


@cache
def _tokenizer(dialect: Dialect) -> Callable[[str], list[tuple[int, int]]]:
    """sqlglot's tokenizer for the dialect, told to make nothing of keywords and numbers: only where tokens begin and end.

    With its keywords, VACUUM, REINDEX and CALL would swallow the rest of their statement as one string.
    """
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.dialects.sqlite import SQLite

    class OfPostgres(Postgres.Tokenizer):
        KEYWORDS: ClassVar[dict[str, TokenType]] = {}
        BIT_STRINGS: ClassVar[list[str | tuple[str, str]]] = []
        HEX_STRINGS: ClassVar[list[str | tuple[str, str]]] = []

    class OfSQLite(SQLite.Tokenizer):
        KEYWORDS: ClassVar[dict[str, TokenType]] = {}
        HEX_STRINGS: ClassVar[list[str | tuple[str, str]]] = []

    tokenizer = OfSQLite(dialect="sqlite") if dialect == "sqlite" else OfPostgres(dialect="postgres")
    return lambda piece: [(token.start, token.end + 1) for token in tokenizer.tokenize(piece)]
