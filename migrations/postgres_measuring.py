"""Timing queries on PostgreSQL: each run in a transaction that is rolled back, by the extended protocol, so that a query is one
statement and can bring no COMMIT along.

Errors of the driver come out as they are; the target turns them into ours. Read next: `measuring.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from .definition import Query
from .measuring import AGAIN, Round, measured, median_ms
from .target import Timing

if TYPE_CHECKING:
    from ..stores.remote_connection import Remote

# Asks for the plan, or for the time of one run, inside a transaction; None where it cannot be had.
Ask: TypeAlias = "Callable[[Query, Callable[[Remote], object]], object]"


def measure(queries: Sequence[Query], ask: Ask) -> tuple[Timing, ...]:
    """Plan and median of each, without those that others were in the way of."""
    plans = {query.name: plan for query in queries if (plan := ask(query, partial(_plan, query))) is not None}
    times = measured([query for query in queries if query.name in plans], lambda query: _once(query, ask))
    return tuple(
        Timing(name=name, side="remote", milliseconds=median_ms(found), plan=str(plans[name]), repetitions=len(found))
        for name, found in times.items()
    )


def measure_again(queries: Sequence[Query], ask: Ask) -> dict[str, tuple[Round, ...]]:
    """Three more rounds. A shared database cannot be asked how it was before: those are held against the time of then."""
    rounds: dict[str, list[Round]] = {query.name: [] for query in queries}
    for _ in range(AGAIN):
        for name, found in measured(queries, lambda query: _once(query, ask), rounds=2).items():
            rounds[name].append(Round(before_ms=None, after_ms=median_ms(found)))
    return {name: tuple(found) for name, found in rounds.items()}


def _plan(query: Query, remote: Remote) -> str:
    rows = remote.execute(b"EXPLAIN (COSTS OFF) " + query.sql.encode(), binary=True).fetchall()
    return "\n".join(str(row[0]) for row in rows)


def _once(query: Query, ask: Ask) -> float | None:
    def run(remote: Remote) -> float:
        began = time.perf_counter()
        remote.execute(query.sql.encode(), binary=True)  # all rows have come; there may be some that Python has no value for
        return time.perf_counter() - began

    seconds = ask(query, run)
    return seconds if isinstance(seconds, float) else None
