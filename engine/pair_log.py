"""The pair's own stream: what is true of a pair of databases and of no single migration of it.

The stream bears the pair's id, without a slash. It has no state, so that any of its events may follow any other; what
is appended here is appended under the coordinator's lock, like everything else.

Conflicts come and go here. A call that may write records those that it sees for the first time, and those that it does not
see any more although it could have: a side that was not read says nothing. Where nothing changed, nothing is appended.

Read next: `events/projections.py` (which rows of the read tables follow from these events).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, cast

from ..events import types as e
from ..events.chain import GENESIS
from ..events.codec import decode
from ..events.errors import Conflict, TwinstepError
from ..events.types import Event, Recorded
from .conflicts import Known
from .session import Session

# Kind, migration and side: by these a conflict is known again.
Identity: TypeAlias = "tuple[str, str, str]"

OF_SCHEMAS: Final = frozenset({"drift", "invalid_index"})


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
        try:
            opened.settings.on_event(record)
        except TwinstepError as error:
            # As in the loop: what a listener raises is never taken for something that is wrong with the databases.
            raise RuntimeError(f"on_event failed at {record.type}") from error
    return records


def open_conflicts(records: Iterable[Recorded]) -> dict[Identity, e.ConflictDetected]:
    """Those that the pair's own stream says are not gone yet, in the order in which they were seen first."""
    found: dict[Identity, e.ConflictDetected] = {}
    for record in records:
        if record.type == "ConflictDetected":
            detected = cast("e.ConflictDetected", decode(record))
            found[detected.kind, detected.migration, detected.side] = detected
        elif record.type == "ConflictResolved":
            resolved = cast("e.ConflictResolved", decode(record))
            found.pop((resolved.kind, resolved.migration, resolved.side), None)
    return found


def note_conflicts(
    opened: Session, known: Known, found: Sequence[Conflict], *, done: Mapping[str, str] | None = None, checked: bool = False
) -> None:
    """Record which conflicts are new, which are gone, and that this was looked at; nothing in a session that only reads.

    `done` says by migration what this call has done, as the word for how a conflict ended. With `checked`, that the sides
    were compared is recorded also where nothing changed.
    """
    if opened.pair is None or not opened.writes:
        return
    changes = [*_changes(open_conflicts(opened.of_the_pair()), known, found, done or {})]
    if changes or checked:
        append_to_pair(opened, [*changes, e.SyncChecked(conflicts=len(found), migrations=_standing(known))])


def detected(conflict: Conflict) -> e.ConflictDetected:
    """The conflict as an event."""
    kind, migration, side = identity(conflict)
    message = f"{conflict.condition} {conflict.effect}"
    return e.ConflictDetected(kind=kind, migration=migration, side=side, message=message, next_step=conflict.next_step)


def identity(conflict: Conflict) -> Identity:
    """What it is known again by."""
    return conflict.kind, str(conflict.details.get("migration", "")), str(conflict.details.get("side", ""))


def _changes(
    before: Mapping[Identity, e.ConflictDetected], known: Known, found: Sequence[Conflict], done: Mapping[str, str]
) -> Iterator[Event]:
    # One event each: two rows of one ledger may be in the same conflict.
    now = {identity(conflict): conflict for conflict in reversed(found)}
    for named, conflict in reversed(now.items()):
        event = detected(conflict)
        if before.get(named) != event:
            yield event
    for kind, migration, side in before:
        if (kind, migration, side) not in now and _could_be_seen(known, kind, side):
            how = done.get(migration) or ("migrated" if kind == "drift" and "migrated" in done.values() else "gone")
            yield e.ConflictResolved(kind=kind, migration=migration, side=side, how=how)


def _could_be_seen(known: Known, kind: str, side: str) -> bool:
    """Whether the conflict would have been found now, if it were still there."""
    sides = [each for each in ("local", "remote") if side in (each, "")]
    if not all(each in known.wholes for each in sides):
        return False
    if kind == "unknown":
        return known.has_folder
    if kind in OF_SCHEMAS:
        return side in known.schemas or (side not in known.baselines and not _in_flight(known))
    return True


def _in_flight(known: Known) -> bool:
    return any(status.in_flight for status in known.statuses.values())


def _standing(known: Known) -> tuple[str, ...]:
    return tuple(
        migration for migration, status in known.statuses.items() if status.local_by is not None or status.remote_by is not None
    )
