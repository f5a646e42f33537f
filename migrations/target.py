"""The one small protocol behind which the databases stand: SQLite, PostgreSQL, and a complete one in memory.

A target holds at most one connection, and makes it when it is first needed. What each method promises about durability is
said here once; the three implementations are held to it by one suite of tests.

A target knows nothing of states, events or the log: it is given an `Order` and says what it did. Errors: Refused where the
database (or a check of ours) said no and nothing of the step stands; InDoubt where nobody knows; Blocked where it cannot be
reached or must not be touched now; Locked where another coordinator holds it.

Read next: `sqlite_target.py`, `postgres_target.py`, `memory_target.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from attrs import field, frozen

from ..events.types import Json
from .catalogue import Changes, Fingerprint, Schema
from .definition import Query, SideName
from .kept import Kept
from .ledger import REPLACED, RESTORED, RESTORED_BY, LedgerRow, SideLedger, noted
from .work import Order, SideWork

if TYPE_CHECKING:
    from .measuring import Round
    from .quarantined import PutBack, Quarantined
    from .work import RestoreOrder


@frozen(kw_only=True)
class Undone:
    """What an undo did. `how` is "down" or "restore"; `others_wrote` whether somebody wrote between the change and its
    undoing, None where that was not looked at; `found` the look at its beginning, where down steps met what others wrote;
    `after` the look taken before anybody else could write again; `replaced` the backup of what others had written to;
    `findings` say which rows in quarantine could not be put back, and why."""

    how: str = "down"
    others_wrote: bool | None = None
    found: Fingerprint | None = None
    after: Fingerprint | None = None
    replaced: Mapping[str, Json] | None = None
    findings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """As it lies in the ledger row of the undo; `after` has a column of its own."""
        found = None if self.found is None else self.found.to_json()
        return {
            "how": self.how,
            "others_wrote": self.others_wrote,
            "found": found,
            "replaced": self.replaced,
            "findings": list(self.findings),
        }


@frozen(kw_only=True)
class Timing:
    """One query, measured: the median of its repetitions in milliseconds, and its plan as the database tells it."""

    name: str
    side: SideName
    milliseconds: float
    plan: str
    repetitions: int = 1

    def to_json(self) -> dict[str, Json]:
        """As it goes into an event."""
        return {
            "name": self.name,
            "side": self.side,
            "milliseconds": round(self.milliseconds, 4),
            "plan": self.plan,
            "repetitions": self.repetitions,
        }


@frozen(kw_only=True)
class Head:
    """The head row of a ledger: the pair (or cluster) that the database belongs to, and the log; empty where there is none.

    `restored_by` is the run of a restore that nothing was changed after, `restored` the backup that it put back, `replaced`
    the one of what was there; empty otherwise.
    """

    pair: str = ""
    log: str = ""
    token: str = ""
    restored_by: str = ""
    restored: str = ""
    replaced: str = ""

    @classmethod
    def of(cls, row: LedgerRow) -> Head:
        """From its row."""
        said = noted(row)
        return cls(
            pair=row.pair,
            log=row.log,
            token=row.token,
            restored_by=str(said.get(RESTORED_BY, "")),
            restored=str(said.get(RESTORED, "")),
            replaced=str(said.get(REPLACED, "")),
        )


@frozen(kw_only=True)
class Whole:
    """Everything in one side's ledger, by migration, and its head: what `status` shows as applied."""

    head: Head = Head()
    ledgers: Mapping[str, SideLedger] = field(factory=dict)
    user_version: int | None = None


@frozen(kw_only=True)
class Comparison:
    """One side, held against what migrations make of an empty database.

    `differences` are what is missing or other than it should be, `findings` what is there beside it or was not compared.
    `before` has, by migration, what was there before each of its steps, as an apply would have noted it.
    """

    differences: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    before: Mapping[str, tuple[Mapping[str, Json], ...]] = field(factory=dict)


