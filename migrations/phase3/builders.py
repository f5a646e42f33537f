"""The reference application's two databases at version 11, built from nothing: any size, the same rows for the same seed.

`build_local` writes a SQLite file, `build_remote` fills an empty PostgreSQL database. Both end with the statistics that
their planners read, because figures without them compare nothing. The rows keep every key that the migration adds.

Must never import the engine. Read next: `local_schema.py` and `local_data.py`, `remote_schema.py` and `remote_data.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from . import local_schema, remote_schema
from .at_12 import indexes_at_12, remote_at_12, tables_at_12
from .local_data import local_rows
from .local_dirt import plant
from .local_schema import Variant
from .remote_data import remote_rows

if TYPE_CHECKING:
    from psycopg import Connection

JournalMode: TypeAlias = Literal["delete", "wal"]

NOW = 1_760_000_000
"""The instant that local data is relative to: 2025-10-09 08:53:20 UTC, in unix seconds."""


def build_local(
    path: str | Path,
    *,
    notes: int = 20_000,
    seed: int = 1,
    variant: Variant = "fresh",
    journal_mode: JournalMode = "delete",
    now: int = NOW,
    version: Literal[11, 12] = 11,
    dirty_every: int | None = None,
) -> None:
    """Make a file of so many notes at `path`, where no database may be yet; 0 notes make an empty one.

    `version` 12 is what a new install of version 12 makes at once: keys, indexes and all. With `dirty_every`, every so-manieth
    note, reminder, task and folder was deleted without what refers to it, and more (see `local_dirt.py`); for version 11 only.

    All in one transaction: a failure leaves a file without tables. Raises sqlite3.OperationalError where the tables are
    already there.
    """
    if version == 12 and dirty_every is not None:
        raise ValueError("a file of version 12 has keys, which keep it clean")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        # A test file that a power cut may cost; a quarter of the time.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        for statement in local_schema.TABLES if version == 11 else tables_at_12():
            connection.execute(statement)
        for table, columns, rows in local_rows(notes=notes, seed=seed, now=now):
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        if dirty_every is not None:
            plant(connection, every=dirty_every, now=now)
        connection.execute(local_schema.FILL_SEARCH_TABLE)
        for statement in local_schema.indexes(variant) + local_schema.triggers(variant):
            connection.execute(statement)
        for statement in indexes_at_12() if version == 12 else ():
            connection.execute(statement)
        connection.execute("ANALYZE")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")


def build_remote(
    connection_or_url: Connection | str,
    *,
    users: int = 100,
    notes_per_user: int = 500,
    seed: int = 1,
    now: datetime | None = None,
    version: Literal[11, 12] = 11,
) -> None:
    """Fill an empty PostgreSQL database with the remote schema and so many users of so many notes.

    A connection must be in autocommit mode, since VACUUM ANALYZE comes last; a URL may be libpq's or SQLAlchemy's. Dates
    lie in the 1 000 days up to `now`, by default the server's own clock cut to the hour, because the application's queries
    ask for "the last 20 days". `version` 12 has what the migration adds, too. Schema and rows are one transaction. Raises
    psycopg.Error where the tables are already there.
    """
    with _connected(connection_or_url) as connection:
        moment = now or _hour_of_server(connection)
        with connection.transaction(), connection.cursor() as cursor:
            for statement in remote_schema.TABLES:
                cursor.execute(statement)
            for table, columns, lines in remote_rows(users=users, notes_per_user=notes_per_user, seed=seed, now=moment):
                with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy:
                    for chunk in _chunks(lines):
                        copy.write(chunk)
            for statement in remote_schema.INDEXES:
                cursor.execute(statement)
        for statement in remote_at_12() if version == 12 else ():
            connection.execute(statement.encode())
        connection.execute("VACUUM ANALYZE")


def _chunks(lines: Iterator[str]) -> Iterator[str]:
    # One call of the driver for a thousand lines: a fifth of the time of one for each.
    while chunk := "".join(islice(lines, 1_000)):
        yield chunk


@contextmanager
def _connected(connection_or_url: Connection | str) -> Iterator[Connection]:
    # Here, because a local-only caller need not have the driver in memory.
    import psycopg

    if isinstance(connection_or_url, str):
        with psycopg.connect(connection_or_url.replace("postgresql+psycopg://", "postgresql://", 1), autocommit=True) as own:
            yield own
    else:
        yield connection_or_url


def _hour_of_server(connection: Connection) -> datetime:
    row = connection.execute("SELECT date_trunc('hour', now())").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment
