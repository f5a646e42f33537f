"""What a dry run knows beside its runs, as values: by migration and side, faults, locks, disk, and what was not rehearsed.

Every number was measured while rehearsing. No I/O. Read next: `rehearsal_telling.py` (who makes them), `cli/rehearsal_view.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from ..migrations.definition import SideName
from ..migrations.rehearsal.rehearsing import DiskNeed, PartRehearsal

TRACES: Final = (
    "On the remote, sequences may have moved on and pages grown: that is not rolled back. Schema and rows are as before."
)


@frozen(kw_only=True)
class MigrationRehearsal:
    """One migration: its sides as far as they were rehearsed, and in words why one was not."""

    migration: str
    sides: Mapping[SideName, PartRehearsal] = field(factory=dict)
    notes: tuple[str, ...] = ()


@frozen(kw_only=True)
class FaultReport:
    """What the real run would be refused with, and where: the code is the real run's, and so is the condition."""

    migration: str
    effect: str
    code: str
    message: str
    next_step: str


@frozen(kw_only=True)
class RehearsalReport:
    """Beside the runs of a report: the details. The first fault is the one at which the real run would stop.

    `held_seconds` is by side: locally for how long the real run would keep other writers out, remotely for how long the
    rehearsal itself held its locks. `not_tried` are migrations that come after one that could not begin.
    """

    migrations: tuple[MigrationRehearsal, ...] = ()
    held_seconds: Mapping[str, float] = field(factory=dict)
    disk: tuple[DiskNeed, ...] = ()
    faults: tuple[FaultReport, ...] = ()
    not_tried: tuple[str, ...] = ()
    traces: str = ""
