"""The command that looks again: `verify`. It writes to the log that it has looked, and to neither database.

Read next: `checking_view.py` (what it prints), `../verifying.py` (what it does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from .changing import interrupted
from .checking_view import show_verified, verify_json
from .progress import following
from .teaching import Lesson, TaughtCommand
from .trouble import ATTENTION, BLOCKED, DONE, FAILED, INTERRUPTED, LOCKED, PENDING, USAGE

if TYPE_CHECKING:
    from .invocation import Invocation


def run_verify(invocation: Invocation, migration: str | None, accept: bool) -> int:
    """Check again what is applied."""
    listener = following(invocation.err)
    coordinator = invocation.coordinator(listener)
    try:
        with listener.shown("looking again"):
            report = coordinator.verify(migration, accept=accept)
    except KeyboardInterrupt as stopped:
        return interrupted(invocation, listener, stopped)
    if report.error is not None:
        invocation.trouble(report.error)
    invocation.answer(lambda: verify_json(report), lambda screen: show_verified(report, screen))
    return report.exit_code


VERIFY: Final = TaughtCommand(
    "verify",
    Lesson(
        does="Checks applied migrations again. Of each, or of the one named: its own checks, the integrity of the local file "
        "and its version, its indexes, and its queries against when they were measured last; then both ledgers against the "
        "log, the hash chains, and both schemas against the ones that were verified last. With --accept, it first takes what "
        "only a person can decide: an irreversible migration whose verification was refused, a take-back that has undone "
        "nothing, a difference that going back has left, or a schema that somebody else has changed.",
        never="It changes neither database. It accepts nothing that it does not name, and nothing that stands half.",
        examples=("twinstep verify", "twinstep verify 0012_phase3", "twinstep verify --accept"),
        exits=(DONE, FAILED, USAGE, PENDING, LOCKED, BLOCKED, ATTENTION, INTERRUPTED),
    ),
    run_verify,
    params=[
        click.Argument(["migration"], metavar="[ID]", required=False),
        click.Option(["--accept"], is_flag=True, help="Accept what only a person can decide, and say what that was."),
    ],
)
