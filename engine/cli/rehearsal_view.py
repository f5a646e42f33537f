"""A dry run in words: what would change on each side, how long it would take, what it would lock and need, what was left out.

Read next: `rehearsal_shapes.py` for the same as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ...events.cut_short import cut_short
from . import figures
from .figures import count, counted, seconds, size
from .screen import BAD, FAINT, GOOD, HEADING, Screen
from .sentences import changes_text
from .trouble import without_passwords
from .views import WORDS, show_queries

if TYPE_CHECKING:
    from ...migrations.rehearsal.rehearsing import PartRehearsal, RehearsedStep, TableRows
    from ..rehearsal_report import MigrationRehearsal, RehearsalReport
    from ..report import Report, RunReport

LEAD: Final = 11
LISTED: Final = 12
# What a step that locks nothing of its own must take to be listed among others.
WORTH_A_LINE_SECONDS: Final = 0.1
SHORT: Final = 90


def show_rehearsal(report: Report, rehearsal: RehearsalReport, screen: Screen) -> None:
    """Each migration, then what holds for all of them."""
    for run, one in zip(report.runs, rehearsal.migrations, strict=True):
        _show_migration(run, one, screen)
        screen.line()
    _show_the_rest(rehearsal, screen)
    faults = rehearsal.faults
    for fault in faults[1:]:  # the first is said with its next step on the other stream
        screen.paragraph(without_passwords(fault.message), first=f"Also: {fault.code} ", rest="    ", style=BAD)
    if faults:
        screen.paragraph(f"Rehearsed: {counted(len(faults), 'fault')} found. Nothing was changed.", style=BAD)
    else:
        left_out = sum(len(part.omissions) for one in rehearsal.migrations for part in one.sides.values())
        but = f"; {counted(left_out, 'thing was', 'things were')} not rehearsed, see above" if left_out else ""
        screen.paragraph(f"Rehearsed: no fault was found{but}. Nothing was changed.", style=GOOD)


def _show_migration(run: RunReport, one: MigrationRehearsal, screen: Screen) -> None:
    screen.line(f"{one.migration}: rehearsed, {seconds(run.seconds)}", HEADING)
    if run.steps:
        _fact(screen, "time", ", ".join(f"{WORDS.get(step.effect, step.effect)} {seconds(step.seconds)}" for step in run.steps))
    for side, part in one.sides.items():
        for name, text in _facts(side, part):
            _fact(screen, name, text)
    for note in one.notes:
        _fact(screen, "note", note)
    for finding in run.findings:
        _fact(screen, "finding", finding)
    if run.error is not None:
        _fact(screen, "fault", f"{run.error.code} {run.error.message}", style=BAD)
    if run.queries:
        show_queries(run.queries, screen, indent="  ")


def _fact(screen: Screen, name: str, text: str, *, style: str = "") -> None:
    screen.paragraph(without_passwords(text), first=f"  {name:<{LEAD - 2}}", rest=" " * LEAD, style=style)


def _facts(side: str, part: PartRehearsal) -> Iterator[tuple[str, str]]:
    """What is told of one side: what would change, its rows, its locks, and what was not rehearsed."""
    if part.changes is not None:
        changes = part.changes.to_json()
        yield side, changes_text({**changes, "rows": {}})
        for deed, names in (
            ("added", part.changes.objects_added),
            ("dropped", part.changes.objects_dropped),
            ("changed", part.changes.objects_changed),
        ):
            if names:
                yield "", f"{deed}: {_listed(names)}"
    else:
        yield side, "not rehearsed to its end"
    if part.rewritten:
        yield "", f"rewritten: {_listed(part.rewritten)}"
    if part.rows is not None:
        yield "", f"rows: {_rows_text(part.rows)}"
    for step in part.steps:
        text = _step_text(step)
        if text:
            yield "", text
    back = sum(part.seconds.get(effect, 0.0) for effect in ("UNDO_LOCAL", "UNDO_REMOTE"))
    if "COMPARE" in part.seconds and not part.faults:
        yield "", f"going back: {seconds(back)}, and all is as before"
    for reason, things in _by_reason(part).items():
        yield "", f"not rehearsed: {'; '.join(things)}"
        yield "", f"    because: {reason}"


def _by_reason(part: PartRehearsal) -> dict[str, list[str]]:
    """What was not rehearsed, by the reason: nine indexes have one."""
    found: dict[str, list[str]] = {}
    for omission in part.omissions:
        found.setdefault(omission.reason, []).append(shortened(omission.what))
    return found


def shortened(text: str) -> str:
    """A statement as far as one needs it to recognise it."""
    return cut_short(text, SHORT)


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {count(len(names) - LISTED)} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _rows_text(tables: tuple[TableRows, ...]) -> str:
    """The tables whose rows would be others; of the rest only how many there are."""
    found = []
    for table in tables:
        if table.inserted is not None:
            deeds = (("inserted", table.inserted), ("updated", table.updated), ("deleted", table.deleted))
            found.append(f"{table.table} " + ", ".join(f"{count(number)} {deed}" for deed, number in deeds if number))
        elif table.before is None:
            found.append(f"{table.table} new, {count(table.after or 0)}")
        elif table.after is None:
            found.append(f"{table.table} gone, {count(table.before)} were there")
        elif table.before != table.after:
            found.append(f"{table.table} {count(table.before)} before, {count(table.after)} after")
        elif table.changed:
            found.append(f"{table.table} {count(table.before)}, with other values")
    same = [table for table in tables if table.inserted is None and not table.changed]
    if same:
        rows = counted(sum(table.after or 0 for table in same), "row")
        found.append(f"{counted(len(same), 'table')} with {rows} as before")
    return "; ".join(found) or "none would change"


def _step_text(step: RehearsedStep) -> str:
    """One step with its locks; empty where it has none and took no time."""
    if not step.locks and (step.seconds < WORTH_A_LINE_SECONDS or step.direction == "down"):
        return ""
    back = "going back, " if step.direction == "down" else ""
    locks = "".join(f"; {lock.table}: {lock.blocks}" for lock in step.locks)
    return f"{back}step {step.step}, {seconds(step.seconds)}: {step.statement}{locks}"


def _show_the_rest(rehearsal: RehearsalReport, screen: Screen) -> None:
    held = rehearsal.held_seconds
    if "local" in held:
        _fact(screen, "locks", f"other writers of the local file would wait for {figures.seconds(held['local'])}")
    if "remote" in held:
        _fact(screen, "locks", f"the rehearsal held its locks on the remote for {figures.seconds(held['remote'])}")
    for need in rehearsal.disk:
        _fact(screen, "disk", f"{need.folder}: {size(need.needed)} for {need.purpose}; {size(need.free)} are free")
    if rehearsal.not_tried:
        _fact(screen, "later", f"not rehearsed, because of the fault before: {', '.join(rehearsal.not_tried)}")
    if rehearsal.traces:
        screen.paragraph(rehearsal.traces, style=FAINT)
