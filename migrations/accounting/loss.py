"""What a change took away and did not declare, as values, and the refusal that names all of it.

No database here. Read next: `accounting.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from ...events.errors import Refused
from ...events.types import Json


@frozen(kw_only=True)
class Loss:
    """One thing that is gone or other than it was: a sentence for people, and the key and value of [expect] that declare it.

    `rows` says that whole rows are gone. An empty `key` means that it cannot be declared: it is never meant.
    """

    sentence: str
    key: str = ""
    value: str = ""
    rows: bool = False


def refusal(migration: str, losses: Sequence[Loss]) -> Refused:
    """The error that names all of them: T334 where rows are gone and nothing else, T347 otherwise."""
    said = "; ".join(loss.sentence for loss in losses)
    lines = declaration(losses)
    if all(loss.rows for loss in losses):
        return Refused("T334", migration=migration, losses=said, declaration=lines)
    if not lines:
        return Refused("T348", migration=migration, losses=said)
    return Refused("T347", migration=migration, losses=said, declaration=lines)


def declaration(losses: Sequence[Loss]) -> str:
    """The lines of [expect] that would declare them.

    >>> declaration([Loss(sentence="...", key="rows_removed", value="notes")])
    'rows_removed = ["notes"]'
    """
    keys = dict.fromkeys(loss.key for loss in losses if loss.key)
    lines = []
    for key in keys:
        values = dict.fromkeys(loss.value for loss in losses if loss.key == key)
        lines.append(f"{key} = [{', '.join(_toml(value) for value in values)}]")
    return ", ".join(lines)


def _toml(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def examples(values: Sequence[str], total: int) -> str:
    """The first few, and how many more there are."""
    more = total - len(values)
    return f"{', '.join(values)}{f' and {more} more' if more > 0 else ''}"


def folded(names: Json) -> str:
    """A name of [expect] as it is compared."""
    return " ".join(str(names).split()).lower()