class Backups(Protocol):
    """The copies of one local database: made, proved and deleted. A copy is described by JSON with an `id` at least."""

    def make(self) -> Mapping[str, Json]:
        """Copy the last committed state while others may go on writing, and prove the copy; durable once it returns."""

    def verify(self, backup: Mapping[str, Json]) -> None:
        """Return if the copy is the one that was described, and sound. Raises Blocked (T232, T233) otherwise."""

    def holds(self, backup: Mapping[str, Json]) -> Whole:
        """The ledger that lies in the copy; it is not verified. Raises Blocked (T232, T233) where it cannot be read."""

    def delete(self, backup: Mapping[str, Json]) -> int:
        """Delete the copy; the bytes really freed, 0 where it was gone already. Raises Blocked where that is not allowed."""

    def found(self) -> tuple[Mapping[str, Json], ...]:
        """The copies of this database that are there, oldest first, whoever knows of them; what is damaged is left out."""

    def sweep(self, older_than: datetime | None) -> int:
        """Delete what killed processes left unfinished before then, or all of it; the bytes freed."""


class Target(Protocol):
    """One database of the pair, as the loop sees it."""

    @property
    def side(self) -> SideName:
        """Which side of a migration is run here."""

    @property
    def measures(self) -> bool:
        """Whether queries can be run here at all, so that one without a time is worth a word."""

    @property
    def held(self) -> str | None:
        """The token of the lock that is held, drawn when it was taken; None while none is."""

    def hold(self) -> str:
        """Take the lock that keeps others from changing this side, and keep it until the change is committed or `release`.

        On the local side the database's writer lock, on the remote one the advisory lock of all coordinators. Holding twice
        gives the same token. Raises Blocked where a writer does not let go, Locked where another coordinator holds it.
        """

    def hold_again(self) -> None:
        """Take the lock again where it was held and its session was lost; nothing happens where it was not.

        Raises LostLock (T402) where another coordinator has changed this side since, and what `hold` raises.
        """

    def check_held(self, *, asking: bool = False) -> None:
        """Return if the lock that was taken is still held, or none was taken. Raises LostLock (T402, T404) otherwise.

        Looked at from here, without asking the database: an end of the session that it has told of is seen. With `asking`
        it is asked, so that nothing but an end in this very moment can pass.
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

    def kept(self, run: str) -> tuple[Kept, ...]:
        """What the undoing steps of this run took away from a database that is never restored, and where it was copied to
        in the transaction in which it went; empty on the local side, whose backups hold it. Writes nothing."""

    def quarantined(self) -> tuple[Quarantined, ...]:
        """The rows that were ever set aside in this database, oldest first, also those that were put back. Writes nothing."""

    def put_back(self, ids: Collection[int], by: str) -> PutBack:
        """Put these back from quarantine, each whole or not at all; durable once it returns. `by` is written down with them.

        The lock is held. What would refer to nothing, or does not fit any more, stays, and the answer says why.
        """

    def verify(self, work: SideWork, *, integrity: bool = True) -> tuple[str, ...]:
        """Look at the changed side: integrity and the migration's own check. Findings as sentences; refuses by raising.

        Without `integrity`, the local file is not read through again.
        """

    def compare(self, works: Sequence[SideWork]) -> Comparison:
        """Hold this side against what the works, first to last, make of an empty database. Changes nothing.

        Raises Blocked where that cannot be found out: T286 a step is refused there, T287 rights are missing.
        """

    def declare(self, order: Order, before: Sequence[Mapping[str, Json]]) -> None:
        """Write down that every step of the work stands, as if this run had applied it; durable once it returns.

        `before` is what was there before each step. Nothing happens where a run stands whole already.
        """

    def restore(self, order: RestoreOrder) -> None:
        """Put a backup of the local database back, durably, with today's ledger carried over.

        What it replaces is kept as the backup `order.replaced`. Raises Blocked: T232 and T233 for a backup that is not what
        it was, T282 where others wrote since and `order.discard_writes` does not give that up; nothing is changed then.
        """

    def measure(self, queries: Sequence[Query], *, only_reading: bool = False) -> tuple[Timing, ...]:
        """Time each query in a transaction that is rolled back; without those that others were in the way of.

        With `only_reading` nothing can be written even for a moment, and a query that would write is left out too.

        Raises DefinitionError (T341) for a query that the database refuses.
        """

    def measure_again(self, queries: Sequence[Query], backup: Mapping[str, Json] | None) -> Mapping[str, tuple[Round, ...]]:
        """Three more rounds of each query, in turns with the state before where `backup` holds it; rolled back as well."""

    def close(self) -> None:
        """Release, and let go of the connection. Closing twice is allowed."""
