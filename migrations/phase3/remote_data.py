"""The rows of the server: any number of users with their notes, the same ones for the same seed and instant.

Each user has so many notes, one folder for every five of them, one task and one notification per note, an attachment for
half of the notes. Rows of different users lie between each other, as they do where users write at the same time: laid out
user by user, every query for one user's rows would be faster than it is. Dates lie in the 1 000 days up to the given
instant, except for reminders, of which a hundredth is over and the rest are still to come. Each user's first note, folder and
task were changed on the last day, and one reminder is due, so that small databases have something to find too.

Lines are in the text format of COPY. No I/O here. Read next: `builders.py`, which sends them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import TypeAlias

from .local_data import below, identifier

Lines: TypeAlias = tuple[str, tuple[str, ...], Iterator[str]]
Cell: TypeAlias = str | int | None

DAY_SECONDS = 86_400
WITHIN_DAYS = 1_000
LABELS = 50

_TASK_STATUSES = ("pending", "in_progress", "completed", "cancelled")
_PRIORITIES = ("low", "normal", "high", "critical")
_FINISHED = ("delivered", "failed", "cancelled")


def remote_rows(*, users: int, notes_per_user: int, seed: int, now: datetime) -> Iterator[Lines]:
    """The rows of every filled table as (table, columns, lines for COPY), parents before children."""
    user_ids = _identifiers(users, seed, "users")
    owners = user_ids * notes_per_user
    note_ids = _identifiers(len(owners), seed, "note ids")
    folders = user_ids * (max(1, notes_per_user // 5) if notes_per_user else 0)
    folder_ids = _identifiers(len(folders), seed, "folder ids")
    task_ids = _identifiers(len(owners), seed, "task ids")

    def generator(table: str) -> Random:
        return Random(f"{seed} remote {table}")

    yield "auth.users", ("id",), (f"{user}\n" for user in user_ids)
    yield _notes(owners, note_ids, users, generator("notes"), now)
    yield _folders(folders, folder_ids, users, generator("folders"), now)
    yield _memberships(owners, note_ids, folder_ids, users, generator("memberships"), now)
    yield _tasks(owners, note_ids, task_ids, users, generator("tasks"), now)
    yield _attachments(owners, note_ids, generator("attachments"), now)
    yield _notifications(owners, generator("notifications"), now)
    yield _templates(user_ids, generator("templates"), now)


def _identifiers(count: int, seed: int, of: str) -> list[str]:
    rng = Random(f"{seed} remote {of}")
    return [identifier(rng) for _ in range(count)]


def _line(*cells: Cell) -> str:
    return "\t".join("\\N" if cell is None else str(cell) for cell in cells) + "\n"


def _changed(rng: Random, now: datetime, *, lately: bool) -> str:
    return _around(rng, now, 1 if lately else WITHIN_DAYS, 0)


def _ago(rng: Random, now: datetime) -> str:
    return _around(rng, now, WITHIN_DAYS, 0)


def _around(rng: Random, now: datetime, before_days: int, after_days: int) -> str:
    seconds = below(rng, (before_days + after_days) * DAY_SECONDS) - before_days * DAY_SECONDS
    return (now + timedelta(seconds=seconds)).isoformat()


def _secret(rng: Random, size: int) -> str:
    """Encrypted bytes: equal texts do not encrypt to equal ones, so random ones are as good. In the escape form of COPY."""
    return "\\\\x" + rng.randbytes(size).hex()


def _true(rng: Random, share: float) -> str:
    return "t" if rng.random() < share else "f"


def _notes(owners: Sequence[str], ids: Sequence[str], users: int, rng: Random, now: datetime) -> Lines:
    def lines() -> Iterator[str]:
        for number, (note_id, user) in enumerate(zip(ids, owners, strict=True)):
            metadata = f'{{"version": {below(rng, 3)}, "source": "import"}}' if rng.random() < 0.10 else None
            yield _line(
                note_id, user, _secret(rng, 40), _secret(rng, 240), _true(rng, 0.10), _ago(rng, now),
                _changed(rng, now, lately=number < users), metadata, _true(rng, 0.02),
                "template" if rng.random() < 0.02 else "note",
            )  # fmt: skip

    columns = (
        "id", "user_id", "title_enc", "props_enc", "deleted", "created_at", "updated_at", "encrypted_metadata", "is_pinned",
        "note_type",
    )  # fmt: skip
    return "notes", columns, lines()


def _folders(owners: Sequence[str], ids: Sequence[str], users: int, rng: Random, now: datetime) -> Lines:
    def lines() -> Iterator[str]:
        for number, (folder_id, user) in enumerate(zip(ids, owners, strict=True)):
            yield _line(
                folder_id, user, _secret(rng, 24), _secret(rng, 120), _ago(rng, now),
                _changed(rng, now, lately=number < users), _true(rng, 0.06),
            )  # fmt: skip

    return "folders", ("id", "user_id", "name_enc", "props_enc", "created_at", "updated_at", "deleted"), lines()


def _memberships(
    owners: Sequence[str], notes: Sequence[str], folders: Sequence[str], users: int, rng: Random, now: datetime
) -> Lines:
    def lines() -> Iterator[str]:
        for number, (note_id, user) in enumerate(zip(notes, owners, strict=True)):
            if rng.random() < 0.70:
                # Rows of one user are `users` apart, in both lists.
                folder = folders[below(rng, len(folders) // users) * users + number % users]
                yield _line(note_id, folder, user, _ago(rng, now))

    return "note_folders", ("note_id", "folder_id", "user_id", "added_at"), lines()


def _tasks(owners: Sequence[str], notes: Sequence[str], ids: Sequence[str], users: int, rng: Random, now: datetime) -> Lines:
    def lines() -> Iterator[str]:
        for number, (task_id, note_id, user) in enumerate(zip(ids, notes, owners, strict=True)):
            status = _TASK_STATUSES[below(rng, 4)]
            changed_at = _changed(rng, now, lately=number < users)
            due = number == 0
            yield _line(
                task_id, note_id, user, f"task {number} of this account", f"{rng.getrandbits(64):016x}", status,
                below(rng, 5), below(rng, 100),
                _around(rng, now, 50, 50) if rng.random() < 0.40 else None,
                _around(rng, now, 10, 0 if due else 990) if rng.random() < 0.10 or due else None,
                changed_at if status == "completed" else None,
                ids[number - users] if number >= users and rng.random() < 0.05 else None,
                f'["label-{below(rng, LABELS):02d}"]' if rng.random() < 0.20 else "[]",
                _ago(rng, now), changed_at, _true(rng, 0.0 if due else 0.10),
            )  # fmt: skip

    columns = (
        "id", "note_id", "user_id", "content", "content_hash", "status", "priority", "position", "due_date", "reminder_at",
        "completed_at", "parent_id", "labels", "created_at", "updated_at", "deleted",
    )  # fmt: skip
    return "note_tasks", columns, lines()


def _attachments(owners: Sequence[str], notes: Sequence[str], rng: Random, now: datetime) -> Lines:
    def lines() -> Iterator[str]:
        for number, (note_id, user) in enumerate(zip(notes, owners, strict=True)):
            if rng.random() < 0.50:
                name = f"scan-{number}.png"
                yield _line(
                    identifier(rng), user, note_id, name, f"{user}/{name}", "image/png", below(rng, 10**6),
                    _ago(rng, now), _true(rng, 0.05),
                )  # fmt: skip

    columns = ("id", "user_id", "note_id", "file_name", "storage_path", "mime_type", "size", "created_at", "deleted")
    return "attachments", columns, lines()


def _notifications(owners: Sequence[str], rng: Random, now: datetime) -> Lines:
    def lines() -> Iterator[str]:
        for number, user in enumerate(owners):
            drawn = below(rng, 9)
            status = ("pending", "processing")[drawn] if drawn < 2 else _FINISHED[below(rng, 3)]
            created_at = _ago(rng, now)
            yield _line(
                identifier(rng), user, "task_reminder", "scheduler", _PRIORITIES[below(rng, 4)], '{"attempt": 1}',
                _ago(rng, now), status, f"reminder-{number}", created_at, created_at,
            )  # fmt: skip

    columns = (
        "id", "user_id", "event_type", "event_source", "priority", "payload", "scheduled_for", "status", "dedupe_key",
        "created_at", "updated_at",
    )  # fmt: skip
    return "notification_events", columns, lines()


def _templates(owners: Sequence[str], rng: Random, now: datetime) -> Lines:
    def lines() -> Iterator[str]:
        for user in owners:
            for number in range(5):
                body = f"{rng.getrandbits(800):0200x}"
                yield _line(
                    identifier(rng), user, f"{rng.getrandbits(160):040x}", body, ("personal", "work")[number % 2],
                    1_000 + number, "f", _ago(rng, now), _true(rng, 0.05),
                )  # fmt: skip

    columns = ("id", "user_id", "title_enc", "body_enc", "category", "sort_order", "is_system", "updated_at", "deleted")
    return "templates", columns, lines()
