"""The power is cut: a process is killed, and what it had not synced is lost. The next run ends as after a kill.

The schedules are those of `real_schedules.py`, the loss is that of `power.py`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest
from forked import Forks
from power import Disk, traced
from real_schedules import SCENARIOS, Ground, legal_world
from targets import sometimes

from twinstep.engine.embedded import EmbeddedPostgres

LOCAL = [name for name, scenario in SCENARIOS.items() if scenario.local]
MODULES = ("real_schedules", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def forks(traces: Path) -> Iterator[Forks]:
    with Forks.started(*MODULES, under=traced(traces / "of")) as started:
        yield started


def cut(ground: Ground, traces: Path, at: int, chance: random.Random | None) -> int | None:
    """Killed at that crossing, with the power lost: how many writes and names are; None where it ends before."""
    ground.again("origin")
    disk = Disk.of(ground.place.folder)
    before = set(traces.iterdir())
    if not ground.killed(at):
        return None
    disk.replay(set(traces.iterdir()) - before)
    disk.assert_understood()
    lost = disk.unsynced()
    disk.lose_power(chance)
    return lost


def walk(ground: Ground, traces: Path, crossings: Iterable[int]) -> Counter[str]:
    """At each crossing twice: all of it is lost, or a selection."""
    legal = legal_world(ground)
    counted: Counter[str] = Counter()
    for at in crossings:
        for chance in (None, random.Random(at)):
            lost = cut(ground, traces, at, chance)
            if lost is None:
                return counted
            try:
                ground.run_again()
                ground.check_end(legal)
            except Exception as error:
                what = "all" if chance is None else "a selection"
                raise AssertionError(f"{ground.name}: cut at {at}, {what} of {lost} lost: {error!r}") from error
            counted["cut"] += 1
            counted["with a loss"] += bool(lost)
        for trace in traces.iterdir():
            trace.unlink()
    return counted


@pytest.mark.parametrize("name", sometimes(["success, rollback journal", "refused remotely and restored from the backup"], 2))
def test_what_was_not_synced_is_lost_and_the_next_run_ends_as_after_a_kill(
    name: str, postgres: EmbeddedPostgres, forks: Forks, traces: Path, tmp_path: Path
) -> None:
    with Ground.prepared(name, postgres, forks, tmp_path) as ground:
        counted = walk(ground, traces, count(5, 23))
    assert counted["with a loss"] > 1


@pytest.mark.full
@pytest.mark.parametrize("name", LOCAL)
def test_at_every_crossing(name: str, postgres: EmbeddedPostgres, forks: Forks, traces: Path, tmp_path: Path) -> None:
    with Ground.prepared(name, postgres, forks, tmp_path) as ground:
        counted = walk(ground, traces, count())
    print(f"{name}: the power cut {counted['cut']} times, {counted['with a loss']} of them with a loss")
    assert counted["with a loss"] > 3
