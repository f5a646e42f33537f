"""A rehearsal into the report of the call: for each migration a run as the real one would have it, and the details beside it.

A fault bears the code and the condition of the real run's refusal; what it means for the data is another thing here, because
nothing was changed. Pure. Read next: `rehearsal_report.py`, `report.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from attrs import field, frozen

from ..events import types as e
from ..events.errors import TwinstepError
from ..events.types import Json
from ..migrations.definition import SideName
from ..migrations.rehearsal.rehearsing import Fault, PartRehearsal, SideRehearsal
from .definitions import SIDES, Defined
from .rehearsal_report import TRACES, FaultReport, MigrationRehearsal, RehearsalReport
from .report import ErrorReport, QueryTime, Report, RunReport, StepTime
from .slowdowns import seen_once

FORWARD: Final = ("VALIDATE", "BACK_UP", "APPLY_LOCAL", "APPLY_REMOTE", "VERIFY")
BACKWARD: Final = ("UNDO_REMOTE", "UNDO_LOCAL", "COMPARE")


@frozen(kw_only=True)
class Rehearsed:
    """One migration after its rehearsal. `refused` is what would keep it from beginning after those before it."""

    run: str
    defined: Defined
    sides: Mapping[SideName, PartRehearsal] = field(factory=dict)
    notes: tuple[str, ...] = ()
    remote_skipped: bool = False
    refused: TwinstepError | None = None

    def faults(self) -> list[Fault]:
        """What the real run would be refused with, in the order in which it would be."""
        found = [] if self.refused is None else [Fault(effect="VALIDATE", error=self.refused)]
        found += [fault for side in SIDES if side in self.sides for fault in self.sides[side].faults]
        return sorted(found, key=lambda fault: (*FORWARD, *BACKWARD).index(fault.effect))


def tell(
    rehearsed: Sequence[Rehearsed],
    sides: Mapping[SideName, SideRehearsal],
    *,
    not_tried: tuple[str, ...],
    began: datetime,
    ended: datetime,
) -> Report:
    """The answer of the call: exit 1 where a fault was found, and 0 otherwise, also where not all could be rehearsed."""
    found = [(fault, one.defined.id) for one in rehearsed for fault in one.faults()]
    # What keeps it from going forward comes first: the real run goes back only because of that.
    found.sort(key=lambda each: each[0].effect in BACKWARD)
    faults = tuple(_told(fault, migration) for fault, migration in found)
    report = RehearsalReport(
        migrations=tuple(MigrationRehearsal(migration=one.defined.id, sides=one.sides, notes=one.notes) for one in rehearsed),
        held_seconds={side: round(each.held_seconds, 3) for side, each in sides.items()},
        disk=tuple(need for each in sides.values() for need in each.disk),
        faults=faults,
        not_tried=not_tried,
        traces=TRACES if "remote" in sides else "",
    )
    return Report(
        outcome="rehearsed",
        runs=tuple(_run(one, began.isoformat(), ended.isoformat()) for one in rehearsed),
        exit_code=1 if faults else 0,
        error=_error(faults[0]) if faults else None,
        rehearsal=report,
    )


def _run(one: Rehearsed, began: str, ended: str) -> RunReport:
    seconds = {effect: sum(part.seconds.get(effect, 0.0) for part in one.sides.values()) for effect in FORWARD}
    steps = tuple(StepTime(effect=effect, seconds=round(took, 3)) for effect, took in seconds.items() if took)
    before = [timing for part in one.sides.values() for timing in part.before]
    after = [timing for part in one.sides.values() for timing in part.after]
    findings = [finding for part in one.sides.values() for finding in part.findings]
    findings += seen_once(one.defined.queries, before, after)
    faults = one.faults()
    return RunReport(
        run=one.run,
        migration=one.defined.id,
        direction=e.APPLY,
        state="rehearsed",
        started_at=began,
        ended_at=ended,
        seconds=round(sum(step.seconds for step in steps), 3),
        steps=steps,
        local=_changes(one.sides.get("local")),
        remote=_changes(one.sides.get("remote")),
        remote_skipped=one.remote_skipped,
        queries=tuple(_queries(one.sides.values())),
        findings=tuple(findings),
        error=_error(_told(faults[0], one.defined.id)) if faults else None,
    )


def _changes(part: PartRehearsal | None) -> Mapping[str, Json]:
    return part.changes.to_json() if part is not None and part.changes is not None else {}


def _queries(parts: Iterable[PartRehearsal]) -> Iterator[QueryTime]:
    for part in parts:
        earlier = {timing.name: timing for timing in part.before}
        for now in part.after:
            was = earlier.get(now.name)
            if was is not None:
                yield QueryTime(
                    name=now.name,
                    side=now.side,
                    before_ms=round(was.milliseconds, 4),
                    after_ms=round(now.milliseconds, 4),
                    plan_changed=was.plan != now.plan,
                )


def _told(fault: Fault, migration: str) -> FaultReport:
    """The real run's code and condition; what follows from it is said by T354."""
    rehearsed = TwinstepError("T354", migration=migration)
    return FaultReport(
        migration=migration,
        effect=fault.effect,
        code=fault.error.code,
        message=f"{fault.error.condition} {rehearsed.effect}",
        next_step=rehearsed.next_step if fault.effect in BACKWARD else fault.error.next_step,
    )


def _error(fault: FaultReport) -> ErrorReport:
    return ErrorReport(code=fault.code, message=fault.message, next_step=fault.next_step)
