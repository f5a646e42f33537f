"""The PostgreSQL schema of the reference application before the migration, as statements.

The application runs on a service that brings the schema `auth`; a table of users stands in for it. Row-level security plays
no part. The indexes are those that the application has, also where one makes another superfluous.

A list of definitions; no I/O here. Read next: `builders.py`, which runs these statements.
"""

from __future__ import annotations

TABLES: tuple[str, ...] = (
    "CREATE SCHEMA auth",
    "CREATE TABLE auth.users (id uuid PRIMARY KEY)",
    """CREATE TABLE notes (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
        title_enc bytea NOT NULL,
        props_enc bytea NOT NULL,
        deleted boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        encrypted_metadata text,
        is_pinned boolean DEFAULT false,
        note_type text DEFAULT 'note' CHECK (note_type IN ('note', 'template'))
    )""",
    """CREATE TABLE folders (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
        name_enc bytea NOT NULL,
        props_enc bytea NOT NULL,
        created_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now(),
        deleted boolean DEFAULT false
    )""",
    """CREATE TABLE note_folders (
        note_id uuid PRIMARY KEY REFERENCES notes (id) ON DELETE CASCADE,
        folder_id uuid NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
        user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
        added_at timestamptz DEFAULT now()
    )""",
    """CREATE TABLE note_tasks (
        id uuid PRIMARY KEY,
        note_id uuid NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
        user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
        content text NOT NULL,
        content_hash text,
        status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'in_progress', 'completed', 'cancelled')),
        priority integer DEFAULT 0 CHECK (priority BETWEEN 0 AND 5),
        position integer DEFAULT 0 CHECK (position >= 0),
        due_date timestamptz,
        reminder_at timestamptz,
        completed_at timestamptz,
        parent_id uuid REFERENCES note_tasks (id) ON DELETE CASCADE,
        labels jsonb DEFAULT '[]',
        metadata jsonb DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        deleted boolean NOT NULL DEFAULT false
    )""",
    """CREATE TABLE notification_events (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
        event_type text NOT NULL,
        event_source text NOT NULL,
        priority text NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high', 'critical')),
        payload jsonb NOT NULL DEFAULT '{}',
        scheduled_for timestamptz NOT NULL DEFAULT now(),
        processed_at timestamptz,
        status text NOT NULL DEFAULT 'pending'
            CHECK (status IN ('pending', 'processing', 'delivered', 'failed', 'cancelled')),
        retry_count integer DEFAULT 0,
        max_retries integer DEFAULT 5,
        dedupe_key text,
        error_message text,
        error_details jsonb,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (user_id, dedupe_key)
    )""",
    """CREATE TABLE templates (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
        title_enc text NOT NULL,
        body_enc text NOT NULL,
        tags_enc text,
        description_enc text,
        props_enc text,
        category text NOT NULL DEFAULT 'personal',
        icon text,
        sort_order integer DEFAULT 1000,
        is_system boolean NOT NULL DEFAULT false,
        created_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now(),
        deleted boolean NOT NULL DEFAULT false,
        UNIQUE (user_id, id)
    )""",
    """CREATE TABLE attachments (
        id text PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
        note_id uuid REFERENCES notes (id) ON DELETE SET NULL,
        file_name text NOT NULL,
        storage_path text NOT NULL,
        mime_type text,
        size integer,
        url text,
        uploaded_at timestamptz NOT NULL DEFAULT now(),
        created_at timestamptz NOT NULL DEFAULT now(),
        deleted boolean NOT NULL DEFAULT false
    )""",
)

INDEXES: tuple[str, ...] = (
    "CREATE INDEX idx_notes_user_updated ON notes (user_id, updated_at DESC)",
    "CREATE INDEX idx_notes_user_deleted ON notes (user_id, deleted)",
    "CREATE INDEX idx_notes_updated_at ON notes (updated_at DESC)",
    "CREATE INDEX idx_notes_note_type ON notes (note_type)",
    "CREATE INDEX idx_notes_user_note_type ON notes (user_id, note_type)",
    "CREATE INDEX idx_notes_metadata_version ON notes (((encrypted_metadata::json) ->> 'version'))",
    "CREATE INDEX idx_notes_metadata_source ON notes (((encrypted_metadata::json) ->> 'source'))"
    " WHERE encrypted_metadata IS NOT NULL",
    "CREATE INDEX idx_notes_with_metadata ON notes (user_id) WHERE ((encrypted_metadata::json) ->> 'source') IS NOT NULL",
    "CREATE INDEX idx_folders_user ON folders (user_id)",
    "CREATE INDEX idx_folders_user_deleted ON folders (user_id, deleted)",
    "CREATE INDEX idx_folders_updated_at ON folders (updated_at DESC)",
    "CREATE INDEX idx_note_folders_folder ON note_folders (folder_id)",
    "CREATE INDEX idx_note_folders_folder_note ON note_folders (folder_id, note_id)",
    "CREATE INDEX idx_note_folders_user ON note_folders (user_id)",
    "CREATE UNIQUE INDEX idx_note_tasks_content ON note_tasks (note_id, content_hash, position)"
    " WHERE NOT deleted AND content_hash IS NOT NULL",
    "CREATE INDEX idx_note_tasks_user ON note_tasks (user_id)",
    "CREATE INDEX idx_note_tasks_note ON note_tasks (note_id)",
    "CREATE INDEX idx_note_tasks_status ON note_tasks (status) WHERE deleted = false",
    "CREATE INDEX idx_note_tasks_due_date ON note_tasks (due_date) WHERE due_date IS NOT NULL AND deleted = false",
    "CREATE INDEX idx_note_tasks_parent ON note_tasks (parent_id) WHERE parent_id IS NOT NULL",
    "CREATE INDEX idx_note_tasks_reminder ON note_tasks (reminder_at) WHERE reminder_at IS NOT NULL AND deleted = false",
    "CREATE INDEX idx_note_tasks_labels_gin ON note_tasks USING gin (labels)",
    "CREATE INDEX idx_notification_events_open ON notification_events (status, scheduled_for)"
    " WHERE status IN ('pending', 'processing')",
    "CREATE INDEX idx_notification_events_processing ON notification_events (status, scheduled_for, priority DESC)"
    " WHERE status IN ('pending', 'processing')",
    "CREATE INDEX idx_notification_events_user_status ON notification_events (user_id, status, created_at DESC)",
    "CREATE INDEX idx_notification_events_cleanup ON notification_events (created_at, status)",
    "CREATE INDEX idx_notification_events_created ON notification_events (created_at)",
    "CREATE INDEX idx_notification_events_user ON notification_events (user_id)",
    "CREATE INDEX idx_notification_events_dedupe ON notification_events (user_id, dedupe_key) WHERE dedupe_key IS NOT NULL",
    "CREATE INDEX idx_templates_user ON templates (user_id)",
    "CREATE INDEX idx_templates_user_system ON templates (user_id, is_system)",
    "CREATE INDEX idx_templates_deleted ON templates (deleted)",
    "CREATE INDEX idx_templates_category ON templates (category)",
)
