"""The local side of phase 3 that SQL cannot say: ten foreign keys, by rebuilding six tables, and statistics.

The indexes of local.up.sql are there when `local_up` begins, and have been dropped when `local_down` does. Both read from
the database which indexes and triggers exist, since installs of different ages have different ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twinstep.migrations.rebuild import ForeignKey, rebuild_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


def _key(column: str, parent: str, on_delete: str) -> ForeignKey:
    return ForeignKey(columns=(column,), parent=parent, parent_columns=("id",), on_delete=on_delete)


FOREIGN_KEYS = {
    "note_tags": (_key("note_id", "local_notes", "CASCADE"),),
    "note_links": (_key("source_id", "local_notes", "CASCADE"), _key("target_id", "local_notes", "SET NULL")),
    "note_reminders": (_key("note_id", "local_notes", "CASCADE"),),
    "note_tasks": (
        _key("note_id", "local_notes", "CASCADE"),
        _key("parent_task_id", "note_tasks", "CASCADE"),
        _key("reminder_id", "note_reminders", "SET NULL"),
    ),
    "note_folders": (_key("note_id", "local_notes", "CASCADE"), _key("folder_id", "local_folders", "CASCADE")),
    "local_folders": (_key("parent_id", "local_folders", "CASCADE"),),
}

# The planner's statistics as they were before ANALYZE renewed them, for the way back. The prefix is that of Twinstep's own
# tables: what bears it is no part of the application's schema.
SAVED = "twinstep_phase3_"


# Those that cannot be reached from a root.
LOST_FOLDERS = """
WITH RECURSIVE reached(id) AS (
    SELECT id FROM local_folders WHERE parent_id IS NULL
    UNION SELECT f.id FROM local_folders f JOIN reached r ON f.parent_id = r.id
)
SELECT id FROM local_folders WHERE id NOT IN (SELECT id FROM reached) ORDER BY id
"""


def local_up(connection: Connection) -> None:
    """Rebuild the six tables with their keys, index the keys that no index serves, and renew the statistics.

    Rows that a key refuses are set aside, and an optional reference to nothing becomes NULL; the way back puts them back.
    """
    for table in _statistics(connection):
        connection.exec_driver_sql(f"CREATE TABLE {SAVED}{table} AS SELECT * FROM {table} ORDER BY rowid")
    for table, keys in FOREIGN_KEYS.items():
        rebuild_table(connection, table, add_foreign_keys=keys)
    for table, column in _unserved(connection):
        connection.exec_driver_sql(f"CREATE INDEX {_key_index(table, column)} ON {table} ({column})")
    connection.exec_driver_sql("ANALYZE")


def check_local(connection: Connection) -> list[str]:
    """Tell of folders that no key refuses and no list shows: in a cycle, or under themselves."""
    found = connection.exec_driver_sql(LOST_FOLDERS).scalars().all()
    return [f"{len(found)} folders are under themselves, and so in no list: {', '.join(found[:5])}"] if found else []


def local_down(connection: Connection) -> None:
    """Take the keys and their indexes away again, and put the statistics back as they were, or away if there were none."""
    for table, column in _referring_columns():
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {_key_index(table, column)}")
    for table, keys in FOREIGN_KEYS.items():
        rebuild_table(connection, table, drop_foreign_keys=keys)
    for table in _statistics(connection):
        if _exists(connection, SAVED + table):
            connection.exec_driver_sql(f"DELETE FROM {table}")
            connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM {SAVED}{table} ORDER BY rowid")
            connection.exec_driver_sql(f"DROP TABLE {SAVED}{table}")
        else:
            connection.exec_driver_sql(f"DROP TABLE {table}")


def _statistics(connection: Connection) -> list[str]:
    """The tables of statistics that this SQLite keeps and this file has."""
    return [table for table in ("sqlite_stat1", "sqlite_stat4") if _exists(connection, table)]


def _exists(connection: Connection, table: str) -> bool:
    found = connection.exec_driver_sql("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))
    return found.first() is not None


def _referring_columns() -> Iterator[tuple[str, str]]:
    for table, keys in FOREIGN_KEYS.items():
        for key in keys:
            yield table, key.columns[0]


def _key_index(table: str, column: str) -> str:
    # A name of its own, so that the way back cannot drop an index that the application made.
    return f"idx_key_{table}_{column}"


def _unserved(connection: Connection) -> list[tuple[str, str]]:
    """The referring columns without an index: an install that began at version 6 lacks two. Deletes would read the table."""
    return [(table, column) for table, column in _referring_columns() if not _served(connection, table, column)]


def _served(connection: Connection, table: str, column: str) -> bool:
    indexes = connection.exec_driver_sql(
        "SELECT l.partial, s.sql FROM pragma_index_list(?) l JOIN pragma_index_info(l.name) i ON i.seqno = 0 "
        "LEFT JOIN sqlite_schema s ON s.type = 'index' AND s.name = l.name WHERE i.name = ?",
        (table, column),
    ).all()
    # A key is looked up by "column = value", which a partial index serves where it leaves out no more than NULL.
    all_but_null = re.compile(rf"WHERE\W+{column}\W+IS\s+NOT\s+NULL\W*", re.IGNORECASE)
    return any(not partial or all_but_null.search(sql) for partial, sql in indexes)
