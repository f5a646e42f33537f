"""Where both sides stood at a position of the log, or at a time: the log replayed until there, and nothing else asked.

Order comes from positions, never from clocks. A time therefore means the last event that was recorded at or before it, and
everything that lies before that event in the log, whatever a clock said then.

`applied` is what the log says stood on each side; what the ledgers said nobody knows any more. What was pending is told by
today's folder, and of the conflicts those that the log had been told of.

Read next: `standing.py` (where both sides stand now).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from ..events.errors import ConfigurationError
from ..events.fold import Status, fold
from ..events.projections import SyncRow, rebuild
from ..events.types import Recorded
from ..migrations.definition import SideName
from .definitions import SIDES
from .pair_log import open_conflicts
from .planning import is_done, order_of
from .report import AtReport, ConflictReport, InFlight, MigrationReport, SideReport, StatusReport
from .session import Session


def moment(at: int | datetime | str) -> int | datetime:
    """The position, or the time in UTC. Raises ConfigurationError (T275) for what is neither."""
    try:
        if isinstance(at, str):
            at = int(at) if at.strip().isdecimal() else datetime.fromisoformat(at.strip())
    except ValueError as error:
        raise ConfigurationError("T275", given=repr(at)) from error
    if isinstance(at, datetime):
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    if isinstance(at, bool) or not isinstance(at, int) or at < 0:
        raise ConfigurationError("T275", given=repr(at))
    return at


def status_at(opened: Session, at: int | datetime | str) -> StatusReport:
    """Where both sides stood. Raises ConfigurationError (T275), and what is wrong with the log."""
    records, when = _until(opened.store.read_all(), moment(at))
    of_the_pair, streams = list[Recorded](), dict[str, list[Recorded]]()
    for record in records:
        pair, _, migration = record.stream.partition("/")
        if pair == opened.pair:
            (streams.setdefault(migration, []) if migration else of_the_pair).append(record)
    statuses = {migration: fold(history) for migration, history in streams.items()}
    names = sorted({*opened.defined, *statuses}, key=lambda name: order_of(opened, name))
    pending = tuple(
        name for name in opened.defined if not is_done(opened.settings, statuses.get(name, Status()), skip_remote=False)
    )
    in_flight = _in_flight(statuses, streams)
    rows = {row.id: row for row in rebuild(records).values() if isinstance(row, SyncRow) and row.pair == opened.pair}
    return StatusReport(
        pair=opened.pair,
        needs_migration=bool(pending) or in_flight is not None,
        in_flight=in_flight,
        local=SideReport(reachable=None, applied=_applied(statuses, names, "local")),
        remote=SideReport(reachable=None, applied=_applied(statuses, names, "remote"), role=opened.settings.remote_role),
        pending=pending,
        migrations=tuple(_migration(opened, name, statuses.get(name, Status()), rows.get(name)) for name in names),
        conflicts=tuple(
            ConflictReport(kind=one.kind, migration=one.migration, message=one.message, next_step=one.next_step)
            for one in open_conflicts(of_the_pair).values()
        ),
        at=_said(at, moment(at), records, when),
    )


def _until(log: Iterable[Recorded], at: int | datetime) -> tuple[list[Recorded], Recorded | None]:
    """The events until then, and the last one of the whole log."""
    whole = list(log)
    if isinstance(at, int):
        return whole[:at], whole[-1] if whole else None
    reached = [number for number, record in enumerate(whole, 1) if datetime.fromisoformat(record.recorded_at) <= at]
    return whole[: reached[-1] if reached else 0], whole[-1] if whole else None


def _said(asked: object, at: int | datetime, records: list[Recorded], last: Recorded | None) -> AtReport:
    note = ""
    if last is None:
        note = "The log holds no events."
    elif isinstance(at, int) and at > last.position:
        note = f"The log ends at position {last.position}; this is how it ends."
    elif not records:
        note = "That is before the first event of the log: nothing had been recorded yet."
    shown = at.isoformat() if isinstance(at, datetime) else str(asked)
    if not records:
        return AtReport(asked=shown, note=note)
    return AtReport(asked=shown, position=records[-1].position, recorded_at=records[-1].recorded_at, note=note)


def _applied(statuses: dict[str, Status], names: list[str], side: SideName) -> tuple[str, ...]:
    by = {name: status.local_by if side == "local" else status.remote_by for name, status in statuses.items()}
    return tuple(name for name in names if by.get(name) is not None)


def _in_flight(statuses: dict[str, Status], streams: dict[str, list[Recorded]]) -> InFlight | None:
    for name, status in statuses.items():
        if status.in_flight and status.run is not None:
            began = [record for record in streams[name] if record.type == "RunStarted"]
            return InFlight(run=status.run.run, migration=name, state=str(status.state), since=began[-1].recorded_at)
    return None


def _migration(opened: Session, name: str, status: Status, row: SyncRow | None) -> MigrationReport:
    """With the checksum of the run that had been recorded last by then."""
    checksums = status.run.checksums if status.run is not None else {}
    has = opened.defined[name].checksums() if name in opened.defined else {}
    return MigrationReport(
        id=name,
        state=str(status.state),
        local_status=row.local_status if row is not None else ("pending" if "local" in has else "not_needed"),
        remote_status=row.remote_status if row is not None else ("pending" if "remote" in has else "not_needed"),
        checksum=" ".join(checksums[side] for side in SIDES if side in checksums),
        runs=status.runs,
    )
