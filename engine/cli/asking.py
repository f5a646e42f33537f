"""The commands that look first: `status`, `plan`, `check`. They write nothing, and make no file.

Read next: `changing.py`; `views.py` and `shapes.py` for what they print.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from .checking_view import at_json, show_status_at
from .shapes import conflicts_json, in_flight_json, plan_json, status_json
from .teaching import Lesson, TaughtCommand
from .trouble import BLOCKED, DONE, PENDING, USAGE
from .views import show_plan, show_standing, show_status

if TYPE_CHECKING:
    from ...events.types import Json
    from ..report import StatusReport
    from .invocation import Invocation


def run_status(invocation: Invocation, at: str | None) -> int:
    """Show where both sides stand, or stood."""
    status = invocation.coordinator().status(at)
    if status.at is not None:
        invocation.answer(lambda: {**status_json(status), "at": at_json(status)}, lambda screen: show_status_at(status, screen))
        return DONE
    local, remote = invocation.configuration.local, invocation.remote_address
    invocation.answer(lambda: status_json(status), lambda screen: show_status(status, screen, local=local, remote=remote))
    return DONE


def run_plan(invocation: Invocation, to: str | None) -> int:
    """Show what `migrate` would do."""
    planned = invocation.coordinator().plan(to=to)
    invocation.answer(lambda: plan_json(planned), lambda screen: show_plan(planned, screen))
    return DONE


def run_check(invocation: Invocation) -> int:
    """Answer by the exit code whether there is anything to do."""
    status = invocation.coordinator().status()
    invocation.answer(lambda: _check_json(status), lambda screen: show_standing(status, screen))
    if status.needs_migration or status.conflicts:
        return PENDING
    # Not "nothing to do": what a database holds that cannot be asked is not known.
    return BLOCKED if _unreachable(status) else DONE


def _check_json(status: StatusReport) -> dict[str, Json]:
    return {
        "needs_migration": status.needs_migration,
        "pending": list(status.pending),
        "in_flight": in_flight_json(status.in_flight),
        "conflicts": conflicts_json(status.conflicts),
        "unreachable": _unreachable(status),
    }


def _unreachable(status: StatusReport) -> list[str]:
    return [name for name, side in (("local", status.local), ("remote", status.remote)) if side.reachable is False]


STATUS: Final = TaughtCommand(
    "status",
    Lesson(
        does="Shows where both sides stand. For each migration: the state that the log tells, and how each side stands; for "
        "each database: what its own ledger says is applied. What is in flight, pending or in conflict comes with what to do. "
        "With --at, where they stood: replayed from the log until that position or time, without asking a database.",
        never="It writes nothing, makes no file and takes no lock; a database that cannot be reached is shown as such.",
        examples=(
            "twinstep status --local notes.db --remote postgresql://app@db.example/notes",
            "twinstep status --at 42",
            "twinstep status --at 2026-05-04T13:30+02:00",
        ),
        exits=(DONE, USAGE, BLOCKED),
    ),
    run_status,
    params=[
        click.Option(
            ["--at"],
            metavar="POSITION|TIME",
            help="A position as 'twinstep log' shows it, or a time (ISO 8601; UTC where it names no zone).",
        )
    ],
)

PLAN: Final = TaughtCommand(
    "plan",
    Lesson(
        does="Shows what 'migrate' would do. Each pending migration in order, each of its steps, and the statements as they "
        "would be sent; a function of a migration.py is shown by its name.",
        never="It runs none of these statements, and does not ask the remote database anything.",
        examples=("twinstep plan", "twinstep plan --to 0012_phase3"),
        exits=(DONE, USAGE, BLOCKED),
    ),
    run_plan,
    params=[click.Option(["--to"], metavar="ID", help="The last migration to look at.")],
)

CHECK: Final = TaughtCommand(
    "check",
    Lesson(
        does="Answers by its exit code whether there is anything to do. It is what a host application asks when it starts: 3 "
        "where a migration is pending or in flight, or where something does not fit together. A database that cannot be asked, "
        "with nothing else to report, is 5; a device that is offline says so with --remote-role skip.",
        never="It changes nothing, and starts nothing.",
        examples=("twinstep check || twinstep migrate",),
        exits=(DONE, USAGE, PENDING, BLOCKED),
    ),
    run_check,
)
