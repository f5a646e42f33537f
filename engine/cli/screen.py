"""Where text goes: a terminal, with colours and wrapped paragraphs, or a pipe, with neither and nothing cut off.

A table is aligned in both. Where it is wider than the terminal, its last column is wrapped, or each row becomes a few lines of
"name  value", so that no id and no path is ever cut off. rich is loaded with the first styled line on a terminal, and never
for a pipe.

Read next: `views.py` (what is shown), `progress.py` (what moves).
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console

GAP: Final = "  "
ROOM: Final = 20
HEADING: Final = "bold"
GOOD: Final = "green"
BAD: Final = "bold red"
FAINT: Final = "dim"


class Screen:
    """One stream. `width` is that of the terminal, None in a pipe: there, lines are as long as they are."""

    def __init__(self, stream: TextIO, *, terminal: bool | None = None) -> None:
        self._stream = stream
        self.is_terminal = stream.isatty() if terminal is None else terminal
        self.width = shutil.get_terminal_size().columns if self.is_terminal else None
        # Nobody reads any more (`| head`), or why what was written is lost (a full disk).
        self.is_left = False
        self.problem = ""
        self._console: Console | None = None

    @property
    def blocks(self) -> str:
        """What a bar is drawn with, full and empty: plain signs where the stream could not show blocks."""
        try:
            "\u2588\u00b7".encode(self._stream.encoding or "ascii")
        except (LookupError, UnicodeEncodeError):
            return "#-"
        return "\u2588\u00b7"

    def line(self, text: str = "", style: str = "") -> None:
        """One line, as it is."""
        try:
            # Once rich moves something on this stream, every line must go through it, or it is written into what moves.
            if self.is_terminal and (style or self._console is not None):
                from rich.text import Text

                self.console().print(Text(text, style=style), soft_wrap=True)
            else:
                self._stream.write(text + "\n")
                self._stream.flush()
        except BrokenPipeError:
            # What is left is not wanted; the work and its exit code are as they are.
            self._let_go()
        except OSError as error:
            self.problem = error.strerror or str(error)
            self._let_go()

    def _let_go(self) -> None:
        self.is_left = True
        self._stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123

    def paragraph(
        self, text: str, *, first: str = "", rest: str | None = None, style: str = "", width: int | None = None
    ) -> None:
        """Text that a terminal may wrap between words; `first` and `rest` come before the first and the other lines.

        In a pipe it is not wrapped, unless at the `width` that is given.
        """
        width = self.width or width
        rest = " " * len(first) if rest is None else rest
        for number, part in enumerate(text.splitlines() or [""]):
            before = rest if number else first
            if width is None:
                self.line(before + part, style)
                continue
            wrapped = textwrap.wrap(
                part,
                max(width, 40),
                initial_indent=before,
                subsequent_indent=rest,
                break_long_words=False,
                break_on_hyphens=False,
            )
            for line in wrapped or [before.rstrip()]:
                self.line(line, style)

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = (), indent: str = ""
    ) -> None:
        """Rows under headings; the columns numbered in `right` are aligned to the right.

        Where it is too wide for the terminal, the last column is wrapped if it is text with enough room for it.
        """
        widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
        before = len(indent) + sum(widths[:-1]) + len(GAP) * (len(widths) - 1)
        fits = self.width is None or before + widths[-1] <= self.width
        has_room = self.width is not None and self.width - before >= ROOM and len(widths) - 1 not in right
        if not fits and not has_room:
            self._records(headers, rows, indent)
            return
        self.line(indent + _aligned(headers, widths, right), HEADING)
        for row in rows:
            if fits:
                self.line(indent + _aligned(row, widths, right))
            else:
                lead = indent + _aligned([*row[:-1], "|"], widths, right).removesuffix("|")
                self.paragraph(row[-1], first=lead)

    def _records(self, headers: Sequence[str], rows: Sequence[Sequence[str]], indent: str) -> None:
        names = max(map(len, headers))
        for row in rows:
            for number, (header, cell) in enumerate(zip(headers, row, strict=True)):
                lead = f"{indent}{header:<{names}}{GAP}"
                self.paragraph(cell, first=lead, rest=" " * len(lead), style=HEADING if number == 0 else "")
            self.line()

    def console(self) -> Console:
        """rich's view of this stream, made once; for a terminal only."""
        from rich.console import Console

        if self._console is None:
            self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        return self._console


def _aligned(cells: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    padded = [
        cell.rjust(width) if number in right else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return GAP.join(padded).rstrip()
