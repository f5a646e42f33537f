"""A limit for a function of somebody else's that runs in this thread: when the time is over, it is interrupted.

No thread can be ended from outside, but CPython lets an exception be raised in it, at its next step in Python. What waits
inside C code (a sleep, a socket) is interrupted when it comes back from there. The exception is no `Exception`, so that an
`except Exception` does not swallow it, and it is raised again for as long as the function goes on all the same.

This module must never import anything of Twinstep. Read next: `sqlite_target.py`, which limits functions with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

REPEATED_SECONDS = 0.5


class OutOfTime(BaseException):
    """The time is over. Raised inside the block of `limited`, and out of it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in this thread once `seconds` are over and the block still runs. Other errors pass through."""
    limit = _Limit(threading.get_ident())
    limit.arm(max(seconds, 0.001))
    try:
        yield
    finally:
        limit.disarm()
    if limit.fired:
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
        with self._lock:
            self._armed = False
            if self.fired:
                _raise_in(self._thread, None)  # one that is still on its way
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self) -> None:
        with self._lock:
            if self._armed:
                self.fired = True
                _raise_in(self._thread, OutOfTime)
                self.arm(REPEATED_SECONDS)


def interrupt(thread: threading.Thread) -> None:
    """Raise OutOfTime once in another thread, if it still runs."""
    if thread.ident is not None and thread.is_alive():
        _raise_in(thread.ident, OutOfTime)


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Have the exception raised at the thread's next step; None takes one back that was not raised yet."""
    import ctypes  # only where a time is over

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None if kind is None else ctypes.py_object(kind))
