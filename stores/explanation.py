"""What a change says about itself, so that the accounting afterwards knows what was meant.

Helpers that change a table on a migration's behalf (a rebuild, setting rows aside) leave one `Explanation` each on the
connection that they work on. A step written by hand leaves none: what it takes away has to be declared.

No I/O. Read next: `local_guard.py` (who holds them).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from attrs import field, frozen


@frozen(kw_only=True)
class Explanation:
    """What was meant to happen to one table of SQLite; names are as they stand in the database.

    `columns_changed` and `columns_removed` bear new names. `objects_removed` are keys such as "index idx_notes".
    `definition_changed` says that the table's own text was edited on purpose: it `promised` so much before, and `promises` so
    much since, each with how many times; `page` is where it lies since then.
    """

    table: str
    columns_changed: tuple[str, ...] = ()
    columns_removed: tuple[str, ...] = ()
    objects_removed: tuple[str, ...] = ()
    definition_changed: bool = False
    page: int = 0
    promised: Mapping[str, int] = field(factory=dict)
    promises: Mapping[str, int] = field(factory=dict)


def explain(connection: sqlite3.Connection, explanation: Explanation) -> None:
    """Leave the explanation on a connection of ours; on any other nobody asks for it."""
    explained: list[Explanation] | None = getattr(connection, "explained", None)
    if explained is not None:
        explained.append(explanation)


def start_listening(connection: sqlite3.Connection) -> tuple[list[Explanation], set[tuple[str, str]]]:
    """The list that explanations are left in, and the set of the columns that statements update by name; empty from now on."""
    explained: list[Explanation] = getattr(connection, "explained", [])
    updated: set[tuple[str, str]] = getattr(connection, "updated", set())
    explained.clear()
    updated.clear()
    return explained, updated
