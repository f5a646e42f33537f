"""What the schema of each side is held against: the look that was verified last, or a drift that was accepted since. Pure.

A baseline is read from the log. It is the look in the last `Verified` of a migration whose change still stands on that side;
a drift that a person accepted after it takes its place, until something is undone or settled, because then the accepted look
is of a database that is not there any more. While a run is in flight there is none: the schema is between two.

On a shared remote, what another pair applied since is no drift, and which objects that touched nobody here knows. As long as
steps stand there which this pair has not confirmed, the remote is not compared: `not_compared` says so.

Read next: `conflicts.py` (what becomes of a difference), `migrations/catalogue.py` (how two looks are compared).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, cast

from attrs import frozen

from ..events import types as e
from ..events.codec import decode
from ..events.fold import Status
from ..events.types import Json, Recorded
from ..migrations.catalogue import Fingerprint
from ..migrations.definition import SideName
from ..migrations.ledger import SideLedger
from ..migrations.work import Limits
from .worker import fingerprint_of

SETTLED: Final = frozenset({"Adopted", "Baselined", "BackupRestored"})
UNDONE: Final[Mapping[SideName, str]] = {"local": "LocalUndone", "remote": "RemoteUndone"}


@frozen(kw_only=True)
class Baseline:
    """A look, the migration with which it was verified, where in the log that stands, and the schemas that it covers."""

    migration: str
    position: int
    look: Fingerprint
    schemas: tuple[str, ...] = ()


def baselines(
    histories: Mapping[str, Sequence[Recorded]], statuses: Mapping[str, Status], of_the_pair: Sequence[Recorded]
) -> dict[SideName, Baseline]:
    """By side; without those of which nothing is known."""
    if any(status.in_flight for status in statuses.values()):
        return {}
    found: dict[SideName, Baseline] = {}
    sides: tuple[SideName, ...] = ("local", "remote")
    for side in sides:
        verified = [
            baseline
            for migration, records in histories.items()
            if _stands(statuses[migration], side) and (baseline := _verified(migration, records, side)) is not None
        ]
        # What the ledgers say was taken as the truth after it: how the schema was then, nobody has looked.
        settled = max((record.position for record in _all(histories) if record.type in SETTLED), default=0)
        verified = [baseline for baseline in verified if baseline.position > settled]
        if verified:
            last = max(verified, key=lambda baseline: baseline.position)
            found[side] = _accepted(last, side, histories, of_the_pair)
    return found


def not_compared(
    side: SideName,
    baseline: Baseline | None,
    *,
    pair: str | None,
    statuses: Mapping[str, Status],
    ledgers: Mapping[str, SideLedger],
) -> str:
    """Why that side is not held against its baseline, in words; empty where it is."""
    in_flight = [migration for migration, status in statuses.items() if status.in_flight]
    if in_flight:
        return f"{in_flight[0]} is in flight"
    if baseline is None:
        return "no look at it was recorded yet"
    others = sorted(_unconfirmed(statuses, ledgers, pair)) if side == "remote" else []
    return f"{others[0]} was applied there by others since" if others else ""


def schemas_of(recorded: Mapping[str, Json] | None) -> tuple[str, ...]:
    """The schemas that a side of a run looks at, as RunStarted recorded it."""
    limits = (recorded or {}).get("limits")
    named = limits.get("schemas") if isinstance(limits, Mapping) else None
    return tuple(str(name) for name in named) if isinstance(named, Sequence) else Limits().schemas


def _stands(status: Status, side: SideName) -> bool:
    return (status.local_by if side == "local" else status.remote_by) is not None


def _verified(migration: str, records: Sequence[Recorded], side: SideName) -> Baseline | None:
    """The last look at that side which was recorded as verified, unless the side was undone after it."""
    for record in reversed(records):
        if record.type == UNDONE[side]:
            return None
        if record.type != "Verified":
            continue
        event = cast("e.Verified", decode(record))
        look = event.local if side == "local" else event.remote
        if look is not None:
            schemas = _schemas_in(records, event.run) if side == "remote" else ()
            return Baseline(migration=migration, position=record.position, look=fingerprint_of(look), schemas=schemas)
    return None


def _schemas_in(records: Sequence[Recorded], run: str) -> tuple[str, ...]:
    for record in records:
        if record.type == "RunStarted" and (event := cast("e.RunStarted", decode(record))).run == run:
            return schemas_of(event.remote)
    return Limits().schemas


def _accepted(
    verified: Baseline, side: SideName, histories: Mapping[str, Sequence[Recorded]], of_the_pair: Sequence[Recorded]
) -> Baseline:
    """The drift that was accepted since, where there is one and nothing was undone or settled after it."""
    for record in reversed(of_the_pair):
        if record.position < verified.position:
            break
        if record.type != "ConflictResolved":
            continue
        event = cast("e.ConflictResolved", decode(record))
        if (event.kind, event.how, event.side) != ("drift", "accepted", side) or event.look is None:
            continue
        if any(_undoes(other, side) and other.position > record.position for other in _all(histories)):
            break
        look = fingerprint_of(event.look)
        return Baseline(migration=verified.migration, position=record.position, look=look, schemas=verified.schemas)
    return verified


def _undoes(record: Recorded, side: SideName) -> bool:
    return record.type == UNDONE[side] or record.type in SETTLED


def _all(histories: Mapping[str, Iterable[Recorded]]) -> Iterator[Recorded]:
    for records in histories.values():
        yield from records


def _unconfirmed(statuses: Mapping[str, Status], ledgers: Mapping[str, SideLedger], pair: str | None) -> Iterator[str]:
    """The migrations of which steps stand that others made, and that this pair's log does not name as standing."""
    for migration, ledger in ledgers.items():
        known = statuses.get(migration, Status()).remote_by
        others = {row.run for row in ledger.rows if row.pair != pair and row.run != known}
        if ledger.standing(others):
            yield migration
