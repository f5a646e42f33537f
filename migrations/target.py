"""The one small protocol behind which the databases stand: SQLite, PostgreSQL, and a complete one in memory.

A target holds at most one connection, and makes it when it is first needed. What each method promises about durability is
said here once; the three implementations are held to it by one suite of tests.

A target knows nothing of states, events or the log: it is given an `Order` and says what it did. Errors: Refused where the
database (or a check of ours) said no and nothing of the step stands; InDoubt where nobody knows; Blocked where it cannot be
reached or must not be touched now; Locked where another coordinator holds it.

Read next: `sqlite_target.py`, `postgres_target.py`, `memory_target.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import field, frozen

from ..events.types import Json
from .catalogue import Changes, Fingerprint, Schema
from .definition import Query, SideName
from .ledger import SideLedger
from .work import Order, SideWork


@frozen(kw_only=True)
class Undone:
    """What an undo did. `how` is "down" or "restore"; `others_wrote` whether somebody wrote between the change and its
    undoing, None where that was not looked at; `after` the look taken before anybody else could write again,
    `replaced` the backup of what a restored one took the place of."""

    how: str = "down"
    others_wrote: bool | None = None
    after: Fingerprint | None = None
    replaced: Mapping[str, Json] | None = None


@frozen(kw_only=True)
class Timing:
    """One query, measured: the median of its repetitions in milliseconds, and its plan as the database tells it."""

    name: str
    side: SideName
    milliseconds: float
    plan: str

    def to_json(self) -> dict[str, Json]:
        """As it goes into an event."""
        return {"name": self.name, "side": self.side, "milliseconds": round(self.milliseconds, 4), "plan": self.plan}


@frozen(kw_only=True)
class Head:
    """The head row of a ledger: the pair (or cluster) that the database belongs to, and the log; empty where there is none."""

    pair: str = ""
    log: str = ""
    token: str = ""


@frozen(kw_only=True)
class Whole:
    """Everything in one side's ledger, by migration, and its head: what `status` shows as applied."""

    head: Head = Head()
    ledgers: Mapping[str, SideLedger] = field(factory=dict)
    user_version: int | None = None


class Target(Protocol):
    """One database of the pair, as the loop sees it."""

    @property
    def side(self) -> SideName:
        """Which side of a migration is run here."""

    @property
    def held(self) -> str | None:
        """The token of the lock that is held, drawn when it was taken; None while none is."""

    def hold(self) -> str:
        """Take the lock that keeps others from changing this side, and keep it until the change is committed or `release`.

        On the local side the database's writer lock, on the remote one the advisory lock of all coordinators. Holding twice
        gives the same token. Raises Blocked where a writer does not let go, Locked where another coordinator holds it.
        """

    def release(self) -> None:
        """Let go of the lock, and of a transaction that is open. Never raises for a lost connection."""

    def ledger(self, migration: str) -> SideLedger:
        """The ledger's rows of this migration; empty where the database has no ledger yet. Writes nothing."""

    def whole(self) -> Whole:
        """The head and all rows. Writes nothing."""

    def look(self, work: SideWork, *, content: bool) -> Fingerprint:
        """The fingerprint, with the digests of all rows where `content` is asked for and the side has them."""

    def schema(self, schemas: Sequence[str]) -> Schema:
        """Objects and marks as they are now, quickly: no row is read, and nobody is waited for long. Writes nothing.

        `schemas` are those of a remote; a local database has one. Raises Blocked (T272) where a lock is in the way.
        """

    def validate(self, work: SideWork, *, back: bool) -> None:
        """Whether the work (or taking it back) can begin here; refuses by raising Blocked or Refused. Changes nothing."""

    def back_up(self, order: Order) -> Mapping[str, Json] | None:
        """Copy the last committed state, prove the copy, and describe it; None where the side is never restored.

        The writer lock is held, so that nothing can be written between the copy and the change.
        """

    def apply(self, order: Order) -> Changes:
        """Do every step that does not stand yet, each together with its ledger row; durable once it returns."""

    def confirm(self, order: Order, by: str) -> None:
        """Write down that this run relies on what the run `by` applied, where rights allow it."""

    def undo(self, order: Order) -> Undone:
        """Take back every step of the runs in `order.undoes` that stands, last first; durable once it returns.

        Raises Blocked (T208) where others rely on it by now.
        """

    def verify(self, work: SideWork, *, integrity: bool = True) -> tuple[str, ...]:
        """Look at the changed side: integrity and the migration's own check. Findings as sentences; refuses by raising.

        Without `integrity`, the local file is not read through again.
        """

    def measure(self, queries: Sequence[Query], *, only_reading: bool = False) -> tuple[Timing, ...]:
        """Time each query in a transaction that is rolled back; without those that others were in the way of.

        With `only_reading` nothing can be written even for a moment, and a query that would write is left out too.

        Raises DefinitionError (T341) for a query that the database refuses.
        """

    def close(self) -> None:
        """Release, and let go of the connection. Closing twice is allowed."""
