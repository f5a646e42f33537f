-- The rest, keys and statistics, is taken back by local_down of migration.py, after this.
DROP INDEX idx_local_notes_pinned_updated;
DROP INDEX idx_local_notes_visible;
DROP INDEX idx_local_notes_title;
DROP INDEX idx_note_tasks_live_due;
DROP INDEX idx_note_tasks_open_due;
DROP INDEX idx_note_tasks_completed;
DROP INDEX idx_note_reminders_note_active;
DROP INDEX idx_note_reminders_active_time;
DROP INDEX idx_note_links_target_id;
DROP INDEX idx_saved_searches_order;
