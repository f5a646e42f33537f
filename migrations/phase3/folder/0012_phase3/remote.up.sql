-- Indexes, built without blocking writes. Each one is here because a query of migration.toml, a query of the application's
-- upkeep, or a foreign key, is served by it; the figures are medians on 100 users of 500 notes with PostgreSQL 18
-- over a unix socket, rows fetched, before and after, in milliseconds ('make measure' prints them).

-- P3 main list (0.58 to 0.25), and with the id inside also P2 ids of live notes (0.42 to 0.25), read from the index alone.
CREATE INDEX CONCURRENTLY idx_notes_user_pinned_updated
ON notes (user_id, is_pinned DESC, updated_at DESC) INCLUDE (id) WHERE NOT deleted;

-- P6 tasks of a status by position (0.83 to 0.48), and with the id inside also P12 ids of live tasks (0.52 to 0.24).
CREATE INDEX CONCURRENTLY idx_note_tasks_user_status_position
ON note_tasks (user_id, status, position) INCLUDE (id) WHERE NOT deleted;

-- P5 tasks changed since, deleted ones too (0.55 to 0.29).
CREATE INDEX CONCURRENTLY idx_note_tasks_user_updated ON note_tasks (user_id, updated_at);

-- P4 folders changed since, deleted ones too (0.21 to 0.15): one index instead of two combined.
CREATE INDEX CONCURRENTLY idx_folders_user_updated_sync ON folders (user_id, updated_at);

-- P13 ids of live folders (0.20 to 0.13), read from the index alone.
CREATE INDEX CONCURRENTLY idx_folders_user_live ON folders (user_id) INCLUDE (id) WHERE NOT deleted;

-- P14 memberships added since (0.32 to 0.15).
CREATE INDEX CONCURRENTLY idx_note_folders_user_added ON note_folders (user_id, added_at);

-- P9 attachments of a note (1.0 to 0.12); the foreign key attachments.note_id, which P11, the hard delete of 50 notes, waits
-- for (44 to 1.4).
CREATE INDEX CONCURRENTLY idx_attachments_note_created ON attachments (note_id, created_at DESC);

-- The foreign key attachments.user_id: deleting an account reads its own attachments, not everybody's.
CREATE INDEX CONCURRENTLY idx_attachments_user ON attachments (user_id);

-- P10 next notifications (1.8 to 0.15). The priority is a word, whose order is alphabetical; the expression is its rank, and
-- must stay the same text as in the query.
CREATE INDEX CONCURRENTLY idx_notification_events_next
ON notification_events (
    (CASE priority WHEN 'critical' THEN 0 WHEN 'high' THEN 1 WHEN 'normal' THEN 2 ELSE 3 END), scheduled_for
) INCLUDE (id) WHERE status = 'pending';

-- Fresh statistics, also of the expression above, of which there are none before.
ANALYZE notes;
ANALYZE folders;
ANALYZE note_folders;
ANALYZE note_tasks;
ANALYZE attachments;
ANALYZE notification_events;
ANALYZE templates;
