"""What moves while work is done: on a terminal a line for each step as it is recorded, below it the step under way.

In a pipe nothing is shown: the answer at the end is enough. rich is loaded on a terminal only.

Read next: `sentences.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import figures
from .screen import BAD, GOOD, HEADING, Screen
from .sentences import next_phrase, seconds_of, sentence

if TYPE_CHECKING:
    from rich.progress import Progress

    from ...events.types import Recorded

WIDTH = 69
QUIET_EVENTS = frozenset({"RemoteStarted"})
STYLES = {"Verified": GOOD, "RolledBack": GOOD, "StepFailed": BAD, "ValidationFailed": BAD}


class Following:
    """Told of each recorded event, it shows one line a step, if it `speaks`. Only while `shown` is open is anything moving."""

    def __init__(self, screen: Screen, *, speaks: bool = True, indent: str = "  ", headings: bool = True) -> None:
        self.speaks = speaks
        self._screen = screen
        self._indent = indent
        self._headings = headings
        self._moving: Progress | None = None
        self.last: Recorded | None = None
        self._headed = ""

    def __call__(self, record: Recorded) -> None:
        if "/" not in record.stream:
            return  # of the pair, and of no step of a migration
        if record.type == "StepProgressed":
            self._goes_on(sentence(record))
            return
        self.last = record
        if not self.speaks:
            return
        migration = record.stream.partition("/")[2]
        if record.type == "RunStarted" and self._headings:
            self._screen.line(f"{migration}: {sentence(record)}", HEADING)
            self._headed = migration
        elif record.type not in QUIET_EVENTS | {"RunStarted"}:
            if self._headings and migration != self._headed:  # a run that goes on, or a step that no run began
                self._screen.line(migration, HEADING)
                self._headed = migration
            step_line(
                self._screen, sentence(record), seconds_of(record), indent=self._indent, style=STYLES.get(record.type, "")
            )
        self.under_way(next_phrase(record))

    def under_way(self, phrase: str) -> None:
        """What is being done now; empty for nothing."""
        if self._moving is not None:
            self._moving.reset(self._moving.task_ids[0], description=phrase, visible=bool(phrase))

    def _goes_on(self, phrase: str) -> None:
        """The same step is still being done: its time goes on."""
        if self._moving is not None:
            self._moving.update(self._moving.task_ids[0], description=phrase, visible=True)

    @contextmanager
    def shown(self, phrase: str = "opening both databases") -> Iterator[None]:
        """Show on a terminal what is under way, until the block ends."""
        if not (self.speaks and self._screen.is_terminal):
            yield
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        # ASCII, and gone when the block ends: what stays is one line a step.
        columns = (
            TextColumn(self._indent.removesuffix(" ")),
            SpinnerColumn("line"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._screen.console(), transient=True) as moving:
            moving.add_task(phrase)
            self._moving = moving
            try:
                yield
            finally:
                self._moving = None


def following(screen: Screen) -> Following:
    """What listens to the coordinator for this screen: on a terminal it shows each step, in a pipe it only remembers."""
    return Following(screen, speaks=screen.is_terminal)


def step_line(screen: Screen, text: str, seconds: float | None, *, indent: str = "  ", style: str = "") -> None:
    """One line a step: what was done, and how long it took, in a column of its own where the text leaves room."""
    time = "" if seconds is None else figures.seconds(seconds)
    lead = f"{indent}{text}"
    if not time or len(lead) > WIDTH:
        screen.paragraph(f"{text}  {time}".rstrip(), first=indent, rest=indent + "  ", style=style)
    else:
        screen.line(f"{lead:<{WIDTH}}  {time:>8}", style)
