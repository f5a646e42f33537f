"""The commands that look back: `history`, `log`, `log check`, `backup list`. They write nothing.

`log` and `log check` read the log alone, so that it can be read when a database is away or a migration is broken.
Read next: `../../stores/log_check.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from .figures import counted, instant, size
from .screen import BAD, GOOD
from .sentences import sentence
from .shapes import backup_json, event_json, run_json
from .teaching import Lesson, TaughtCommand, TaughtGroup
from .trouble import BLOCKED, DONE, USAGE, error_json, without_passwords
from .views import show_run

if TYPE_CHECKING:
    from ...events.types import Json, Recorded
    from ...stores.log_check import LogReport
    from ..report import RunReport
    from .invocation import Invocation
    from .screen import Screen


def run_history(invocation: Invocation) -> int:
    """Show every attempt."""
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


def run_log(invocation: Invocation, stream: str | None) -> int:
    """Show the events."""
    from ...events.errors import ConfigurationError

    store = invocation.log()
    try:
        location = store.location
        records = [one for one in store.read_all() if stream is None or stream in (one.stream, one.stream.partition("/")[2])]
    finally:
        store.close()
    if stream is not None and not records:
        raise ConfigurationError("T155", stream=stream, location=location)
    invocation.answer(
        lambda: {"log": location, "events": [event_json(record) for record in records]},
        lambda screen: _show_log(records, location, screen),
    )
    return DONE


def _show_log(records: Sequence[Recorded], location: str, screen: Screen) -> None:
    if not records:
        screen.line(f"The log at {location} holds no events.")
        return
    several = len({record.stream.partition("/")[0] for record in records}) > 1
    headers = ["#", "time (UTC)", "migration", "version", "event", "what"]
    rows = []
    for record in records:
        name = record.stream if several else record.stream.partition("/")[2] or record.stream
        what = without_passwords(_one_line(sentence(record)))
        rows.append([str(record.position), instant(record.recorded_at), name, str(record.version), record.type, what])
    screen.table(headers, rows, right={0, 3})


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 100 else words[:97] + "..."


def run_log_check(invocation: Invocation) -> int:
    """Check the log."""
    from ...stores.log_check import check_log

    store = invocation.log()
    try:
        location = store.location
        report = check_log(store)
    finally:
        store.close()
    invocation.answer(lambda: _log_check_json(report, location), lambda screen: _show_log_check(report, location, screen))
    return DONE if report.sound else BLOCKED


def _log_check_json(report: LogReport, location: str) -> dict[str, Json]:
    from ..report import error_report

    return {
        "log": location,
        "log_id": report.log_id,
        "sound": report.sound,
        "streams": report.streams,
        "events": report.events,
        "problems": [error_json(error_report(problem)) for problem in report.problems],
    }


def _show_log_check(report: LogReport, location: str, screen: Screen) -> None:
    from ..report import error_report
    from .trouble import show_error

    screen.line(f"{location}: {counted(report.events, 'event')} in {counted(report.streams, 'stream')}")
    if report.sound:
        chains = "The hash chain of each stream holds, no position is missing, and the read tables are what the events say."
        screen.paragraph(chains if report.events else "There is nothing in it yet.", style=GOOD)
        return
    screen.line(f"The log is damaged ({counted(len(report.problems), 'problem')}); the first:", BAD)
    show_error(error_report(report.problems[0]), screen)


def run_backup_list(invocation: Invocation) -> int:
    """List the backups."""
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

LOG_CHECK: Final = TaughtCommand(
    "check",
    Lesson(
        does="Checks that the log is what was written. The hash chain of each stream, the order of positions, that each event "
        "may follow the one before it, and that the read tables are what the events say.",
        never="It repairs nothing. A tail that was cut off is not seen here but by the next 'status' or 'migrate', which "
        "compare the log with the ledgers in the databases.",
        examples=("twinstep log check", "twinstep log check --log sqlite:///copy/log.db"),
        exits=(DONE, USAGE, BLOCKED),
    ),
    run_log_check,
)

LOG: Final = TaughtGroup(
    "log",
    Lesson(
        does="Shows the events, oldest first. One line each: position in the log, time, migration, version in its stream, "
        "type, and what it says; with --json everything, the hashes too.",
        never="It opens neither database: only the log is read.",
        examples=("twinstep log", "twinstep log --stream 0012_phase3", "twinstep log check"),
        exits=(DONE, USAGE, BLOCKED),
    ),
    [LOG_CHECK],
    body=run_log,
    params=[click.Option(["--stream"], metavar="S", help="Only this stream, or this migration.")],
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
