"""Checking again what is applied: whether both databases still are what the log says, and accepting what is not.

Nothing is changed in either database: both are only read. What is found is told, and that it was looked at is recorded in
the pair's stream. Each migration that stands is asked whether it still holds (its own checks, the file's integrity, its
indexes, its queries); both ledgers are held against the log, the hash chains walked, and the schemas held against those
that were verified last.

Accepting is the way out where only a person can decide. It hides nothing: what stands half is named, and stays.

Read next: `accepting.py` (what is accepted of a run), `drift.py` (what of a schema), `conflicts.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from attrs import evolve

from ..events import types as e
from ..events.codec import decode
from ..events.errors import Blocked, Conflict, DefinitionError, InDoubt, Refused, TwinstepError
from ..events.fold import Status
from ..events.lifecycle import State
from ..events.types import Json, Recorded
from ..migrations.definition import SideName
from ..migrations.measuring import names_index
from ..migrations.target import Timing
from ..migrations.work import SideWork, recorded_work
from .conflicts import BLOCKING, Known, conflicts
from .decide import Request
from .definitions import SIDES
from .driver import Driver, outcome_of
from .pair_log import append_to_pair, detected, identity, note_conflicts, open_conflicts
from .planning import order_of
from .report import (
    Acceptance,
    DriftReport,
    Report,
    VerifiedMigration,
    VerifyReport,
    conflict_report,
    error_report,
    query_times,
)
from .session import Session


def verify(opened: Session, *, id: str | None, accept: bool) -> VerifyReport:
    """Check the applied migrations again, or the one named; with `accept`, take first what only a person can decide.

    Raises LogDamaged where the log is not what was written, DefinitionError (T145) for a migration that nobody knows, and,
    when it is to accept, the first Conflict that blocks every run.
    """
    if id is not None and id not in opened.defined and id not in opened.statuses():
        raise DefinitionError("T145", migration=id)
    if not accept:
        return _verified(opened, id=id)
    known = _known(opened)
    blocking = [conflict for conflict in conflicts(known) if conflict.kind in BLOCKING]
    if blocking:
        note_conflicts(opened, known, conflicts(known))
        raise blocking[0]
    accepted, stopped = _accept_runs(opened, id=id)
    if stopped is None:
        accepted += _accept_drift(opened, id=id)
    report = _verified(opened, id=id)
    if stopped is not None:
        outcome, exit_code, error = stopped.outcome, stopped.exit_code, stopped.error
        return evolve(report, accepted=tuple(accepted), outcome=outcome, exit_code=exit_code, error=error)
    if not accepted:
        return evolve(report, findings=("There was nothing to accept.", *report.findings))
    outcome = "accepted" if report.exit_code == 0 else report.outcome
    return evolve(report, accepted=tuple(accepted), outcome=outcome)


# Looking again


def _verified(opened: Session, *, id: str | None) -> VerifyReport:
    known = _known(opened)
    found = conflicts(known)
    names = [id] if id is not None else _standing(opened, known)
    migrations = tuple(_migrations(opened, known, names))
    stands = any(status.state is State.VERIFIED for status in known.statuses.values())
    note_conflicts(opened, known, found, checked=stands)
    drift: dict[str, DriftReport] = {side: _drift(known, side) for side in SIDES if side in opened.targets}
    shown = tuple(conflict_report(conflict) for conflict in found)
    report = VerifyReport(outcome="verified", migrations=migrations, drift=drift, conflicts=shown)
    return _judged(opened, report, found, known)


def _judged(opened: Session, report: VerifyReport, found: Sequence[Conflict], known: Known) -> VerifyReport:
    """The report with its outcome: the worst of what was found decides."""
    away = [error for error in opened.problems.values() if isinstance(error, TwinstepError)]
    blocking = [conflict for conflict in found if conflict.kind in BLOCKING]
    trouble: TwinstepError | None = next(iter((*blocking, *away)), None)
    if trouble is not None:
        return evolve(report, outcome=outcome_of(trouble), exit_code=5, error=error_report(trouble))
    in_flight = [migration for migration, status in known.statuses.items() if status.in_flight]
    bad = any(not each.ok for each in report.migrations)
    if bad or in_flight or any(conflict.kind != "drift" for conflict in found):
        return evolve(report, outcome="problems", exit_code=3)
    return evolve(report, outcome="drift", exit_code=3) if found else report


def _known(opened: Session) -> Known:
    return opened.known(with_remote=opened.settings.remote_role != "skip", with_schemas=True)


def _standing(opened: Session, known: Known) -> list[str]:
    """What is to be checked: what is verified, and what is in flight and should not be."""
    names = [name for name, status in known.statuses.items() if status.state is State.VERIFIED or status.in_flight]
    return sorted(names, key=lambda name: order_of(opened, name))


def _drift(known: Known, side: SideName) -> DriftReport:
    last = known.baselines.get(side)
    return DriftReport(
        since=None if last is None else last.migration,
        differences=known.drift(side),
        not_compared=known.not_compared(side) or None,
    )


def _migrations(opened: Session, known: Known, names: Sequence[str]) -> Iterator[VerifiedMigration]:
    read_through: set[SideName] = set()
    for name in names:
        status = known.status(name)
        if status.state is not State.VERIFIED:
            state = (
                "is not applied" if not status.in_flight else f"is in flight ({status.state}); 'twinstep resume' finishes it"
            )
            yield VerifiedMigration(id=name, problems=(state,))
            continue
        found = VerifiedMigration(id=name, problems=tuple(_ledger_problems(opened, known, name)))
        for side in SIDES:
            work = _work(opened, known, name, side)
            if work is None or (side not in known.wholes and side not in opened.problems):
                continue  # nothing of it stands there, or that side was not to be asked
            if side not in opened.problems:
                found = _side(opened, found, work, integrity=side not in read_through)
                read_through.add(side)
            if side in opened.problems:
                found = evolve(found, problems=(*found.problems, f"the {side} side could not be checked"))
        yield found


def _work(opened: Session, known: Known, name: str, side: SideName) -> SideWork | None:
    """What stands on that side, as its run recorded it, with the checks that are defined now; None where nothing does."""
    status = known.status(name)
    by = status.local_by if side == "local" else status.remote_by
    if by is None:
        return None
    defined = opened.defined[name].works.get(side) if name in opened.defined else None
    recorded = _recorded(opened, name, by, side)
    if recorded is None:
        work = defined
    else:
        irreversible = status.run is not None and status.run.irreversible
        work = recorded_work(name, side, recorded, irreversible=irreversible, defined=defined)
    if work is not None and side == "local" and _moved_on(opened, known, name):
        # A later migration has moved the version on: it is asked for its own.
        work = evolve(work, limits=evolve(work.limits, user_version_to=None))
    return work


def _recorded(opened: Session, name: str, by: str, side: SideName) -> Mapping[str, Json] | None:
    """What the log recorded of that side for the run that made it, or for the first one that confirmed it."""
    runs = [cast("e.RunStarted", decode(each)) for each in opened.store.read(opened.stream(name)) if each.type == "RunStarted"]
    ordered = sorted(runs, key=lambda run: run.run != by)
    looks = (run.local if side == "local" else run.remote for run in ordered if run.direction == e.APPLY)
    return next((look for look in looks if look is not None), None)


def _moved_on(opened: Session, known: Known, name: str) -> bool:
    later = [each for each in _standing(opened, known) if order_of(opened, each) > order_of(opened, name)]
    return any(known.status(each).local_by is not None for each in later)


def _side(opened: Session, found: VerifiedMigration, work: SideWork, *, integrity: bool) -> VerifiedMigration:
    """One side, asked again. What cannot be reached in the middle is the caller's trouble."""
    target, problems, findings = opened.targets[work.side], list(found.problems), list(found.findings)
    timings: tuple[Timing, ...] = ()
    try:
        findings += target.verify(work, integrity=integrity)
    except (Blocked, InDoubt) as error:
        # Away, or so damaged that it cannot even be asked: the other side is told of all the same.
        opened.problems[work.side] = error
        return found
    except Refused as error:
        if error.condition in _accepted_before(opened, found.id):
            findings.append(f"accepted before: {error.condition}")
        else:
            problems.append(error.condition)
    defined = opened.defined.get(found.id)
    queries = [query for query in (defined.queries if defined is not None else ()) if query.side == work.side]
    before = _measured(opened, found.id)
    try:
        timings = target.measure(queries, only_reading=True)
    except (Blocked, InDoubt) as error:
        opened.problems[work.side] = error
    except DefinitionError as error:
        query, problem = error.details["query"], error.details["problem"]
        problems.append(f"query {query} ({work.side}) cannot be measured: {problem}")
    wanted = {query.name: query.uses_index for query in queries if query.uses_index is not None}
    for timing in timings:
        old = before.get((timing.side, timing.name))
        lost, said = _plan(timing, old, wanted.get(timing.name))
        (problems if lost else findings).extend(said)
    measured = query_times(tuple(before.values()), [timing.to_json() for timing in timings])
    return evolve(found, problems=tuple(problems), findings=tuple(findings), queries=(*found.queries, *measured))


