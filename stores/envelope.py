"""What every event store does alike: events into envelopes, and the refusal of a writer that has not seen the last event.

This module must never do I/O. Read next: `port.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from uuid_utils import uuid7

from ..events.chain import link
from ..events.codec import encode
from ..events.errors import ConcurrencyConflict
from ..events.types import Event, Recorded


def new_id() -> str:
    """A fresh UUIDv7: sorts roughly by time, so that ids lie in a listing as they were drawn."""
    return str(uuid7())


def adopted_key(pair: str) -> str:
    """What a pair that another log drew is kept under; where its databases are is found by asking them."""
    return f"adopted:{pair}"


def written_time(when: datetime) -> str:
    """UTC, ISO 8601 with zone and always six digits of seconds, so that texts sort as times do."""
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def enveloped(
    stream: str, events: Sequence[Event], *, version: int, previous_hash: str, position: int, recorded_at: str
) -> list[Recorded]:
    """The events as records that follow `version` and `previous_hash` in their stream, and `position` in the log."""
    records: list[Recorded] = []
    for offset, event in enumerate(events, start=1):
        kind, payload = type(event), encode(event)
        own_hash = link(
            previous_hash,
            stream=stream,
            version=version + offset,
            type=kind.__name__,
            schema_version=kind.SCHEMA_VERSION,
            recorded_at=recorded_at,
            payload=payload,
        )
        record = Recorded(
            stream=stream,
            version=version + offset,
            position=position + offset,
            type=kind.__name__,
            schema_version=kind.SCHEMA_VERSION,
            recorded_at=recorded_at,
            payload=payload,
            previous_hash=previous_hash,
            hash=own_hash,
        )
        records.append(record)
        previous_hash = own_hash
    return records


def moved_on(stream: str, *, expected_version: int, expected_hash: str, version: int, last_hash: str) -> ConcurrencyConflict:
    """The refusal (T504) of a writer that expected something else than the stream's last version and hash."""
    if version != expected_version:
        return ConcurrencyConflict("T504", stream=stream, expected=expected_version, actual=version)
    # Same length, another content: the writer has read another log, or one that was edited since.
    expected, actual = f"{version} (hash {expected_hash[:12]})", f"{version} (hash {last_hash[:12]})"
    return ConcurrencyConflict("T504", stream=stream, expected=expected, actual=actual)
