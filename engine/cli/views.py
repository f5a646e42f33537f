"""The coordinator's answers in words: tables and paragraphs on a screen.

Each function is given an answer and a screen, and asks nothing of anybody. Read next: `shapes.py` for the same as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from ...migrations.measuring import TOO_FAST_MS
from .figures import bar, counted, instant, milliseconds, ratio, seconds, size
from .screen import BAD, FAINT, GOOD, HEADING, Screen
from .sentences import changes_text
from .trouble import without_passwords

if TYPE_CHECKING:
    from ..report import (
        ConflictReport,
        InFlight,
        PlannedMigration,
        PlannedStep,
        QueryTime,
        Report,
        RunReport,
        SideReport,
        StatusReport,
    )

# Below this, a query is listed only as one of many: both times are mostly the way there and back.
WORTH_A_LINE_MS: Final = 1.0

WORDS: Final[Mapping[str, str]] = {
    "VALIDATE": "check",
    "BACK_UP": "back up",
    "APPLY_LOCAL": "local",
    "APPLY_REMOTE": "remote",
    "VERIFY": "verify",
    "UNDO_REMOTE": "undo remote",
    "UNDO_LOCAL": "undo local",
    "COMPARE": "compare",
}

OUTCOMES: Final[Mapping[str, tuple[str, str]]] = {
    "up_to_date": ("Nothing to do.", GOOD),
    "verified": ("Verified.", GOOD),
    "rolled_back": ("Rolled back: both databases are as before.", BAD),
    "blocked": ("Blocked: nothing was changed.", BAD),
    "locked": ("Locked by another coordinator.", BAD),
    "failed": ("Not begun: nothing was changed.", BAD),
    "in_flight": ("In flight: no final state was reached.", BAD),
}


def show_status(status: StatusReport, screen: Screen, *, local: Path | None, remote: str) -> None:
    """Both sides, each migration, what is in flight, what is pending, and what does not fit together."""
    sides = [("local", status.local, str(local or "")), ("remote", status.remote, remote)]
    for name, side, place in sides:
        screen.paragraph(side_text(side, place), first=f"{name:<8}")
        if side.problem is not None:
            screen.paragraph(without_passwords(side.problem), first=" " * 8, style=BAD)
    if status.migrations:
        screen.line()
        screen.table(
            ("migration", "state", "local", "remote", "runs"),
            [(one.id, one.state, one.local_status, one.remote_status, str(one.runs)) for one in status.migrations],
            right={4},
        )
    screen.line()
    show_standing(status, screen)


def side_text(side: SideReport, place: str) -> str:
    """One database in one line."""
    if side.reachable is None:
        return f"{place}: not asked (role {side.role})" if place else "none"
    if not side.reachable:
        return f"{place}: cannot be reached"
    version = "" if side.user_version is None else f"user_version {side.user_version}, "
    role = "" if side.role in (None, "apply") else f"role {side.role}, "
    applied = f"{len(side.applied)} applied, the last {side.applied[-1]}" if side.applied else "nothing applied"
    return f"{place}: {version}{role}{applied}"


def show_standing(status: StatusReport, screen: Screen) -> None:
    """What is to be done, with the command that does it; shared by `status` and `check`."""
    from ..conflicts import BLOCKING

    for conflict in status.conflicts:
        show_conflict(conflict, screen)
    # Where a conflict stops every run, its own next step is the only one that leads anywhere.
    stopped = any(conflict.kind in BLOCKING for conflict in status.conflicts)
    if status.in_flight is not None:
        show_in_flight(status.in_flight, screen, stopped=stopped)
    waiting = [name for name in status.pending if status.in_flight is None or name != status.in_flight.migration]
    if waiting:
        screen.paragraph(f"Pending: {', '.join(waiting)}.", style=HEADING)
        if not stopped:
            screen.paragraph("'twinstep plan' shows what would be done, 'twinstep migrate' does it.", first="Next: ")
    if not status.needs_migration and not status.conflicts:
        unread = [name for name, side in (("local", status.local), ("remote", status.remote)) if side.reachable is False]
        doubt = f" The {' and '.join(unread)} database could not be asked." if unread else ""
        screen.paragraph(f"Nothing is pending.{doubt}", style="" if unread else GOOD)


def show_in_flight(run: InFlight, screen: Screen, *, stopped: bool) -> None:
    """The run that has begun and not ended."""
    screen.paragraph(
        f"In flight: {run.migration} is {run.state}, since {instant(run.since)} UTC (run {run.run}).", style=HEADING
    )
    if run.holder is not None:
        screen.paragraph(f"Another call is at work on it ({run.holder}); wait until it has ended.", first="Next: ")
    elif not stopped:
        if run.problem:
            screen.paragraph(without_passwords(run.problem), first="    ", rest="    ", style=BAD)
        if run.next_step:
            screen.paragraph(run.next_step, first="Next: ")


def show_conflict(conflict: ConflictReport, screen: Screen) -> None:
    """One thing that does not fit together, and what to do about it."""
    screen.paragraph(without_passwords(conflict.message), first=f"Conflict ({conflict.kind}): ", rest="    ", style=BAD)
    screen.paragraph(without_passwords(conflict.next_step), first="Next: ")


def show_plan(planned: Sequence[PlannedMigration], screen: Screen) -> None:
    """Each migration that is due, its steps in order, and their statements as they would be sent."""
    if not planned:
        screen.line("Nothing is pending: 'twinstep migrate' would do nothing.")
    for migration in planned:
        screen.line(f"{migration.id}  {migration.description}".rstrip(), HEADING)
        for number, step in enumerate(migration.steps, 1):
            screen.line(f"  {number}. {_step_text(step)}")
            for statement in step.statements:
                for line in f"{statement.strip().removesuffix(';')};".splitlines():
                    screen.line(f"       {line}", FAINT)
        screen.line()
    if planned:
        steps = sum(len(migration.steps) for migration in planned)
        screen.line(f"{counted(len(planned), 'migration')}, {counted(steps, 'step')}; 'twinstep migrate' runs them.")


def _step_text(step: PlannedStep) -> str:
    if step.kind == "single":
        return f"{step.side}, outside a transaction, its ledger row before and after it:"
    statements = counted(len(step.statements), "statement")
    return f"{step.side}, {statements} in one transaction with the ledger row:"


def show_report(report: Report, screen: Screen) -> None:
    """What `migrate`, `resume` or `rollback` did: each run, then the outcome."""
    for run in report.runs:
        # What the call stopped at is said with its next step on the other stream.
        show_run(run, screen, error=report.error is None or run is not report.runs[-1])
        screen.line()
    for finding in report.findings:
        screen.paragraph(without_passwords(finding), first="finding  ")
    text, style = OUTCOMES.get(report.outcome, (report.outcome, ""))
    if report.runs and report.outcome in ("blocked", "locked", "failed"):
        text = "Stopped there; nothing more was changed."
    elif report.outcome == "rolled_back" and any(run.stands for run in report.runs):
        text = "Rolled back, apart from what stays."
    total = f" {seconds(sum(run.seconds for run in report.runs))} in all." if len(report.runs) > 1 else ""
    screen.line(f"{text}{total}", GOOD if report.exit_code == 0 else style)


def show_run(run: RunReport, screen: Screen, *, queries: bool = True, error: bool = True) -> None:
    """One attempt: where it ended, its steps with their times, what was changed, measured and found."""
    what = "taking back, " if run.direction == "back" else ""
    screen.line(f"{run.migration}: {what}{run.state}, {seconds(run.seconds)}", HEADING)
    for name, text in _facts(run, error=error):
        screen.paragraph(without_passwords(text), first=f"  {name:<9}", rest=" " * 11)
    if run.queries and queries:
        show_queries(run.queries, screen, indent="  ")


def _facts(run: RunReport, *, error: bool) -> list[tuple[str, str]]:
    ended = f" to {instant(run.ended_at)[11:]}" if run.ended_at is not None else ", not ended"
    facts = [("run", run.run), ("time", f"{instant(run.started_at)}{ended} (UTC)")]
    if run.steps:
        facts.append(
            ("steps", ", ".join(f"{WORDS.get(step.effect, step.effect)} {seconds(step.seconds)}" for step in run.steps))
        )
    if run.backup is not None:
        facts.append(("backup", f"{run.backup['id']}, {size(cast('int', run.backup['bytes']))}"))
    facts += [(name, changes_text(changes)) for name, changes in (("local", run.local), ("remote", run.remote)) if changes]
    if run.remote_skipped:
        facts.append(("remote", "skipped, as asked"))
    facts += [("finding", finding) for finding in run.findings]
    if run.error is not None and error:
        facts.append(("error", run.error.message))
    return facts


def show_queries(queries: Sequence[QueryTime], screen: Screen, *, indent: str = "", first: Sequence[str] = ()) -> None:
    """Medians before and after, in milliseconds. `first` names queries that come first; the fastest are only counted."""
    listed = [query for query in queries if max(query.before_ms, query.after_ms) >= WORTH_A_LINE_MS or query.name in first]
    listed.sort(key=lambda query: (query.name not in first, query.side))
    rows = [
        (
            query.name,
            query.side,
            milliseconds(query.before_ms),
            milliseconds(query.after_ms),
            ratio(query.before_ms, query.after_ms) if query.before_ms >= TOO_FAST_MS else "",
            bar(query.before_ms, query.after_ms, screen.blocks) + (" *" if query.plan_changed else ""),
        )
        for query in listed
    ]
    if rows:
        screen.table(("query", "side", "before ms", "after ms", "ratio", "of before"), rows, right={2, 3, 4}, indent=indent)
        if any(query.plan_changed for query in listed):
            screen.line(f"{indent}* by another plan than before", FAINT)
    others = len(queries) - len(listed)
    if others:
        more = "other query" if rows else "query"
        text = counted(others, more, more.replace("query", "queries"))
        screen.line(f"{indent}{text} took less than {WORTH_A_LINE_MS:.0f} ms, before and after.", FAINT)
