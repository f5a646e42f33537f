"""Taking an existing pair of databases as being at a migration, after holding both against what the migrations make.

The migrations up to that one are run on empty databases, and the schemas compared; only then is anything written, and that is
ledger rows and events alone. Called again after a crash, it finds its own rows and records them. What a baseline records is a
person's word that was checked: from then on these migrations are applied like any other.

Read next: `settling.py` (what is written), `migrations/schema_comparison.py` (what counts as a difference).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve

from ..events.errors import Blocked, DefinitionError
from ..events.fold import Status
from ..events.lifecycle import State
from ..events.types import Json
from ..migrations.definition import SideName
from ..migrations.target import Comparison
from .conflicts import BLOCKING, conflicts
from .decide import Request
from .definitions import SIDES
from .driver import Driver
from .report import Report
from .session import Session
from .worker import Declaring


def baseline(opened: Session, id: str) -> Report:
    """Record every migration up to that one which does not stand yet, oldest first.

    Raises DefinitionError (T145), Blocked: T289 in flight, T285 the schemas differ, T286 and T287 where they cannot be
    compared, T205; and the first blocking Conflict.
    """
    if id not in opened.defined:
        raise DefinitionError("T145", migration=id)
    names = list(opened.defined)
    names = names[: names.index(id) + 1]
    _refuse_conflicts(opened, names)
    statuses = opened.statuses()
    for name, status in statuses.items():
        if status.in_flight:
            raise Blocked("T289", migration=name)
    due = [name for name in names if not _stands(opened, statuses.get(name, Status()))]
    if not due:
        return Report(outcome="up_to_date")
    declaring = _compared(opened, id, names)
    driver = Driver(opened, declaring=evolve(declaring, findings=()))
    for name in due[:-1]:
        driver.drive_or_raise(name, Request(wish="baseline"))
    last = Driver(opened, declaring=declaring)
    last.drive_or_raise(due[-1], Request(wish="baseline"))
    return evolve(last.report(), runs=(*driver.report().runs, *last.report().runs))


def _stands(opened: Session, status: Status) -> bool:
    leaves_remote = opened.settings.remote_role == "skip" or "remote" not in opened.targets
    return status.state is State.VERIFIED and (leaves_remote or not status.remote_skipped)


def _refuse_conflicts(opened: Session, names: Sequence[str]) -> None:
    """Promise 1, but for the rows of a baseline that was killed before the log had them: those are what this call records."""
    for conflict in conflicts(opened.known(with_remote=opened.settings.remote_role != "skip")):
        own = conflict.code == "T288" and conflict.details["migration"] in names
        if conflict.kind in BLOCKING and not own:
            raise conflict


def _compared(opened: Session, id: str, names: Sequence[str]) -> Declaring:
    """Hold each side that is to be declared against its migrations. Raises Blocked (T285) with all that differs."""
    before: dict[SideName, Mapping[str, Sequence[Mapping[str, Json]]]] = {}
    findings: list[str] = []
    for side in SIDES:
        works = [opened.defined[name].works[side] for name in names if side in opened.defined[name].works]
        if side not in opened.targets or not works or (side == "remote" and opened.settings.remote_role != "apply"):
            continue
        compared: Comparison = opened.targets[side].compare(works)
        if compared.differences:
            raise Blocked("T285", migration=id, side=side, differences="; ".join(compared.differences))
        findings += [f"{side}: {finding}" for finding in compared.findings]
        before[side] = compared.before
    return Declaring(before=before, findings=tuple(findings))
