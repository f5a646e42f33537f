"""A time limit for statements of SQLite: what runs on after it is over is interrupted, and SQLite says so."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..stores.local_guard import STEPS_BETWEEN_LOOKS, LocalConnection


@contextmanager
def limited_statements(connection: sqlite3.Connection, deadline: float) -> Iterator[None]:
    """Interrupt statements that run after the deadline (of `time.monotonic()`)."""
    if isinstance(connection, LocalConnection):
        connection.limit_statements(deadline)
    else:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)
    try:
        yield
    finally:
        if isinstance(connection, LocalConnection):
            connection.limit_statements(None)
        else:
            connection.set_progress_handler(None, STEPS_BETWEEN_LOOKS)
