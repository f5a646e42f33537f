"""One migration after the other, each driven as far as it goes, and what the call answers: the contract's word and exit code.

Read next: `loop.py` (what drives one), `coordinator.py` (who asks for it).
"""

from __future__ import annotations

from attrs import evolve

from ..events.errors import (
    Blocked,
    ConcurrencyConflict,
    Defect,
    InDoubt,
    InputError,
    Locked,
    LogDamaged,
    LostLock,
    TwinstepError,
)
from ..events.lifecycle import State
from ..events.types import ASKED_FOR, BACK
from ..migrations.work import RestoreOrder
from .decide import Request, Wish
from .definitions import Defined
from .loop import Finished, Loop
from .report import ErrorReport, Report, RunReport, error_report, run_reports
from .session import Session
from .worker import Declaring, Worker


class Driver:
    """Drives migrations one after the other in one session, and remembers for the report what came of each."""

    def __init__(
        self,
        opened: Session,
        *,
        discard_writes: bool = False,
        declaring: Declaring | None = None,
        restoring: RestoreOrder | None = None,
    ) -> None:
        self._opened = opened
        self._discard_writes = discard_writes
        self._declaring = declaring
        self._restoring = restoring
        self._finished: list[tuple[str, Wish, Finished]] = []
        self.stopped = False

    def drive(self, migration: str, request: Request) -> Finished:
        """Drive one migration as far as it goes."""
        opened, settings = self._opened, self._opened.settings
        assert opened.pair is not None
        worker = Worker(
            defined=opened.defined.get(migration, Defined(id=migration)),
            pair=opened.pair,
            log=opened.store.log_id,
            targets=opened.targets,
            remote_role=settings.remote_role,
            discard_writes=self._discard_writes,
            declaring=self._declaring,
            restoring=self._restoring,
        )
        loop = Loop(
            store=opened.store,
            stream=opened.stream(migration),
            worker=worker,
            probe=settings.probe,
            listener=settings.on_event,
            patience=opened.patience,
        )
        finished = loop.drive(request)
        opened.let_go()
        self._finished.append((migration, request.wish, finished))
        return finished

    def done(self) -> dict[str, str]:
        """What this call has done to each migration, as the word for how a conflict about it ended."""
        return {migration: word for migration, wish, finished in self._finished if (word := _word(wish, finished))}

    def drive_or_raise(self, migration: str, request: Request) -> Finished:
        """The same, for what is done or refused at once: raises what it stopped at."""
        finished = self.drive(migration, request)
        if finished.error is not None:
            raise finished.error
        return finished

    def report(self) -> Report:
        """What came of it all: the runs of this call, and the outcome of the last one."""
        runs: list[RunReport] = []
        for migration, _, finished in self._finished:
            records = self._opened.store.read(self._opened.stream(migration))
            runs += [report for report in run_reports(records) if report.run in finished.runs]
        if not self._finished:
            return Report(outcome="up_to_date")
        _, wish, last = self._finished[-1]
        outcome, exit_code = _outcome(wish, last)
        return Report(outcome=outcome, runs=tuple(runs), exit_code=exit_code, error=_told(last))


def _word(wish: Wish, finished: Finished) -> str:
    if not finished.runs or finished.status.in_flight:
        return ""
    if wish == "adopt":
        return "adopted"
    return "migrated" if finished.status.state is State.VERIFIED else "rolled_back"


def _outcome(wish: Wish, finished: Finished) -> tuple[str, int]:
    """The contract's word and exit code for where the loop stopped."""
    status, error = finished.status, finished.error
    if status.in_flight:
        return ("locked", 4) if isinstance(error, Locked | ConcurrencyConflict) else ("in_flight", 6)
    if status.state is State.ROLLED_BACK and finished.runs:
        asked = status.rollback is not None and status.rollback.reason == ASKED_FOR
        took_back = wish == "back" or asked or (status.run is not None and status.run.direction == BACK)
        if took_back and error is None:
            return "rolled_back", 0
        if _ended_here(finished):
            # 5 promises that nothing was changed, not even for a while.
            untouched = not status.local_undone and not status.remote_started
            return "rolled_back", 5 if isinstance(error, Blocked) and untouched else 1
    if error is not None and status.run is not None and status.run.direction == BACK and _ended_here(finished):
        # A take-back that was refused before it had undone anything: the migration stays applied.
        return outcome_of(error), 5 if isinstance(error, Blocked) else 1
    if isinstance(error, InDoubt):
        return "blocked", 5  # lost while it was only looked at
    if error is not None:
        # A skipped remote that was tried and refused leaves the migration verified, and the run rolled back.
        return (outcome_of(error), error.exit_code) if not _ended_here(finished) else ("rolled_back", 1)
    return ("up_to_date", 0) if not finished.runs else (str(status.state), 0)


def _told(finished: Finished) -> ErrorReport | None:
    """What the loop stopped at, in words. Who finds the remote locked half-way has changed something already: the words for
    that error are those of a call that could not begin."""
    error = finished.error
    if error is None:
        return None
    told = error_report(error)
    if not finished.status.in_flight or not isinstance(error, Locked) or isinstance(error, LostLock):
        return told
    effect = f"What this run has done so far stands, and it is in flight at {finished.status.state}."
    next_step = "Run 'twinstep resume' once the other one has finished, or give it --wait SECONDS."
    return evolve(told, message=f"{error.condition} {effect}", next_step=next_step)


def _ended_here(finished: Finished) -> bool:
    """Whether this call ended a run, rather than refusing to begin one."""
    run = finished.status.run
    return run is not None and run.run in finished.runs


def outcome_of(error: TwinstepError) -> str:
    """The contract's word for an error that kept a call from doing anything."""
    match error:
        case InputError():
            return "failed"
        case Locked() | ConcurrencyConflict():
            return "locked"
        case Blocked() | LogDamaged():
            return "blocked"
        case Defect():
            return "in_flight"
        case _:
            return "blocked"
