"""A connection that does not wait for ever: where nothing comes from the server for a while, it finds out why.

TCP alone tells of an end that was announced, or of packets that nobody acknowledges. A router, a tunnel or a proxy that goes
on acknowledging and passes nothing on looks like a server that is at work on a long statement. So after each silence of
SILENCE_SECONDS the server is asked, on a connection of its own, what it does for this session. As long as it is at work,
the wait goes on, for hours if need be. If it is not, and still nothing has come after another such silence, or if it
cannot be asked, the connection is given up with NoAnswer, as one that was lost: nobody knows what the statement did.

Ctrl-C ends the wait within CANCEL_SECONDS for each of two things, also where nobody answers: asking the server to cancel the
statement, and hearing of its end. Where the end is not heard of, the connection is given up as well.

This module must never import migrations or engine. Read next: `remote_connection.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import pq, waiting
from psycopg.rows import TupleRow

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

SILENCE_SECONDS = 15.0
CANCEL_SECONDS = 1.0
POLL_SECONDS = 0.1


class NoAnswer(psycopg.OperationalError):
    """The connection is open, and nothing comes from it any more."""


class Silence:
    """How long nothing has come. `at_work` asks the server whether it still works for the session; None: it cannot be asked."""

    def __init__(self, at_work: Callable[[], bool] | None) -> None:
        self._at_work = at_work
        self.broken()

    def broken(self) -> None:
        """Something has come."""
        self._since, self._idle = time.monotonic(), 0

    def goes_on(self) -> None:
        """Nothing has come, again. Raises NoAnswer when nothing is to be expected any more."""
        if time.monotonic() - self._since < SILENCE_SECONDS:
            return
        # An answer that is on its way when the server is asked has come before it is asked again.
        self._idle = 0 if self._at_work is not None and self._at_work() else self._idle + 1
        if self._idle == 2 or self._at_work is None:
            raise NoAnswer(f"nothing has come from the server for {SILENCE_SECONDS * max(self._idle, 1):g} seconds")
        self._since = time.monotonic()


class WatchedConnection(psycopg.Connection[TupleRow]):
    """psycopg's connection, with `at_work`: whether the server still works for it. Without that, one silence is its end."""

    at_work: Callable[[], bool] | None = None
    backend: tuple[int, str] | None = None
    """The server's session that is this connection's alone: its process, and when that began. None behind a pooler."""

    def wait(self, gen: PQGen[RV], interval: float = POLL_SECONDS, timeout: float | None = None) -> RV:
        """As psycopg's. Raises NoAnswer, after which the connection is broken."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        watched = self._watched(gen)
        try:
            return waiting.wait(watched, self.pgconn.socket, interval)
        except NoAnswer:
            # Not close(): whoever looks must see a connection that broke, rather than one that somebody has closed.
            self.pgconn.finish()
            raise
        except (KeyboardInterrupt, SystemExit):
            self._cancel(gen)
            raise

    def _watched(self, gen: PQGen[RV]) -> PQGen[RV]:
        """The same steps; while nothing comes, asks now and then whether anything still can."""
        silence = Silence(self.at_work)
        try:
            state = next(gen)
            while True:
                ready = yield state
                if ready:
                    silence.broken()
                else:
                    silence.goes_on()
                state = gen.send(ready)
        except StopIteration as end:
            value: RV = end.value
            return value

    def _cancel(self, gen: PQGen[RV]) -> None:
        """End what runs, so that the session can be used for rolling back; give it up where that is not heard of in time."""
        if self.pgconn.transaction_status != pq.TransactionStatus.ACTIVE:
            return
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=CANCEL_SECONDS)
            waiting.wait(_until(gen, time.monotonic() + CANCEL_SECONDS), self.pgconn.socket, POLL_SECONDS)
        if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            self.pgconn.finish()


def _until(gen: PQGen[RV], deadline: float) -> PQGen[RV]:
    """The rest of the steps of a wait that was interrupted. Raises NoAnswer when the time is over."""
    ready: int = waiting.READY_NONE
    try:
        while True:
            ready = (yield gen.send(ready)) or waiting.READY_NONE
            if time.monotonic() >= deadline:
                raise NoAnswer("the statement was not seen to end")
    except StopIteration as end:
        value: RV = end.value
        return value