def _accepted_before(opened: Session, name: str) -> frozenset[str]:
    """What a person has accepted of the migration since it was begun last."""
    accepted: frozenset[str] = frozenset()
    for record in opened.store.read(opened.stream(name)):
        match decode(record):
            case e.RunStarted(direction=e.APPLY):
                accepted = frozenset()
            case e.VerificationAccepted(differences=differences):
                accepted |= frozenset(differences)
            case _:
                pass
    return accepted


def _measured(opened: Session, name: str) -> dict[tuple[str, str], Mapping[str, Json]]:
    """Each query as it was measured last when the migration was verified."""
    events = [decode(record) for record in opened.store.read(opened.stream(name)) if record.type == "Verified"]
    timings = [timing for event in events if isinstance(event, e.Verified) for timing in event.queries]
    return {(str(timing["side"]), str(timing["name"])): timing for timing in timings}


def _plan(timing: Timing, old: Mapping[str, Json] | None, index: str | None) -> tuple[bool, tuple[str, ...]]:
    """Whether an index that the query should use was lost, and what is to be said of its plan."""
    query = f"query {timing.name} ({timing.side})"
    if index is not None and not names_index(timing.plan, index):
        had = old is None or names_index(str(old["plan"]), index)
        return had, (f"{query} does not use {index}" + (" any more" if had else ", as when it was measured last"),)
    return False, () if old is None or old["plan"] == timing.plan else (f"{query} has another plan than when measured last",)


