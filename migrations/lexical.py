"""Where literals, quoted names and comments begin and end in a SQL text: the one lexer whose answer is stored for ever.

Checksums are made from it, so it depends on no library and no version of one, and knows no tokens: it cuts a text into
*regions* (code, literal, comment, semicolon), which the two databases' lexical rules fix and no new release will move.
`sql.py` cuts statements from the same regions and has a second, independent tokenizer agree before anything is run.

Rules taken from https://www.postgresql.org/docs/current/sql-syntax-lexical.html (E'' and its continuation lines, dollar
quotes, nested comments, standard_conforming_strings on) and https://www.sqlite.org/lang_comment.html, lang_keywords.html
(four kinds of quotes; a last comment may stay open).

No I/O, no imports of Twinstep. Changing what `significant` returns changes every recorded checksum: its golden tests say so.
Read next: `checksums.py`, `sql.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Dialect: TypeAlias = Literal["sqlite", "postgres"]
Kind: TypeAlias = Literal["code", "literal", "comment", "semicolon", "unclosed"]
Region: TypeAlias = tuple[Kind, int, int]

BLANKS = " \t\n\r\f\v"
_HIGH = "\x80-\U0010ffff"

# `code` runs from one quote, comment or semicolon to the next in one match: a seed of five megabytes has 700 000 tokens, but
# only a third as many regions. Possessive throughout: no text can make it backtrack.
_POSTGRES = re.compile(
    rf"""
    (?P<code>(?:
        (?![eE]')[A-Za-z_{_HIGH}][A-Za-z0-9_${_HIGH}]*+             # a name swallows its dollar signs: a$b$ opens nothing
      | [0-9][A-Za-z0-9_.{_HIGH}]*+
      | [^A-Za-z0-9_{_HIGH}'"$;/-]
      | \$(?!(?:[A-Za-z_{_HIGH}][A-Za-z0-9_{_HIGH}]*+)?\$)
      | -(?!-) | /(?!\*)
    )++)
  | (?P<literal>
        '(?:[^']++|'')*+'
      | "(?:[^"]++|"")*+"
      | [eE]'(?:[^'\\]++|\\.|'')*+' (?:[ \t\f\v]*+\n[ \t\f\v\n]*+'(?:[^'\\]++|\\.|'')*+')*+
    )
  | (?P<semicolon>;)
  | (?P<comment>--[^\n\r]*+)
  | (?P<block>/\*)
  | (?P<dollar>\$(?:[A-Za-z_{_HIGH}][A-Za-z0-9_{_HIGH}]*+)?\$)
  | (?P<unclosed>[eE]?'|")
    """,
    re.VERBOSE | re.DOTALL,
)
_SQLITE = re.compile(
    r"""
    (?P<code>(?: [^'"`\[;/-]++ | -(?!-) | /(?!\*) )++)
  | (?P<literal> '(?:[^']++|'')*+' | "(?:[^"]++|"")*+" | `(?:[^`]++|``)*+` | \[[^\]]*+\] )
  | (?P<semicolon>;)
  | (?P<comment> --[^\n]*+ | /\*.*?(?:\*/|\Z) )
  | (?P<unclosed>['"`\[])
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_BLANK_RUN = re.compile(f"[{BLANKS}]+")
_IDLE_BLANK = re.compile(rf"(?<![A-Za-z0-9_${_HIGH}]) | (?![A-Za-z0-9_${_HIGH}])")


def normal_newlines(text: str) -> str:
    """The text without a byte order mark, with CRLF as LF, also in literals: a checkout's line ends are not a change."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def regions(text: str, dialect: Dialect) -> Iterator[Region]:
    """The text's regions in order, without gaps: kind, start, end. `unclosed` is the last where something stays open.

    Lazy, so that a reader may stop at what it refuses before a later fault is met. The text must have normal newlines.
    """
    pattern = _SQLITE if dialect == "sqlite" else _POSTGRES
    position = 0
    while position < len(text):
        found = pattern.match(text, position)
        assert found is not None
        region = _region(text, found)
        yield region
        position = region[2]


def significant(text: str, dialect: Dialect, *, between: str = " ") -> str:
    """The text without comments, and without blank space between tokens.

    `between` stands where two words, or two literals with the same quotes, would grow together: there blank space cannot be
    left out without meaning something else, so keeping one makes no difference between equal texts.

    >>> significant("SELECT  a,\\r\\n  ' b ' -- and so on", "sqlite")
    "SELECT a,' b '"
    """
    text = normal_newlines(text)
    parts: list[str] = []
    code: list[str] = []
    for kind, start, end in regions(text, dialect):
        if kind == "code":
            code.append(text[start:end])
        elif kind == "comment":
            code.append(" ")
        else:
            # With the character that follows: E'' and $$ would grow together with a word before them.
            squeezed = _squeezed("".join((*code, text[start])), between)[:-1]
            if kind == "literal" and code and not squeezed and parts and parts[-1][-1] == text[start]:
                squeezed = between
            parts += (squeezed, text[start:end]) if squeezed else (text[start:end],)
            code = []
    parts.append(_squeezed("".join(code), between))
    return "".join(parts)


def is_blank(text: str, dialect: Dialect) -> bool:
    """Whether the text holds comments and blank space only. Stops at the first thing that is neither."""
    text = normal_newlines(text)
    return not any(kind != "comment" and text[start:end].strip(BLANKS) for kind, start, end in regions(text, dialect))


def _region(text: str, found: re.Match[str]) -> Region:
    start, end = found.span()
    match found.lastgroup:
        case "block":
            closed = _end_of_comment(text, end)
            return ("comment", start, closed) if closed else ("unclosed", start, len(text))
        case "dollar":
            closed = text.find(found[0], end)
            return ("literal", start, closed + len(found[0])) if closed >= 0 else ("unclosed", start, len(text))
        case "unclosed":
            return "unclosed", start, len(text)
        case "code":
            return "code", start, end
        case "literal":
            return "literal", start, end
        case "semicolon":
            return "semicolon", start, end
        case _:
            return "comment", start, end


def _end_of_comment(text: str, position: int) -> int:
    """Where a PostgreSQL comment that was opened before `position` ends; 0 where it never does. They nest."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return 0


def _squeezed(code: str, between: str) -> str:
    return _IDLE_BLANK.sub("", _BLANK_RUN.sub(between, code))
