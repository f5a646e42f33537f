"""Anything, in any order, on a real SQLite file and a real PostgreSQL: what stands is what must stand (see `machine.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from forked import Forks
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Pair

from twinstep.engine.embedded import EmbeddedPostgres


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks.started("machine", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql") as started:
        yield started


@pytest.fixture
def pair(postgres: EmbeddedPostgres, forks: Forks, tmp_path: Path) -> Callable[[], Pair]:
    """A new pair at each call."""
    numbers = count()

    def make() -> Pair:
        number = next(numbers)
        folder = tmp_path / str(number)
        folder.mkdir()
        postgres.drop_database(f"machine_{number - 1}")
        postgres.drop_database(f"machine_{number}")
        return Pair(postgres.create_database(f"machine_{number}"), folder, forks)

    return make


def run(pair: Callable[[], Pair], *, examples: int, steps: int, derandomize: bool) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=derandomize,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        database=None,
    )
    run_state_machine_as_test(pair, settings=chosen)


def test_whatever_happens_what_stands_is_what_must_stand(pair: Callable[[], Pair]) -> None:
    run(pair, examples=8, steps=10, derandomize=True)


@pytest.mark.full
def test_whatever_happens_for_long_what_stands_is_what_must_stand(pair: Callable[[], Pair]) -> None:
    run(pair, examples=300, steps=25, derandomize=False)
