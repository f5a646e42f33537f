"""The tables and triggers of a log in SQLite.

Append-only is held by the file itself, whoever writes to it: an insert trigger lets only the next event of a stream in
(also against INSERT OR REPLACE, which passes update and delete triggers), and updates and deletes are refused. The three read
tables are projections and are not guarded: they can be dropped, and are made again.

Nothing here needs more than SQLite 3.24 (upsert). Read next: `sqlite_rows.py`.
"""

from __future__ import annotations

from typing import Final

from ..events.chain import GENESIS

# Of the tables below. A higher one in a file says that a newer program made it.
LOG_VERSION: Final = 1

LOG_TABLES: Final = (
    """
    CREATE TABLE twinstep_log (
        log_id TEXT NOT NULL PRIMARY KEY,
        schema_version INTEGER NOT NULL,
        created_at TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE twinstep_events (
        position INTEGER PRIMARY KEY,
        stream TEXT NOT NULL,
        version INTEGER NOT NULL,
        type TEXT NOT NULL,
        schema_version INTEGER NOT NULL,
        recorded_at TEXT NOT NULL,
        payload TEXT NOT NULL,
        previous_hash TEXT NOT NULL,
        hash TEXT NOT NULL,
        UNIQUE (stream, version)
    )
    """,
    """
    CREATE TABLE twinstep_pairs (
        key TEXT NOT NULL PRIMARY KEY,
        pair TEXT NOT NULL UNIQUE
    )
    """,
    f"""
    CREATE TRIGGER twinstep_events_insert BEFORE INSERT ON twinstep_events
    WHEN NEW.position IS NOT (SELECT coalesce(max(position), 0) + 1 FROM twinstep_events)
        OR NEW.version IS NOT (SELECT coalesce(max(version), 0) + 1 FROM twinstep_events WHERE stream = NEW.stream)
        OR NEW.previous_hash IS NOT coalesce(
            (SELECT hash FROM twinstep_events WHERE stream = NEW.stream ORDER BY version DESC LIMIT 1), '{GENESIS}')
    BEGIN
        SELECT RAISE(ABORT, 'the log is append-only: an event follows the last one of its stream');
    END
    """,
    """
    CREATE TRIGGER twinstep_pairs_insert BEFORE INSERT ON twinstep_pairs
    WHEN EXISTS (SELECT 1 FROM twinstep_pairs WHERE key = NEW.key OR pair = NEW.pair)
    BEGIN
        SELECT RAISE(ABORT, 'the log is append-only: this pair is known');
    END
    """,
    """
    CREATE TRIGGER twinstep_log_insert BEFORE INSERT ON twinstep_log
    WHEN EXISTS (SELECT 1 FROM twinstep_log)
    BEGIN
        SELECT RAISE(ABORT, 'a log has one id');
    END
    """,
    *(
        f"""
        CREATE TRIGGER {table}_{change} BEFORE {change} ON {table}
        BEGIN
            SELECT RAISE(ABORT, 'the log is append-only');
        END
        """
        for table in ("twinstep_log", "twinstep_events", "twinstep_pairs")
        for change in ("update", "delete")
    ),
)

# Not in LOG_TABLES, and no part of LOG_VERSION: older programs use a log that has it, and logs of theirs get it here.
CLAIMS: Final = """
    CREATE TABLE IF NOT EXISTS twinstep_claims (
        pair TEXT NOT NULL PRIMARY KEY,
        token TEXT NOT NULL
    )
    """

READ_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS migration_history (
        pair TEXT NOT NULL,
        id TEXT NOT NULL,
        version TEXT NOT NULL,
        applied_at TEXT,
        migration_type TEXT NOT NULL,
        status TEXT NOT NULL,
        error_message TEXT,
        execution_time_ms REAL NOT NULL,
        rollback_applied_at TEXT,
        metadata TEXT NOT NULL,
        PRIMARY KEY (pair, id)
    )
    """,
    "CREATE INDEX IF NOT EXISTS migration_history_version_status ON migration_history (version, status)",
    "CREATE INDEX IF NOT EXISTS migration_history_applied_at ON migration_history (applied_at DESC)",
    """
    CREATE TABLE IF NOT EXISTS migration_backups (
        pair TEXT NOT NULL,
        id TEXT NOT NULL,
        backup_id TEXT NOT NULL,
        created_at TEXT NOT NULL,
        migration_version TEXT,
        status TEXT NOT NULL,
        backup_size_bytes INTEGER NOT NULL,
        restoration_verified INTEGER NOT NULL,
        cleanup_at TEXT,
        metadata TEXT NOT NULL,
        PRIMARY KEY (pair, id),
        UNIQUE (pair, backup_id)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS migration_sync_status (
        pair TEXT NOT NULL,
        id TEXT NOT NULL,
        migration_version TEXT NOT NULL,
        local_status TEXT NOT NULL,
        remote_status TEXT NOT NULL,
        local_applied_at TEXT,
        remote_applied_at TEXT,
        local_rollback_at TEXT,
        remote_rollback_at TEXT,
        sync_conflict_detected INTEGER NOT NULL,
        conflict_resolution TEXT,
        last_sync_check TEXT,
        metadata TEXT NOT NULL,
        PRIMARY KEY (pair, id),
        UNIQUE (pair, migration_version)
    )
    """,
)
