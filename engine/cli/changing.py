"""The commands that change something: `migrate`, `resume`, `rollback`, `baseline`. One call of the coordinator each.

On a terminal each step is shown as it is recorded. Ctrl-C, SIGTERM and SIGHUP end the call where it is; the log and
the ledgers hold what was done, and running again goes on from there. Read next: `progress.py`, `../coordinator.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from .progress import Following, following
from .shapes import report_json
from .teaching import Lesson, TaughtCommand
from .trouble import ATTENTION, BLOCKED, DONE, FAILED, INTERRUPTED, LOCKED, USAGE
from .views import show_report

if TYPE_CHECKING:
    from ...events.types import Recorded
    from ..coordinator import Coordinator
    from ..report import Report
    from .invocation import Invocation
    from .screen import Screen

OPENING: Final = "opening both databases"
REHEARSING: Final = "rehearsing: locally on a copy, remotely in a transaction that is rolled back"


def run_migrate(invocation: Invocation, to: str | None, dry_run: bool, skip_remote: bool, adopt: bool) -> int:
    """Run what is pending, or rehearse it."""

    def call(coordinator: Coordinator) -> Report:
        return coordinator.migrate(to=to, skip_remote=skip_remote, adopt=adopt, dry_run=dry_run)

    return _change(invocation, call, doing=REHEARSING if dry_run else OPENING)


def run_resume(invocation: Invocation, skip_remote: bool, discard_local_writes: bool) -> int:
    """Finish what is in flight."""
    return _change(
        invocation,
        lambda coordinator: coordinator.resume(skip_remote=skip_remote, discard_local_writes=discard_local_writes),
    )


def run_rollback(invocation: Invocation, migration: str | None) -> int:
    """Take migrations back."""
    return _change(invocation, lambda coordinator: coordinator.roll_back(migration))


def run_baseline(invocation: Invocation, migration: str) -> int:
    """Take existing databases as being at a migration."""
    return _change(invocation, lambda coordinator: coordinator.baseline(migration))


def _change(invocation: Invocation, call: Callable[[Coordinator], Report], *, doing: str = OPENING) -> int:
    invocation.changes = True
    listener = following(invocation.err)
    try:
        backups = invocation.configuration.settings().state_folder / "backups"
        coordinator = invocation.coordinator(listener)
        with listener.shown(doing):
            report = call(coordinator)
    except KeyboardInterrupt as stopped:
        return interrupted(invocation, listener, stopped)
    if report.error is not None:
        invocation.trouble(report.error)
    invocation.answer(lambda: report_json(report, backups), lambda screen: _show(report, screen))
    return report.exit_code


def _show(report: Report, screen: Screen) -> None:
    if report.rehearsal is None:
        show_report(report, screen)
    else:
        from .rehearsal_view import show_rehearsal

        show_rehearsal(report, report.rehearsal, screen)


def interrupted(invocation: Invocation, listener: Following, stopped: KeyboardInterrupt) -> int:
    """Say where the run was when it was interrupted, and how to go on: with what the log says is in flight, if anything is."""
    from ...events.errors import TwinstepError
    from ..report import error_report

    in_flight = _in_flight(invocation)
    last = listener.last
    if in_flight == []:
        effect = (
            "Nothing is in flight: what was finished stands, what was not is undone. What the log does not tell of yet, "
            "the next call takes into it."
        )
        next_step = "Run the same command again; 'twinstep status' shows where both sides stand."
    else:
        if last is not None and (in_flight is None or _migration(last) in in_flight):
            effect = f"{_migration(last)} stays where it is, after {last.type}; what stands is in the log and in the ledgers."
        elif in_flight:
            effect = f"This call had recorded nothing yet; {in_flight[0]} was in flight before it, and still is."
        else:
            effect = "This call had recorded nothing yet; a run that was in flight before still is."
        next_step = "Run 'twinstep status' to see where it stands, 'twinstep resume' to go on, 'twinstep rollback' to go back."
    effect = " ".join([effect, *getattr(stopped, "__notes__", [])])
    outcome = "interrupted" if in_flight == [] else "in_flight"
    invocation.refuse(outcome, error_report(TwinstepError("T158", effect=effect, next_step=next_step)))
    return INTERRUPTED


def _in_flight(invocation: Invocation) -> list[str] | None:
    """The migrations that the log says are in flight; None where it cannot be asked."""
    from ...events.errors import TwinstepError
    from ..session import recorded_statuses

    try:
        statuses = recorded_statuses(invocation.configuration.settings())
    except TwinstepError:
        return None
    return [name for name, status in statuses.items() if status.in_flight]


def _migration(record: Recorded) -> str:
    return record.stream.partition("/")[2]


SKIP_REMOTE: Final = click.Option(
    ["--skip-remote"],
    is_flag=True,
    help="Leave the remote for a later run, unless something of this run may be there already.",
)

MIGRATE: Final = TaughtCommand(
    "migrate",
    Lesson(
        does="Runs what is pending, each migration to verified or rolled back. Both sides are checked, the local database is "
        "backed up and the backup proved, the local side is changed, then the remote side, then both are verified. What is "
        "refused on the way is taken back, on both sides. What an earlier call left in flight is finished first; it stops at "
        "the first migration that is not verified. With --dry-run all of it is executed and nothing is changed: the local side "
        "on a copy of the file, the remote side in a transaction that is rolled back.",
        never="It never leaves a change without its row in the ledger, never runs a step twice, and never begins where the log "
        "and the databases do not fit together.",
        examples=(
            "twinstep migrate --local notes.db --remote postgresql://app@db.example/notes",
            "twinstep migrate --to 0012_phase3 --json",
            "twinstep migrate --dry-run",
        ),
        exits=(DONE, FAILED, USAGE, LOCKED, BLOCKED, ATTENTION, INTERRUPTED),
    ),
    run_migrate,
    params=[
        click.Option(["--to"], metavar="ID", help="The last migration to run."),
        click.Option(
            ["--dry-run"],
            is_flag=True,
            help="Rehearse: execute everything, change nothing, and report what would change, take time, be locked and need "
            "space. Exit 1 where a fault is found.",
        ),
        SKIP_REMOTE,
        click.Option(
            ["--adopt"],
            is_flag=True,
            help="Where the log disagrees with the ledgers in the databases (a lost log, a database restored from a copy), "
            "take the ledgers as the truth first, and record it.",
        ),
    ],
)

RESUME: Final = TaughtCommand(
    "resume",
    Lesson(
        does="Finishes what a crash, a Ctrl-C or an unreachable remote left in flight. It reads the log and both ledgers, and "
        "goes on from what they say: forwards, or back where going back had been decided.",
        never="It begins no migration, and never gives up writes of others unless told to with --discard-local-writes.",
        examples=("twinstep resume", "twinstep resume --skip-remote"),
        exits=(DONE, FAILED, USAGE, LOCKED, BLOCKED, ATTENTION, INTERRUPTED),
    ),
    run_resume,
    params=[
        SKIP_REMOTE,
        click.Option(
            ["--discard-local-writes"],
            is_flag=True,
            help="Where going back means restoring the backup: give up what was written to the local database since. The "
            "replaced state is kept as a backup.",
        ),
    ],
)

ROLLBACK: Final = TaughtCommand(
    "rollback",
    Lesson(
        does="Takes the last migration back with its down steps. With an ID, that one and all later ones, the last first; the "
        "remote side before the local one. A migration in flight is taken back too.",
        never="It never restores a backup over what was written since, and never takes back what another device applied to a "
        "shared remote.",
        examples=("twinstep rollback", "twinstep rollback 0012_phase3"),
        exits=(DONE, FAILED, USAGE, LOCKED, BLOCKED, ATTENTION, INTERRUPTED),
    ),
    run_rollback,
    params=[click.Argument(["migration"], metavar="[ID]", required=False)],
)

BASELINE: Final = TaughtCommand(
    "baseline",
    Lesson(
        does="Records an existing pair of databases as being at a migration. The migrations up to ID are run on an empty "
        "scratch file, and on the remote in a transaction that is rolled back; the schemas are compared with what is there. "
        "Only if nothing is missing or different, each of them is written into both ledgers and the log as applied.",
        never="It never changes a table or a row of the application, and records nothing where the schemas differ.",
        examples=("twinstep baseline 0011_baseline",),
        exits=(DONE, USAGE, LOCKED, BLOCKED, INTERRUPTED),
    ),
    run_baseline,
    params=[click.Argument(["migration"], metavar="ID")],
)
