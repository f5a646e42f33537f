"""From events to a status: `evolve` for one event, `fold` for a whole stream. Pure: no clock, no I/O, no surprises.

A status is what the *log* claims. What the databases hold is read from their ledgers, and `decide` sees both. A history
that the lifecycle table does not allow is refused loudly (IllegalHistory, T505): it would mean damage, or a bug of ours.

Read next: `lifecycle.py` (the table), `types.py` (the events).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import evolve as with_changes
from attrs import field, frozen

from . import types as e
from .chain import GENESIS
from .codec import decode
from .errors import IllegalHistory
from .lifecycle import MOVES, RESTING, State, machine
from .types import Event, Json, Recorded, RunEvent


@frozen(kw_only=True)
class Status:
    """Where one migration stands on one pair, as its log says.

    `run` is the last run, in flight unless the state rests; `known_runs` are all that this log recorded the beginning of,
    `adopted_runs` those that it was told of. `local_by` and `remote_by` name the runs whose change stands on that side; None
    where nothing stands, or where the side has no work. `remote_confirmed_in` is the run that confirmed what another one
    applied. `before` is the state that the run began in, `stood_before` what stood then, by side.
    """

    state: State = State.PENDING
    version: int = 0
    last_hash: str = GENESIS
    runs: int = 0
    run: e.RunStarted | None = None
    known_runs: frozenset[str] = frozenset()
    adopted_runs: frozenset[str] = frozenset()
    before: State = State.PENDING
    stood_before: Mapping[str, str] = field(factory=dict)
    skipped_before: bool = False
    lock: str | None = None
    backup: str | None = None
    local_by: str | None = None
    remote_by: str | None = None
    remote_confirmed_in: str | None = None
    remote_skipped: bool = False
    remote_started: bool = False
    local_undone: bool = False
    remote_undone: bool = False
    local_found: Mapping[str, Json] | None = None
    local_after: Mapping[str, Json] | None = None
    rollback: e.RollbackStarted | None = None
    failure: e.StepFailed | None = None

    @property
    def in_flight(self) -> bool:
        """Whether a run has begun and not ended."""
        return self.state not in RESTING

    def undone_runs(self) -> tuple[str, ...]:
        """The runs whose change the run in flight undoes: its own when it applies, the named ones when it takes back."""
        if self.run is None:
            return ()
        return self.run.undoes if self.run.direction == e.BACK else (self.run.run,)


def fold(records: Iterable[Recorded], status: Status | None = None) -> Status:
    """The status after these records, from `status` on (from nothing by default).

    Raises IllegalHistory (T505) where the table does not allow an event, LogDamaged where one cannot be read. Hashes are
    not checked here (`chain.check_stream` does), only that versions follow each other.
    """
    status = Status() if status is None else status
    for record in records:
        event = decode(record)
        if record.version != status.version + 1:
            raise _illegal(status, event, record.stream, f"version {status.version + 1} is missing")
        status = with_changes(evolve(status, event, stream=record.stream), version=record.version, last_hash=record.hash)
    return status


def evolve(status: Status, event: Event, *, stream: str = "") -> Status:
    """The status after one more event. Raises IllegalHistory (T505) where the table does not allow it."""
    try:
        destination = MOVES[status.state, type(event).__name__]
    except KeyError:
        raise _illegal(status, event, stream, "the lifecycle has no such transition") from None
    _check_run(status, event, stream)
    if destination is None:
        destination = _where_it_says(status, event, stream)
    return with_changes(_remember(status, event), state=destination)


def authorise(status: Status, events: Sequence[Event]) -> Status:
    """The status after events that are about to be written; the `transitions` machine has the last word on each.

    Raises IllegalHistory (T505). Nothing may be appended that this refuses.
    """
    for event in events:
        after = evolve(status, event)
        name = type(event).__name__
        trigger = name if MOVES[status.state, name] is not None else f"{name} to {after.state}"
        legal = machine().get_transitions(trigger, str(status.state), str(after.state))
        if not legal:
            raise _illegal(status, event, "", f"the state machine does not lead from {status.state} to {after.state} by it")
        status = after
    return status


OF_NO_RUN_IN_FLIGHT = (e.RunStarted, e.ValidationFailed, e.Settled)


def _check_run(status: Status, event: Event, stream: str) -> None:
    """An event of a run belongs to the run in flight; RunStarted begins a new one."""
    if isinstance(event, OF_NO_RUN_IN_FLIGHT) or not isinstance(event, RunEvent):
        return
    if status.run is None or event.run != status.run.run:
        raise _illegal(status, event, stream, f"it belongs to run {event.run}, which is not in flight")
    if isinstance(event, e.Validated) and status.state in RESTING and status.lock is not None:
        raise _illegal(status, event, stream, "no run has been started")


def _where_it_says(status: Status, event: Event, stream: str) -> State:
    match event:
        case e.RolledBack(stands=stands):
            # A take-back that leaves a remote to others has still taken the migration back here.
            applied = status.run is not None and status.run.direction == e.APPLY
            return State.VERIFIED if stands and applied and status.before is State.VERIFIED else State.ROLLED_BACK
        case e.Settled(state=state) if state in RESTING:
            return State(state)
        case e.Settled(state=state):
            raise _illegal(status, event, stream, f"it cannot lead to {state}")
        case _:
            raise AssertionError(f"{type(event).__name__} does not say where it leads")


def _remember(status: Status, event: Event) -> Status:
    """What the event adds to the status, apart from the state."""
    match event:
        case e.RunStarted():
            return with_changes(
                status,
                runs=status.runs + 1,
                run=event,
                known_runs=status.known_runs | {event.run},
                before=status.state,
                stood_before={
                    side: by for side, by in (("local", status.local_by), ("remote", status.remote_by)) if by is not None
                },
                skipped_before=status.remote_skipped,
                lock=None,
                backup=None,
                remote_started=False,
                local_undone=False,
                remote_undone=False,
                local_found=None,
                local_after=None,
                rollback=None,
                failure=None,
            )
        case e.Validated(lock=lock):
            return with_changes(status, lock=lock)
        case e.BackedUp(backup=backup):
            return with_changes(status, backup=None if backup is None else str(backup["id"]))
        case e.LocalApplied(by=by):
            return with_changes(status, local_by=by)
        case e.RemoteStarted():
            return with_changes(status, remote_started=True)
        case e.RemoteApplied(by=by):
            return with_changes(status, remote_by=by, remote_confirmed_in=None, remote_skipped=False)
        case e.RemoteConfirmed(by=by, run=run):
            return with_changes(status, remote_by=by, remote_confirmed_in=run, remote_skipped=False)
        case e.RemoteSkipped():
            return with_changes(status, remote_skipped=True)
        case e.StepFailed():
            return with_changes(status, failure=event)
        case e.RollbackStarted():
            return with_changes(status, rollback=event)
        case e.RemoteUndone():
            return with_changes(status, remote_undone=True, remote_by=None, remote_confirmed_in=None)
        case e.LocalUndone(found=found, after=after):
            return with_changes(status, local_undone=True, local_by=None, local_found=found, local_after=after)
        case e.RolledBack(stands=stands):
            return with_changes(
                status,
                local_by=stands.get("local"),
                remote_by=stands.get("remote"),
                remote_skipped=status.skipped_before if stands else False,
            )
        case e.Settled(local=local, remote=remote, sides=sides):
            skipped = "remote" in sides and remote is None and local is not None
            adopted = status.adopted_runs | {*event.runs} | {run for run in (local, remote) if run is not None}
            confirmed = event.confirmed_in if isinstance(event, e.Baselined) else status.remote_confirmed_in
            return with_changes(
                status,
                run=None,
                adopted_runs=adopted,
                local_by=local,
                remote_by=remote,
                remote_confirmed_in=confirmed,
                remote_skipped=skipped,
                rollback=None,
            )
        case _:
            return status


def _illegal(status: Status, event: Event, stream: str, problem: str) -> IllegalHistory:
    name = type(event).__name__
    return IllegalHistory(
        "T505", event=name, state=str(status.state), stream=stream, version=status.version + 1, problem=problem
    )
