"""What is taken into the log because a ledger or a person says so: rows 0 and 1 of the lifecycle table.

No database is changed by what the ledgers say already. Read next: `perform.py`, `events/lifecycle.py`.
"""

from __future__ import annotations

from ..events import types as e
from ..events.errors import Blocked
from ..events.lifecycle import Row, State
from ..events.types import Event
from ..migrations.definition import SideName
from ..migrations.ledger import SideLedger
from .definitions import SIDES
from .worker import Situation, Worker


def record(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """What the ledgers hold of the run in flight, and the log lacks."""
    run, observed = situation.run, situation.observed
    undoes = situation.status.undone_runs()
    match row.events[-1]:
        case "LocalApplied":
            return [e.LocalApplied(run=run.run, by=run.run, recovered=True)]
        case "RemoteApplied":
            return [e.RemoteApplied(run=run.run, by=run.run, recovered=True)]
        case "RemoteUndone":
            return [e.RemoteUndone(run=run.run, undoes=undoes, recovered=True)]
        case "LocalUndone":
            work = worker.work("local", situation.status)
            restored = work is not None and any(unit.down is None for unit in work.script.units)
            how = "restore" if restored else "down"
            return [e.LocalUndone(run=run.run, undoes=undoes, how=how, recovered=True)]
        case _:
            assert observed.remote is not None
            (confirmation, *_) = observed.remote.confirming((run.run,))
            return [
                e.RemoteStarted(run=run.run),
                e.RemoteConfirmed(run=run.run, by=confirmation.undoes, recovered=True),
            ]


def adopt(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """What the ledgers say. Raises Blocked (T259) where a change of this pair's own stands in part."""
    migration, ledgers = worker.defined.id, _ledgers(worker, situation)
    standing: dict[str, str] = {}
    runs: set[str] = set()
    for side, ledger in ledgers.items():
        runs |= {found.run for found in ledger.rows if found.pair == worker.pair}
        half = ledger.half_applied_by()
        if half is not None and half.pair == worker.pair:
            raise Blocked("T259", migration=migration, side=side, run=half.run)
        applied = ledger.applied_by()
        if applied is not None:
            standing[side] = applied.run
    sides = tuple(side for side in SIDES if side in worker.defined.works and side in worker.targets)
    whole = bool(standing) and all(side in standing for side in sides)
    return [
        e.Adopted(
            run=worker.new_run_id(),
            migration=migration,
            state=str(State.VERIFIED if whole else State.PENDING),
            local=standing.get("local"),
            remote=standing.get("remote"),
            sides=sides,
            runs=tuple(sorted(runs)),
        )
    ]


def _ledgers(worker: Worker, situation: Situation) -> dict[SideName, SideLedger]:
    """Both ledgers, read now where they were not; raises where a side that the migration has cannot be reached."""
    observed: dict[SideName, SideLedger | None] = {"local": situation.observed.local, "remote": situation.observed.remote}
    return {
        side: observed[side] or target.ledger(worker.defined.id)
        for side, target in worker.targets.items()
        if not (side == "remote" and worker.remote_role == "skip")
    }
