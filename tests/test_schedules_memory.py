"""Killed anywhere, any number of times, run again, done: every schedule over every crossing, in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from schedules import SCENARIOS
from worlds import Crash, Scenario, Tree, coordinator, made, walk, without_chance

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@each_scenario
def test_killed_once_or_twice_anywhere_it_ends_legally(scenario: Scenario, tmp_path: Path) -> None:
    walked = walk(scenario, tmp_path, crashes=2, every=7)
    assert walked.schedules[1] > 0
    assert walked.schedules[2] > 0


@pytest.mark.full
@each_scenario
def test_killed_up_to_three_times_anywhere_it_ends_legally(
    scenario: Scenario, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    began = time.perf_counter()
    walked = walk(scenario, tmp_path, crashes=3)
    single, double, triple = (walked.schedules[length] for length in (1, 2, 3))
    said = f"{single} single, {double} double, {triple} triple, {walked.worlds} worlds, {time.perf_counter() - began:.1f} s"
    record_property("schedules", f"in memory, {scenario.kind}: {scenario.name}: {said}")
    assert triple >= double >= single > 0


@pytest.mark.parametrize("scenario", SCENARIOS[::20], ids=lambda scenario: scenario.name)
def test_a_crash_leaves_what_was_kept_at_its_crossing(scenario: Scenario, tmp_path: Path) -> None:
    _killed_in_earnest(scenario, tmp_path, every=3)


@pytest.mark.full
@each_scenario
def test_every_crash_leaves_what_was_kept_at_its_crossing(scenario: Scenario, tmp_path: Path) -> None:
    _killed_in_earnest(scenario, tmp_path, every=1)


def _killed_in_earnest(scenario: Scenario, state_dir: Path, *, every: int) -> None:
    with without_chance() as ids:
        tree = Tree(scenario, state_dir, ids)
        begin = tree.number(made(scenario, state_dir))
        left = tree.left(begin)
        for at in range(0, len(left), every):
            world, passed = tree.world(begin), list[str]()

            def kill(crossing: str, at: int = at, passed: list[str] = passed) -> None:
                passed.append(crossing)
                if len(passed) > at:
                    raise Crash(crossing)

            with pytest.raises(Crash):
                scenario.call(coordinator(scenario, world, state_dir, kill))
            assert (passed[-1], tree.number(world.copied())) == left[at]
