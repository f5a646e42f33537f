"""The effects: each one call to a target (validate, verify and compare ask both), answered with the events that record it.

Nothing is appended here; the loop does that, with the expected version, after the effect. An effect therefore either is in
the ledger of its own transaction, or changed nothing, or can be done again.

Errors pass through: which of them are refusals that are recorded and lead back, and which leave the run in flight, is the
loop's decision. Here are the effects on the way forward, and the table of all.

Read next: `worker.py`, `going_back.py`, `settling.py`, `loop.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import evolve

from ..events import types as e
from ..events.errors import Blocked
from ..events.lifecycle import Effect, Row, State
from ..events.types import Event, Json
from ..migrations.catalogue import Fingerprint
from ..migrations.definition import SideName
from ..migrations.functions import load_what_they_use
from ..migrations.target import Timing
from .accepting import accept
from .decide import Observed, has_work
from .definitions import SIDES
from .going_back import compare, give_up, undo_local, undo_remote
from .settling import adopt, baseline, record, restore
from .slowdowns import query_findings
from .worker import Situation, Worker


def perform(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """Do what the row orders; the events that record it, in the order of one append."""
    return EFFECTS[row.effect](worker, row, situation)


def _validate(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    status = situation.status
    begins = row.events[0] == "RunStarted"
    run = _new_run(worker, situation) if begins else situation.run
    # The status as it will be once the run has started, so that the work is what the run records.
    status = evolve(status, run=run, state=State.VALIDATED)
    back = run.direction == e.BACK
    looks: dict[SideName, Fingerprint] = {}
    timings: list[Timing] = []
    works = {side: worker.work(side, status) for side in _sides_to_look_at(worker, run, situation)}
    for work in works.values():
        assert work is not None
        load_what_they_use(work)
    for side, work in works.items():
        target = worker.target(side)
        assert work is not None
        if side == "local":
            target.hold()
        if not (side == "local" and not back and situation.local_stands_by_another(run.run)):
            target.validate(work, back=back)
        looks[side] = target.look(work, content=True)
        if not back:
            timings += target.measure([query for query in worker.defined.queries if query.side == side])
    if "remote" in looks and not back:
        _check_remote_is_free(worker, run, situation.observed)
    lock = worker.lock()
    assert lock is not None
    validated = e.Validated(
        run=run.run,
        lock=lock,
        local=looks["local"].to_json() if "local" in looks else None,
        remote=looks["remote"].to_json() if "remote" in looks else None,
        queries=tuple(timing.to_json() for timing in timings),
    )
    return [run, validated] if begins else [validated]


def _sides_to_look_at(worker: Worker, run: e.RunStarted, situation: Situation) -> list[SideName]:
    sides = [side for side in SIDES if side in run.sides]
    if run.skip_remote or situation.request.skip_remote:
        return [side for side in sides if side != "remote"]
    return sides


def _new_run(worker: Worker, situation: Situation) -> e.RunStarted:
    back = situation.request.wish == "back"
    undoes = _runs_to_undo(worker, situation) if back else ()
    skip = situation.request.skip_remote or worker.remote_role == "skip" or "remote" not in worker.targets
    works = {side: work for side, work in worker.defined.works.items() if back or side == "remote" or side in worker.targets}
    sides = tuple(side for side in SIDES if side in works)
    if back:
        sides = tuple(side for side in sides if _stands(worker, side, situation, undoes))
        away = [side for side in sides if side not in worker.targets]
        if away:
            raise Blocked("T260", migration=worker.defined.id, side=away[0])
        _check_way_back(worker, sides)
    return e.RunStarted(
        run=worker.new_run_id(),
        migration=worker.defined.id,
        direction=e.BACK if back else e.APPLY,
        undoes=undoes,
        sides=sides,
        remote_role=worker.remote_role,
        skip_remote=skip and not back and "remote" in sides,
        irreversible=worker.defined.irreversible,
        digest=worker.defined.digest,
        checksums=worker.defined.checksums(),
        local=works["local"].to_json() if "local" in works else None,
        remote=works["remote"].to_json() if "remote" in works else None,
    )


def _stands(worker: Worker, side: SideName, situation: Situation, undoes: Sequence[str]) -> bool:
    observed = situation.observed.local if side == "local" else situation.observed.remote
    if observed is None:
        by = situation.status.local_by if side == "local" else situation.status.remote_by
        return by is not None
    return observed.holds(undoes)


def _runs_to_undo(worker: Worker, situation: Situation) -> tuple[str, ...]:
    """The runs of this pair that the take-back undoes: what another pair applied stays."""
    status = situation.status
    runs = [status.local_by, status.remote_confirmed_in]
    if situation.observed.remote is not None:
        rows = situation.observed.remote.standing((status.remote_by or "",))
        runs += [row.run for row in rows if row.pair == worker.pair]
    return tuple(dict.fromkeys(run for run in runs if run is not None))


def _check_way_back(worker: Worker, sides: Sequence[SideName]) -> None:
    """Each side on which anything stands must have what takes it back. Raises Blocked (T206, T207)."""
    if worker.defined.irreversible and "remote" in sides:
        raise Blocked("T207", migration=worker.defined.id)
    local = worker.defined.works.get("local") if "local" in sides else None
    if local is not None and any(unit.down is None for unit in local.script.units):
        raise Blocked("T206", migration=worker.defined.id)


def _check_remote_is_free(worker: Worker, run: e.RunStarted, observed: Observed) -> None:
    # The session may have been lost when the ledger was to be read, and another one have been let in since.
    remote = worker.target("remote").ledger(run.migration) if observed.remote is None else observed.remote
    half = remote.half_applied_by(other_than=(run.run,))
    if half is not None:
        raise Blocked("T203", migration=run.migration, run=half.run)
    if run.remote_role == "require" and remote.applied_by() is None:
        raise Blocked("T205", migration=run.migration)


def _back_up(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    backup = None
    if has_work(situation.status, "local") and not _local_stands_already(worker, situation):
        backup = worker.target("local").back_up(worker.order("local", situation))
    return [e.BackedUp(run=situation.run.run, backup=backup)]


def _local_stands_already(worker: Worker, situation: Situation) -> bool:
    """An earlier run's local change is there, and this run has only the remote to do."""
    applies = situation.run.direction == e.APPLY
    return applies and situation.observed.local is not None and situation.observed.local.applied_by() is not None


