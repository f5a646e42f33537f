"""Texts compared that may bear other names than before, because SQLite rewrites them when a table or a column is renamed.

No database here. Read next: `accounting.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Set
from typing import TypeAlias

# A folded name to the names that may stand in its place.
Names: TypeAlias = "Mapping[str, Set[str]]"

_PIECES = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[^\W\d][\w$]*|\S""")


def pieces(text: str) -> list[str]:
    """The words and signs of a text in normal form, or of a promise; names without quotes."""
    return [piece[1:-1].replace('""', '"') if piece[0] == '"' and len(piece) > 1 else piece for piece in _PIECES.findall(text)]


def same_but_for_names(old: str, new: str, names: Names) -> bool:
    """Whether the two say the same once what was renamed bears its new name.

    >>> same_but_for_names("create index i on t ( a )", "create index i on t ( b )", {"a": {"b"}})
    True
    """
    before, after = pieces(old), pieces(new)
    return len(before) == len(after) and all(a == b or b in names.get(a, ()) for a, b in zip(before, after, strict=True))


def lost(old: Counter[str], new: Counter[str], names: Names, dropped: Set[str]) -> Counter[str]:
    """The promises that are not kept any more; none is missed that speaks of a column which was dropped on purpose."""
    left = list((new - old).elements())
    gone: Counter[str] = Counter()
    for promise in (old - new).elements():
        if dropped & set(pieces(promise)):
            continue
        kept = next((each for each in left if same_but_for_names(promise, each, names)), None)
        if kept is None:
            gone[promise] += 1
        else:
            left.remove(kept)
    return gone
