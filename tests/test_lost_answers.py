"""The connection to the remote cut at every message of a run: before it, and after it and before its answer.

Each schedule cuts once. The same call goes on by itself on a new connection, or says that it could not, and then `resume`
finishes; the world is compared with the only legal one, in which a step done twice shows in the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from network import Act, Message, Network, Rule, at, network_to
from real_schedules import SCENARIOS, Place, begin, check_end, legal_world

from twinstep.engine.coordinator import Coordinator
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.engine.report import Report

RUNS = ("success", "refused_remotely", "taken_back")
CUTS = (Act.CUT, Act.SWALLOW)
ENDS = {"success": ("verified", 0), "refused_remotely": ("rolled_back", 1), "taken_back": ("rolled_back", 0)}


def silent(crossing: str) -> None:
    """Nothing happens."""


class Sweep:
    """The schedules of one kind of run on one server."""

    def __init__(self, name: str, server: EmbeddedPostgres, folder: Callable[[], Path]) -> None:
        self._name, self._server, self._folder = name, server, folder
        self._legal = legal_world(name, folder(), server.create_database())
        self.ends: Counter[tuple[str, int, str]] = Counter()

    def schedule(self, rule: Rule) -> list[Message]:
        """Run it once over a network with that rule, and finish what it left; the messages that were seen of the first call."""
        url = self._server.create_database()
        place = begin(self._name, self._folder(), url)
        with network_to(url) as network:
            network.rule = rule
            report = self.call(place, network)
            seen = list(network.seen)
        self.ends[(report.outcome, report.exit_code, report.error.code if report.error else "")] += 1
        if (report.outcome, report.exit_code) != ENDS[self._name]:
            assert report.exit_code in (5, 6), report
            again = self.finish(place, report)
            assert again.outcome == ENDS[self._name][0], again
        check_end(self._name, place, self._legal)
        self._server.drop_database(url.rpartition("/")[2].partition("?")[0])
        return seen

    def call(self, place: Place, network: Network) -> Report:
        """As on a device that waits for no lock: one of its own must not be in its way."""
        scenario = SCENARIOS[self._name]
        over = Place(folder=place.folder, url=network.url, wait_seconds=0)
        report = scenario.call(over.coordinator(scenario, silent))
        assert isinstance(report, Report)
        return report

    def finish(self, place: Place, report: Report) -> Report:
        """What began is finished by `resume`; what was refused before it began, by the same call."""
        scenario = SCENARIOS[self._name]
        calls = {5: scenario.call, 6: Coordinator.resume}
        again = calls[report.exit_code](place.coordinator(scenario, silent))
        assert isinstance(again, Report)
        return again


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


def sweep(name: str, act: Act, server: EmbeddedPostgres, folder: Callable[[], Path], *, every: int) -> int:
    """Do that at each so-many-th message; how many schedules that were, until there was no such message any more."""
    runs, number, schedules = Sweep(name, server, folder), 0, 0
    while len(runs.schedule(at(number, act))) > number:
        number, schedules = number + every, schedules + 1
    print(f"{name}: {act.name.lower()} at {schedules} messages, ended as {dict(runs.ends)}")
    return schedules


@pytest.mark.parametrize("act", CUTS)
@pytest.mark.parametrize("name", RUNS)
def test_a_connection_cut_at_a_message_leads_to_the_same_end(
    name: str, act: Act, postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    assert sweep(name, act, postgres, folder, every=61) > 2


@pytest.mark.full
@pytest.mark.parametrize("act", CUTS)
@pytest.mark.parametrize("name", RUNS)
def test_a_connection_cut_at_any_message_leads_to_the_same_end(
    name: str, act: Act, postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    assert sweep(name, act, postgres, folder, every=1) > 150
