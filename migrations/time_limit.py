"""A limit for a function of somebody else's that runs in this thread: when the time is over, it is interrupted.

No thread can be ended from outside, but CPython lets an exception be raised in it, at its next step in Python. What waits
inside C code (a sleep, a socket) is interrupted when it comes back from there. The exception is no `Exception`, so that an
`except Exception` does not swallow it, and it is raised again for as long as the function goes on all the same.

This module must never import anything of Twinstep. Read next: `sqlite_target.py`, which limits functions with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

REPEATED_SECONDS = 0.5
# More than it takes for an exception that is on its way to be raised.
STEPS = 10


class OutOfTime(BaseException):
    """The time is over. Raised inside what `call_within` calls, and out of it."""


def call_within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns, called in this thread. Raises OutOfTime once `seconds` are over and it still runs, whatever comes
    out of it then; before that its own errors pass.

    No context manager: to end one is a call, and an exception that is raised at its first step would leave the limit behind.
    """
    limit = _Limit(threading.get_ident())
    try:
        limit.arm(max(seconds, 0.001))
        return call()
    finally:
        while True:  # a call of anything else, such as suppress(), would be one more place where it may be raised
            try:
                limit.disarm()
                break
            except OutOfTime:
                continue
        if limit.fired:
            # Whatever else has come out, came of it: raised inside a callback of SQLite's, it is an error of the statement.
            raise OutOfTime


class _Limit:
    """A timer that interrupts one thread, until it is disarmed. After that nothing is raised any more."""

    def __init__(self, thread: int) -> None:
        self._thread = thread
        self._lock = threading.Lock()
        self._armed = True
        self._timer: threading.Timer | None = None
        self.fired = False

    def arm(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """Raise nothing any more. What was on its way is raised in here, and then this is to be called again.

        It is not taken back: CPython 3.11 goes on looking for an exception that was, at every step of every thread, and in a
        process that is traced comes no further.
        """
        with self._lock:
            self._armed = False
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(STEPS):
            pass

    def _fire(self) -> None:
        with self._lock:
            if self._armed:
                self.fired = True
                _raise_in(self._thread)
                self.arm(REPEATED_SECONDS)


def interrupt(thread: threading.Thread) -> None:
    """Raise OutOfTime once in another thread, if it still runs."""
    if thread.ident is not None and thread.is_alive():
        _raise_in(thread.ident)


def _raise_in(thread: int) -> None:
    """Have OutOfTime raised at the thread's next step."""
    import ctypes  # only where a time is over

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(OutOfTime))
