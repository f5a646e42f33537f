"""The rows of a device: any number of notes, and everything that hangs on them, the same ones for the same seed.

Proportions are those that the measured figures are stated for: 200 folders (20 roots, every 17th deleted), a tenth of the
notes deleted, 2 % pinned, 2 % templates, half with metadata, 70 % filed, 0 to 3 of 300 tags, 0, 0, 1, 2 or 3 tasks, 15 % with
a reminder, 300 saved searches. Only `random()`, `getrandbits()` and `randbytes()` of Python's generator are used, whose
results no Python version has changed; each table has its own generator, so that one table's rows do not depend on how
another's are made.

No I/O here. Read next: `builders.py`, which puts the rows into a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TypeAlias

Value: TypeAlias = str | int | float | None
Row: TypeAlias = tuple[Value, ...]
Rows: TypeAlias = tuple[str, tuple[str, ...], list[Row]]

FOLDERS = 200
ROOT_FOLDERS = 20
SAVED_SEARCHES = 300
TAGS = 300
TEMPLATES = 24

UPDATED_WITHIN_SECONDS = 10**8
DUE_WITHIN_SECONDS = 10**6

_WORDS = (
    "draft plan review garden invoice budget travel kitchen recipe meeting summary question answer river window letter "
    "project library winter summer market bicycle doctor school music paper copper harbour engine morning evening train "
    "station ticket promise number colour shadow bridge island lantern orchard valley signal"
).split()
_CATEGORIES = ("work", "personal", "study", "planning")


def identifier(rng: Random) -> str:
    """A random UUID of version 4, written as text."""
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def below(rng: Random, limit: int) -> int:
    """A whole number from 0 up to, and without, `limit`."""
    return int(rng.random() * limit)


def local_rows(*, notes: int, seed: int, now: int) -> Iterator[Rows]:
    """The rows of every filled table as (table, columns, rows), parents before children; nothing for 0 notes.

    The first note is visible and was changed at `now` exactly: there, a query finds the time that the data is relative to.
    """
    if notes == 0:
        return
    note_ids, note_table = _notes(notes, Random(f"{seed} notes"), now)
    folder_ids, folder_table = _folders(min(FOLDERS, notes), Random(f"{seed} folders"), now)
    reminder_of_note, reminder_table = _reminders(note_ids, Random(f"{seed} reminders"), now)
    yield note_table
    yield folder_table
    yield _memberships(note_ids, folder_ids, Random(f"{seed} memberships"), now)
    yield _tags(note_ids, Random(f"{seed} tags"))
    yield _links(note_ids, note_table[2], Random(f"{seed} links"))
    yield reminder_table
    yield _tasks(note_ids, reminder_of_note, Random(f"{seed} tasks"), now)
    yield _saved_searches(min(SAVED_SEARCHES, notes), Random(f"{seed} searches"), now)
    yield _templates(min(TEMPLATES, notes), Random(f"{seed} templates"), now)


def _prose(rng: Random) -> str:
    return " ".join(_WORDS[below(rng, len(_WORDS))] for _ in range(8_000))


def _notes(count: int, rng: Random, now: int) -> tuple[list[str], Rows]:
    prose = _prose(rng)
    ids: list[str] = []
    rows: list[Row] = []
    for number in range(count):
        first = number == 0
        note_id = identifier(rng)
        start = below(rng, len(prose) - 200)
        updated_at = now - (0 if first else below(rng, UPDATED_WITHIN_SECONDS))
        deleted = int(rng.random() < 0.10 and not first)
        pinned = int(rng.random() < 0.02 or first)
        note_type = int(rng.random() < 0.02 and not first)
        metadata = f'{{"version": {below(rng, 9)}, "digest": "{rng.getrandbits(256):064x}"}}' if rng.random() < 0.50 else None
        ids.append(note_id)
        title = f"{_WORDS[below(rng, len(_WORDS))]} {number}"
        rows.append((note_id, title, prose[start : start + 200], updated_at, deleted, metadata, pinned, note_type))
    columns = ("id", "title", "body", "updated_at", "deleted", "encrypted_metadata", "is_pinned", "note_type")
    return ids, ("local_notes", columns, rows)


def _folders(count: int, rng: Random, now: int) -> tuple[list[str], Rows]:
    ids: list[str] = []
    paths: list[str] = []
    rows: list[Row] = []
    for number in range(count):
        parent = None if number < ROOT_FOLDERS else below(rng, number)
        name = f"{_WORDS[below(rng, len(_WORDS))].capitalize()} {number}"
        created_at = now - below(rng, UPDATED_WITHIN_SECONDS)
        ids.append(identifier(rng))
        paths.append(f"/{name}" if parent is None else f"{paths[parent]}/{name}")
        rows.append((
            ids[number], name, None if parent is None else ids[parent], paths[number], below(rng, 100),
            "#336699" if number % 3 == 0 else None, "", created_at, created_at + (now - created_at) // 2,
            int(number % 17 == 16),
        ))  # fmt: skip
    columns = ("id", "name", "parent_id", "path", "sort_order", "color", "description", "created_at", "updated_at", "deleted")
    return ids, ("local_folders", columns, rows)


def _memberships(notes: Sequence[str], folders: Sequence[str], rng: Random, now: int) -> Rows:
    rows: list[Row] = []
    for note_id in notes:
        if rng.random() < 0.70:
            rows.append((note_id, folders[below(rng, len(folders))], now - below(rng, UPDATED_WITHIN_SECONDS)))
    return "note_folders", ("note_id", "folder_id", "added_at"), rows


def _tags(notes: Sequence[str], rng: Random) -> Rows:
    rows: list[Row] = []
    for note_id in notes:
        chosen = {below(rng, TAGS) for _ in range(below(rng, 4))}
        rows.extend((note_id, f"tag-{tag:03d}") for tag in sorted(chosen))
    return "note_tags", ("note_id", "tag"), rows


def _links(notes: Sequence[str], note_rows: Sequence[Row], rng: Random) -> Rows:
    rows: list[Row] = []
    for note_id in notes:
        if rng.random() < 0.20:
            target = below(rng, len(notes))
            found = rng.random() < 0.80
            title = note_rows[target][1] if found else f"unwritten {target}"
            rows.append((note_id, title, notes[target] if found else None))
    return "note_links", ("source_id", "target_title", "target_id"), rows


def _reminders(notes: Sequence[str], rng: Random, now: int) -> tuple[dict[str, int], Rows]:
    of_note: dict[str, int] = {}
    rows: list[Row] = []
    for note_id in notes:
        if rng.random() < 0.15:
            number = of_note[note_id] = len(rows) + 1
            kind = (0, 0, 1, 2)[below(rng, 4)]
            place = kind == 1
            remind_at = None if place else now - DUE_WITHIN_SECONDS + below(rng, 2 * DUE_WITHIN_SECONDS)
            snoozed = rng.random() < 0.10
            rows.append((
                number, note_id, f"reminder {number}", kind, remind_at, int(rng.random() < 0.50),
                50.0 + below(rng, 1000) / 1000 if place else None, 8.0 + below(rng, 1000) / 1000 if place else None,
                100.0 if place else None, now - 3600 + below(rng, 7200) if snoozed else None, int(snoozed),
                1 + below(rng, 4) if kind == 2 else 0, now - below(rng, UPDATED_WITHIN_SECONDS),
            ))  # fmt: skip
    columns = (
        "id", "note_id", "title", "type", "remind_at", "is_active", "latitude", "longitude", "radius", "snoozed_until",
        "snooze_count", "recurrence_pattern", "created_at",
    )  # fmt: skip
    return of_note, ("note_reminders", columns, rows)


def _tasks(notes: Sequence[str], reminder_of_note: dict[str, int], rng: Random, now: int) -> Rows:
    rows: list[Row] = []
    for note_id in notes:
        first: str | None = None
        for position in range((0, 0, 1, 2, 3)[below(rng, 5)]):
            task_id = identifier(rng)
            status = (0, 0, 1, 2)[below(rng, 4)]
            due = now - DUE_WITHIN_SECONDS + below(rng, 2 * DUE_WITHIN_SECONDS) if rng.random() < 0.50 else None
            changed_at = now - below(rng, UPDATED_WITHIN_SECONDS)
            words = " ".join(_WORDS[below(rng, len(_WORDS))] for _ in range(4))
            rows.append((
                task_id, note_id, words, status, below(rng, 4), due, changed_at if status == 1 else None, position,
                f"{rng.getrandbits(64):016x}", reminder_of_note.get(note_id) if position == 0 else None,
                '["home"]' if rng.random() < 0.10 else None, first if rng.random() < 0.50 else None,
                changed_at - 86_400, changed_at, int(rng.random() < 0.10),
            ))  # fmt: skip
            first = first or task_id
    columns = (
        "id", "note_id", "content", "status", "priority", "due_date", "completed_at", "position", "content_hash",
        "reminder_id", "labels", "parent_task_id", "created_at", "updated_at", "deleted",
    )  # fmt: skip
    return "note_tasks", columns, rows


def _saved_searches(count: int, rng: Random, now: int) -> Rows:
    rows: list[Row] = []
    for number in range(count):
        created_at = now - below(rng, UPDATED_WITHIN_SECONDS)
        rows.append((
            identifier(rng), f"search {number}", _WORDS[below(rng, len(_WORDS))], ("text", "tag", "folder")[below(rng, 3)],
            below(rng, 50), int(number % 9 == 0), created_at, created_at + below(rng, now - created_at + 1), below(rng, 500),
        ))  # fmt: skip
    columns = ("id", "name", "query", "search_type", "sort_order", "is_pinned", "created_at", "last_used_at", "usage_count")
    return "saved_searches", columns, rows


def _templates(count: int, rng: Random, now: int) -> Rows:
    rows: list[Row] = []
    for number in range(count):
        rows.append((
            identifier(rng), f"template {number}", "# {{title}}", "[]", int(number % 2 == 0), _CATEGORIES[number % 4],
            f"An outline to begin with, number {number}", "note", number, now - 10**8, now - 10**8,
        ))  # fmt: skip
    columns = (
        "id", "title", "body", "tags", "is_system", "category", "description", "icon", "sort_order", "created_at", "updated_at",
    )  # fmt: skip
    return "local_templates", columns, rows
