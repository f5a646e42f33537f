"""Whether a migration is still the one that was applied: a checksum of what it does, not of how it is written down.

Promises: neither CRLF, a byte order mark, comments nor blank space between tokens change a checksum, and neither does a new
version of a library or of Python: SQL is read by `lexical.py` alone, and Python's tokens are only joined, never counted.
Everything else changes it. The `1:` in front names these rules; other rules would need another number.

Functions count by their source text. Of a migration.py that is the whole file without the *other* entry points, so that a
constant or a helper counts for all of them, and a corrected `remote_down` leaves the checksum of `remote_up` alone. A
function given from Python counts by its own source; where there is none (built in, typed at a prompt), by its name.

No I/O but reading a function's source, no sqlglot. Read next: `lexical.py`.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from .definition import FileFunction
from .lexical import Dialect, normal_newlines, significant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .definition import Migration, SideName, Step, StepFunction

RULES = "1"
ENTRY_POINTS = frozenset({"local_up", "local_down", "remote_up", "remote_down", "check_local", "check_remote"})
PROBE_PREFIX = "probe_"
DIALECTS: dict[SideName, Dialect] = {"local": "sqlite", "remote": "postgres"}


def checksum(steps: Sequence[Step], side: SideName) -> str:
    """The checksum of a side's up steps: "1:" and 64 hexadecimal digits. Never raises for a text that cannot be split.

    The side is needed because the two databases' comments end in different places.

    >>> plain = checksum(["SELECT 1"], "local")
    >>> plain[:2], plain == checksum(["-- one\\r\\n  SELECT   1"], "local"), plain == checksum(["SELECT 2"], "local")
    ('1:', True, False)
    """
    hashed = hashlib.sha256()
    for step in steps:
        kind, content = ("sql", significant(step, DIALECTS[side])) if isinstance(step, str) else ("python", digest_of(step))
        data = content.encode()
        hashed.update(f"{kind} {len(data)}\n".encode() + data)
    return f"{RULES}:{hashed.hexdigest()}"


def digest_of_migration(migration: Migration) -> str:
    """64 hexadecimal digits over a migration that is given as a value: while it is the same, nothing needs parsing."""
    hashed = hashlib.sha256(f"{migration.id} {migration.irreversible}\n".encode())
    for side in (migration.local, migration.remote):
        for steps in (side.up, side.down) if side is not None else ():
            hashed.update(f"{None if steps is None else digest_of_bytes(steps)}\n".encode())
        hashed.update(b"side\n")
    return hashed.hexdigest()


def digest_of_bytes(steps: Sequence[Step]) -> str:
    """64 hexadecimal digits over the texts exactly as they lie in their files: while it is the same, nothing needs parsing."""
    hashed = hashlib.sha256()
    for step in steps:
        data = (step if isinstance(step, str) else _source(step)).encode()
        hashed.update(f"{len(data)}\n".encode() + data)
    return hashed.hexdigest()


@lru_cache(maxsize=256)
def digest_of(function: StepFunction) -> str:
    """64 hexadecimal digits by which a function is known again."""
    source = normal_newlines(_source(function))
    if isinstance(function, FileFunction):
        source = _without_other_entry_points(source, function.name)
    return hashlib.sha256(_python_significant(source).encode()).hexdigest()


def is_entry_point(name: str) -> bool:
    """Whether a function of that name in a migration.py is called by Twinstep."""
    return name in ENTRY_POINTS or name.startswith(PROBE_PREFIX)


def _source(function: StepFunction) -> str:
    if isinstance(function, FileFunction):
        return function.source
    import inspect
    import textwrap

    inner = inspect.unwrap(function)
    try:
        return textwrap.dedent(inspect.getsource(inner))
    except (OSError, TypeError):
        # Not its bytecode: that differs between versions of Python, and would make an edit of every upgrade.
        return f"{getattr(inner, '__module__', '')}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"


def _without_other_entry_points(source: str, name: str) -> str:
    import ast

    lines = source.split("\n")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and is_entry_point(node.name) and node.name != name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            last = node.end_lineno or node.lineno
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(lines)


def _python_significant(source: str) -> str:
    """The source without comments, blank lines and blank space between tokens; the text itself where it is no whole Python.

    Indentation counts as "deeper" and "back", whatever its width.
    """
    import ast

    try:
        ast.parse(source)
    except SyntaxError:
        # A lambda's source may be cut out of the middle of a call.
        return "\n".join(line.rstrip() for line in source.split("\n") if line.strip())
    joined: list[str] = []
    for text in _python_tokens(source):
        if joined and joined[-1] and text and _would_grow_together(joined[-1][-1], text[0]):
            joined.append(" ")
        joined.append(text)
    return "".join(joined)


def _would_grow_together(left: str, right: str) -> bool:
    both_words = (left.isalnum() or left == "_") and (right.isalnum() or right == "_")
    return both_words or (left == right and left in "'\"")


def _python_tokens(source: str) -> Iterator[str]:
    """The texts of the tokens that mean something. An f-string is one, as in Python 3.11, whatever 3.12 makes of its parts."""
    import io
    import token
    import tokenize

    opening = {getattr(token, name) for name in ("FSTRING_START", "TSTRING_START") if hasattr(token, name)}
    closing = {getattr(token, name) for name in ("FSTRING_END", "TSTRING_END") if hasattr(token, name)}
    shown = {token.NEWLINE: "\n", token.INDENT: "\x01", token.DEDENT: "\x02"}
    silent = {token.COMMENT, token.NL, token.ENDMARKER}
    lines = source.split("\n")
    depth, start = 0, (0, 0)
    for found in tokenize.generate_tokens(io.StringIO(source + "\n").readline):
        if found.type in opening:
            depth, start = depth + 1, start if depth else found.start
        elif found.type in closing:
            depth -= 1
            if not depth:
                yield _between(lines, start, found.end)
        elif not depth and found.type not in silent:
            yield shown.get(found.type, found.string)


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    chosen = lines[start[0] - 1 : end[0]]
    chosen[-1] = chosen[-1][: end[1]]
    chosen[0] = chosen[0][start[1] :]
    return "\n".join(chosen)
