"""A coordinator that is stopped, loses its remote lock, and is woken after another one has worked, at every crossing in memory.

Stopped at a crossing, its remote session is ended and its lock is free; what it holds locally it keeps, as a stopped process
does. Another coordinator then works to its end: one of the same pair and log, from another folder, or another device with a
local database and a log of its own. When the first one goes on, it must commit nothing more, on no side and not in the log, and
end with exit code 4; or, where nothing was left to do for which it needed the lock, with the truth.

Nothing can look at the lock and commit elsewhere in one instant. Stopped between the two, it finishes that one commit, of its
local database or its log, which are its own and say what is true; and nothing after it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen
from schedules import ACCEPT, AWAY, BATCH, RESTORE, RIVAL, SCENARIOS
from worlds import NOW, Scenario, Tree, World, check_ledgers, coordinator, made, statuses, without_chance

from twinstep.engine.coordinator import Coordinator
from twinstep.migrations.memory_target import MemoryDatabase
from twinstep.stores.memory import MemoryEventStore

Rival = Callable[[Scenario, World, Path], object]


def same_log(scenario: Scenario, world: World, state_dir: Path) -> None:
    """Another coordinator of the same pair and log."""
    probe = world.log._probe
    rival = coordinator(scenario, world, state_dir)
    rival.resume()
    scenario.call(rival)
    world.log._probe = probe


def other_device(scenario: Scenario, world: World, state_dir: Path) -> None:
    """Another device, with a local database and a log of its own, on the same remote."""
    local = MemoryDatabase()
    local.contents.tables["items"] = {"a": 1, "b": 2}
    local.contents.user_version = 11
    Coordinator(
        local=local,
        remote=world.remote,
        migrations=[*scenario.earlier, scenario.migration, *scenario.later],
        log=MemoryEventStore(clock=lambda: NOW),
        state_dir=state_dir,
        clock=lambda: NOW,
        retry_for_seconds=0.0,
    ).migrate()


@frozen(kw_only=True)
class Woken:
    """What was there when it was woken and what is there now; whether it had lost the lock, and what it answered."""

    crossing: str
    since: tuple[str, ...]
    had_the_lock: bool
    under_way: int
    before: World
    now: World
    outcome: str
    exit_code: int

    def events(self) -> list[str]:
        """What it has appended since to the streams of migrations, but for the one append in which it was stopped."""
        events = list(self.now.log.read_all())[max(self.under_way, len(list(self.before.log.read_all()))) :]
        return [record.type for record in events if "/" in record.stream]

    def committed(self) -> list[str]:
        """What it has committed since and must not have, the lock being lost."""
        found = self.events()
        if self.before.remote.contents is not self.now.remote.contents:
            found.append("the remote")
        commits = sum(crossing.startswith("local:") and crossing.endswith("before-commit") for crossing in self.since)
        if commits and self.before.local.contents is not self.now.local.contents:
            found.append("the local database")
        return found


def stopped_at(scenario: Scenario, world: World, number: int, rival: Rival, state_dir: Path) -> Woken:
    """Stop the call at the crossing of that number, let the rival work, and wake it."""
    passed: list[str] = []
    kept: list[tuple[bool, World]] = []
    under_way: list[int] = []

    def probe(crossing: str) -> None:
        passed.append(crossing)
        if len(passed) == number + 2 and passed[number:] == ["append:before-commit", "append:after-commit"]:
            under_way.append(len(list(world.log.read_all())))
        if len(passed) == number + 1:
            had_the_lock = world.remote.locked_by is not None
            world.remote.locked_by = None
            rival(scenario, world, state_dir / "elsewhere")
            kept.append((had_the_lock, world.copied()))

    report = scenario.call(coordinator(scenario, world, state_dir, probe))
    ((had_the_lock, before),) = kept
    return Woken(
        crossing=passed[number],
        since=tuple(passed[number + 1 :]),
        had_the_lock=had_the_lock,
        under_way=under_way[0] if under_way else 0,
        before=before,
        now=world,
        outcome=report.outcome,  # type: ignore[attr-defined]
        exit_code=report.exit_code,  # type: ignore[attr-defined]
    )


def problems(woken: Woken) -> list[str]:
    """What must not be."""
    found = []
    if woken.had_the_lock and woken.committed():
        found.append(f"it lost the lock and committed {', '.join(woken.committed())}")
    if woken.exit_code not in (0, 1, 4, 5, 6):
        found.append(f"exit code {woken.exit_code}")
    if woken.had_the_lock and woken.exit_code == 0 and woken.events():
        found.append("it lost the lock on the way, and says that all is well")
    try:
        check_ledgers(woken.now, in_flight=True)
    except AssertionError as error:
        found.append(f"untrue: {error}")
    return found


STOPPABLE = [each for each in SCENARIOS if each.remote and each.kind not in (ACCEPT, RIVAL, AWAY, BATCH) and each.single_call]


def _stop_everywhere(scenario: Scenario, rival: Rival, state_dir: Path, *, every: int) -> int:
    with without_chance() as ids:
        tree = Tree(scenario, state_dir, ids)
        begin = tree.number(made(scenario, state_dir))
        crossings = tree.left(begin)
        said: list[str] = []
        for number in range(0, len(crossings), every):
            # An append holds the log's own lock there: nobody else can append.
            if crossings[number][0] == "append:before-commit" and rival is same_log:
                continue
            # Putting a backup back needs no remote: what keeps others of the pair out is the pair's lock, which a stopped
            # process keeps, and which a log in memory has none of.
            if scenario.kind == RESTORE and scenario.dies_at and rival is same_log:
                continue
            woken = stopped_at(scenario, tree.world(begin), number, rival, state_dir)
            said += [f"{number} {woken.crossing}: {each} ({woken.outcome})" for each in problems(woken)]
            coordinator(scenario, woken.now, state_dir).resume()
            said += [
                f"{number} {woken.crossing}: {name} stays in flight"
                for name, status in statuses(woken.now).items()
                if status.in_flight
            ]
    assert not said, f"{len(said)}: " + "\n".join(said)
    return len(crossings)


@pytest.mark.parametrize("rival", [same_log, other_device])
@pytest.mark.parametrize("scenario", STOPPABLE[::9], ids=lambda scenario: scenario.name)
def test_who_lost_its_lock_while_stopped_commits_nothing_when_woken(scenario: Scenario, rival: Rival, tmp_path: Path) -> None:
    assert _stop_everywhere(scenario, rival, tmp_path, every=3) > 0


@pytest.mark.full
@pytest.mark.parametrize("rival", [same_log, other_device])
@pytest.mark.parametrize("scenario", STOPPABLE, ids=lambda scenario: scenario.name)
def test_who_lost_its_lock_commits_nothing_at_any_crossing_of_any_run(scenario: Scenario, rival: Rival, tmp_path: Path) -> None:
    assert _stop_everywhere(scenario, rival, tmp_path, every=1) > 0
