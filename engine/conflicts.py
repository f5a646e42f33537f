"""What does not fit together: the log's claims, the two ledgers and the folder, held against each other. Pure.

Some conflicts stop every run (`BLOCKING`): running on would build on something that is not there. The others are shown in
`status` because a person may want to know. Rows of the run in flight are recovery and never a conflict, and neither is
what other pairs did to a shared remote.

Read next: `migrations/ledger.py` for the questions asked of a ledger, `drift.py` for what a schema is held against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from attrs import field, frozen

from ..events.errors import Conflict
from ..events.fold import Status
from ..events.lifecycle import State
from ..migrations.catalogue import Schema
from ..migrations.definition import SideName
from ..migrations.ledger import DECLARED, SideLedger, noted
from ..migrations.target import Whole
from .decide import unrecorded_restore
from .definitions import SIDES, Defined
from .drift import Baseline, not_compared

BLOCKING: Final = frozenset({"edited", "unknown", "behind_log", "foreign_log"})

# The log says one thing and a ledger another.
DISAGREEING: Final = frozenset({"behind_log", "foreign_log"})


@frozen(kw_only=True)
class Known:
    """What is known of one pair: the folder, the log, and each side that could be read.

    `location` is where the log is, `log` its id. `hashes` are those of a migration's events, first to last. `schemas` are those
    that were looked at just now, `baselines` what they are held against.
    """

    pair: str | None
    location: str
    log: str
    has_folder: bool
    defined: Mapping[str, Defined]
    statuses: Mapping[str, Status]
    hashes: Mapping[str, Sequence[str]]
    wholes: Mapping[SideName, Whole]
    baselines: Mapping[SideName, Baseline] = field(factory=dict)
    schemas: Mapping[SideName, Schema] = field(factory=dict)

    def status(self, migration: str) -> Status:
        """What the log says of the migration; pending where it says nothing."""
        return self.statuses.get(migration, Status())

    def ledger(self, side: SideName, migration: str) -> SideLedger | None:
        """The side's rows of the migration; None where the side could not be read."""
        whole = self.wholes.get(side)
        return None if whole is None else whole.ledgers.get(migration, SideLedger())

    def not_compared(self, side: SideName) -> str:
        """Why the side's schema is not held against the one verified last, in words; empty where it is."""
        whole = self.wholes.get(side)
        if whole is None:
            return "it was not read"
        if any(unrecorded_restore(ledger, self.status(name)) for name, ledger in whole.ledgers.items()):
            return "a backup was put back, and the log is about to take that in"
        last = self.baselines.get(side)
        said = not_compared(side, last, pair=self.pair, statuses=self.statuses, ledgers=whole.ledgers)
        return said or ("" if side in self.schemas else "its schema could not be read now")

    def drift(self, side: SideName) -> tuple[str, ...]:
        """What differs on that side from the schema that was verified last, one sentence each."""
        if self.not_compared(side):
            return ()
        return self.schemas[side].drift_since(self.baselines[side].look)


Finder: TypeAlias = "Callable[[Known], Iterator[Conflict]]"


def conflicts(known: Known) -> tuple[Conflict, ...]:
    """All of them, the blocking ones first."""
    found = [conflict for finder in FINDERS for conflict in finder(known)]
    return tuple(sorted(found, key=lambda conflict: conflict.kind not in BLOCKING))


def _belongs_to_another_log(known: Known) -> Iterator[Conflict]:
    for side, whole in known.wholes.items():
        # A remote belongs to whoever is a pair with it; only where it is a pair by itself must the log be its own.
        if not whole.head.pair or (side == "remote" and "local" in known.wholes):
            continue
        is_used = any(row.pair == whole.head.pair for ledger in whole.ledgers.values() for row in ledger.rows)
        if whole.head.pair != known.pair and (side == "local" or is_used):
            yield Conflict("T251", kind="foreign_log", side=side, migration="", other=whole.head.log, location=known.location)


def _rows_that_the_log_lacks(known: Known) -> Iterator[Conflict]:
    for side, whole in known.wholes.items():
        for migration, ledger in whole.ledgers.items():
            status = known.status(migration)
            if unrecorded_restore(ledger, status) is not None:
                continue
            for row in ledger.rows:
                if row.pair == known.pair and row.run not in status.known_runs | status.adopted_runs:
                    code = "T288" if DECLARED in noted(row) else "T252"
                    yield Conflict(
                        code, kind="foreign_log", side=side, migration=migration, run=row.run, location=known.location
                    )
                    break


def _events_that_the_log_lost(known: Known) -> Iterator[Conflict]:
    """Each ledger row says where the stream stood when it was written: a log that was cut off since is not there any more."""
    for side, whole in known.wholes.items():
        for migration, ledger in whole.ledgers.items():
            # What was adopted since is taken as the ledger says it, whatever the log had recorded of it before.
            hashes, runs = known.hashes.get(migration, ()), _own_runs(known, migration)
            for row in ledger.rows:
                if row.pair != known.pair or row.run not in runs or not row.stream_hash:
                    continue
                if len(hashes) < row.stream_version or hashes[row.stream_version - 1] != row.stream_hash:
                    yield Conflict(
                        "T258", kind="foreign_log", side=side, migration=migration, run=row.run, location=known.location
                    )
                    break


