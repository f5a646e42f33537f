"""The SQLite schema of the reference application at version 11, as statements, in the two forms that devices have.

*fresh* is what a new install of version 11 makes; *grown* is a file that was upgraded from an old version: it has other
indexes on `note_reminders`, and two triggers in an older form that does not know folders. Tables and columns are the same.
Every date-time is an INTEGER of unix seconds, every boolean an INTEGER with a CHECK; no table has a foreign key.

This is one thing, a list of definitions, and so longer than most modules. No I/O here. Read next: `builders.py`, which
runs these statements, and `folder/0012_phase3/`, which migrates what they make.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Variant: TypeAlias = Literal["fresh", "grown"]

USER_VERSION = 11

_NOW = "(CAST(strftime('%s', 'now') AS INTEGER))"

TABLES: tuple[str, ...] = (
    """CREATE TABLE local_notes (
        id TEXT NOT NULL,
        title TEXT NOT NULL DEFAULT '',
        body TEXT NOT NULL DEFAULT '',
        updated_at INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
        encrypted_metadata TEXT NULL,
        is_pinned INTEGER NOT NULL DEFAULT 0 CHECK (is_pinned IN (0, 1)),
        note_type INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (id)
    )""",
    f"""CREATE TABLE pending_ops (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        entity_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        payload TEXT NULL,
        created_at INTEGER NOT NULL DEFAULT {_NOW}
    )""",
    """CREATE TABLE note_tags (
        note_id TEXT NOT NULL,
        tag TEXT NOT NULL,
        PRIMARY KEY (note_id, tag)
    )""",
    """CREATE TABLE note_links (
        source_id TEXT NOT NULL,
        target_title TEXT NOT NULL,
        target_id TEXT NULL,
        PRIMARY KEY (source_id, target_title)
    )""",
    f"""CREATE TABLE note_reminders (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        note_id TEXT NOT NULL,
        title TEXT NOT NULL DEFAULT '',
        body TEXT NOT NULL DEFAULT '',
        type INTEGER NOT NULL,
        remind_at INTEGER NULL,
        is_active INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
        latitude REAL NULL,
        longitude REAL NULL,
        radius REAL NULL,
        location_name TEXT NULL,
        recurrence_pattern INTEGER NOT NULL DEFAULT 0,
        recurrence_end_date INTEGER NULL,
        recurrence_interval INTEGER NOT NULL DEFAULT 1,
        snoozed_until INTEGER NULL,
        snooze_count INTEGER NOT NULL DEFAULT 0,
        notification_title TEXT NULL,
        notification_body TEXT NULL,
        notification_image TEXT NULL,
        time_zone TEXT NULL,
        created_at INTEGER NOT NULL DEFAULT {_NOW},
        last_triggered INTEGER NULL,
        trigger_count INTEGER NOT NULL DEFAULT 0
    )""",
    f"""CREATE TABLE note_tasks (
        id TEXT NOT NULL,
        note_id TEXT NOT NULL,
        content TEXT NOT NULL,
        status INTEGER NOT NULL DEFAULT 0,
        priority INTEGER NOT NULL DEFAULT 1,
        due_date INTEGER NULL,
        completed_at INTEGER NULL,
        completed_by TEXT NULL,
        position INTEGER NOT NULL DEFAULT 0,
        content_hash TEXT NOT NULL,
        reminder_id INTEGER NULL,
        labels TEXT NULL,
        notes TEXT NULL,
        estimated_minutes INTEGER NULL,
        actual_minutes INTEGER NULL,
        parent_task_id TEXT NULL,
        created_at INTEGER NOT NULL DEFAULT {_NOW},
        updated_at INTEGER NOT NULL DEFAULT {_NOW},
        deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
        PRIMARY KEY (id)
    )""",
    """CREATE TABLE local_folders (
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        parent_id TEXT NULL,
        path TEXT NOT NULL,
        sort_order INTEGER NOT NULL DEFAULT 0,
        color TEXT NULL,
        icon TEXT NULL,
        description TEXT NOT NULL DEFAULT '',
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
        PRIMARY KEY (id)
    )""",
    """CREATE TABLE note_folders (
        note_id TEXT NOT NULL,
        folder_id TEXT NOT NULL,
        added_at INTEGER NOT NULL,
        PRIMARY KEY (note_id)
    )""",
    """CREATE TABLE saved_searches (
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        query TEXT NOT NULL,
        search_type TEXT NOT NULL DEFAULT 'text',
        parameters TEXT NULL,
        sort_order INTEGER NOT NULL DEFAULT 0,
        color TEXT NULL,
        icon TEXT NULL,
        is_pinned INTEGER NOT NULL DEFAULT 0 CHECK (is_pinned IN (0, 1)),
        created_at INTEGER NOT NULL,
        last_used_at INTEGER NULL,
        usage_count INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (id)
    )""",
    """CREATE TABLE local_templates (
        id TEXT NOT NULL,
        title TEXT NOT NULL,
        body TEXT NOT NULL,
        tags TEXT NOT NULL DEFAULT '[]',
        is_system INTEGER NOT NULL DEFAULT 0 CHECK (is_system IN (0, 1)),
        category TEXT NOT NULL,
        description TEXT NOT NULL,
        icon TEXT NOT NULL,
        sort_order INTEGER NOT NULL DEFAULT 0,
        metadata TEXT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (id)
    )""",
    "CREATE VIRTUAL TABLE fts_notes USING fts5 (id UNINDEXED, title, body, folder_path UNINDEXED)",
)

# What the triggers would have put into the search table, in one statement: a trigger looks for its row by a column that
# FTS5 does not index, which takes minutes where rows are loaded by the thousand.
FILL_SEARCH_TABLE = """INSERT INTO fts_notes (id, title, body, folder_path)
    SELECT n.id, n.title, n.body, f.path
    FROM local_notes n
    LEFT JOIN note_folders m ON m.note_id = n.id
    LEFT JOIN local_folders f ON f.id = m.folder_id
    WHERE n.deleted = 0 AND n.note_type = 0
    ORDER BY n.rowid"""

_COMMON_INDEXES: tuple[str, ...] = (
    "CREATE INDEX idx_local_notes_updated_notdeleted ON local_notes (updated_at DESC) WHERE deleted = 0",
    "CREATE INDEX idx_note_tags_tag ON note_tags (tag)",
    "CREATE INDEX idx_note_links_target_title ON note_links (target_title)",
    "CREATE INDEX idx_local_folders_parent_id ON local_folders (parent_id)",
    "CREATE INDEX idx_local_folders_path ON local_folders (path)",
    "CREATE INDEX idx_local_folders_deleted ON local_folders (deleted)",
    "CREATE INDEX idx_local_folders_sort_order ON local_folders (parent_id, sort_order)",
    "CREATE INDEX idx_note_folders_folder_id ON note_folders (folder_id)",
    "CREATE INDEX idx_note_tasks_note_id ON note_tasks (note_id)",
    "CREATE INDEX idx_note_tasks_due_date ON note_tasks (due_date) WHERE status = 0 AND deleted = 0",
    "CREATE INDEX idx_note_tasks_status ON note_tasks (status) WHERE deleted = 0",
    "CREATE INDEX idx_note_tasks_reminder_id ON note_tasks (reminder_id) WHERE reminder_id IS NOT NULL",
    "CREATE INDEX idx_note_tasks_parent ON note_tasks (parent_task_id) WHERE parent_task_id IS NOT NULL",
    "CREATE INDEX idx_saved_searches_pinned ON saved_searches (is_pinned DESC, sort_order)",
    "CREATE INDEX idx_saved_searches_usage ON saved_searches (usage_count DESC)",
    "CREATE INDEX idx_saved_searches_type ON saved_searches (search_type)",
)

_REMINDER_INDEXES: dict[Variant, tuple[str, ...]] = {
    "fresh": ("CREATE INDEX idx_note_reminders_remind_at ON note_reminders (remind_at)",),
    "grown": (
        "CREATE INDEX idx_note_reminders_note_id ON note_reminders (note_id)",
        "CREATE INDEX idx_note_reminders_type ON note_reminders (type)",
        "CREATE INDEX idx_note_reminders_active ON note_reminders (is_active)",
        "CREATE INDEX idx_note_reminders_location ON note_reminders (latitude, longitude) WHERE latitude IS NOT NULL",
        "CREATE INDEX idx_note_reminders_snoozed ON note_reminders (snoozed_until) WHERE snoozed_until IS NOT NULL",
        "CREATE INDEX idx_note_reminders_next_trigger ON note_reminders (remind_at, is_active) WHERE remind_at IS NOT NULL",
    ),
}

_FOLDER_PATH = """(SELECT f.path FROM note_folders m JOIN local_folders f ON f.id = m.folder_id WHERE m.note_id = NEW.id)"""

_NOTE_TRIGGERS: dict[Variant, tuple[str, ...]] = {
    "fresh": (
        f"""CREATE TRIGGER trg_local_notes_ai AFTER INSERT ON local_notes
        WHEN NEW.deleted = 0 AND NEW.note_type = 0
        BEGIN
            INSERT INTO fts_notes (id, title, body, folder_path)
            VALUES (NEW.id, NEW.title, NEW.body, {_FOLDER_PATH});
        END""",
        f"""CREATE TRIGGER trg_local_notes_au AFTER UPDATE ON local_notes
        BEGIN
            DELETE FROM fts_notes WHERE id = OLD.id;
            INSERT INTO fts_notes (id, title, body, folder_path)
            SELECT NEW.id, NEW.title, NEW.body, {_FOLDER_PATH}
            WHERE NEW.deleted = 0 AND NEW.note_type = 0;
        END""",
    ),
    "grown": (
        """CREATE TRIGGER trg_local_notes_ai AFTER INSERT ON local_notes
        WHEN NEW.deleted = 0 AND NEW.note_type = 0
        BEGIN
            INSERT INTO fts_notes (id, title, body) VALUES (NEW.id, NEW.title, NEW.body);
        END""",
        """CREATE TRIGGER trg_local_notes_au AFTER UPDATE ON local_notes
        BEGIN
            DELETE FROM fts_notes WHERE id = OLD.id;
            INSERT INTO fts_notes (id, title, body)
            SELECT NEW.id, NEW.title, NEW.body WHERE NEW.deleted = 0 AND NEW.note_type = 0;
        END""",
    ),
}

_COMMON_TRIGGERS: tuple[str, ...] = (
    """CREATE TRIGGER trg_local_notes_ad AFTER DELETE ON local_notes
    BEGIN
        DELETE FROM fts_notes WHERE id = OLD.id;
    END""",
    """CREATE TRIGGER trg_note_folders_ai AFTER INSERT ON note_folders
    BEGIN
        UPDATE fts_notes SET folder_path = (SELECT path FROM local_folders WHERE id = NEW.folder_id)
        WHERE id = NEW.note_id;
    END""",
    """CREATE TRIGGER trg_note_folders_au AFTER UPDATE ON note_folders
    BEGIN
        UPDATE fts_notes SET folder_path = (SELECT path FROM local_folders WHERE id = NEW.folder_id)
        WHERE id = NEW.note_id;
    END""",
    """CREATE TRIGGER trg_note_folders_ad AFTER DELETE ON note_folders
    BEGIN
        UPDATE fts_notes SET folder_path = NULL WHERE id = OLD.note_id;
    END""",
    """CREATE TRIGGER trg_local_folders_au_path AFTER UPDATE OF name, parent_id, path ON local_folders
    BEGIN
        UPDATE fts_notes SET folder_path = NEW.path
        WHERE id IN (SELECT note_id FROM note_folders WHERE folder_id = NEW.id);
    END""",
)


def indexes(variant: Variant) -> tuple[str, ...]:
    """The named indexes: 17 of a fresh file, 22 of a grown one."""
    return _COMMON_INDEXES + _REMINDER_INDEXES[variant]


def triggers(variant: Variant) -> tuple[str, ...]:
    """The 7 triggers that keep the search table."""
    return _NOTE_TRIGGERS[variant] + _COMMON_TRIGGERS
