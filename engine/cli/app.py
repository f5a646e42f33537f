"""`twinstep`: the commands in the order in which one uses them, and `run`, which turns whatever happens into an exit code.

Errors of ours are shown as what happened, what it means for the data, and what to do next, never as a traceback; with --json
they are the object on the standard output too.

Read next: `beginning.py`, `asking.py`, `changing.py`, `looking_back.py`, `logs.py`, `demonstration.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import click

from ...events.errors import Blocked, ConfigurationError, TwinstepError
from .asking import CHECK, PLAN, STATUS
from .beginning import INIT, NEW
from .changing import BASELINE, MIGRATE, RESUME, ROLLBACK
from .checking import VERIFY
from .demonstration import DEMO
from .invocation import Invocation
from .keeping import BACKUP, BACKUP_CREATE, BACKUP_LIST, BACKUP_PRUNE, BACKUP_RESTORE, BACKUP_VERIFY
from .logs import LOG, LOG_CHECK, LOG_EXPORT
from .looking_back import HISTORY
from .proving import TEST
from .screen import Screen
from .setting_aside import QUARANTINE, QUARANTINE_LIST, QUARANTINE_RESTORE
from .teaching import TaughtCommand, TaughtGroup, setting_options, write_options
from .trouble import ATTENTION, DONE, EXIT_CODES, INTERRUPTED, outcome_of, without_passwords

NAME: Final = "twinstep"

# What the overview lists: a heading, and under it the commands with the name that is typed.
OVERVIEW: Final[Mapping[str, Mapping[str, TaughtCommand | TaughtGroup]]] = {
    "Begin": {"demo": DEMO, "init": INIT, "new": NEW},
    "Prove a migration": {"test": TEST},
    "Look first": {"status": STATUS, "plan": PLAN, "check": CHECK, "verify": VERIFY},
    "Change both databases": {"migrate": MIGRATE, "resume": RESUME, "rollback": ROLLBACK, "baseline": BASELINE},
    "Look back": {"history": HISTORY, "log": LOG, "log check": LOG_CHECK, "log export": LOG_EXPORT},
    "Back up the local database": {
        "backup list": BACKUP_LIST,
        "backup create": BACKUP_CREATE,
        "backup verify": BACKUP_VERIFY,
        "backup restore": BACKUP_RESTORE,
        "backup prune": BACKUP_PRUNE,
    },
    "See to rows that were set aside": {"quarantine list": QUARANTINE_LIST, "quarantine restore": QUARANTINE_RESTORE},
}

ABOUT: Final = (
    "Takes an application that lives in SQLite and PostgreSQL from one schema to the next as one migration. It may be killed "
    "at any instant: running again goes on from what the log and both databases say."
)


class Overview(click.Group):
    """The root: called alone, or with --help, it shows all commands in the order in which one uses them."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage, what it is, the commands by what one wants, settings, exit codes."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        for heading, commands in OVERVIEW.items():
            with formatter.section(heading):
                formatter.write_dl([(name, command.lesson.short) for name, command in commands.items()])
        write_options(self, ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in EXIT_CODES.items()])
        formatter.write_paragraph()
        formatter.write_text("'twinstep COMMAND --help' says what a command does, what it never does, and shows an example.")


@click.pass_context
def _overview(ctx: click.Context) -> int:
    if ctx.invoked_subcommand is None:
        if ctx.ensure_object(Invocation).as_json:
            ctx.fail("Missing command.")
        ctx.ensure_object(Invocation).out.line(ctx.get_help())
    return 0


def _show_version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        invocation = ctx.ensure_object(Invocation)
        invocation.out.line(f"{NAME} {invocation.version}")
        ctx.exit()


VERSION: Final = click.Option(
    ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version and exit."
)

APP: Final = Overview(
    NAME,
    callback=_overview,
    invoke_without_command=True,
    help=ABOUT,
    params=[VERSION, *setting_options()],
    commands=[
        INIT,
        NEW,
        STATUS,
        PLAN,
        CHECK,
        VERIFY,
        MIGRATE,
        RESUME,
        ROLLBACK,
        BASELINE,
        HISTORY,
        LOG,
        BACKUP,
        QUARANTINE,
        TEST,
        DEMO,
    ],
)


def run(arguments: Sequence[str], *, environ: Mapping[str, str], folder: Path, version: str = "") -> int:
    """Do what the arguments say, and return the exit code. Writes to the standard streams as they are now."""
    out, err = Screen(sys.stdout), Screen(sys.stderr)
    invocation = Invocation(environ=environ, folder=folder, version=version, out=out, err=err)
    # Also for what goes wrong before the options have been read.
    invocation.as_json = "--json" in arguments
    code = _answered(invocation, arguments)
    if out.problem:
        from ..report import error_report

        error = Blocked("T166", problem=out.problem)
        invocation.trouble(error_report(error))
        # Of a command that only tells, the answer is the work; of another, the databases are as its own code says.
        return code or (DONE if invocation.changes else error.exit_code)
    return code


def _answered(invocation: Invocation, arguments: Sequence[str]) -> int:
    try:
        return cast("int", APP.main(list(arguments), prog_name=NAME, standalone_mode=False, obj=invocation))
    except click.UsageError as error:
        return _refused(invocation, _usage_error(error))
    except TwinstepError as error:
        return _refused(invocation, error)
    except (click.Abort, KeyboardInterrupt):
        # One that only tells; or one that had not begun, and cannot say yet whether something is in flight.
        effect = "This command changed nothing; a run that was in flight before it still is."
        next_step = "Run it again; 'twinstep status' shows whether something is in flight."
        _refused(invocation, TwinstepError("T158", effect=effect, next_step=next_step), outcome="interrupted")
        return INTERRUPTED
    except Exception as error:
        return _unforeseen(invocation, error)


def _refused(invocation: Invocation, error: TwinstepError, outcome: str = "") -> int:
    from ..report import error_report

    invocation.refuse(outcome or outcome_of(error), error_report(error))
    return error.exit_code


def _usage_error(error: click.UsageError) -> ConfigurationError:
    command = error.ctx.command_path if error.ctx is not None else NAME
    return ConfigurationError("T151", problem=without_passwords(error.format_message()), command=command)


def _unforeseen(invocation: Invocation, error: Exception) -> int:
    """A bug of ours, or a driver's error that nobody turned into one of ours: the traceback is what a report of it needs."""
    import traceback

    for line in without_passwords("".join(traceback.format_exception(error))).splitlines():
        invocation.err.line(line)
    _refused(invocation, TwinstepError("T159", problem=type(error).__name__), outcome="in_flight")
    return ATTENTION
