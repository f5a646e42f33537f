"""The word that somebody most likely meant, for messages about one that is not known.

Pure, and loads nothing before it is asked. This module must never import anything of Twinstep.
"""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is spelt most alike, or None where none is.

    >>> nearest("pendign", ["pending", "timeout"])
    'pending'
    >>> nearest("colour", ["pending", "timeout"]) is None
    True
    """
    from difflib import get_close_matches

    by_folded = {each.lower(): each for each in known}
    found = get_close_matches(word.lower(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None
