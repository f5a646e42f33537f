"""What is made of the measurements: indexes that a query should use and does not, and queries that became slower. Pure but for
asking the targets to measure again.

One measurement proves nothing: the same query on the same data is over 20 % slower in every tenth trial on a busy machine. A
query is called slower when its plan is another, it takes over 5 ms and over 20 % longer, and three more measurements agree.

Read next: `perform.py` (who asks), `migrations/measuring.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

from ..events.errors import Refused
from ..events.types import Json
from ..migrations.definition import Query
from ..migrations.measuring import AGAIN, NO_TIME, Round, names_index
from ..migrations.target import Target, Timing

OVER_MS = 5.0
FACTOR = 1.2


def query_findings(
    queries: Sequence[Query],
    before: Mapping[str, Mapping[str, Json]] | None,
    after: Sequence[Timing],
    *,
    indexes: Collection[str],
    target: Target,
    backup: Mapping[str, Json] | None,
    migration: str,
) -> list[str]:
    """Of one side: what is worth knowing of its queries. `before` are the timings of then by name, None where nothing was
    measured then; `indexes` the names that there are now, `backup` the copy of the state before, where there is one.

    Raises Refused (T372) for a query that became slower and must not.
    """
    timings = {timing.name: timing for timing in after}
    found = _unmeasured(queries, timings) if target.measures else []
    if before is not None:
        found += _unmeasured([query for query in queries if query.name in timings], before, when=" before")
    before = before or {}
    found += [text for query in queries if query.name in timings for text in _index(query, timings[query.name], indexes)]
    suspects = [query for query in queries if query.name in timings and _suspect(before.get(query.name), timings[query.name])]
    if not suspects:
        return found
    rounds = target.measure_again(suspects, backup)
    for query in suspects:
        was, now = _ms(before[query.name]), timings[query.name].milliseconds
        again = rounds.get(query.name, ())
        if len(again) < AGAIN:
            found.append(f"query {query.name} ({query.side}) seemed slower, but could not be measured again")
        if not agreed(was, again):
            continue
        sentence = f"query {query.name} ({query.side}) took {was:.2f} ms, takes {now:.2f} ms with another plan"
        if query.fail_on_slowdown:
            raise Refused("T372", migration=migration, query=sentence, rounds=_told(again))
        found.append(f"{sentence}; three more measurements agree: {_told(again)}")
    return found


def _unmeasured(queries: Sequence[Query], measured: Collection[str], *, when: str = "") -> list[str]:
    """Which queries have no time, where all of them should. `measured` are names."""
    return [
        f"query {query.name} ({query.side}) could not be measured{when}: {NO_TIME}"
        for query in queries
        if query.name not in measured
    ]


def seen_once(queries: Sequence[Query], before: Sequence[Timing], after: Sequence[Timing]) -> list[str]:
    """The same of a rehearsal, which does not measure again: what the real run would look at more closely."""
    was, now = (
        {(timing.side, timing.name): timing for timing in before},
        {(timing.side, timing.name): timing for timing in after},
    )
    found: list[str] = []
    for query in queries:
        old, new = was.get((query.side, query.name)), now.get((query.side, query.name))
        if new is None:
            continue
        found += _index(query, new, (query.uses_index or "",))
        if old is not None and _suspect(old.to_json(), new):
            times = f"took {old.milliseconds:.2f} ms, takes {new.milliseconds:.2f} ms"
            then = ", and is refused where that agrees" if query.fail_on_slowdown else ""
            found.append(f"query {query.name} ({query.side}) {times} with another plan; the real run measures again{then}")
    return found


def agreed(was_ms: float, rounds: Sequence[Round]) -> bool:
    """Whether each of three rounds says so too: against the time of the same round, where that could be had."""
    return len(rounds) == AGAIN and all(
        _slower(round_.before_ms if round_.before_ms is not None else was_ms, round_.after_ms) for round_ in rounds
    )


def _suspect(before: Mapping[str, Json] | None, now: Timing) -> bool:
    return before is not None and before["plan"] != now.plan and _slower(_ms(before), now.milliseconds)


def _slower(was_ms: float, now_ms: float) -> bool:
    return now_ms > OVER_MS and now_ms > FACTOR * was_ms


def _ms(timing: Mapping[str, Json]) -> float:
    return float(cast("float", timing["milliseconds"]))


def _told(rounds: Sequence[Round]) -> str:
    return ", ".join(
        f"{round_.after_ms:.2f} ms" if round_.before_ms is None else f"{round_.before_ms:.2f} to {round_.after_ms:.2f} ms"
        for round_ in rounds
    )


def _index(query: Query, timing: Timing, indexes: Collection[str]) -> list[str]:
    if query.uses_index is None or names_index(timing.plan, query.uses_index):
        return []
    there = "" if query.uses_index in indexes else ", which does not exist"
    return [f"query {query.name} ({query.side}) does not use {query.uses_index}{there}"]
