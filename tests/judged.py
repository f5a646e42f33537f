"""A migration of the catalogue, judged by the properties: what the test and `make catalogue` share.

Read next: `migration_entries.py` (what an entry is), `test_judged_catalogue.py`, `tools/catalogue.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from migration_entries import Right, Wrong
from sqlalchemy import Connection

from twinstep.engine.verification import Invariant, Property, Verification, verify_migration


def judged(
    entry: Wrong | Right,
    server: str | None,
    *,
    examples: int,
    seed: int = 0,
    properties: Collection[str] = tuple(Property),
) -> Verification:
    """These properties, on so many databases."""
    source = entry.folder or [*entry.before, entry.migration]
    return verify_migration(
        source,
        entry.migration.id,
        invariants=tuple(_invariants(entry)),
        examples=examples,
        seed=seed,
        large_rows=0,
        properties=tuple(each for each in Property if each in properties),
        server=server if "remote" in entry.sides else None,
    )


def found(entry: Wrong, verification: Verification) -> tuple[Property, ...]:
    """Those of its properties that were seen to fail."""
    return tuple(result.property for result in verification.failures if str(result.property) in entry.properties)


def _invariants(entry: Wrong | Right) -> Iterator[Invariant]:
    """They take both connections, None for a side that is not there."""
    side = "both" if len(entry.sides) == 2 else entry.sides[0]
    for number, function in enumerate(entry.invariants, start=1):
        yield Invariant(name=f"invariant {number}", side=side, function=_called(entry, function))


def _called(entry: Wrong | Right, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*connections: Connection) -> Any:
        given = dict(zip(entry.sides, connections, strict=True))
        return function(given.get("local"), given.get("remote"))

    return call
