"""Killed with SIGKILL anywhere, once or twice, on a real SQLite file and a real PostgreSQL, and run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked import Forks
from real_schedules import DROP_INDEX, INDEX, SCENARIOS, Ground, legal_world, orphans, walk
from targets import sometimes

from twinstep.engine.embedded import EmbeddedPostgres

# What the server is at when its client is killed, and the crossing before that.
BUILDS = {
    "success": (INDEX, "remote:single:before"),
    "an index dropped": (DROP_INDEX, "remote:single:before"),
    "an index dropped and built again": ("CREATE INDEX CONCURRENTLY item_amount", "remote:single-undo:before"),
    "refused remotely": ("DROP INDEX CONCURRENTLY IF EXISTS", "remote:single-undo:before"),
}


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks.started("real_schedules", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql") as started:
        yield started


# Of these a few schedules are walked each time; of all of them, all in the full form.
SAMPLED = (
    "success",
    "refused remotely and restored from the backup, rollback journal",
    "the remote required",
    "taken back",
    "rows set aside and put back by going back",
    "another index has the name",
)


@pytest.mark.parametrize("name", sometimes(SAMPLED, 2))
def test_a_killed_process_leaves_what_the_next_one_finishes(
    name: str, postgres: EmbeddedPostgres, forks: Forks, tmp_path: Path
) -> None:
    start = SAMPLED.index(name) % 4
    with Ground.prepared(name, postgres, forks, tmp_path) as ground:
        singles, firsts, seconds = (slice(start, None, every) for every in (23, 31, 17))
        counted = walk(ground, legal_world(ground), singles=singles, firsts=firsts, seconds=seconds)
    assert counted[1] >= 1


@pytest.mark.parametrize(("name", "goes_on"), [("success", True), ("success", False), ("an index dropped", False)])
def test_killed_while_the_server_is_at_a_concurrent_statement_it_ends_legally(
    name: str, goes_on: bool, postgres: EmbeddedPostgres, forks: Forks, tmp_path: Path
) -> None:
    with Ground.prepared(name, postgres, forks, tmp_path) as ground:
        assert orphans(ground, legal_world(ground), *BUILDS[name], goes_on=goes_on, seconds=slice(3, None, 29)) > 1


@pytest.mark.full
@pytest.mark.parametrize("goes_on", [True, False], ids=["which goes on", "which ends"])
@pytest.mark.parametrize("name", BUILDS)
def test_killed_while_the_server_is_at_a_concurrent_statement_and_again_anywhere_it_ends_legally(
    name: str,
    goes_on: bool,
    postgres: EmbeddedPostgres,
    forks: Forks,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    began = time.monotonic()
    with Ground.prepared(name, postgres, forks, tmp_path) as ground:
        counted = orphans(ground, legal_world(ground), *BUILDS[name], goes_on=goes_on)
    said = f"killed during {BUILDS[name][0]}, which {'goes on' if goes_on else 'ends'}, {name}"
    record_property("schedules", f"{said}: {counted} double, {time.monotonic() - began:.0f} s")
    assert counted > 5


@pytest.mark.full
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_crossing_and_again_at_every_crossing_it_ends_legally(
    name: str, postgres: EmbeddedPostgres, forks: Forks, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    with Ground.prepared(name, postgres, forks, tmp_path) as ground:
        counted = walk(ground, legal_world(ground))
    said = f"{counted[1]} single, {counted[2]} double, {time.monotonic() - began:.0f} s"
    record_property("schedules", f"killed for real, {name}: {said}")
    assert counted[2] > counted[1] > 3
