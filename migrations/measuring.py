"""How queries are timed: in rounds over all of them, so that what a machine does meanwhile falls on each alike. Pure.

The first run warms the cache and is thrown away, unless it took so long that there will be no other. A cheap query is run in
every round, a slow one as long as its share of time lasts. What is told is the median.

Read next: `sqlite_measuring.py`, `postgres_measuring.py` (who run a query once), `engine/slowdowns.py` (what is made of it).
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence

from attrs import frozen

from .definition import Query

ROUNDS = 7
AGAIN = 3
SHARE_SECONDS = 1.0
# A first run longer than this is the only one: a second would keep others waiting for as long again.
LONG_SECONDS = 5.0
# Below this before, a time says more about the way there and back than about the query: neither a gain nor a loss.
TOO_FAST_MS = 0.1
# Why a query has no time.
NO_TIME = "it took too long, or others were in its way"


@frozen(kw_only=True)
class Round:
    """One more measurement of a query that seems slower, in milliseconds; `before_ms` where the state before can be asked."""

    before_ms: float | None
    after_ms: float


def measured(
    queries: Sequence[Query], once: Callable[[Query], float | None], *, rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Seconds by query name, round by round; `once` gives the time of one run, or None where it cannot be had.

    A query that could not be run once is left out for good.
    """
    times: dict[str, list[float]] = {query.name: [] for query in queries}
    spent = dict.fromkeys(times, 0.0)
    for _ in range(rounds + 1):
        for query in queries:
            if query.name not in times or spent[query.name] > SHARE_SECONDS:
                continue
            seconds = once(query)
            if seconds is None:
                del times[query.name]
                continue
            # What the first run takes says how cold the cache was, and must not use up the share of those that count.
            spent[query.name] += seconds if times[query.name] or seconds > LONG_SECONDS else 0.0
            times[query.name].append(seconds)
    return {name: found[1:] or found for name, found in times.items()}


def median_ms(seconds: Sequence[float]) -> float:
    """The median in milliseconds."""
    return 1000 * statistics.median(seconds)


def names_index(plan: str, index: str) -> bool:
    """Whether a step of the plan uses the index of exactly that name, whatever else (a table, a value) has its name.

    >>> names_index("SEARCH notes USING INDEX idx_a2 (id=?)", "idx_a")
    False
    >>> names_index("Seq Scan on notes\\n  Filter: (kind = 'idx_a'::text)", "idx_a")
    False
    """
    quoted = '"' + index.replace('"', '""') + '"'
    local = rf" USING (?:COVERING )?INDEX (?i:{re.escape(index)})(?= \(| LEFT-JOIN| FOR IN-OPERATOR|$)"
    name = rf"(?:{re.escape(index)}|{re.escape(quoted)})"
    scan = rf"(?:Parallel )?Index (?:Only )?Scan (?:Backward )?using {name} on |Bitmap Index Scan on {name}$"
    return re.search(rf"{local}|^ *(?:->  )?(?:{scan})", plan, re.MULTILINE) is not None
