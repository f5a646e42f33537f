"""`demo`: the reference migration, shown as it runs, and what both catalogues, the backup and the log say afterwards.

The first thing that many people see: facts, each one read or measured in this very run.
Read next: `demo_view.py`, `../demo.py`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .demo_view import found_json, made_text, show_found, show_kept
from .progress import Following, step_line
from .screen import HEADING
from .teaching import Lesson, TaughtCommand
from .trouble import DONE, FAILED, INTERRUPTED, USAGE

if TYPE_CHECKING:
    from ..demo import Found, LocalLook, RemoteLook, Stage
    from .invocation import Invocation
    from .screen import Screen

NOTES: Final = 10_000


def run_demo(invocation: Invocation, keep: Path | None, notes: int) -> int:
    """Build, migrate, look."""
    from ...events.errors import ConfigurationError, TwinstepError
    from ..report import error_report

    invocation.changes = True
    if invocation.flags:
        raise ConfigurationError("T157", settings=" ".join(f"--{name}" for name in invocation.flags))
    # With --json the object stands alone; what moves goes where messages go, and only onto a terminal.
    screen = invocation.err if invocation.as_json else invocation.out
    listener = Following(screen, speaks=screen.is_terminal or not invocation.as_json, headings=False)
    try:
        found = _demonstrate(screen, listener, notes=notes, keep=keep)
    except KeyboardInterrupt:
        effect = "What the demo had made is removed; no other database was touched."
        invocation.refuse(
            "interrupted", error_report(TwinstepError("T158", effect=effect, next_step="Run 'twinstep demo' again."))
        )
        return INTERRUPTED
    if found.report.error is not None:
        invocation.trouble(found.report.error)
    invocation.answer(lambda: found_json(found, keep), lambda out: show_found(found, out))
    if keep is not None and not invocation.as_json:
        show_kept(keep, invocation.out)
    return found.report.exit_code


def _demonstrate(screen: Screen, listener: Following, *, notes: int, keep: Path | None) -> Found:
    from ..demo import staged

    began = time.perf_counter()

    def told(made: str | LocalLook | RemoteLook, took: float) -> None:
        if listener.speaks:
            # Not before the first thing is there: what cannot even begin says only why.
            if isinstance(made, str):
                screen.line("One migration over two databases: SQLite on a device, PostgreSQL on a server", HEADING)
                screen.line()
                screen.line("Built for this demo", HEADING)
            step_line(screen, made_text(made), took)
        listener.under_way("building the two databases")

    with listener.shown("starting PostgreSQL"), staged(notes=notes, told=told, keep=keep) as stage:
        if listener.speaks:
            _announce(stage, screen)
        listener.under_way("checking both sides")
        return stage.migrate(listener, began=began)


def _announce(stage: Stage, screen: Screen) -> None:
    screen.line()
    for migration in stage.coordinator().plan():
        screen.line(f"Migrating: {migration.id} ({migration.description})", HEADING)


DEMO: Final = TaughtCommand(
    "demo",
    Lesson(
        does="Runs the reference migration end to end. A PostgreSQL is started for it, a remote and a SQLite database of a "
        "notes application are built, and 'migrate' takes both from version 11 to 12; then it shows what both catalogues, the "
        "backup and the log say, and how long the application's queries took before and after.",
        never="It touches no database of yours, and leaves no process and no file behind, however it ends; with --keep, only "
        "what it says.",
        examples=("twinstep demo", "twinstep demo --keep my-demo"),
        exits=(DONE, FAILED, USAGE, INTERRUPTED),
    ),
    run_demo,
    params=[
        click.Option(
            ["--keep"],
            metavar="DIR",
            type=click.Path(path_type=Path),
            help="Leave the SQLite file, its log, its backup and the migration in DIR, to look at. It must be empty or new.",
        ),
        click.Option(
            ["--notes"],
            metavar="N",
            type=click.IntRange(min=20),
            default=NOTES,
            show_default=True,
            help="How many notes to build on each side.",
        ),
    ],
    settings=False,
)
