"""How far a long statement outside a transaction is, seen from a second connection while the first one waits for it.

`pg_stat_progress_create_index` tells of builds; who stands in the way, of any statement that waits. The second connection is
opened only once the statement has taken a while, holds nothing between two looks, and is not needed: where it cannot be had,
the statement goes on unwatched. What was seen is told when it is new, and not too often, for it goes into the log.

This module must never import sqlalchemy. Read next: `concurrent_session.py` (who calls it), `stores/remote_connection.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

import psycopg

from ..events.errors import TwinstepError

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    from .concurrent_session import Tick
    from .work import Progress

    Remote: TypeAlias = psycopg.Connection[TupleRow]
    Seen: TypeAlias = tuple[int, int, str]

FIRST_SECONDS = 2.0
LOOK_SECONDS = 1.0
TELL_SECONDS = 5.0


@contextmanager
def watching(pid: int, beside: Callable[[], Remote], tell: Progress) -> Iterator[Tick]:
    """Something to call now and then while the session `pid` is at work; `beside` opens the second connection."""
    watch = _Watch(pid, beside, tell)
    try:
        yield watch.look
    finally:
        watch.close()


class _Watch:
    def __init__(self, pid: int, beside: Callable[[], Remote], tell: Progress) -> None:
        self._pid = pid
        self._beside = beside
        self._tell = tell
        self._next = time.monotonic() + FIRST_SECONDS
        self._connection: Remote | None = None
        self._is_blind = False
        self._told: Seen | None = None

    def look(self) -> None:
        """Look and tell, where it is time to. What `tell` raises passes through."""
        if self._is_blind or time.monotonic() < self._next:
            return
        seen = self._seen()
        self._next = time.monotonic() + LOOK_SECONDS
        if seen is not None and seen != self._told:
            self._told = seen
            self._next = time.monotonic() + TELL_SECONDS
            self._tell(*seen)

    def close(self) -> None:
        """Let go of the second connection."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()

    def _seen(self) -> Seen | None:
        """How much is done of how much, and of what; None where there is nothing to see."""
        try:
            if self._connection is None:
                self._connection = self._beside()
            row = self._connection.execute(_PROGRESS, {"pid": self._pid}).fetchone()
        except (TwinstepError, psycopg.Error):
            self._is_blind = True
            return None
        if row is None:
            return None
        phase, index, blocker, name, lockers, locking, blocks, all_blocks, tuples, all_tuples = row
        held_up = "" if blocker is None else f"held up by backend {blocker} ({name or 'which has not said its name'})"
        if phase is None:
            return (0, 0, held_up) if held_up else None
        done, total, things = lockers, locking, "transactions"
        if not phase.startswith("waiting"):
            done, total, things = (blocks, all_blocks, "blocks") if all_blocks else (tuples, all_tuples, "rows")
        doing = f"{phase} of {index}" if index else phase
        note = "; ".join(filter(None, [f"{things}, {doing}" if total else doing, held_up]))
        return (int(done), int(total), note)


# Counters that are not known yet are NULL or 0. A build of the wrong kind of row is none: the left join leaves the phase NULL.
_PROGRESS = """
SELECT p.phase, nullif(p.index_relid, 0)::regclass::text, b.pid, a.application_name,
    coalesce(p.lockers_done, 0), coalesce(p.lockers_total, 0), coalesce(p.blocks_done, 0), coalesce(p.blocks_total, 0),
    coalesce(p.tuples_done, 0), coalesce(p.tuples_total, 0)
FROM (SELECT %(pid)s::integer AS pid) ours
LEFT JOIN pg_stat_progress_create_index p USING (pid)
LEFT JOIN LATERAL (
    SELECT coalesce(nullif(p.current_locker_pid, 0)::integer, (pg_blocking_pids(ours.pid))[1]) AS pid) b ON true
LEFT JOIN pg_stat_activity a ON a.pid = b.pid
"""
