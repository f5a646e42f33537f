"""A time limit for statements of SQLite: what runs on after it is over is interrupted, and SQLite says so."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

# How often SQLite asks whether the time is over, in steps of its virtual machine.
STEPS_BETWEEN_LOOKS = 10_000


@contextmanager
def limited_statements(connection: sqlite3.Connection, deadline: float) -> Iterator[None]:
    """Interrupt statements that run after the deadline (of `time.monotonic()`)."""
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, STEPS_BETWEEN_LOOKS)