def _ledger_problems(opened: Session, known: Known, name: str) -> Iterator[str]:
    """What a ledger's rows of this pair say otherwise than the log recorded it."""
    records: Sequence[Recorded] = opened.store.read(opened.stream(name))
    runs = {event.run: event for record in records if isinstance(event := decode(record), e.RunStarted)}
    for side in SIDES:
        ledger = known.ledger(side, name)
        for row in ledger.rows if ledger is not None else ():
            began = runs.get(row.run)
            if row.direction == "up" and began is not None and began.checksums.get(side) != row.checksum:
                yield f"the {side} ledger has another checksum for run {row.run} than the log"


# Accepting


def _accept_runs(opened: Session, *, id: str | None) -> tuple[list[Acceptance], Report | None]:
    """What was accepted of each run in flight that waits for a person, and where the first that does not has stopped."""
    driver, accepted = Driver(opened), list[Acceptance]()
    for name, status in opened.statuses().items():
        if not status.in_flight or (id is not None and name != id):
            continue
        before = status.version
        finished = driver.drive(name, Request(wish="finish", accept=True))
        accepted += _acceptances(name, status, opened.store.read(opened.stream(name), after=before))
        if finished.status.in_flight or finished.error is not None:
            return accepted, driver.report()
    return accepted, None


def _acceptances(name: str, before: Status, records: Sequence[Recorded]) -> Iterator[Acceptance]:
    for record in records:
        match decode(record):
            case e.VerificationAccepted(differences=differences):
                what = "what going back has left" if before.state is State.ROLLING_BACK else "what verification has refused"
                yield Acceptance(migration=name, what=what, differences=differences)
            case e.RollbackAbandoned():
                yield Acceptance(migration=name, what="that it stays applied: nothing had been taken back yet")
            case _:
                pass


def _accept_drift(opened: Session, *, id: str | None) -> list[Acceptance]:
    """Take each schema as it is now for the one that later checks compare with, and record what that accepts."""
    known = _known(opened)
    drifted = [conflict for conflict in conflicts(known) if conflict.kind == "drift"]
    accepted, events, before = list[Acceptance](), list[e.Event](), open_conflicts(opened.of_the_pair())
    for conflict in drifted:
        kind, migration, named = identity(conflict)
        if id is not None and migration != id:
            continue
        side: SideName = "local" if named == "local" else "remote"
        differences = known.drift(side)
        if before.get((kind, migration, side)) != detected(conflict):
            events.append(detected(conflict))
        look = known.schemas[side].fingerprint().to_json()
        events.append(
            e.ConflictResolved(kind=kind, migration=migration, side=side, how="accepted", differences=differences, look=look)
        )
        accepted.append(Acceptance(migration=migration, what=f"the schema of the {side} database", differences=differences))
    append_to_pair(opened, events)
    return accepted
