"""What effects are performed with: one migration on one pair, its targets, and what it has to do on each side.

A `Worker` holds the targets and what is defined, and nothing about where the migration stands: that is in the `Situation`,
which it is given. It appends nothing, and decides nothing.

Read next: `perform.py` (the effects on the way forward), `going_back.py`, `settling.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import cast

from attrs import field, frozen
from uuid_utils import uuid7

from ..events import types as e
from ..events.errors import Stranded
from ..events.fold import Status
from ..events.lifecycle import State
from ..events.types import Json
from ..migrations.catalogue import Fingerprint
from ..migrations.definition import SideName
from ..migrations.target import Target
from ..migrations.work import Order, Progress, RestoreOrder, SideWork, no_progress, recorded_work
from .decide import Observed, Request
from .definitions import Defined
from .recall import Recalled


@frozen(kw_only=True)
class Situation:
    """What an effect is performed in: everything but the targets."""

    status: Status
    observed: Observed
    request: Request
    recalled: Recalled
    progress: Progress = no_progress

    @property
    def run(self) -> e.RunStarted:
        """The run in flight."""
        assert self.status.run is not None
        return self.status.run

    def local_stands_by_another(self, run: str) -> bool:
        """The local change of an earlier run stands, and later migrations may have moved the database on since."""
        applied = self.observed.local.applied_by() if self.observed.local is not None else None
        return applied is not None and applied.run != run


@frozen(kw_only=True)
class Declaring:
    """What a baseline found out: by side and migration, what was there before each step; and what it has to tell."""

    before: Mapping[SideName, Mapping[str, Sequence[Mapping[str, Json]]]] = field(factory=dict)
    findings: tuple[str, ...] = ()


class Worker:
    """One migration on one pair, with the targets on which effects are performed."""

    def __init__(
        self,
        *,
        defined: Defined,
        pair: str,
        log: str,
        targets: Mapping[SideName, Target],
        remote_role: str = "apply",
        discard_writes: bool = False,
        declaring: Declaring | None = None,
        restoring: RestoreOrder | None = None,
    ) -> None:
        self.defined = defined
        self.pair = pair
        self.log = log
        self.targets = targets
        self.remote_role = remote_role
        self.discard_writes = discard_writes
        self.declaring = declaring
        self.restoring = restoring
        # Where no local database is changed there is no writer lock; this token stands for "the same call" instead.
        self._token = uuid.uuid4().hex

    def new_run_id(self) -> str:
        """A fresh id for an attempt: UUIDv7, so that ids sort by the time they were drawn."""
        return str(uuid7())

    def target(self, side: SideName) -> Target:
        """The database of that side. Raises Stranded (T260) where a run needs one that was not named."""
        target = self.targets.get(side)
        if target is None:
            raise Stranded("T260", migration=self.defined.id, side=side)
        return target

    def lock(self) -> str | None:
        """The token of the lock that is held, or of this call where there is no lock to hold."""
        local = self.targets.get("local")
        if local is not None and "local" in self.defined.works:
            return local.held
        return self._token

    def work(self, side: SideName, status: Status) -> SideWork | None:
        """The side's work: as the run in flight recorded it, else as it is defined now."""
        run = status.run
        if run is None or not status.in_flight:
            return self.defined.works.get(side)
        recorded = run.local if side == "local" else run.remote
        if recorded is None:
            return None
        return recorded_work(run.migration, side, recorded, irreversible=run.irreversible, defined=self.defined.works.get(side))

    def order(self, side: SideName, situation: Situation) -> Order:
        """The side's work for the run in flight, as its target is given it; `undoes` only once the run goes back."""
        status = situation.status
        work = self.work(side, status)
        assert work is not None
        undoes = status.undone_runs() if status.state is State.ROLLING_BACK else ()
        return Order(
            work=work,
            run=situation.run.run,
            pair=self.pair,
            log=self.log,
            undoes=undoes,
            backup=situation.recalled.backup if situation.run.direction == e.APPLY else None,
            discard_writes=self.discard_writes,
            version=status.version,
            last_hash=status.last_hash,
            progress=situation.progress,
        )


def fingerprint_of(data: Mapping[str, Json]) -> Fingerprint:
    """The look that lies in an event."""
    return Fingerprint.from_json(cast("Mapping[str, Mapping[str, str | int]]", data))
