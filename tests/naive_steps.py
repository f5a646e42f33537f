"""Migrating as the reference application did it: statement by statement, each for itself, on a real database.

Nothing here is to be copied. The tests of the reference cases run these steps to see that what they assert can fail.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import psycopg

NEW = {
    "note_folders": """CREATE TABLE note_folders_new (note_id TEXT NOT NULL, folder_id TEXT NOT NULL, added_at INTEGER NOT NULL,
        PRIMARY KEY (note_id), FOREIGN KEY (note_id) REFERENCES local_notes (id) ON DELETE CASCADE,
        FOREIGN KEY (folder_id) REFERENCES local_folders (id) ON DELETE CASCADE)""",
    "note_tags": """CREATE TABLE note_tags_new (note_id TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (note_id, tag),
        FOREIGN KEY (note_id) REFERENCES local_notes (id) ON DELETE CASCADE)""",
    "note_links": """CREATE TABLE note_links_new (source_id TEXT NOT NULL, target_title TEXT NOT NULL, target_id TEXT,
        PRIMARY KEY (source_id, target_title), FOREIGN KEY (source_id) REFERENCES local_notes (id) ON DELETE CASCADE,
        FOREIGN KEY (target_id) REFERENCES local_notes (id) ON DELETE SET NULL)""",
}


def local(path: Path, statements: Iterable[str], *, foreign_keys: bool = False) -> sqlite3.Error | None:
    """Run them until one is refused, without a transaction around them; what it was refused with, if any was."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        try:
            for statement in statements:
                connection.execute(statement)
        except sqlite3.Error as error:
            return error
    return None


def remote(url: str, statements: Iterable[str], *, one_transaction: bool = False) -> psycopg.Error | None:
    """The same on PostgreSQL, or all in one transaction."""
    with closing(psycopg.connect(url, autocommit=not one_transaction)) as connection:
        try:
            for statement in statements:
                connection.execute(statement.encode())
            connection.commit()
        except psycopg.Error as error:
            return error
    return None


def rebuild(table: str, new: str, copy: str) -> tuple[str, ...]:
    """Make anew, copy, drop, rename; the indexes, the triggers and the mark are forgotten."""
    return (new, copy, f"DROP TABLE {table}", f"ALTER TABLE {table}_new RENAME TO {table}")


def without_triggers(path: Path) -> tuple[str, ...]:
    """What gets past the first refusal: the triggers, which name the tables, are dropped."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    return tuple(f"DROP TRIGGER {name}" for (name,) in names)