def _rows_of_a_log_with_another_id(known: Known) -> Iterator[Conflict]:
    """A log whose id was changed: it knows a run as its own, and the ledger says which log that run was begun in."""
    for side, whole in known.wholes.items():
        for migration, ledger in whole.ledgers.items():
            runs = _own_runs(known, migration)
            other = next((row for row in ledger.rows if row.run in runs and row.log not in ("", known.log)), None)
            if other is not None and other.pair == known.pair:
                yield Conflict(
                    "T294",
                    kind="foreign_log",
                    side=side,
                    migration=migration,
                    run=other.run,
                    location=known.location,
                    log=known.log,
                    other=other.log,
                )


def _own_runs(known: Known, migration: str) -> frozenset[str]:
    """The runs that the log recorded itself."""
    status = known.status(migration)
    return status.known_runs - status.adopted_runs


def _steps_that_a_ledger_lacks(known: Known) -> Iterator[Conflict]:
    for migration, status in known.statuses.items():
        sides: tuple[tuple[SideName, str | None], ...] = (("local", status.local_by), ("remote", status.remote_by))
        for side, by in sides:
            ledger = known.ledger(side, migration)
            if by is None or ledger is None or ledger.whole(by) or unrecorded_restore(ledger, status) is not None:
                continue
            undoing = status.run is not None and status.state is State.ROLLING_BACK and ledger.undid(status.run.run)
            if not undoing:
                yield Conflict("T253", kind="behind_log", side=side, migration=migration, run=by)


def _steps_that_the_log_says_were_undone(known: Known) -> Iterator[Conflict]:
    """A change of ours that stands here again: the database is from before it was taken back."""
    for side, whole in known.wholes.items():
        for migration in whole.ledgers:
            run = _stands_against_the_log(known, side, migration)
            if run:
                yield Conflict("T296", kind="behind_log", side=side, migration=migration, run=run)


def _stands_against_the_log(known: Known, side: SideName, migration: str) -> str:
    """The run of this pair that stands whole there, while the log says that it was taken back; empty where none does."""
    status, ledger = known.status(migration), known.ledger(side, migration)
    applied = ledger.applied_by() if ledger is not None else None
    if ledger is None or applied is None or applied.pair != known.pair or status.in_flight:
        return ""
    stands = status.local_by if side == "local" else status.remote_by
    is_ours = applied.run in status.known_runs and unrecorded_restore(ledger, status) is None
    return applied.run if is_ours and applied.run != stands else ""


def _not_in_the_folder(known: Known) -> Iterator[Conflict]:
    seen = set()
    for side, whole in known.wholes.items() if known.has_folder else ():
        for migration, ledger in whole.ledgers.items():
            in_flight = known.status(migration).in_flight
            if migration in known.defined or in_flight or migration in seen or ledger.applied_by() is None:
                continue
            seen.add(migration)
            yield Conflict("T254", kind="unknown", side=side, migration=migration)


def _changed_since(known: Known) -> Iterator[Conflict]:
    for migration, defined in known.defined.items():
        if known.status(migration).in_flight:
            continue
        checksums = defined.checksums()
        for side in SIDES:
            ledger = known.ledger(side, migration) if side in checksums else None
            applied = ledger.applied_by() if ledger is not None else None
            if applied is not None and applied.checksum != checksums[side]:
                yield Conflict("T255", kind="edited", side=side, migration=migration)


def _one_side_only(known: Known) -> Iterator[Conflict]:
    for migration, defined in known.defined.items():
        if known.status(migration).in_flight or set(defined.checksums()) != {"local", "remote"}:
            continue
        local, remote = known.ledger("local", migration), known.ledger("remote", migration)
        if local is None or remote is None:
            continue
        here, there, status = local.applied_by(), remote.applied_by(), known.status(migration)
        # Where the log says otherwise, one of them is an older copy: migrating is not the way out (T253, T296).
        if any(_stands_against_the_log(known, side, migration) for side in SIDES):
            continue
        if here is not None and there is None and status.remote_by is None:
            yield Conflict("T256", kind="local_ahead", migration=migration)
        elif there is not None and here is None and status.local_by is None:
            yield Conflict("T257", kind="remote_ahead", migration=migration, run=there.run)


def _not_as_verified(known: Known) -> Iterator[Conflict]:
    for side in known.schemas:
        differences = known.drift(side)
        if differences:
            migration = known.baselines[side].migration
            yield Conflict("T270", kind="drift", side=side, migration=migration, differences="; ".join(differences))


def _invalid_indexes(known: Known) -> Iterator[Conflict]:
    for side, schema in known.schemas.items():
        invalid = schema.invalid_indexes()
        if invalid:
            last = known.baselines.get(side)
            migration = last.migration if last is not None else ""
            yield Conflict("T271", kind="invalid_index", side=side, migration=migration, indexes=", ".join(invalid))


FINDERS: Final[Sequence[Finder]] = (
    _belongs_to_another_log,
    _rows_that_the_log_lacks,
    _events_that_the_log_lost,
    _rows_of_a_log_with_another_id,
    _steps_that_a_ledger_lacks,
    _steps_that_the_log_says_were_undone,
    _not_in_the_folder,
    _changed_since,
    _one_side_only,
    _not_as_verified,
    _invalid_indexes,
)
