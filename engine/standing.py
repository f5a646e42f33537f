"""Where both sides stand, as `status` tells it: from the log what was attempted, from the ledgers what is.

Nothing is written. Read next: `conflicts.py` (what does not fit together), `report.py` (the values).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import evolve

from ..events.errors import Blocked
from ..events.fold import Status
from ..events.lifecycle import State
from ..events.projections import SyncRow
from ..migrations.definition import SideName
from ..migrations.ledger import SideLedger
from .conflicts import Known, conflicts
from .decide import has_work
from .definitions import SIDES
from .locks import at_work
from .planning import due, order_of
from .report import InFlight, MigrationReport, SideReport, StatusReport, conflict_report
from .session import Session


def sync_rows(opened: Session) -> tuple[SyncRow, ...]:
    """How each migration of this pair stands on each side, by the log's events."""
    return tuple(row for row in opened.rows() if isinstance(row, SyncRow))


def needs_migration(opened: Session, known: Known) -> bool:
    """Whether anything is pending or in flight."""
    return any(status.in_flight for status in known.statuses.values()) or bool(due(opened, known, to=None, skip_remote=False))


def status_report(opened: Session, known: Known) -> StatusReport:
    """Both sides, each migration, what is in flight or pending, and what does not fit together."""
    pending = tuple(due(opened, known, to=None, skip_remote=False))
    in_flight = _in_flight(opened, known)
    return StatusReport(
        pair=opened.pair,
        needs_migration=bool(pending) or in_flight is not None,
        in_flight=in_flight,
        local=_side(opened, known, "local"),
        remote=evolve(_side(opened, known, "remote"), role=opened.settings.remote_role),
        pending=pending,
        migrations=tuple(_migration_reports(opened, known)),
        conflicts=tuple(conflict_report(conflict) for conflict in conflicts(known)),
    )


def _in_flight(opened: Session, known: Known) -> InFlight | None:
    for name, status in known.statuses.items():
        if status.in_flight and status.run is not None:
            records = opened.store.read(opened.stream(name))
            own = [record for record in records if record.type == "RunStarted"]
            problem, next_step = _way_out(opened, name, status, refused_last=records[-1].type == "StepFailed")
            return InFlight(
                run=status.run.run,
                migration=name,
                state=str(status.state),
                since=own[-1].recorded_at,
                holder=at_work(opened.settings.state_folder),
                problem=problem,
                next_step=next_step,
            )
    return None


def _way_out(opened: Session, migration: str, status: Status, *, refused_last: bool) -> tuple[str, str]:
    """What the run in flight waits for, as far as the log and this look tell, and what leads on.

    A refusal that did not lead back is the last event of its stream (T335 to T339): its own words say who has to do what.
    """
    assert status.run is not None
    if refused_last and status.failure is not None:
        return f"{status.failure.code} {status.failure.message}", status.failure.next_step
    needed = {"local": True, "remote": status.remote_started or status.remote_by is not None}
    away = [side for side in SIDES if has_work(status, side) and needed[side] and side not in opened.targets]
    if away:
        missing = Blocked("T260", migration=migration, side=away[0])
        return missing.condition, missing.next_step
    problem = opened.problems.get("remote") if has_work(status, "remote") else None
    if problem is not None:
        later = "; 'twinstep resume --skip-remote' leaves it for later" if _may_leave_the_remote(status) else ""
        return str(getattr(problem, "condition", problem)), f"When the remote answers again, run 'twinstep resume'{later}."
    if status.state is State.ROLLING_BACK:
        return "", "'twinstep resume' takes back what is left of it."
    return "", "'twinstep resume' finishes it, 'twinstep rollback' takes it back."


def _may_leave_the_remote(status: Status) -> bool:
    return status.state is not State.ROLLING_BACK and not status.remote_started


def _side(opened: Session, known: Known, side: SideName) -> SideReport:
    if side not in opened.targets:
        return SideReport(reachable=None)
    problem = opened.problems.get(side)
    whole = known.wholes.get(side)
    if whole is None:
        return SideReport(reachable=False if problem is not None else None, problem=str(problem) if problem else None)
    applied = [name for name, ledger in whole.ledgers.items() if _stands(ledger)]
    return SideReport(
        reachable=True,
        applied=tuple(sorted(applied, key=lambda name: order_of(opened, name))),
        user_version=whole.user_version,
        # Read, but not to the end: its schema could not be looked at.
        problem=str(problem) if problem is not None else None,
    )


def _stands(ledger: SideLedger) -> bool:
    return ledger.applied_by() is not None


def _migration_reports(opened: Session, known: Known) -> Iterator[MigrationReport]:
    rows = {row.migration_version: row for row in sync_rows(opened)}
    names: Sequence[str] = sorted({*opened.defined, *known.statuses}, key=lambda name: order_of(opened, name))
    for name in names:
        status, row, defined = known.status(name), rows.get(name), opened.defined.get(name)
        has = defined.checksums() if defined is not None else {}
        yield MigrationReport(
            id=name,
            state=str(status.state),
            local_status=row.local_status if row is not None else ("pending" if "local" in has else "not_needed"),
            remote_status=row.remote_status if row is not None else ("pending" if "remote" in has else "not_needed"),
            checksum=" ".join(has[side] for side in SIDES if side in has),
            runs=status.runs,
        )
