"""How long a rehearsal on the remote may hold its locks, and what keeps it from holding them longer.

The clock starts with the first statement. Each statement gets the rest of the time as its `statement_timeout`. A process
that is stopped lets go because `idle_in_transaction_session_timeout` is set likewise, and (17 and later)
`transaction_timeout`, which is exact. A function of a migration that takes its time between two statements is cut off: its
connection is shut down beneath it, whereupon the server rolls back.

Read next: `postgres.py`.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...stores.remote_connection import Remote

# What is kept back for the rollback itself, as a part of the budget and at most.
RESERVE_PART, RESERVE_SECONDS = 0.1, 0.1
# Others queue behind whoever waits for a strong lock, so that little of the budget may go into waiting.
LOCK_WAIT_SECONDS = 0.5
TRANSACTION_TIMEOUT_SINCE = 170_000


class OverBudget(Exception):
    """The time is over; nothing more was sent."""


class Budget:
    """The time in which locks are held. Times are in seconds, by a clock that never jumps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began: float | None = None
        self._deadline = float("inf")

    def begin(self, seconds: float) -> bool:
        """A migration begins, with a budget of its own; whether the time is now shorter than it was.

        The shortest counts: the transaction is one, and so are its locks.
        """
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        shorter = now + seconds < self._deadline
        if shorter:
            self._deadline, self.seconds = now + seconds, seconds
        return shorter

    @property
    def left(self) -> float:
        """What may still be used, the reserve for the rollback taken off."""
        return self._deadline - time.monotonic() - min(RESERVE_SECONDS, RESERVE_PART * self.seconds)

    @property
    def is_over(self) -> bool:
        """Whether what was refused or lost just now was so because the time was over."""
        return self.left <= 0.005

    def held(self) -> float:
        """How long it has been since the clock started; 0 where it never did."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def limit(self, connection: Remote) -> None:
        """Have the server end the whole transaction, where it can: outside any savepoint, which would take it back."""
        if connection.info.server_version >= TRANSACTION_TIMEOUT_SINCE:
            whole = max(1, int(1000 * (self._deadline - time.monotonic())))
            connection.execute(b"SET LOCAL transaction_timeout = 0")  # else the timer that runs already stays
            connection.execute(f"SET LOCAL transaction_timeout = {whole}".encode())

    def arm(self, connection: Remote, *, lock_seconds: float = LOCK_WAIT_SECONDS, at_most: float | None = None) -> None:
        """Give the next statement the rest of the time (or `at_most`). Raises OverBudget where nothing is left."""
        left = self.left
        if left <= 0:
            raise OverBudget
        statement = _milliseconds(left if at_most is None else min(left, at_most))
        lock = _milliseconds(min(lock_seconds, LOCK_WAIT_SECONDS, left / 2))
        idle = _milliseconds(left)
        connection.execute(
            f"SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {idle}".encode()
        )

    @contextmanager
    def watching(self, connection: Remote) -> Iterator[None]:
        """Around code that is not ours: when the time is over, the connection is cut."""
        descriptor = os.dup(connection.fileno())
        timer = threading.Timer(max(0.0, self.left), _cut, (descriptor,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            os.close(descriptor)


def _cut(descriptor: int) -> None:
    """End the conversation in both directions; the server meets the end of its input, and rolls back."""
    conversation = socket.socket(fileno=descriptor)
    with suppress(OSError):
        conversation.shutdown(socket.SHUT_RDWR)
    conversation.detach()  # its owner closes it


def _milliseconds(seconds: float) -> int:
    return max(1, int(1000 * seconds))
