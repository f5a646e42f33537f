"""What a host is to do with its databases as they stand, and whether a migration was rolled back for good. Pure.

The table of decisions is in docs/hosts.md. What is asked first counts most: what would make the host work on a schema that its
code does not know stops it; what only keeps the remote from being served lets it start.

Read next: `bootstrap.py`, which asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from attrs import frozen

from ..events import types as e
from ..events.codec import decode
from ..events.fold import fold
from ..events.lifecycle import State
from ..events.types import Recorded
from .conflicts import BLOCKING
from .report import ErrorReport, MigrationReport, Report, StatusReport

Decision = Literal["start", "start_degraded", "stop"]

# Codes of T2 tell of circumstances, apart from these: what a run itself was refused. A test names one that is missing here.
REFUSED_WHILE_RUNNING: Final = frozenset({"T217", "T219", "T268", "T269", "T273"})


@frozen(kw_only=True)
class BootstrapOutcome:
    """What a host is to do. `reason` is one line for its log; `report` is None where nothing was run.

    `start`: both databases are at the version that the code needs. `start_degraded`: the local one is, and the remote is away
    or behind. `stop`: the local one is not, or nothing can be said. `status` is None where it could not be read.
    """

    decision: Decision
    reason: str
    report: Report | None = None
    status: StatusReport | None = None
    error: ErrorReport | None = None


def decision_on(status: StatusReport, *, error: ErrorReport | None = None, report: Report | None = None) -> BootstrapOutcome:
    """What a host is to do with its databases as they stand; `error` is what the call was refused with. Pure."""

    def decided(decision: Decision, reason: str, because: ErrorReport | None = error) -> BootstrapOutcome:
        return BootstrapOutcome(decision=decision, reason=reason, report=report, status=status, error=because)

    blocking = [conflict for conflict in status.conflicts if conflict.kind in BLOCKING]
    why = f": {error.message}" if error is not None else ""
    if blocking:
        return decided("stop", f"conflict ({blocking[0].kind}): {blocking[0].message}")
    if status.in_flight is not None:
        return decided("stop", f"{status.in_flight.migration} is in flight ({status.in_flight.state}){why}")
    if status.local.reachable is False:
        return decided("stop", f"the local database cannot be read: {status.local.problem}")
    lacking = lacking_locally(status)
    if lacking:
        return decided("stop", f"the local database lacks {', '.join(lacking)}{why}")
    # Where there is no local database, the remote is all that the host has.
    worse: Decision = "stop" if status.local.reachable is None else "start_degraded"
    if status.remote.reachable is False:
        return decided(worse, f"the remote database cannot be reached: {status.remote.problem}")
    if status.pending:
        return decided(worse, f"the remote database lacks {', '.join(status.pending)}{why}")
    left = [one.id for one in status.migrations if one.remote_status == "skipped" and one.state == State.VERIFIED]
    # Where no remote was named at all, the host has none.
    if left and (status.remote.reachable is not None or status.remote.role == "skip"):
        return decided(worse, f"the remote part of {', '.join(left)} was left for later")
    if status.conflicts:
        return decided("start_degraded", f"conflict ({status.conflicts[0].kind}): {status.conflicts[0].message}")
    # What another process brought to its end while this one waited or was refused is no trouble any more.
    return decided("start", "both databases are at the version that the code needs", None)


def has_blocking_conflict(status: StatusReport) -> bool:
    """Whether something does not fit together, on which nothing may be run."""
    return any(conflict.kind in BLOCKING for conflict in status.conflicts)


def lacking_locally(status: StatusReport) -> list[str]:
    """The pending migrations whose local part does not stand in the local database."""
    if status.local.reachable is None:
        return []
    reports = {one.id: one for one in status.migrations}
    return [name for name in status.pending if not _stands_locally(reports[name], status)]


def _stands_locally(one: MigrationReport, status: StatusReport) -> bool:
    return one.local_status == "not_needed" or one.id in status.local.applied


def rolled_back_run(records: Sequence[Recorded]) -> tuple[e.RunStarted, str] | None:
    """The last run of a migration's stream, and why it was rolled back; None where it was not, or by circumstances alone."""
    status = fold(records)
    events = [decode(record) for record in records]
    if status.run is None or not any(isinstance(event, e.RolledBack) and event.run == status.run.run for event in events):
        return None
    if status.run.direction == e.BACK:
        return status.run, "it was taken back"
    failures = [event for event in events if isinstance(event, e.StepFailed) and event.run == status.run.run]
    if not failures:
        return status.run, "it was given up"
    if by_circumstances(failures[0].code):
        return None
    return status.run, f"{failures[0].code} {failures[0].message}"


def by_circumstances(code: str) -> bool:
    """Whether the code tells of something that may be otherwise next time, without anybody changing the migration.

    >>> by_circumstances("T202"), by_circumstances("T217"), by_circumstances("T331")
    (True, False, False)
    """
    return code.startswith(("T2", "T4")) and code not in REFUSED_WHILE_RUNNING
