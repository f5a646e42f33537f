"""Which migrations are due, in which order, and what each would do: from the folder and the log, with nothing run.

Read next: `coordinator.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..events.errors import DefinitionError
from ..events.fold import Status
from ..events.lifecycle import State
from ..migrations.script import CallableStep, Unit
from .conflicts import Known
from .definitions import SIDES
from .report import PlannedMigration, PlannedStep
from .session import Session, Settings


def order_of(opened: Session, migration: str) -> tuple[int, str]:
    """Numeric order, also for a migration that the folder no longer has."""
    digits = migration.partition("_")[0]
    return (int(digits) if digits.isdigit() else 0, migration)


def due(opened: Session, known: Known, *, to: str | None, skip_remote: bool) -> list[str]:
    """The migrations that are to be run, in order, up to `to`. Raises DefinitionError (T145) for an unknown one."""
    names = list(opened.defined)
    if to is not None:
        if to not in opened.defined:
            raise DefinitionError("T145", migration=to)
        names = names[: names.index(to) + 1]
    return [name for name in names if not is_done(opened.settings, known.status(name), skip_remote=skip_remote)]


def is_done(settings: Settings, status: Status, *, skip_remote: bool) -> bool:
    """Whether nothing is left to do of a migration that stands so."""
    if status.state is not State.VERIFIED:
        return False
    leaves_remote = skip_remote or settings.remote_role == "skip" or settings.remote is None
    return leaves_remote or not status.remote_skipped


def planned(opened: Session, name: str, status: Status) -> PlannedMigration:
    """The steps of one migration that would run now, with their statements."""
    defined = opened.defined[name]
    done = {"local": status.local_by is not None, "remote": status.remote_by is not None}
    applies = {"local": True, "remote": opened.settings.remote_role == "apply"}
    steps = [
        PlannedStep(side=side, kind=unit.kind, statements=tuple(_texts(unit)))
        for side in SIDES
        if side in defined.works and side in opened.targets and applies[side] and not done[side]
        for unit in defined.works[side].script.units
    ]
    return PlannedMigration(id=name, description=defined.description, steps=tuple(steps))


def _texts(unit: Unit) -> Iterator[str]:
    for step in unit.up:
        yield f"{step.name}(connection)" if isinstance(step, CallableStep) else step.text
