"""What a rehearsal of one side tells, as values; and the protocol behind which the three ways of rehearsing stand.

A rehearsal does everything that the real run would do to a side, and leaves nothing: on a copy of the database (`on_a_copy.py`,
for SQLite and for the database in memory) or in one transaction that is rolled back (`postgres.py`). What it finds
wrong is a *fault*: the error that the real run would have. What could not be tried is an *omission*, and says why; an
omission is never a fault.

No I/O here. Read next: `on_a_copy.py`, `postgres.py`; `engine/rehearsal.py` for who asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from attrs import Factory, define, field, frozen

from ...events.errors import TwinstepError
from ..catalogue import Catalogue, Changes, Fingerprint
from ..definition import Query, SideName
from ..target import Timing
from ..work import Order

# What a lock on a table keeps others from doing, the weakest first.
BLOCKS: Final[Mapping[str, str]] = {
    "AccessShareLock": "blocks only what drops or rewrites it",
    "RowShareLock": "blocks schema changes",
    "RowExclusiveLock": "blocks schema changes and plain index builds",
    "ShareUpdateExclusiveLock": "blocks schema changes, index builds and VACUUM",
    "ShareLock": "blocks writes",
    "ShareRowExclusiveLock": "blocks writes",
    "ExclusiveLock": "blocks writes",
    "AccessExclusiveLock": "blocks reads and writes",
}


@frozen(kw_only=True)
class Part:
    """One migration's work on one side, and how long (in seconds) its rehearsal may hold a lock that others wait for."""

    order: Order
    queries: tuple[Query, ...] = ()
    budget_seconds: float = 2.0


@frozen(kw_only=True)
class HeldLock:
    """A lock on a table that was there before, by the database's own word for its strength."""

    table: str
    mode: str

    @property
    def blocks(self) -> str:
        """What others could not do meanwhile, in words."""
        return BLOCKS.get(self.mode, self.mode)


@frozen(kw_only=True)
class RehearsedStep:
    """One step that was executed: how long it took, in seconds, and the locks that it took beyond those held before it."""

    direction: str
    step: int
    statement: str
    seconds: float
    locks: tuple[HeldLock, ...] = ()


@frozen(kw_only=True)
class TableRows:
    """What would become of a table's rows. Counts before and after where they were counted, else what was done; None: unknown.

    `changed` says that rows would have other values, or be others, whatever their number.
    """

    table: str
    before: int | None = None
    after: int | None = None
    inserted: int | None = None
    updated: int | None = None
    deleted: int | None = None
    changed: bool = True


@frozen(kw_only=True)
class Omission:
    """Something that was not rehearsed, and why."""

    what: str
    reason: str


@frozen(kw_only=True)
class Fault:
    """What the real run would be refused with, and by which effect."""

    effect: str
    error: TwinstepError


@frozen(kw_only=True)
class DiskNeed:
    """What the real run would need in a folder, in bytes, and what is free there."""

    folder: str
    purpose: str
    needed: int
    free: int


@define(kw_only=True)
class PartRehearsal:
    """One migration on one side. Filled in while it is rehearsed; `seconds` is by effect.

    `changes` and `rows` are None where the rehearsal did not come so far.
    """

    migration: str
    side: SideName
    changes: Changes | None = None
    rewritten: tuple[str, ...] = ()
    rows: tuple[TableRows, ...] | None = None
    steps: list[RehearsedStep] = Factory(list)
    seconds: dict[str, float] = Factory(dict)
    omissions: list[Omission] = Factory(list)
    before: tuple[Timing, ...] = ()
    after: tuple[Timing, ...] = ()
    findings: list[str] = Factory(list)
    faults: list[Fault] = Factory(list)

    def omit(self, what: str, reason: str) -> None:
        """Note what is not rehearsed."""
        self.omissions.append(Omission(what=what, reason=reason))

    def fail(self, effect: str, error: TwinstepError) -> None:
        """Note what the real run would be refused with."""
        self.faults.append(Fault(effect=effect, error=error))

    def took(self, effect: str, seconds: float) -> None:
        """Add to the time of an effect."""
        self.seconds[effect] = self.seconds.get(effect, 0.0) + seconds


@frozen(kw_only=True)
class SideRehearsal:
    """One side of a rehearsal. `held_seconds` is how long others were, or would be, kept waiting at most."""

    side: SideName
    parts: tuple[PartRehearsal, ...] = ()
    held_seconds: float = 0.0
    disk: tuple[DiskNeed, ...] = field(default=())


class Rehearser(Protocol):
    """Rehearses one side."""

    def rehearse(self, parts: Sequence[Part]) -> SideRehearsal:
        """Do what the parts say, in order, then take them back in reverse, and leave everything as it was.

        It stops at the first fault of the way forward: what comes after it is told as omitted. Raises Blocked or Locked where
        the rehearsal itself cannot be held.
        """


def rebuilt(before: Catalogue, after: Catalogue) -> tuple[str, ...]:
    """The tables that were made anew: they lie elsewhere than before."""
    return tuple(
        sorted(
            found.name
            for key, found in after.objects.items()
            if found.kind == "table" and key in before.objects and before.objects[key].storage != found.storage
        )
    )


def counted_rows(before: Fingerprint, after: Fingerprint) -> tuple[TableRows, ...]:
    """Each table that was counted: how many rows before and after, and whether they are the same rows."""
    return tuple(
        TableRows(
            table=table,
            before=before.rows.get(table),
            after=after.rows.get(table),
            changed=before.rows.get(table) != after.rows.get(table) or before.content.get(table) != after.content.get(table),
        )
        for table in sorted(before.rows.keys() | after.rows.keys())
    )
