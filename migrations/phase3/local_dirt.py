"""Rows that no foreign key would allow, as years of an application without keys leave them: one kind for each key, and chains.

Planted by SQL into a file that the builders have filled, the same ones for the same seed and size. What was planted is
counted by asking the file, not from a list: `violations` tells, per key, how many rows it will refuse.

Also folders in a cycle and a folder that is its own parent: they violate no key, and stay.

Read next: `builders.py`, which plants it; `folder/0012_phase3/`, which sets it aside.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# Key by key: the child's table and column, the parent's table, and whether the reference may be NULL.
KEYS: Final = (
    ("note_tags", "note_id", "local_notes", False),
    ("note_links", "source_id", "local_notes", False),
    ("note_links", "target_id", "local_notes", True),
    ("note_reminders", "note_id", "local_notes", False),
    ("note_tasks", "note_id", "local_notes", False),
    ("note_tasks", "parent_task_id", "note_tasks", True),
    ("note_tasks", "reminder_id", "note_reminders", True),
    ("note_folders", "note_id", "local_notes", False),
    ("note_folders", "folder_id", "local_folders", False),
    ("local_folders", "parent_id", "local_folders", True),
)

_CYCLE: Final = """
    INSERT INTO local_folders (id, name, parent_id, path, created_at, updated_at) VALUES
        ('cycle-a', 'Cycle a', 'cycle-b', '/Cycle a', {now}, {now}),
        ('cycle-b', 'Cycle b', 'cycle-a', '/Cycle b', {now}, {now}),
        ('own', 'Own parent', 'own', '/Own parent', {now}, {now}),
        ('deep-1', 'Deep 1', 'never-there', '/Deep 1', {now}, {now}), ('deep-2', 'Deep 2', 'deep-1', '/Deep 1/2', {now}, {now}),
        ('deep-3', 'Deep 3', 'deep-2', '/Deep 1/2/3', {now}, {now})
"""


def plant(connection: sqlite3.Connection, *, every: int, now: int) -> None:
    """Hard-delete every so-manieth note, reminder, task and folder without what refers to them; add cycles and a lost tree.

    The application's triggers must not be there yet: this is what happened before anybody looked.
    """
    for table in ("local_notes", "note_reminders", "note_tasks", "local_folders"):
        # By place, not by id: the ids of a table are in no order, and these are the same for the same seed.
        connection.execute(f"DELETE FROM {table} WHERE rowid > 1 AND rowid % {every:d} = 0")
    connection.execute(
        f"UPDATE note_links SET target_id = 'never-there-' || rowid WHERE rowid % {every:d} = 1 AND target_id IS NOT NULL"
    )
    connection.execute(_CYCLE.format(now=int(now)))


def violations(connection: sqlite3.Connection) -> Mapping[str, int]:
    """How many rows refer to nothing, per "table.column", asked of the file as it is: chains are not counted yet."""
    found = {}
    for table, column, parent, _ in KEYS:
        missing = f"NOT EXISTS (SELECT 1 FROM {parent} p WHERE p.id = c.{column})"
        query = f"SELECT count(*) FROM {table} c WHERE c.{column} IS NOT NULL AND {missing}"
        (found[f"{table}.{column}"],) = connection.execute(query).fetchone()
    return MappingProxyType(found)
