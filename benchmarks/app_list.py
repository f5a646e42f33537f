"""The indexes that the reference application asked for itself, so that each is tried, not believed: 15 local, 7 remote.

Definitions only. Read next: `reference.py`, which builds each of them on version 11 and says what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LOCAL: Final[Mapping[str, str]] = {
    "idx_local_notes_pinned_updated": "local_notes (is_pinned DESC, updated_at DESC) WHERE deleted = 0",
    "idx_note_tags_note_tag": "note_tags (note_id, tag)",
    "idx_note_tasks_note_status": "note_tasks (note_id, status) WHERE deleted = 0",
    "idx_note_reminders_note_active": "note_reminders (note_id, is_active)",
    "idx_local_folders_parent_sort": "local_folders (parent_id, sort_order) WHERE deleted = 0",
    "idx_note_folders_folder_note": "note_folders (folder_id, note_id)",
    "idx_note_tasks_open_due": "note_tasks (due_date) WHERE status = 0 AND deleted = 0 AND due_date IS NOT NULL",
    "idx_note_reminders_active_time": "note_reminders (remind_at) WHERE is_active = 1 AND remind_at IS NOT NULL",
    "idx_saved_searches_usage": "saved_searches (is_pinned DESC, usage_count DESC, last_used_at DESC)",
    "idx_local_templates_category_usage": "local_templates (category, usage_count DESC) WHERE deleted = 0",
    "idx_note_tags_covering": "note_tags (note_id, tag)",
    "idx_note_tasks_covering": "note_tasks (note_id, status, content, due_date, priority) WHERE deleted = 0",
    "idx_notes_folder_lookup": "local_notes (id, title, updated_at) WHERE deleted = 0 AND note_type = 0",
    "idx_tags_aggregation": "note_tags (tag)",
    "idx_notes_created_at": "local_notes (created_at DESC) WHERE deleted = 0 AND note_type = 0",
}

REMOTE: Final[Mapping[str, str]] = {
    "idx_notes_user_pinned_updated": "notes (user_id, is_pinned DESC, updated_at DESC) WHERE deleted = false",
    "idx_note_tasks_user_status_position": "note_tasks (user_id, status, position) WHERE deleted = false",
    "idx_note_tasks_reminder_due": "note_tasks (reminder_at) WHERE reminder_at IS NOT NULL AND deleted = false",
    "idx_folders_user_updated_sync": "folders (user_id, updated_at) WHERE updated_at IS NOT NULL",
    "idx_attachments_note_created": "attachments (note_id, created_at DESC)",
    "idx_note_tasks_labels_gin": "note_tasks USING gin (labels) WHERE deleted = false",
    "idx_notification_events_processing": "notification_events (status, priority DESC, scheduled_for)"
    " WHERE status IN ('pending', 'processing')",
}
