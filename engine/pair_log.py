"""The pair's own stream: what is true of a pair of databases and of no single migration of it.

The stream bears the pair's id, without a slash. It has no state, so that any of its events may follow any other; what
is appended here is appended under the coordinator's lock, like everything else.

Read next: `events/projections.py` (which rows of the read tables follow from these events).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..events.chain import GENESIS
from ..events.types import Event, Recorded
from .session import Session


def append_to_pair(opened: Session, events: Sequence[Event]) -> list[Recorded]:
    """Append events to the pair's own stream, in one commit, durable once it returns, and tell the listener of each.

    No events: nothing happens. Raises what the store's `append` raises, ConcurrencyConflict (T504) among it.
    """
    assert opened.pair is not None
    if not events:
        return []
    before = opened.store.read(opened.pair)
    version, last_hash = (before[-1].version, before[-1].hash) if before else (0, GENESIS)
    records = opened.store.append(opened.pair, events, expected_version=version, expected_hash=last_hash)
    for record in records:
        opened.settings.on_event(record)
    return records
