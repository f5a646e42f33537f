"""For how long trouble that passes by itself is waited out.

One Patience is shared by all who try again within a call, apart from the log, which may be another server. Its time begins with
the first trouble, and is over when it is over, however the tries are nested; whatever gets done meanwhile ends the trouble, and
the next one gets the time anew.

This module must never import a driver: a run without a remote needs none. Read next: `migrations/passing.py` (which trouble
that is), `postgres_log.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 5.0


class Patience:
    """The time for which trouble is waited out. Not for use by several threads."""

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random_up_to: Callable[[float], float] = lambda most: random.uniform(0.0, most),
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._random_up_to = random_up_to
        self._until: float | None = None
        self._tries = 0

    @property
    def in_trouble(self) -> bool:
        """Whether the time runs."""
        return self._until is not None

    def wait(self) -> bool:
        """True after a pause, of random length and longer each time, when to try again; False, at once, when the time is over.

        The last try begins when the time ends, never later.
        """
        now = self._clock()
        if self._until is None:
            self._until = now + self._seconds
        left = self._until - now
        if left <= 0:
            return False
        self._sleep(min(left, self._random_up_to(min(LONGEST_SECONDS, FIRST_SECONDS * 2**self._tries))))
        self._tries += 1
        return True

    def done(self) -> None:
        """Something was done that stays: the trouble is over."""
        self._until = None
        self._tries = 0
