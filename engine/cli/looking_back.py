"""The commands that look back on attempts and backups: `history`, `backup list`. They write nothing.

Read next: `logs.py` (the events themselves).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .figures import counted, instant, size
from .shapes import backup_json, run_json
from .teaching import Lesson, TaughtCommand, TaughtGroup
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


def run_backup_list(invocation: Invocation) -> int:
    """List the backups."""
    invocation.existing_log(required=False).close()
    rows = invocation.coordinator().backups()
    folder = invocation.configuration.settings().state_folder / "backups"
    shapes = [backup_json(row, folder) for row in rows]

    def show(screen: Screen) -> None:
        if not shapes:
            screen.line("There is no backup of this database yet; 'twinstep migrate' makes one before it changes anything.")
            return
        cells = [
            (
                row.backup_id,
                instant(row.created_at),
                row.migration_version or "",
                size(row.backup_size_bytes),
                row.status if shape["present"] else "missing",
            )
            for row, shape in zip(rows, shapes, strict=True)
        ]
        screen.table(("backup", "made (UTC)", "before", "size", "state"), cells, right={3})
        screen.line(f"in {folder}")

    invocation.answer(lambda: {"folder": str(folder), "backups": shapes}, show)
    return DONE


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

BACKUP_LIST: Final = TaughtCommand(
    "list",
    Lesson(
        does="Lists the backups of the local database. When each was made and before which migration, its size and state; "
        "with --json also its path and SHA-256. Each was opened, checked and restored once as a trial when it was made.",
        never="It does not open the files, and does not change which of them are kept.",
        examples=("twinstep backup list --local notes.db",),
        exits=(DONE, USAGE, BLOCKED),
    ),
    run_backup_list,
)

BACKUP: Final = TaughtGroup(
    "backup",
    Lesson(
        does="Backups of the local database. Every migration makes one before it changes anything.",
        never="By itself it does nothing.",
        examples=("twinstep backup list --local notes.db",),
        exits=(DONE, USAGE),
    ),
    [BACKUP_LIST],
)
