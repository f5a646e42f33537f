"""Killed anywhere, any number of times, run again, done: every schedule over every crossing, in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from schedules import SCENARIOS, Scenario, walk


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_once_or_twice_anywhere_it_ends_legally(scenario: Scenario, tmp_path: Path) -> None:
    counted = walk(scenario, tmp_path, crashes=2, every=3)
    assert counted[1] > 5
    assert counted[2] > counted[1]


@pytest.mark.full
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_up_to_three_times_anywhere_it_ends_legally(scenario: Scenario, tmp_path: Path) -> None:
    counted = walk(scenario, tmp_path, crashes=3)
    print(f"{scenario.name}: {counted[1]} single, {counted[2]} double, {counted[3]} triple")
    assert counted[3] > counted[2]