def _apply_local(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    run = situation.run.run
    if not has_work(situation.status, "local"):
        return [e.LocalApplied(run=run, nothing=True)]
    standing = situation.observed.local.applied_by() if situation.observed.local is not None else None
    if standing is not None:
        worker.target("local").release()
        return [e.LocalApplied(run=run, by=standing.run)]
    changes = worker.target("local").apply(worker.order("local", situation))
    return [e.LocalApplied(run=run, by=run, changes=changes.to_json(), findings=changes.findings)]


def _skip_remote(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    return [e.RemoteSkipped(run=situation.run.run)]


def _confirm_remote(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    run = situation.run
    target = worker.target("remote")
    target.hold()
    applied = target.ledger(run.migration).applied_by()
    if applied is None:
        raise Blocked("T205", migration=run.migration)
    target.confirm(worker.order("remote", situation), applied.run)
    return [e.RemoteStarted(run=run.run), e.RemoteConfirmed(run=run.run, by=applied.run)]


def _start_remote(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    worker.target("remote").hold()
    return [e.RemoteStarted(run=situation.run.run)]


def _apply_remote(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    run = situation.run
    if not has_work(situation.status, "remote"):
        return [e.RemoteApplied(run=run.run, nothing=True)]
    target = worker.target("remote")
    target.hold()
    half = target.ledger(run.migration).half_applied_by(other_than=(run.run,))
    if half is not None:
        raise Blocked("T203", migration=run.migration, run=half.run)
    changes = target.apply(worker.order("remote", situation))
    return [e.RemoteApplied(run=run.run, by=run.run, changes=changes.to_json(), findings=changes.findings)]


def _verify(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    looks: dict[SideName, Fingerprint] = {}
    timings: list[Timing] = []
    findings: list[str] = []
    for side in SIDES:
        if not has_work(situation.status, side) or (side == "remote" and situation.status.remote_skipped):
            continue
        target = worker.target(side)
        work = worker.work(side, situation.status)
        assert work is not None
        if not (side == "local" and situation.local_stands_by_another(situation.run.run)):
            findings += target.verify(work)
        looks[side] = target.look(work, content=False)
        queries = [query for query in worker.defined.queries if query.side == side]
        measured = target.measure(queries)
        timings += measured
        findings += query_findings(
            queries,
            _measured_before(situation, side),
            measured,
            indexes=_indexes(looks[side]),
            target=target,
            backup=situation.recalled.backup,
            migration=worker.defined.id,
        )
    return [
        e.Verified(
            run=situation.run.run,
            local=looks["local"].to_json() if "local" in looks else None,
            remote=looks["remote"].to_json() if "remote" in looks else None,
            queries=tuple(timing.to_json() for timing in timings),
            findings=findings,
        )
    ]


EFFECTS: Mapping[Effect, Callable[[Worker, Row, Situation], list[Event]]] = {
    Effect.RECORD: record,
    Effect.ADOPT: adopt,
    Effect.BASELINE: baseline,
    Effect.RESTORE: restore,
    Effect.VALIDATE: _validate,
    Effect.GIVE_UP: give_up,
    Effect.BACK_UP: _back_up,
    Effect.APPLY_LOCAL: _apply_local,
    Effect.SKIP_REMOTE: _skip_remote,
    Effect.CONFIRM_REMOTE: _confirm_remote,
    Effect.START_REMOTE: _start_remote,
    Effect.APPLY_REMOTE: _apply_remote,
    Effect.ACCEPT: accept,
    Effect.VERIFY: _verify,
    Effect.UNDO_REMOTE: undo_remote,
    Effect.UNDO_LOCAL: undo_local,
    Effect.COMPARE: compare,
}


def _measured_before(situation: Situation, side: SideName) -> dict[str, Mapping[str, Json]] | None:
    """None where this side was not looked at then, and so not measured either."""
    validated = situation.recalled.validated
    if validated is None or (validated.local if side == "local" else validated.remote) is None:
        return None
    return {str(each["name"]): each for each in validated.queries if each["side"] == side}


def _indexes(look: Fingerprint) -> frozenset[str]:
    """The names of the indexes in a look, without their schema."""
    keys = (key.removeprefix("index ") for key in look.objects if key.startswith("index "))
    return frozenset(key.rpartition(".")[2] for key in keys)
