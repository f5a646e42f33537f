"""Killed with SIGKILL at every crossing, on a real SQLite file and a real PostgreSQL, and run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from real_schedules import SCENARIOS, begin, check_end, database_of, killed_at, legal_world, run_again

from twinstep.engine.embedded import EmbeddedPostgres


def sweep(name: str, server: EmbeddedPostgres, folder: Callable[[], Path], *, every: int) -> int:
    """Kill at each so-many-th crossing; how many schedules that were."""
    legal = legal_world(name, folder(), server.create_database())
    at = 0
    while True:
        url = server.create_database()
        place = begin(name, folder(), url)
        was_killed = killed_at(name, place, at)
        run_again(name, place)
        check_end(name, place, legal)
        server.drop_database(database_of(url))
        if not was_killed:
            return at // every
        at += every


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """A new folder at each call."""
    made = 0

    def make() -> Path:
        nonlocal made
        made += 1
        path = tmp_path / str(made)
        path.mkdir()
        return path

    return make


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_killed_process_leaves_what_the_next_one_finishes(
    name: str, postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    assert sweep(name, postgres, folder, every=7) > 1


@pytest.mark.full
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_crossing_it_ends_legally(name: str, postgres: EmbeddedPostgres, folder: Callable[[], Path]) -> None:
    schedules = sweep(name, postgres, folder, every=1)
    print(f"{name}: {schedules} schedules")
    assert schedules > 7
