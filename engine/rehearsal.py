"""The dry run: everything that `migrate` would do is executed, and nothing is changed. What it found is its report.

The local side is rehearsed on a copy of the real file, the remote side in one transaction that is rolled back. The log is
opened read-only and gets no event, no lock is kept, and no folder stays. What cannot begin is refused as `migrate` refuses it.
What the real run would be refused with is a fault: the report has its code and its statement, and the exit code is 1.

Read next: `rehearsal_telling.py` (what is told), `../migrations/rehearsal/rehearsing.py` (how one side is rehearsed).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from attrs import field, frozen
from uuid_utils import uuid7

from ..events.errors import Blocked, ConfigurationError, InDoubt, TwinstepError
from ..migrations.definition import SideName
from ..migrations.memory_target import MemoryDatabase
from ..migrations.rehearsal.rehearsing import Part, PartRehearsal, Rehearser, SideRehearsal
from ..migrations.work import Order, SideWork
from .conflicts import Known
from .definitions import SIDES, Defined
from .driver import outcome_of
from .locks import look_at_lock
from .planning import due
from .rehearsal_telling import BACKWARD, Rehearsed, tell
from .report import Report, error_report
from .session import Session, Settings, check_addresses, load, session

Refuse: TypeAlias = "Callable[[Session], None]"


@frozen(kw_only=True)
class _Planned:
    """One migration that is due: what is to be rehearsed of it, and what is said of a side that is not."""

    defined: Defined
    run: str
    parts: Mapping[SideName, Part] = field(factory=dict)
    notes: tuple[str, ...] = ()
    refused: TwinstepError | None = None


def rehearse(settings: Settings, *, to: str | None, skip_remote: bool, adopt: bool, refuse_conflicts: Refuse) -> Report:
    """Rehearse what is due. `refuse_conflicts` raises where the log and the databases do not fit together.

    Never raises errors of ours: what keeps it from beginning is its report, as for `migrate`.
    """
    try:
        if adopt:
            raise ConfigurationError("T351")
        defined = load(settings)
        check_addresses(settings)
        look_at_lock(settings.state_folder, wait_seconds=settings.wait_seconds)
        with session(settings, defined, writes=False) as opened:
            refuse_conflicts(opened)
            _refuse_in_flight(opened)
            skip = skip_remote or settings.remote_role == "skip" or "remote" not in opened.targets
            return _rehearse(opened, opened.known(with_remote=not skip), to=to, skip_remote=skip)
    except InDoubt as error:  # lost while it was only looked at
        return Report(outcome="blocked", exit_code=Blocked.exit_code, error=error_report(error))
    except TwinstepError as error:
        return Report(outcome=outcome_of(error), exit_code=error.exit_code, error=error_report(error))


def _refuse_in_flight(opened: Session) -> None:
    for migration, status in opened.statuses().items():
        if status.in_flight:
            raise Blocked("T350", migration=migration, state=status.state)


def _rehearse(opened: Session, known: Known, *, to: str | None, skip_remote: bool) -> Report:
    began = opened.settings.clock()
    names = due(opened, known, to=to, skip_remote=skip_remote)
    if not names:
        return Report(outcome="up_to_date")
    plans: list[_Planned] = []
    for name in names:
        plan = _planned(opened, known, name, skip_remote=skip_remote)
        if plan.refused is not None and not plans:
            raise plan.refused
        plans.append(plan)
        if plan.refused is not None:
            break
    _validate(opened, plans[0])
    rehearsed = _both_sides(opened.settings, plans)
    told = [
        Rehearsed(
            run=plan.run,
            defined=plan.defined,
            sides={side: part for side in SIDES if (part := _part_of(rehearsed, side, plan)) is not None},
            notes=plan.notes,
            remote_skipped=skip_remote and "remote" in plan.defined.works,
            refused=plan.refused,
        )
        for plan in plans
    ]
    ended = opened.settings.clock()
    return tell(told, rehearsed, not_tried=tuple(names[len(plans) :]), began=began, ended=ended)


def _part_of(rehearsed: Mapping[SideName, SideRehearsal], side: SideName, plan: _Planned) -> PartRehearsal | None:
    parts = rehearsed[side].parts if side in rehearsed else ()
    return next((part for part in parts if part.migration == plan.defined.id), None)


# What is to be done on each side: the rows 6 to 9 of the lifecycle's table, asked before anything is run


def _planned(opened: Session, known: Known, name: str, *, skip_remote: bool) -> _Planned:
    defined, run = opened.defined[name], str(uuid7())
    parts: dict[SideName, Part] = {}
    notes: list[str] = []
    try:
        for side in SIDES:
            if side not in defined.works:
                notes.append(f"the {side} side is not touched")
            elif side == "remote" and skip_remote:
                notes.append("the remote side is left for a later run; no network was touched")
            elif side not in opened.targets:
                notes.append(f"there is no {side} database here")
            else:
                stands = _standing(opened.settings, known, name, side)
                if stands:
                    notes.append(stands)
                else:
                    parts[side] = _part(opened, defined, side, run)
    except TwinstepError as error:
        return _Planned(defined=defined, run=run, notes=tuple(notes), refused=error)
    return _Planned(defined=defined, run=run, parts=parts, notes=tuple(notes))


def _standing(settings: Settings, known: Known, name: str, side: SideName) -> str:
    """Why a side has nothing to do; empty where it has. Raises Blocked (T203, T205)."""
    ledger = known.ledger(side, name)
    applied = ledger.applied_by() if ledger is not None else None
    if side == "remote" and ledger is not None:
        half = ledger.half_applied_by()
        if half is not None:
            raise Blocked("T203", migration=name, run=half.run)
        if settings.remote_role == "require" and applied is None:
            raise Blocked("T205", migration=name)
    if applied is None:
        return ""
    return f"the {side} side stands already, by run {applied.run}: there is nothing to do"


def _part(opened: Session, defined: Defined, side: SideName, run: str) -> Part:
    work: SideWork = defined.works[side]
    # A pair that the log does not know yet gets its id with its first run; here, anything will do.
    order = Order(work=work, run=run, pair=opened.pair or run, log=opened.store.log_id)
    queries = tuple(query for query in defined.queries if query.side == side)
    return Part(order=order, queries=queries, budget_seconds=defined.rehearsal_budget_seconds)


def _validate(opened: Session, first: _Planned) -> None:
    """What would keep the first migration from beginning is found on the databases themselves, and refuses the rehearsal."""
    settings = opened.settings
    if "local" in first.parts and settings.local_path is not None:
        from ..stores.local_connection import check_writable

        check_writable(settings.local_path)
    for side in SIDES:
        asks_remote = side == "remote" and settings.remote_role == "require" and "remote" in first.defined.works
        if side in first.parts or (asks_remote and side in opened.targets and side in opened.problems):
            opened.targets[side].validate(first.defined.works[side], back=False)
            opened.targets[side].release()


# The two sides, one after the other


def _both_sides(settings: Settings, plans: Sequence[_Planned]) -> dict[SideName, SideRehearsal]:
    """The local side first. Up to the migration at which it has a fault, the remote is rehearsed all the same."""
    rehearsed: dict[SideName, SideRehearsal] = {}
    last = len(plans)
    for side in SIDES:
        parts = [plan.parts[side] for plan in plans[:last] if side in plan.parts]
        if not parts:
            continue
        rehearsed[side] = _rehearser(settings, side).rehearse(parts)
        failed = _first_failed(rehearsed[side])
        if failed is not None:
            last = 1 + next(number for number, plan in enumerate(plans) if plan.defined.id == failed.migration)
            if last == 1 and failed.faults[0].effect == "VALIDATE":
                raise failed.faults[0].error
    return rehearsed


def _first_failed(side: SideRehearsal) -> PartRehearsal | None:
    return next((part for part in side.parts if any(fault.effect not in BACKWARD for fault in part.faults)), None)


def _rehearser(settings: Settings, side: SideName) -> Rehearser:
    database = settings.local if side == "local" else settings.remote
    if isinstance(database, MemoryDatabase):
        from ..migrations.rehearsal.memory import MemoryRehearser

        return MemoryRehearser(side, database, wait_seconds=settings.wait_seconds, probe=settings.probe)
    if side == "local":
        from ..migrations.rehearsal.sqlite import SQLiteRehearser

        assert settings.local_path is not None
        return SQLiteRehearser(
            settings.local_path,
            state_folder=settings.state_folder,
            on_connect=settings.on_local_connect,
            wait_seconds=max(settings.wait_seconds, 5.0),
            probe=settings.probe,
        )
    from ..migrations.rehearsal.postgres import PostgresRehearser

    assert isinstance(database, str)
    return PostgresRehearser(database, wait_seconds=settings.wait_seconds, is_pair=settings.local is None, probe=settings.probe)
