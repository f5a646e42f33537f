"""SQLite's stored SQL as tokens: enough to compare two texts and to edit one, never to understand all of the language.

Promises: every character belongs to exactly one token, so that joining all texts gives the input back; what SQLite reads
as one identifier, string or comment is one token here; a text that cannot be read so (an unclosed quote) is still cut into
single characters and raises nothing. Pure text: no database, no I/O. Read next: `rebuild/`, `sqlite_catalogue.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
      (?P<space>   [ \t\n\f\r]+ )
    | (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<blob>    [xX]'[0-9A-Fa-f]*' )
    | (?P<string>  '(?:[^']|'')*' )
    | (?P<quoted>  "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] )
    | (?P<number>  0[xX][0-9A-Fa-f]+ | (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? )
    | (?P<word>    [A-Za-z_\x80-\U0010FFFF][A-Za-z0-9_$\x80-\U0010FFFF]* )
    | (?P<other>   <=|>=|<>|==|!=|\|\||<<|>>|->>|->|. )
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN_WORD = re.compile(r"[a-z_\x80-\U0010FFFF][a-z0-9_$\x80-\U0010FFFF]*")
# SQLite folds the 26 letters only: É and é are two names.
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
# After these words SQLite reads a '...' as a name, and RENAME TO writes it as "...".
_BEFORE_A_NAME = frozenset({"table", "index", "view", "trigger", "on", "references"})


class Token(NamedTuple):
    """A piece of the text; `kind` is space, comment, blob, string, quoted, number, word or other."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Where the text goes on."""
        return self.start + len(self.text)

    @property
    def word(self) -> str:
        """The folded text of an unquoted word or a sign, to compare with keywords; empty for all else."""
        return fold(self.text) if self.kind in ("word", "other") else ""

    @property
    def name(self) -> str:
        """What an identifier names, without quotes (also '...', which SQLite takes for a name where only one can stand)."""
        if self.kind not in ("quoted", "string"):
            return self.text
        quote = self.text[-1]
        inner = self.text[1:-1]
        return inner if quote == "]" else inner.replace(quote * 2, quote)


def tokens(sql: str) -> Iterator[Token]:
    """All pieces of the text, blank space and comments included."""
    for found in _TOKEN.finditer(sql):
        yield Token(str(found.lastgroup), found.group(), found.start())


def meaning(sql: str) -> list[Token]:
    """The pieces that mean something: neither blank space nor comments."""
    return [token for token in tokens(sql) if token.kind not in ("space", "comment")]


def fold(name: str) -> str:
    """A name as SQLite compares it."""
    return name.translate(_LOWER)


def quoted(name: str) -> str:
    """A name so that it stands for itself in any statement."""
    return '"' + name.replace('"', '""') + '"'


def normal_form(sql: str) -> str:
    """A text to compare: equal for two that differ in comments, blank space, quotes around names, case or IF NOT EXISTS.

    Strings, blobs and what stands in double quotes after DEFAULT (a string, to SQLite) keep their case. A double-quoted
    *string* elsewhere (SQLite's old leniency) is taken for the name that it looks like.
    """
    pieces: list[str] = []
    before = ""
    for token in meaning(sql):
        is_name = before in _BEFORE_A_NAME if token.kind == "string" else token.kind == "quoted" and before != "default"
        if is_name:
            folded = fold(token.name)
            pieces.append(folded if _PLAIN_WORD.fullmatch(folded) else quoted(folded))
        else:
            pieces.append(fold(token.text) if token.kind in ("word", "number") else token.text)
        before = token.word
        if pieces[-3:] == ["if", "not", "exists"]:
            del pieces[-3:]
            before = pieces[-1] if pieces else ""
    return " ".join(pieces)


def in_main(kind: str, text: str) -> str:
    """The stored text of an index, trigger or view, naming the database; SQLite stores it without that again."""
    found = meaning(text)
    name = found[next(place for place, token in enumerate(found) if token.word == kind) + 1]
    return f"{text[: name.start]}main.{text[name.start :]}"
