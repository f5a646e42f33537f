"""The one loop: observe, decide, perform, append, evolve, until nothing is left to do.

Recovery has no code of its own. A loop that was killed anywhere is begun again from the log and the ledgers, and goes on
from what they say. The order in which things become durable is: the effect, together with its ledger row; then its events,
in one append. Between the two lies the only gap, and the first rows of the table close it.

Three kinds of trouble: a refusal (the database, or a check of ours, said no) is recorded and leads back; what cannot be
reached or is held by somebody else leaves the run as it is; what nobody knows is resolved by reading the ledger on a new
connection, within a limit, and otherwise left to the next run.

Read next: `decide.py`, `perform.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from attrs import evolve as with_changes
from attrs import fields_dict, frozen

from ..events import types as e
from ..events.codec import decode
from ..events.errors import (
    Blocked,
    ConcurrencyConflict,
    InDoubt,
    InputError,
    Locked,
    LostLock,
    Refused,
    Stranded,
    TwinstepError,
    Unreachable,
)
from ..events.fold import Status, authorise, evolve, fold
from ..events.lifecycle import Effect, Row, State
from ..events.types import Event, Recorded
from ..migrations.ledger import SideLedger
from ..stores.patience import Patience
from ..stores.port import EventStore
from ..stores.seam import Probe
from .decide import Observed, Request, decide, has_work, sides_of_rollback
from .perform import perform
from .recall import recall
from .worker import Situation, Worker

Listener: TypeAlias = "Callable[[Recorded], None]"

REMOTE_EFFECTS = frozenset(
    {
        Effect.CONFIRM_REMOTE,
        Effect.START_REMOTE,
        Effect.APPLY_REMOTE,
        Effect.ACCEPT,
        Effect.VERIFY,
        Effect.UNDO_REMOTE,
        Effect.COMPARE,
    }
)


# What a call that was asked to accept may do: looking included, for only what was looked at can be accepted.
ACCEPTING = frozenset({Effect.RECORD, Effect.ACCEPT, Effect.VERIFY, Effect.COMPARE})

# What leads back: the database, a check of ours, or circumstances said no.
REFUSALS = (Refused, Blocked, InputError)

# What is settled by a person's word is settled once in a call.
SETTLING = frozenset({Effect.ADOPT, Effect.BASELINE, Effect.RESTORE})


@frozen(kw_only=True)
class Finished:
    """Where the loop stopped: the status, and what kept it from going on, or what made it go back; None for neither."""

    status: Status
    error: TwinstepError | None = None
    runs: tuple[str, ...] = ()

    def went_well(self, wanted: State) -> bool:
        """Whether it rests in that state, and nothing was refused, such as a part that a verified migration does later."""
        return self.status.state is wanted and self.error is None


class Loop:
    """Drives one migration on one pair. Holds what was read and recorded so far; makes no decision of its own."""

    def __init__(
        self,
        *,
        store: EventStore,
        stream: str,
        worker: Worker,
        probe: Probe,
        listener: Listener,
        patience: Patience,
    ) -> None:
        self._store = store
        self._stream = stream
        self._worker = worker
        self._probe = probe
        self._listener = listener
        self._patience = patience
        records = store.read(stream)
        self._status = fold(records)
        self._events = [decode(record) for record in records]
        self._observed = Observed()
        self._runs: list[str] = []
        self._began = False
        self._reason: TwinstepError | None = None

    def drive(self, request: Request) -> Finished:
        """Go on until nothing is left to do, or until something keeps the run where it is.

        A remote that is lost in the middle is tried again, with backoff and jitter, for as long as the patience lasts; each try
        takes the lock on a new connection, and goes on only where nobody else has changed anything since: then it reads the
        ledger and decides anew. From the loss until then nothing is committed anywhere.
        """
        if request.wish == "finish" and not self._status.in_flight:
            return self._finished(None)
        self._patience.done()
        try:
            again = False
            while True:
                try:
                    if again:
                        self._hold_again()
                    return self._go(request)
                except _RemoteLost as lost:
                    if not self._tries_again(lost.trouble):
                        return self._finished(lost.trouble)
                    again = True
                except Locked as rival:
                    return self._finished(rival)
        except _NotRecorded as lost:
            # Not a refusal of what was done: that stands with its ledger row, and the next run takes it into the log.
            self._release_local()
            return self._finished(lost.trouble)

    def _tries_again(self, trouble: TwinstepError) -> bool:
        from ..migrations.passing import is_passing

        return is_passing(trouble) and self._patience.wait()

    def _hold_again(self) -> None:
        remote = self._worker.targets["remote"]
        try:
            remote.hold_again()
        except (InDoubt, Unreachable) as error:
            raise self._lost(error) from error

    def _lost(self, error: TwinstepError) -> _RemoteLost:
        """The session is given up, and the local writer lock with it: others may have to wait for longer than it takes."""
        self._release_local()
        self._worker.targets["remote"].close()
        return _RemoteLost(error)

    def _go(self, request: Request) -> Finished:
        stale = frozenset({"local", "remote"})
        while True:
            # What was refused only now has been seen by nobody: it goes back, and waits there to be accepted.
            request = with_changes(request, began=self._began, accept=request.accept and self._reason is None)
            try:
                self._observe(request, stale)
            except TwinstepError as error:
                return self._finished(error)
            row = decide(self._status, self._observed, request)
            if row is None:
                return self._finished(self._reason)
            if request.accept and row.effect not in ACCEPTING:
                return self._finished(self._nothing_to_accept(row))
            started = time.perf_counter()
            try:
                self._step(row, request)
            except TwinstepError as error:
                if self._is_remote_lost(row, error):
                    raise self._lost(error) from error
                # What is refused may have taken the session and its lock with it, as a transaction that was left idle does.
                if "remote" in self._worker.targets:
                    self._hold_again()
                seconds = time.perf_counter() - started
                if not self._leads_back(row, error):
                    return self._refused(row, self._as_it_stays(row, error), seconds, request)
                self._reason = error
                try:
                    self._append_refusal(row, error, seconds)
                except LostLock as trouble:
                    raise self._lost(trouble) from trouble
                except TwinstepError as trouble:
                    return self._finished(trouble)
            self._began = self._began or self._begins(row) or row.effect in SETTLING
            stale = _touched(row)

    def _is_remote_lost(self, row: Row, error: TwinstepError) -> bool:
        """Whether the session of the remote is gone, wherever that was noticed."""
        if isinstance(error, LostLock):
            return "remote" in self._worker.targets and error.details.get("side") == "remote"
        if row.effect is Effect.VALIDATE:
            # One that is away is a reason not to begin; one that goes away while it is looked at is looked at again.
            return isinstance(error, InDoubt)
        return isinstance(error, (InDoubt, Unreachable)) and row.effect in REMOTE_EFFECTS

    def _step(self, row: Row, request: Request) -> None:
        self._probe(f"{row.effect}:before")
        began = time.perf_counter()
        events = perform(self._worker, row, self._situation(row, request))
        seconds = time.perf_counter() - began
        self._probe(f"{row.effect}:performed")
        events[-1] = _timed(events[-1], seconds)
        self._append(events)
        # Taking the lock anew is part of each try, and gets nothing done by itself.
        if row.effect is not Effect.START_REMOTE:
            self._patience.done()

    def _append(self, events: list[Event]) -> None:
        """Record what was done; the state machine has the last word on whether it may be written."""
        authorise(self._status, events)
        try:
            records = self._store.append(
                self._stream,
                events,
                expected_version=self._status.version,
                expected_hash=self._status.last_hash,
                fence=self._check_held,
            )
        except LostLock as error:
            if error.code != "T403":  # the session: it may be taken again, where nobody was there
                raise
            raise _NotRecorded(error) from error
        except (Blocked, ConcurrencyConflict, InDoubt, Locked) as error:
            raise _NotRecorded(error) from error
        for record, event in zip(records, events, strict=True):
            self._status = with_changes(
                evolve(self._status, event, stream=self._stream), version=record.version, last_hash=record.hash
            )
            self._events.append(event)
            if isinstance(event, e.RunEvent) and event.run not in self._runs:
                self._runs.append(event.run)
            self._tell(record)

    def _check_held(self) -> None:
        for target in self._worker.targets.values():
            target.check_held()

    def _tell(self, record: Recorded) -> None:
        """Call the listener. What it raises ends the call where it is, and is never taken for a refusal of the effect."""
        try:
            self._listener(record)
        except TwinstepError as error:
            raise RuntimeError(f"on_event failed at {record.type}; the run can be resumed") from error

    def _observe(self, request: Request, stale: frozenset[str]) -> None:
        """Read the ledgers that the last effect may have changed."""
        local, remote = self._observed.local, self._observed.remote
        targets, migration = self._worker.targets, self._worker.defined.id
        if "local" in targets and "local" in stale:
            local = targets["local"].ledger(migration)
        if "remote" in targets and "remote" in stale:
            remote = self._observe_remote(request, migration)
        held = "remote" in targets and targets["remote"].held is not None
        self._observed = Observed(local=local, remote=remote, lock=self._worker.lock(), remote_held=held)

    def _observe_remote(self, request: Request, migration: str) -> SideLedger | None:
        if not self._needs_remote(request):
            return None
        try:
            return self._worker.targets["remote"].ledger(migration)
        except (Unreachable, InDoubt):
            # The effect that needs it meets the same trouble and says so; one that does not need it can go on.
            return None

    def _needs_remote(self, request: Request) -> bool:
        status = self._status
        if status.in_flight:
            skipped = status.run is not None and (status.run.skip_remote or request.skip_remote) and not status.remote_started
            return has_work(status, "remote") and not skipped
        skip = request.skip_remote or self._worker.remote_role == "skip"
        return "remote" in self._worker.defined.works and not (skip and request.wish != "back")

    def _situation(self, row: Row, request: Request) -> Situation:
        return Situation(
            status=self._status,
            observed=self._observed,
            request=request,
            recalled=recall(self._events, self._status),
            progress=partial(self._progressed, row),
        )

    def _progressed(self, row: Row, done: int, total: int, note: str) -> None:
        """Record how far a long effect is. Where the log cannot take it now, only that is lost, and the effect goes on."""
        assert self._status.run is not None
        event = e.StepProgressed(run=self._status.run.run, effect=str(row.effect), done=done, total=total, note=note)
        try:
            self._append([event])
        except _NotRecorded as lost:
            if not isinstance(lost.trouble, Blocked):
                raise

    def _nothing_to_accept(self, row: Row) -> Stranded:
        """Something of the run stands, or is still to be done: that is for the run to finish, and hidden by nobody's word."""
        problem = "it has not come to the end of its way"
        if row.effect in (Effect.UNDO_REMOTE, Effect.UNDO_LOCAL):
            problem = f"something of it still stands on the {row.effect.removeprefix('UNDO_').lower()} side"
        return Stranded("T274", migration=self._worker.defined.id, state=str(self._status.state), problem=problem)

    def _leads_back(self, row: Row, error: TwinstepError) -> bool:
        """Whether a refused effect is recorded and compensated; otherwise the run stays where it is."""
        # Bad input found as late as here (a query that the change itself broke) is a refusal like any other.
        if not row.refusable or self._begins(row) or not isinstance(error, REFUSALS):
            return False
        return not self._cannot_go_back(row)

    def _cannot_go_back(self, row: Row) -> bool:
        """Whether this is the verification of what stands on the remote and is irreversible."""
        run = self._status.run
        return row.effect is Effect.VERIFY and run is not None and run.irreversible and self._status.remote_by is not None

    def _as_it_stays(self, row: Row, error: TwinstepError) -> TwinstepError:
        """The error; where it does not lead back as it says, one that says what stays and who decides."""
        if not isinstance(error, REFUSALS) or not self._cannot_go_back(row):
            return error
        return Refused("T339", migration=self._worker.defined.id, problem=error.condition.removesuffix("."))

    def _append_refusal(self, row: Row, error: TwinstepError, seconds: float) -> None:
        assert self._status.run is not None
        run = self._status.run.run
        # What stands has to be read anew: the effect may have been refused half-way.
        self._observe(Request(wish="finish"), frozenset({"local", "remote"}))
        sides = sides_of_rollback(self._status, self._observed)
        self._release_local()
        events: list[Event] = [
            self._failed(row, error, run, seconds),
            e.RollbackStarted(run=run, reason=e.REFUSED, sides=sides),
        ]
        if self._status.run.direction == e.BACK:
            # Refused while it looked or backed up: nothing is undone yet, and nothing must be, without a backup least of all.
            events.append(e.RollbackAbandoned(run=run))
        self._append(events)

    def _refused(self, row: Row, error: TwinstepError, seconds: float, request: Request) -> Finished:
        """The run stays as it is. What was refused is noted, identical refusals once; circumstances are not."""
        if self._begins(row):
            self._release_local()
            self._note_validation(error, e.BACK if request.wish == "back" else e.APPLY)
        elif isinstance(error, Refused) and self._status.run is not None:
            self._note_failure(row, error, self._status.run.run, seconds)
        return self._finished(error)

    def _note_validation(self, error: TwinstepError, direction: str) -> None:
        checksums = self._worker.defined.checksums()
        last = self._events[-1] if self._events else None
        failed = e.ValidationFailed(
            run=last.run if isinstance(last, e.ValidationFailed) else self._worker.new_run_id(),
            code=error.code,
            message=said(error),
            next_step=error.next_step,
            direction=direction,
            checksums=checksums,
        )
        if failed != last:
            self._append([with_changes(failed, run=self._worker.new_run_id())])

    def _note_failure(self, row: Row, error: TwinstepError, run: str, seconds: float) -> None:
        failed = self._failed(row, error, run, seconds)
        last = self._status.failure
        if last is None or (last.effect, last.code, last.message) != (failed.effect, failed.code, failed.message):
            self._append([failed])

    def _failed(self, row: Row, error: TwinstepError, run: str, seconds: float) -> e.StepFailed:
        side = "remote" if "REMOTE" in row.effect else str(error.details.get("side", "local"))
        return e.StepFailed(
            run=run,
            effect=str(row.effect),
            side=side,
            code=error.code,
            message=said(error),
            next_step=error.next_step,
            seconds=round(seconds, 6),
        )

    def _release_local(self) -> None:
        local = self._worker.targets.get("local")
        if local is not None:
            local.release()

    def _begins(self, row: Row) -> bool:
        return row.events[0] == "RunStarted"

    def _finished(self, error: TwinstepError | None) -> Finished:
        return Finished(status=self._status, error=error, runs=tuple(self._runs))


def _touched(row: Row) -> frozenset[str]:
    """The sides whose ledger an effect may have changed, or whose lock it may have taken."""
    if row.effect in (Effect.VALIDATE, Effect.RECORD, Effect.GIVE_UP) or row.effect in SETTLING:
        return frozenset({"local", "remote"})
    sides = {"local"} if "LOCAL" in row.effect else set()
    return frozenset(sides | ({"remote"} if "REMOTE" in row.effect else set()))


def _timed(event: Event, seconds: float) -> Event:
    """The event with how long its effect took, where it has a place for that."""
    if "seconds" not in fields_dict(type(event)):
        return event
    changes: dict[str, Any] = {"seconds": round(seconds, 6)}
    return with_changes(event, **changes)


def said(error: TwinstepError) -> str:
    """What happened and what it means for the data, as it goes into the log; what to do next has its own place there."""
    return f"{error.condition} {error.effect}"


class _NotRecorded(Exception):
    """The log took nothing: it cannot be written, or somebody else wrote first."""

    def __init__(self, trouble: TwinstepError) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


class _RemoteLost(Exception):
    """The remote was lost while it was needed; what was appended stands, and the loop can be begun again."""

    def __init__(self, trouble: TwinstepError) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble
