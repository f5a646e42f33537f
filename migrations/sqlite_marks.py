"""What SQLite keeps beside schema and rows: versions, where AUTOINCREMENT stands, and the statistics of ANALYZE.

A down step cannot be asked to put these back by hand: a version is set by a pragma, a high-water mark is moved by each row
that a change inserts, and a dropped index takes its statistics along. They are noted in the change's ledger row before it, and
put back in the undo's transaction, as far as others have left them alone (`after_undo.py` says what must come out).

Must never import SQLAlchemy. Read next: `sqlite_target.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..events.types import Json
from .after_undo import SEQUENCE, mark_after
from .catalogue import Fingerprint
from .sqlite_catalogue import plain_rows, read_fingerprint

VERSIONS: Final = ("user_version", "application_id")
STATISTICS: Final = "sqlite_stat1"


def note(connection: sqlite3.Connection) -> dict[str, Json]:
    """The marks of a look, and the statistics (None where there are none), as JSON values."""
    marks = read_fingerprint(connection, content=False, count_rows=False).marks
    with plain_rows(connection):
        return {"marks": dict(marks), "statistics": _statistics(connection)}


def put_back(
    connection: sqlite3.Connection, noted: Mapping[str, Any], *, changed: Fingerprint | None, found: Fingerprint
) -> None:
    """Set every mark to what it must be after the undo.

    `noted` is what `note` gave before the change. Without a look right after it (`changed`), others are taken to have left
    everything alone.
    """
    marks: Mapping[str, int] = noted["marks"]
    changed = found if changed is None else changed
    with plain_rows(connection):
        for name in VERSIONS:
            wanted = mark_after(name, marks.get(name), changed.marks.get(name), found.marks.get(name))
            connection.execute(f"PRAGMA main.{name} = {wanted or 0:d}")
        _put_sequences_back(connection, marks, changed, found)
        if changed.content.get(STATISTICS) == found.content.get(STATISTICS):
            _put_statistics_back(connection, noted["statistics"])


def _put_sequences_back(
    connection: sqlite3.Connection, before: Mapping[str, int], changed: Fingerprint, found: Fingerprint
) -> None:
    if not _is_there(connection, "sqlite_sequence"):
        return
    for mark in sorted(before.keys() | changed.marks.keys() | found.marks.keys()):
        table = mark.removeprefix(SEQUENCE)
        if table == mark or not _is_there(connection, table):
            continue
        wanted = mark_after(mark, before.get(mark), changed.marks.get(mark), found.marks.get(mark))
        connection.execute("DELETE FROM main.sqlite_sequence WHERE name = ?", (table,))
        if wanted is not None:
            connection.execute("INSERT INTO main.sqlite_sequence (name, seq) VALUES (?, ?)", (table, wanted))


def _put_statistics_back(connection: sqlite3.Connection, noted: Sequence[Sequence[Any]] | None) -> None:
    """As they were. A database that had none before is left without; one whose table of them is gone, as it is."""
    if not _is_there(connection, STATISTICS) or _statistics(connection) == noted:
        return
    if noted is None:
        connection.execute(f"DROP TABLE main.{STATISTICS}")
        return
    connection.execute(f"DELETE FROM main.{STATISTICS}")
    connection.executemany(f"INSERT INTO main.{STATISTICS} (tbl, idx, stat) VALUES (?, ?, ?)", noted)


def _statistics(connection: sqlite3.Connection) -> list[list[Json]] | None:
    if not _is_there(connection, STATISTICS):
        return None
    rows = connection.execute(f"SELECT tbl, idx, stat FROM main.{STATISTICS} ORDER BY 1, 2, 3").fetchall()
    return [list(row) for row in rows]


def _is_there(connection: sqlite3.Connection, table: str) -> bool:
    query = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
    return connection.execute(query, (table,)).fetchone() is not None
