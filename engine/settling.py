"""What is taken into the log because a ledger or a person says so: rows 0 and 1 of the lifecycle table.

What the ledgers say already changes no database; a baseline writes ledger rows alone, a restore puts a whole backup back.
Read next: `perform.py`, `events/lifecycle.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..events import types as e
from ..events.errors import Blocked
from ..events.fold import Status
from ..events.lifecycle import Row, State
from ..events.types import Event
from ..migrations.definition import SideName
from ..migrations.ledger import DECLARED, REPLACED, RESTORED, LedgerRow, SideLedger, noted
from ..migrations.steps import undone_by
from ..migrations.work import Order
from .decide import has_work, unrecorded_restore
from .definitions import SIDES
from .going_back import kept_by, local_undone
from .worker import Situation, Worker


def record(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """What the ledgers hold of the run in flight, or of a restore, and the log lacks."""
    observed = situation.observed
    if row.events[-1] == "BackupRestored":
        assert observed.local is not None
        return [_restored(worker, situation, observed.local)]
    run = situation.run
    undoes = situation.status.undone_runs()
    match row.events[-1]:
        case "LocalApplied":
            return [e.LocalApplied(run=run.run, by=run.run, recovered=True)]
        case "RemoteApplied":
            return [e.RemoteApplied(run=run.run, by=run.run, recovered=True)]
        case "RemoteUndone":
            return [e.RemoteUndone(run=run.run, undoes=undoes, kept=kept_by(worker, situation), recovered=True)]
        case "LocalUndone":
            assert observed.local is not None
            undone = undone_by(observed.local.undoing(run.run)[0])
            return [local_undone(situation, undone, recovered=True)]
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
    _refuse_halves(worker, ledgers)
    standing = _standing(ledgers)
    sides = tuple(side for side in _sides(worker) if side in worker.targets)
    whole = bool(standing) and all(side in standing for side in sides)
    return [
        e.Adopted(
            run=worker.new_run_id(),
            digest=worker.defined.digest,
            checksums=worker.defined.checksums(),
            migration=migration,
            state=str(State.VERIFIED if whole else State.PENDING),
            local=standing.get("local"),
            remote=standing.get("remote"),
            sides=sides,
            runs=_runs(worker, ledgers),
        )
    ]


def baseline(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """Write both ledgers as if this run had applied what is there already; what they hold already is taken as it is.

    A remote is declared only by who may change it: with the role `require` it must have it (T205), with `skip` it is left.
    Each side becomes durable by itself; called again after a crash, what is there is found, and the rest is done.
    """
    assert worker.declaring is not None
    migration = worker.defined.id
    ledgers = _ledgers(worker, situation)
    _refuse_halves(worker, ledgers)
    sides = _sides(worker)
    run = _begun_before(worker, ledgers, situation) or worker.new_run_id()
    for side in sides:
        if side in ledgers:
            ledgers[side] = _declared(worker, side, ledgers[side], situation, run)
    standing = _standing(ledgers)
    whole = all(side in standing or side not in ledgers for side in sides)
    own = [found.run for found in ledgers.get("remote", SideLedger()).rows if found.pair == worker.pair]
    confirming = ledgers.get("remote", SideLedger()).confirming(own)
    return [
        e.Baselined(
            run=run,
            digest=worker.defined.digest,
            checksums=worker.defined.checksums(),
            migration=migration,
            state=str(State.VERIFIED if whole else State.PENDING),
            local=standing.get("local"),
            remote=standing.get("remote"),
            sides=sides,
            runs=_runs(worker, ledgers),
            confirmed_in=confirming[-1].run if confirming else None,
            findings=worker.declaring.findings,
        )
    ]


def _declared(worker: Worker, side: SideName, ledger: SideLedger, situation: Situation, run: str) -> SideLedger:
    """The side's ledger once it says that the migration stands there."""
    assert worker.declaring is not None
    migration, target, status = worker.defined.id, worker.target(side), situation.status
    order = Order(
        work=worker.defined.works[side],
        run=run,
        pair=worker.pair,
        log=worker.log,
        version=status.version,
        last_hash=status.last_hash,
    )
    applied = ledger.applied_by()
    if applied is None and side == "remote" and worker.remote_role == "require":
        raise Blocked("T205", migration=migration)
    if applied is None:
        target.declare(order, worker.declaring.before[side][migration])
    elif side == "remote" and applied.pair != worker.pair and not _relies_on_it(worker, ledger, applied):
        target.hold()
        target.confirm(order, applied.run)
    else:
        return ledger
    return target.ledger(migration)


