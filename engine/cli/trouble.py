"""What went wrong, for people and for scripts: what happened, what it means for the data, what to do next; and exit codes.

Passwords are taken out of every text once more here. The errors carry none of their own; but a word typed in the wrong place,
or a driver's message, may.

Read next: `../../events/messages.py` for the texts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ...events.errors import LogDamaged, TwinstepError
from .screen import BAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..report import ErrorReport
    from .screen import Screen

DONE, FAILED, USAGE, PENDING, LOCKED, BLOCKED, ATTENTION, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130

EXIT_CODES: Final[Mapping[int, str]] = {
    DONE: "done, or nothing to do",
    FAILED: "failed and rolled back; both databases are as before",
    USAGE: "the command line, the configuration or a migration is wrong",
    PENDING: "something is pending, in flight or in conflict",
    LOCKED: "another coordinator works on these databases; it is named",
    BLOCKED: "a conflict, or a database that cannot be reached; nothing was changed",
    ATTENTION: "no final state yet; running again goes on",
    INTERRUPTED: "interrupted; 'twinstep resume' goes on",
}

# The contract's word for an error that kept a command from answering, by its exit code.
OUTCOMES: Final[Mapping[int, str]] = {FAILED: "rolled_back", USAGE: "failed", LOCKED: "locked", BLOCKED: "blocked"}

_IN_URL = re.compile(r"([A-Za-z][\w+.-]*://[^\s:@/]*):\S*@")
_IN_WORDS = re.compile(r"\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'\"]+)", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """The text with what stands where a password stands in an address replaced by ***."""
    return _IN_WORDS.sub(r"\1***", _IN_URL.sub(r"\1:***@", text))


def shown_address(url: str) -> str:
    """The address of a remote as it may be shown."""
    from ...stores.remote_connection import shown

    return without_passwords(shown(url))


def error_json(error: ErrorReport) -> dict[str, str]:
    """As it lies in the command's JSON."""
    return {
        "code": error.code,
        "message": without_passwords(error.message),
        "next_step": without_passwords(error.next_step),
    }


def outcome_of(error: TwinstepError) -> str:
    """The contract's word for it."""
    return "blocked" if isinstance(error, LogDamaged) else OUTCOMES.get(error.exit_code, "in_flight")


def show_error(error: ErrorReport, screen: Screen) -> None:
    """What happened and what it means, then what to do next."""
    screen.paragraph(without_passwords(f"{error.code} {error.message}"), style=BAD, rest="     ")
    if error.next_step:
        screen.paragraph(without_passwords(error.next_step), first="Next: ")
