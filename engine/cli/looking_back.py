"""The command that looks back on attempts: `history`. It writes nothing.

Read next: `logs.py` (the events themselves), `keeping.py` (backups).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .figures import counted
from .shapes import run_json
from .teaching import Lesson, TaughtCommand
from .trouble import BLOCKED, DONE, USAGE
from .views import show_run

if TYPE_CHECKING:
    from ..report import RunReport
    from .invocation import Invocation
    from .screen import Screen


def run_history(invocation: Invocation) -> int:
    """Show every attempt."""
    invocation.existing_log(required=False).close()
    runs = invocation.coordinator().history()
    backups = invocation.configuration.settings().state_folder / "backups"

    def show(screen: Screen) -> None:
        for run in runs:
            show_run(run, screen, queries=False)
            screen.line()
        screen.line(_history_text(runs))

    invocation.answer(lambda: {"runs": [run_json(run, backups) for run in runs]}, show)
    return DONE


def _history_text(runs: Sequence[RunReport]) -> str:
    if not runs:
        return "Nothing was ever attempted on this pair of databases."
    states = {state: sum(run.state == state for run in runs) for state in sorted({run.state for run in runs})}
    return f"{counted(len(runs), 'attempt')}: " + ", ".join(f"{number} {state}" for state, number in states.items()) + "."


HISTORY: Final = TaughtCommand(
    "history",
    Lesson(
        does="Tells of every attempt, also the failed ones. For each: when it began and ended, how long each step took, what "
        "was changed on each side, the backup, the error, and whether it was rolled back. It is read from the log.",
        never="It never leaves an attempt out: the log has no way to forget one.",
        examples=("twinstep history", "twinstep history --json"),
        exits=(DONE, USAGE, BLOCKED),
    ),
    run_history,
)
