-- Indexes. Each one is here because a query of migration.toml, or a foreign key, is served by it; the figures are the
-- medians on a file of 20 000 notes with SQLite 3.40, before and after, in milliseconds ('make measure' prints them).

-- Q1 main list (3.2 to 0.07) and Q2 pinned notes (16 to 0.5): exactly the notes that the lists show, in their order.
CREATE INDEX idx_local_notes_pinned_updated ON local_notes (is_pinned DESC, updated_at DESC)
WHERE deleted = 0 AND note_type = 0;

-- Q6 notes per folder (33 to 11), Q7 tags with counts (76 to 32), Q21 tags in use (36 to 9): is this note visible? is
-- answered without reading the note with its text. The two flags are columns too, because SQLite 3.40 does not see that
-- the condition already tells their values. They come last: first, they tempt SQLite 3.51 into using this index for the
-- main list, which is then four times slower than before.
CREATE INDEX idx_local_notes_visible ON local_notes (id, deleted, note_type)
WHERE deleted = 0 AND note_type = 0;

-- Q25 title suggestions, LIKE 'begin%' (2.9 to 0.04): LIKE ignores case, so only an index that does so too can serve it.
CREATE INDEX idx_local_notes_title ON local_notes (title COLLATE NOCASE)
WHERE deleted = 0 AND note_type = 0;

-- Q13 tasks due within a day, of any status (3.6 to 1.0). With the tasks that have no due date: without them it looks
-- smaller than the index on open tasks, and Q12 would take it and get slower.
CREATE INDEX idx_note_tasks_live_due ON note_tasks (due_date)
WHERE deleted = 0;

-- Q10 open tasks by due date (31 to 29), Q11 open tasks due soon (0.67 to 0.54): in their order, so nothing is sorted. The
-- status is a column although it is always 0, or SQLite 3.51 prefers the index on the status alone and sorts.
CREATE INDEX idx_note_tasks_open_due ON note_tasks (status, due_date, priority DESC)
WHERE status = 0 AND deleted = 0;

-- Q14 completed tasks, newest first (2.0 to 0.11). The status is a column for the same reason.
CREATE INDEX idx_note_tasks_completed ON note_tasks (status, completed_at DESC)
WHERE status = 1 AND deleted = 0;

-- Q15 active reminders of a note (0.15 to 0.01), and the foreign key note_reminders.note_id.
CREATE INDEX idx_note_reminders_note_active ON note_reminders (note_id, is_active);

-- Q16 reminders that are due (1.0 to 0.8): past reminders pile up, active ones do not.
CREATE INDEX idx_note_reminders_active_time ON note_reminders (remind_at)
WHERE type = 0 AND is_active = 1;

-- Q26 links to a note (0.18 to 0.01), and the foreign key note_links.target_id: without it, each hard delete of a note reads all
-- links.
CREATE INDEX idx_note_links_target_id ON note_links (target_id)
WHERE target_id IS NOT NULL;

-- Q20 saved searches (0.52 to 0.43): in their order, so nothing is sorted.
CREATE INDEX idx_saved_searches_order ON saved_searches (is_pinned DESC, sort_order, usage_count DESC);
