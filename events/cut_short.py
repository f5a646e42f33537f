"""Texts short enough for a message.

Pure. This module must never import anything of Twinstep.
"""

from __future__ import annotations


def cut_short(text: str, most: int) -> str:
    """The text, or its beginning and three dots: not more than so many characters.

    >>> cut_short("DELETE FROM notes", 17), cut_short("DELETE FROM notes", 16)
    ('DELETE FROM notes', 'DELETE FROM n...')
    """
    return text if len(text) <= most else f"{text[: most - 3]}..."
