"""What the coordinator answers: frozen values that mirror the JSON of the command, each number read from the log.

A run's report is made from its events alone, so that `history` tells of a run of last year what `migrate` told on the day.
Pure. Read next: `coordinator.py` (who makes them), `cli/` (who shows them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias, cast

from attrs import field, frozen

from ..events import types as e
from ..events.codec import decode
from ..events.errors import Conflict, TwinstepError
from ..events.fold import Status, evolve
from ..events.lifecycle import TABLE, State
from ..events.types import Event, Json, Recorded
from ..migrations.kept import Kept
from .rehearsal_report import RehearsalReport

EFFECT_OF: Final[Mapping[str, str]] = {
    row.events[-1]: str(row.effect) for row in reversed(TABLE) if str(row.effect) not in ("RECORD", "ACCEPT")
}


@frozen(kw_only=True)
class StepTime:
    """One effect of a run and how long it took, in seconds."""

    effect: str
    seconds: float


@frozen(kw_only=True)
class QueryTime:
    """One query of the migration, before and after: medians in milliseconds."""

    name: str
    side: str
    before_ms: float
    after_ms: float
    plan_changed: bool


@frozen(kw_only=True)
class ErrorReport:
    """What went wrong in a run: a stable code, the text for people, and what to do next."""

    code: str
    message: str
    next_step: str


@frozen(kw_only=True)
class RunReport:
    """One run of one migration, from its events. Times are UTC, ISO 8601 with zone; `ended_at` is None while in flight.

    `error` is the first thing that was refused, later ones are among the `findings`. `stands` names, for a run that was rolled
    back, what stays because an earlier run made it or others rely on it: runs by side.
    """

    run: str
    migration: str
    direction: str
    state: str
    started_at: str
    ended_at: str | None = None
    seconds: float = 0.0
    steps: tuple[StepTime, ...] = ()
    local: Mapping[str, Json] = field(factory=dict)
    remote: Mapping[str, Json] = field(factory=dict)
    remote_skipped: bool = False
    queries: tuple[QueryTime, ...] = ()
    backup: Mapping[str, Json] | None = None
    findings: tuple[str, ...] = ()
    stands: Mapping[str, str] = field(factory=dict)
    error: ErrorReport | None = None


@frozen(kw_only=True)
class Report:
    """What `migrate`, `resume`, `roll_back` and `baseline` answer. `exit_code` is the command's, `error` what it stopped at.

    `findings` are of the call as a whole, such as an old backup that could not be deleted; none of them is a failure.
    `rehearsal` is there for a dry run only.
    """

    outcome: str
    runs: tuple[RunReport, ...] = ()
    findings: tuple[str, ...] = ()
    exit_code: int = 0
    error: ErrorReport | None = None
    rehearsal: RehearsalReport | None = None


@frozen(kw_only=True)
class InFlight:
    """A run that has begun and not ended. `holder` is who says that it is at work on it right now, None where nobody does.

    `problem` is what it waits for a person for, or what keeps it from going on; empty where nothing is known to. `next_step` is
    what leads on.
    """

    run: str
    migration: str
    state: str
    since: str
    holder: str | None = None
    problem: str = ""
    next_step: str = ""


@frozen(kw_only=True)
class SideReport:
    """How one database stands; `applied` is read from its ledger. `reachable` is None where there is no such database."""

    reachable: bool | None
    applied: tuple[str, ...] = ()
    user_version: int | None = None
    role: str | None = None
    problem: str | None = None


@frozen(kw_only=True)
class MigrationReport:
    """One migration on this pair: the state from the log, and how each side stands."""

    id: str
    state: str
    local_status: str
    remote_status: str
    checksum: str
    runs: int


@frozen(kw_only=True)
class ConflictReport:
    """Something that does not fit together, in the contract's words, and what to do about it."""

    kind: str
    migration: str
    message: str
    next_step: str


@frozen(kw_only=True)
class AtReport:
    """When a status is of: what was asked for, and the last event until then; None where nothing had been recorded yet.

    `note` says in words where the log does not reach as far as was asked.
    """

    asked: str
    position: int | None = None
    recorded_at: str | None = None
    note: str = ""


