"""`python -m twinstep` and the script `twinstep`: sets the process up, and hands over to the command.

Nothing is decided here. Read next: `engine/cli/app.py`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType


def main() -> int:
    """Run the command that was typed, and return its exit code."""
    # They end a call as Ctrl-C does: locks are let go, what is in flight stays resumable.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # no SIGHUP on Windows
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name or a statement that the terminal's encoding cannot show must not end a migration.
            stream.reconfigure(errors="backslashreplace")
    try:
        from . import __version__
        from .engine.cli.app import run

        code = run(sys.argv[1:], environ=os.environ, folder=Path.cwd(), version=__version__)
    except KeyboardInterrupt:
        # Before the command could begin, or a second one while the first was being answered.
        code = 130
    _let_it_end()
    return code


def _let_it_end() -> None:
    """All is done and said: a signal that comes as late as this must not make another exit code of it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # An interrupt that came while a text was executed (as where a dataclass is made) is kept in mind by CPython, although it
    # was caught: under `python -m` it would end the process by SIGINT instead of our exit code. The next text clears that.
    exec("")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
