"""The commands about rows that were set aside: `quarantine list` and `quarantine restore`. One call of the coordinator each.

Read next: `../quarantining.py`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from ...events.errors import ConfigurationError
from .changing import interrupted
from .figures import counted, instant
from .progress import following
from .screen import BAD, GOOD, Screen
from .teaching import Lesson, TaughtCommand, TaughtGroup
from .trouble import BLOCKED, DONE, FAILED, INTERRUPTED, LOCKED, USAGE, error_json, without_passwords

if TYPE_CHECKING:
    from ...migrations.quarantined import Quarantined
    from ..quarantining import QuarantineReport
    from .invocation import Invocation
    from .shapes import Shape


def run_quarantine_list(invocation: Invocation, table: str | None, run: str | None, every: bool) -> int:
    """List what lies in quarantine."""
    found = [
        each
        for each in invocation.coordinator().quarantine()
        if (every or each.put_back_at is None)
        and (table is None or each.table.lower() == table.lower())
        and (run is None or each.run == run)
    ]

    def show(screen: Screen) -> None:
        if not found:
            narrowed = table is not None or run is not None
            screen.line("Nothing of that lies in quarantine." if narrowed else "Nothing lies in quarantine.")
            return
        cells = [(str(each.id), each.table, each.named, each.kind, instant(each.set_aside_at), _state(each)) for each in found]
        screen.table(("id", "table", "row", "what", "set aside (UTC)", "state"), cells, right={0})
        for each in found[:_REASONS]:
            screen.paragraph(without_passwords(each.reason), first=f"{each.id}  ")
        if len(found) > _REASONS:
            screen.line(f"and {len(found) - _REASONS} more; --json tells of each, with every value of the row.")

    invocation.answer(lambda: {"rows": [row_json(each) for each in found]}, show)
    return DONE


_REASONS = 20


def _state(row: Quarantined) -> str:
    return "set aside" if row.put_back_at is None else "put back"


def row_json(row: Quarantined) -> Shape:
    """One row that was set aside, with all its values."""
    return {
        "id": row.id,
        "kind": row.kind,
        "table": row.table,
        "key": json.loads(row.row_key),
        "rowid": row.row_number,
        "content": json.loads(row.content),
        "reason": row.reason,
        "migration": row.migration,
        "run": row.run,
        "set_aside_at": row.set_aside_at,
        "put_back_at": row.put_back_at,
        "put_back_by": row.put_back_by,
    }


def run_quarantine_restore(invocation: Invocation, ids: tuple[int, ...], every: bool) -> int:
    """Put rows back."""
    if bool(ids) == every:
        raise ConfigurationError("T151", problem="name the rows by ID, or give --all", command="twinstep quarantine restore")
    listener = following(invocation.err)
    coordinator = invocation.coordinator(listener)
    try:
        with listener.shown():
            report = coordinator.restore_quarantined(None if every else ids)
    except KeyboardInterrupt as stopped:
        return interrupted(invocation, listener, stopped)
    if report.error is not None:
        invocation.trouble(report.error)
    invocation.answer(lambda: report_json(report), lambda screen: _show(report, screen))
    return report.exit_code


def report_json(report: QuarantineReport) -> Shape:
    """What `quarantine restore` answers."""
    return {
        "outcome": report.outcome,
        "restore": report.restore,
        "restored": [row_json(each) for each in report.restored],
        "refused": [{"row": row_json(each.row), "problem": each.problem} for each in report.refused],
        "error": None if report.error is None else error_json(report.error),
    }


def _show(report: QuarantineReport, screen: Screen) -> None:
    match report.outcome:
        case "up_to_date":
            screen.line("Nothing lies in quarantine.")
        case "restored" | "refused":
            screen.line(f"{counted(len(report.restored), 'row')} put back.", GOOD if report.restored else BAD)
            for each in report.refused:
                screen.paragraph(f"{each.row.table} {each.row.named} stays: {each.problem}", first=f"{each.row.id}  ")
        case _:
            screen.line("Nothing was done.", BAD)


QUARANTINE_LIST: Final = TaughtCommand(
    "list",
    Lesson(
        does="Lists the rows that were set aside. A new foreign key would not have allowed them: they lie in quarantine whole "
        "(row), or are in their table with that reference made NULL (reference), each with the reason.",
        never="It never changes anything.",
        examples=("twinstep quarantine list --local notes.db", "twinstep quarantine list --table note_tags --json"),
        exits=(DONE, USAGE, BLOCKED),
    ),
    run_quarantine_list,
    params=[
        click.Option(["--table"], metavar="NAME", help="Only rows of this table."),
        click.Option(["--run"], metavar="ID", help="Only rows that this run has set aside."),
        click.Option(["--every", "every"], is_flag=True, help="Also those that were put back."),
    ],
)

QUARANTINE_RESTORE: Final = TaughtCommand(
    "restore",
    Lesson(
        does="Puts rows back that were set aside. Those named by the id that 'quarantine list' shows, or all, as they were: a "
        "row goes back when what it refers to is there by now; one that would still refer to nothing, or whose key another row "
        "has by now, stays, is named, and makes the exit code 1.",
        never="It never overwrites a row, never fires a trigger, and never deletes anything from the quarantine.",
        examples=("twinstep quarantine restore 3 4", "twinstep quarantine restore --all"),
        exits=(DONE, FAILED, USAGE, LOCKED, BLOCKED, INTERRUPTED),
    ),
    run_quarantine_restore,
    params=[
        click.Argument(["ids"], metavar="[ID]...", nargs=-1, type=int),
        click.Option(["--all", "every"], is_flag=True, help="All that lie there."),
    ],
)

QUARANTINE: Final = TaughtGroup(
    "quarantine",
    Lesson(
        does="Rows that a migration has set aside because a new foreign key refuses them.",
        never="By itself it does nothing.",
        examples=("twinstep quarantine list --local notes.db",),
        exits=(DONE, USAGE),
    ),
    [QUARANTINE_LIST, QUARANTINE_RESTORE],
)
