"""Waiting for what other processes and servers do."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(question: Callable[[], object], seconds: float = 15, *, every: float = 0.02) -> None:
    """Return once the answer is yes, asked again each so many seconds; an assertion fails where it stays no."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)