@frozen(kw_only=True)
class StatusReport:
    """Where both sides stand; with `at`, where they stood, as far as the log tells."""

    pair: str | None
    needs_migration: bool
    in_flight: InFlight | None
    local: SideReport
    remote: SideReport
    pending: tuple[str, ...] = ()
    migrations: tuple[MigrationReport, ...] = ()
    conflicts: tuple[ConflictReport, ...] = ()
    at: AtReport | None = None


@frozen(kw_only=True)
class VerifiedMigration:
    """One migration, checked again. `queries` compare with when they were measured last."""

    id: str
    problems: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    queries: tuple[QueryTime, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it is as it was when it was verified."""
        return not self.problems


@frozen(kw_only=True)
class DriftReport:
    """One side's schema against the one that was verified last, with `since`; `not_compared` says why it was not held."""

    since: str | None = None
    differences: tuple[str, ...] = ()
    not_compared: str | None = None


@frozen(kw_only=True)
class Acceptance:
    """What a person accepted: a migration's refused verification, its difference after going back, or a drift of a side."""

    migration: str
    what: str
    differences: tuple[str, ...] = ()


@frozen(kw_only=True)
class VerifyReport:
    """What `verify` answers: `outcome` is verified, drift, problems, accepted, blocked, in_flight, locked or failed.

    `findings` are worth knowing and no failure. `error` is what kept it from looking, or from accepting.
    """

    outcome: str
    migrations: tuple[VerifiedMigration, ...] = ()
    drift: Mapping[str, DriftReport] = field(factory=dict)
    conflicts: tuple[ConflictReport, ...] = ()
    accepted: tuple[Acceptance, ...] = ()
    findings: tuple[str, ...] = ()
    exit_code: int = 0
    error: ErrorReport | None = None


@frozen(kw_only=True)
class PlannedStep:
    """One unit that would run: on which side, how, and its statements."""

    side: str
    kind: str
    statements: tuple[str, ...]


@frozen(kw_only=True)
class PlannedMigration:
    """One migration that would run."""

    id: str
    description: str
    steps: tuple[PlannedStep, ...]


def conflict_report(conflict: Conflict) -> ConflictReport:
    """A conflict as data."""
    return ConflictReport(
        kind=conflict.kind,
        migration=str(conflict.details.get("migration", "")),
        message=f"{conflict.condition} {conflict.effect}",
        next_step=conflict.next_step,
    )


def error_report(error: TwinstepError) -> ErrorReport:
    """An error as data."""
    return ErrorReport(code=error.code, message=f"{error.condition} {error.effect}", next_step=error.next_step)


def run_reports(records: Sequence[Recorded]) -> tuple[RunReport, ...]:
    """All attempts of one stream, also the failed ones, in the order in which they began."""
    runs: dict[str, list[Recorded]] = {}
    states: dict[str, State] = {}
    status = Status()
    for record in records:
        event = decode(record)
        status = evolve(status, event, stream=record.stream)
        if isinstance(event, e.RunEvent):
            runs.setdefault(event.run, []).append(record)
            states[event.run] = _state_of(event, status)
    return tuple(run_report(own, str(states[run])) for run, own in runs.items())


def begun_at(records: Sequence[Recorded]) -> tuple[int, ...]:
    """The position of the first event of each of the same attempts."""
    first: dict[str, int] = {}
    for record in records:
        event = decode(record)
        if isinstance(event, e.RunEvent):
            first.setdefault(event.run, record.position)
    return tuple(first.values())


def _state_of(event: Event, status: Status) -> State:
    """A run's own state: one that was rolled back stays so, also where the migration is as an earlier run left it."""
    if isinstance(event, e.ValidationFailed):
        # What was applied before stays so, whatever was refused to begin.
        return State.VERIFIED if status.state is State.VERIFIED else State.PENDING
    return State.ROLLED_BACK if isinstance(event, e.RolledBack) else status.state


def _direction(events: Sequence[Event]) -> str:
    """Whether the attempt was to apply or to take back."""
    told = (event.direction for event in events if isinstance(event, e.RunStarted | e.ValidationFailed))
    return next(told, e.APPLY)


def run_report(records: Sequence[Recorded], state: str) -> RunReport:
    """The report of one run, from its events."""
    events = [decode(record) for record in records]
    first, last = records[0], records[-1]
    before: Sequence[Mapping[str, Json]] = ()
    after: Sequence[Mapping[str, Json]] = ()
    values: dict[str, Json] = {}
    findings: list[str] = []
    standing: Mapping[str, str] = {}
    for event in events:
        match event:
            case e.Validated(queries=queries):
                before = queries
            case e.Verified(queries=queries, findings=found):
                after = queries
                findings += found
            case e.BackedUp(backup=backup):
                values["backup"] = backup
            case e.LocalApplied(changes=changes, findings=found):
                values["local"] = changes
                findings += found
            case e.RemoteApplied(changes=changes, findings=found):
                values["remote"] = changes
                findings += found
            case e.LocalUndone(replaced=replaced, findings=found):
                findings += found
                if replaced is not None:
                    findings.append(
                        f"the local database as others had written to it before the way back is kept as backup {replaced['id']}"
                    )
            case e.Baselined(findings=found):
                findings += found
            case e.BackupRestored(backup=named, replaced=kept):
                findings.append(f"backup {named} was restored; what it replaced is kept as backup {kept}")
            case e.RemoteUndone(kept=kept):
                findings += [Kept.from_json(each).sentence() for each in kept]
            case e.RolledBack(stands=stands, findings=found):
                findings += found
                findings += [f"the {side} side stays as it is: run {by} stands there" for side, by in stands.items()]
                standing = stands
            case e.VerificationAccepted(differences=differences):
                findings += [f"accepted: {difference}" for difference in differences]
            case _:
                pass
    steps = tuple(_steps(events))
    errors = _errors(events)
    findings += [f"on the way back: {error.code} {error.message}" for error in errors[1:]]
    return RunReport(
        run=cast("e.RunEvent", events[0]).run,
        migration=first.stream.partition("/")[2],
        direction=_direction(events),
        state=state,
        started_at=first.recorded_at,
        ended_at=last.recorded_at if state in ("verified", "rolled_back", "pending") else None,
        seconds=round(sum(step.seconds for step in steps), 3),
        steps=steps,
        local=cast("Mapping[str, Json]", values.get("local") or {}),
        remote=cast("Mapping[str, Json]", values.get("remote") or {}),
        remote_skipped=any(isinstance(event, e.RemoteSkipped) for event in events),
        queries=tuple(query_times(before, after)),
        backup=cast("Mapping[str, Json] | None", values.get("backup")),
        findings=tuple(findings),
        stands=standing,
        error=errors[0] if errors else None,
    )


def _steps(events: Iterable[Event]) -> Iterable[StepTime]:
    for event in events:
        if isinstance(event, e.StepFailed):
            yield StepTime(effect=event.effect, seconds=round(event.seconds, 3))
        elif hasattr(event, "seconds") and type(event).__name__ in EFFECT_OF:
            yield StepTime(effect=EFFECT_OF[type(event).__name__], seconds=round(event.seconds, 3))


Times: TypeAlias = "Sequence[Mapping[str, Json]]"


def query_times(before: Times, after: Times) -> Iterable[QueryTime]:
    earlier = {(each["side"], each["name"]): each for each in before}
    for now in after:
        was = earlier.get((now["side"], now["name"]))
        if was is None:
            continue
        yield QueryTime(
            name=str(now["name"]),
            side=str(now["side"]),
            before_ms=float(cast("float", was["milliseconds"])),
            after_ms=float(cast("float", now["milliseconds"])),
            plan_changed=was["plan"] != now["plan"],
        )


def _errors(events: Sequence[Event]) -> list[ErrorReport]:
    """Everything that was refused in the run, first to last: the first is what made it go back."""
    return [
        ErrorReport(code=event.code, message=event.message, next_step=event.next_step)
        for event in events
        if isinstance(event, e.StepFailed | e.ValidationFailed)
    ]