def _relies_on_it(worker: Worker, ledger: SideLedger, applied: LedgerRow) -> bool:
    own = [row.run for row in ledger.rows if row.pair == worker.pair]
    return any(row.undoes == applied.run for row in ledger.confirming(own))


def _begun_before(worker: Worker, ledgers: Mapping[SideName, SideLedger], situation: Situation) -> str | None:
    """The run of a baseline that was killed before the log had it."""
    known = situation.status.known_runs | situation.status.adopted_runs
    for ledger in ledgers.values():
        for row in ledger.rows:
            if row.pair == worker.pair and row.run not in known and DECLARED in noted(row):
                return row.run
    return None


def restore(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """Put the backup back, and say what stands now. The first of the migrations that it concerns does it for all."""
    assert worker.restoring is not None
    worker.target("local").restore(worker.restoring)
    return [_restored(worker, situation, worker.target("local").ledger(worker.defined.id))]


def _restored(worker: Worker, situation: Situation, local: SideLedger) -> e.BackupRestored:
    status = situation.status
    found = unrecorded_restore(local, status)
    if found is not None:
        said = noted(found)
        run, backup, replaced = found.run, said[RESTORED], said[REPLACED]
    else:  # the ledger in the backup says by itself what stands
        assert worker.restoring is not None
        run, backup, replaced = worker.restoring.run, worker.restoring.id, worker.restoring.replaced
    ledgers: dict[SideName, SideLedger] = {"local": local}
    remote = _remote_of(worker, situation)
    if remote is not None:
        ledgers["remote"] = remote
    standing = _standing(ledgers)
    if remote is None and status.remote_by is not None:
        standing["remote"] = status.remote_by
    sides = _sides(worker) or tuple(side for side in SIDES if has_work(status, side))
    whole = "local" in standing and all(side in standing for side in sides)
    return e.BackupRestored(
        run=run,
        digest=worker.defined.digest,
        checksums=worker.defined.checksums(),
        migration=worker.defined.id,
        state=str(State.VERIFIED if whole else State.PENDING),
        local=standing.get("local"),
        remote=standing.get("remote"),
        sides=sides,
        runs=tuple(sorted({run, *_runs(worker, ledgers)})),
        backup=str(backup),
        replaced=str(replaced),
    )


def _remote_of(worker: Worker, situation: Situation) -> SideLedger | None:
    """The remote ledger; None where the log's word is enough because no run of ours may have changed it meanwhile.

    Raises Unreachable where it has to be read and cannot.
    """
    status = situation.status
    if situation.observed.remote is not None or not may_have_changed_remote(status):
        return situation.observed.remote
    return worker.target("remote").ledger(worker.defined.id)


def may_have_changed_remote(status: Status) -> bool:
    """Whether the run in flight may have changed the remote, or undone something there, without the log saying so."""
    if not status.in_flight or not has_work(status, "remote"):
        return False
    return status.remote_started or (status.run is not None and status.run.direction == e.BACK)


def _sides(worker: Worker) -> tuple[SideName, ...]:
    """The sides with work. A remote that was not named is one that was left for later."""
    return tuple(side for side in SIDES if side in worker.defined.works and (side == "remote" or side in worker.targets))


def _standing(ledgers: Mapping[SideName, SideLedger]) -> dict[SideName, str]:
    """By side, the run whose change stands whole."""
    found = {side: ledger.applied_by() for side, ledger in ledgers.items()}
    return {side: applied.run for side, applied in found.items() if applied is not None}


def _runs(worker: Worker, ledgers: Mapping[SideName, SideLedger]) -> tuple[str, ...]:
    """All runs of this pair that the ledgers hold rows of."""
    return tuple(sorted({row.run for ledger in ledgers.values() for row in ledger.rows if row.pair == worker.pair}))


def _refuse_halves(worker: Worker, ledgers: Mapping[SideName, SideLedger]) -> None:
    for side, ledger in ledgers.items():
        half = ledger.half_applied_by()
        if half is not None and half.pair == worker.pair:
            raise Blocked("T259", migration=worker.defined.id, side=side, run=half.run)


def _ledgers(worker: Worker, situation: Situation) -> dict[SideName, SideLedger]:
    """Both ledgers, read now where they were not; raises where a side that the migration has cannot be reached."""
    observed: dict[SideName, SideLedger | None] = {"local": situation.observed.local, "remote": situation.observed.remote}
    return {
        side: observed[side] or target.ledger(worker.defined.id)
        for side, target in worker.targets.items()
        if not (side == "remote" and worker.remote_role == "skip")
    }
