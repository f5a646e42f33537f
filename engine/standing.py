"""Where both sides stand, as `status` tells it: from the log what was attempted, from the ledgers what is.

Nothing is written. Read next: `conflicts.py` (what does not fit together), `report.py` (the values).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import evolve

from ..events.projections import SyncRow
from ..migrations.definition import SideName
from ..migrations.ledger import SideLedger
from .conflicts import Known, conflicts
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
            own = [record for record in opened.store.read(opened.stream(name)) if record.type == "RunStarted"]
            return InFlight(
                run=status.run.run,
                migration=name,
                state=str(status.state),
                since=own[-1].recorded_at,
                holder=at_work(opened.settings.state_folder),
            )
    return None


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
