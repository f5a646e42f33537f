"""Crash schedules in memory: every run is killed at every crossing, and again while it recovers, and must end legally.

A *world* is two databases and a log. A *scenario* says how the world begins, what is called, and what it may end as. A
*schedule* is the crossings at which the successive calls are killed. What a killed process leaves is the world as it is at
that crossing, without its locks: one run, of which each crossing is kept, gives all worlds that killing it can leave
(`test_a_crash_leaves_what_was_kept_at_its_crossing` kills for once in earnest).

Many schedules lead to the same world, and each world is walked once, and counted for every schedule that leads to it. This
leaves nothing out, because a call is a function of the world it finds: while the schedules are walked, ids are numbered on
from the highest one in the world, the clock stands, and nothing takes time. *The same* means equal in everything: rows,
objects, marks, ledgers, what lies aside, backups, every event of the log with its hash, and the read tables.

What must hold at every end: the log rests, its chain and its read tables hold, the ledgers say what the log says, and each
database equals, row for row, the one legal outcome.
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import define, field, frozen

from twinstep.engine import loop, quarantining, restoring, worker
from twinstep.engine.coordinator import Coordinator
from twinstep.events import types as e
from twinstep.events.codec import decode
from twinstep.events.fold import Status, fold
from twinstep.events.lifecycle import State
from twinstep.events.types import Recorded
from twinstep.migrations import steps
from twinstep.migrations.definition import Migration
from twinstep.migrations.ledger import DOWN, HEAD, SideLedger
from twinstep.migrations.memory_target import Contents, MemoryDatabase
from twinstep.stores import envelope
from twinstep.stores.log_check import check_log
from twinstep.stores.memory import MemoryEventStore

ID = "0001_change"
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
_NUMBERED = re.compile(r"7e57c0de-?0000-?7000-?8000-?([0-9a-f]{12})")


class Crash(BaseException):
    """The process is dead. Not an Exception: nothing may catch it."""


@define
class Ids:
    """Draws ids one after the other."""

    last: int = 0

    def draw(self) -> uuid.UUID:
        """The next one."""
        self.last += 1
        return uuid.UUID(int=(0x7E57C0DE_0000_7000_8000 << 48) | self.last)


@contextmanager
def without_chance() -> Iterator[Ids]:
    """While this lasts, ids are numbered, the clock stands, and nothing takes time."""
    ids = Ids()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uuid, "uuid4", ids.draw)
        for module in (worker, restoring, quarantining, envelope):
            patch.setattr(module, "uuid7", ids.draw)
        patch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: 0.0))
        patch.setattr(steps, "datetime", SimpleNamespace(now=lambda zone: NOW))
        # Two thirds of the time: sources that do not change, and records that are never changed, read again and again.
        patch.setattr(inspect, "getsource", cache(inspect.getsource))
        for function, known in ((decode, _decoding()), (fold, _folding())):
            for name, module in list(sys.modules.items()):
                if name.startswith("twinstep.") and vars(module).get(function.__name__) is function:
                    patch.setattr(module, function.__name__, known)
        yield ids


def _decoding() -> Callable[[Recorded], e.Event]:
    """`decode`, once for each record. The hash of a record names all that is in it."""
    known: dict[str, e.Event] = {}

    def decoded(record: Recorded) -> e.Event:
        if record.hash not in known:
            known[record.hash] = decode(record)
        return known[record.hash]

    return decoded


def _folding() -> Callable[..., Status]:
    """`fold`, once for each record. Its hash names all that is before it too."""
    known: dict[str, Status] = {}

    def folded(records: Iterable[Recorded], status: Status | None = None) -> Status:
        assert status is None
        waiting = list(records)
        at = next((at for at in range(len(waiting), 0, -1) if waiting[at - 1].hash in known), 0)
        found = known[waiting[at - 1].hash] if at else Status()
        for record in waiting[at:]:
            found = known[record.hash] = fold([record], found)
        return found

    return folded


def _log() -> MemoryEventStore:
    return MemoryEventStore(clock=lambda: NOW)


@define(kw_only=True)
class World:
    """Two databases and a log. What lies in them is replaced, and never changed in place: copies share it."""

    local: MemoryDatabase = field(factory=MemoryDatabase)
    remote: MemoryDatabase = field(factory=MemoryDatabase)
    log: MemoryEventStore = field(factory=_log)

    def copied(self) -> World:
        """An independent copy, as a dead process leaves it."""
        return World(local=_as_it_lies(self.local), remote=_as_it_lies(self.remote), log=_copy_of(self.log))


def _as_it_lies(database: MemoryDatabase) -> MemoryDatabase:
    return MemoryDatabase(
        name=database.name, contents=database.contents, reachable=database.reachable, backups=dict(database.backups)
    )


def _copy_of(log: MemoryEventStore) -> MemoryEventStore:
    """The log with everything that was appended."""
    copied = copy.copy(log)
    for name, value in vars(log).items():
        if isinstance(value, dict | list | set):
            setattr(copied, name, copy.copy(value) if not isinstance(value, dict) else {k: _own(v) for k, v in value.items()})
    return copied


def _own(value: object) -> object:
    return copy.copy(value) if isinstance(value, list | dict | set) else value


class Texts:
    """Numbers whole texts: what has the same number is equal. Each object is written out once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._known: dict[int, tuple[object, int, int]] = {}

    def of(self, value: object) -> tuple[int, int]:
        """The number of its text, and the highest id in it."""
        known = self._known.get(id(value))
        if known is None:
            written = repr(value)
            highest = max((int(each, 16) for each in _NUMBERED.findall(written)), default=0)
            # The object is kept, so that no other one is given its place in memory.
            known = self._known[id(value)] = value, self._numbers.setdefault(written, len(self._numbers)), highest
        return known[1:]

    def of_world(self, world: World) -> tuple[tuple[object, ...], int]:
        """All that is in a world as a key, and the highest id in it."""
        highest = 0
        parts: list[object] = []
        for database in (world.local, world.remote):
            lying = {name: self.of(contents) for name, contents in database.backups.items()}
            number, last = self.of(database.contents)
            highest = max(highest, last, *(last for _, last in lying.values()), *map(_number_in, (database.name, *lying)))
            parts += [database.name, database.reachable, number, tuple((name, number) for name, (number, _) in lying.items())]
        log = world.log
        records, rows = [self.of(each) for each in log.read_all()], [self.of(each) for each in log._rows.values()]
        highest = max(highest, *(last for _, last in (*records, *rows, (0, 0))), *map(_number_in, log._pairs.values()))
        parts += [log.log_id, tuple(number for number, _ in records), tuple(number for number, _ in rows)]
        return (*parts, tuple(log._pairs.items())), max(highest, _number_in(log.log_id))


def _number_in(id: str) -> int:
    return max((int(each, 16) for each in _NUMBERED.findall(id)), default=0)


Call = Callable[[Coordinator], object]


@frozen(kw_only=True)
class Scenario:
    """How a world begins, what is called in it, and which of the two outcomes is legal.

    `kind` is the kind of run. `holds` is what item "a" must be in the end, locally and remotely: it was 1 in both, a local
    change adds 10, a remote one 100. `dies_at` is the crossing at which the last call before is killed, `then` what happens to
    the world after it. Before a killed call is made again, another coordinator may do something: `meanwhile`. `goes_on_with` is
    the call with which a person goes on, where it is another one. `single_call` says that `call` is one call and not several.
    """

    kind: str
    name: str
    migration: Migration
    call: Call = lambda coordinator: coordinator.migrate()
    begin: Callable[[Contents, Contents], None] = lambda local, remote: None
    before: tuple[Call, ...] = ()
    ends: State = State.VERIFIED
    holds: tuple[int, int] = (11, 101)
    local: bool = True
    remote: bool = True
    options: dict[str, object] = field(factory=dict)
    earlier: tuple[Migration, ...] = ()
    later: tuple[Migration, ...] = ()
    dies_at: str = ""
    then: Callable[[World], None] = lambda world: None
    meanwhile: Callable[[World, Coordinator], object] | None = None
    single_call: bool = True
    goes_on_with: Call | None = None


Probe = Callable[[str], None]


def silent(crossing: str) -> None:
    """Nothing happens at any crossing."""


def coordinator(scenario: Scenario, world: World, state_dir: Path, probe: Probe = silent) -> Coordinator:
    """A fresh process on the world."""
    world.log._probe = probe
    return Coordinator(
        local=world.local if scenario.local else None,
        remote=world.remote if scenario.remote else None,
        migrations=[*scenario.earlier, scenario.migration, *scenario.later],
        log=world.log,
        state_dir=state_dir,
        probe=probe,
        clock=lambda: NOW,
        retry_for_seconds=0.0,
        **scenario.options,
    )


def killing(at: str) -> Probe:
    """A probe that kills at the first crossing of that name."""

    def probe(crossing: str) -> None:
        if crossing == at:
            raise Crash(crossing)

    return probe


def made(scenario: Scenario, state_dir: Path) -> World:
    """The world as it is when the call to be killed is made."""
    world = World()
    for contents in (world.local.contents, world.remote.contents):
        contents.tables["items"] = {"a": 1, "b": 2}
        contents.user_version = 11
    scenario.begin(world.local.contents, world.remote.contents)
    *calls, last = scenario.before or (lambda coordinator: None,)
    for call in calls:
        call(coordinator(scenario, world, state_dir))
    try:
        last(coordinator(scenario, world, state_dir, killing(scenario.dies_at)))
        died = False
    except Crash:
        died = True
    assert died == bool(scenario.dies_at), f"never came to {scenario.dies_at}"
    world = world.copied()
    scenario.then(world)
    return world


@frozen(kw_only=True)
class Outcome:
    """What both databases hold, apart from the ledger."""

    local: str
    remote: str

    @classmethod
    def of(cls, world: World) -> Outcome:
        return cls(local=_shape(world.local.contents), remote=_shape(world.remote.contents))


def _shape(contents: Contents) -> str:
    tables = {name: sorted(rows.items()) for name, rows in sorted(contents.tables.items())}
    objects = sorted((key, found.definition, found.valid) for key, found in contents.objects.items())
    aside = sorted((row.table, row.row_key, row.content) for row in contents.quarantine.rows if row.put_back_at is None)
    return repr((tables, objects, contents.user_version, aside))


class Tree:
    """The worlds of a scenario, each once: which others a crash in it leads to, and whether it ends legally."""

    def __init__(self, scenario: Scenario, state_dir: Path, ids: Ids) -> None:
        self._scenario = scenario
        self._state_dir = state_dir
        self._ids = ids
        self._texts = Texts()
        self._worlds: list[tuple[World, int]] = []
        self._numbers: dict[tuple[object, ...], int] = {}
        self._left: dict[int, tuple[tuple[str, int], ...]] = {}
        self._ended: dict[int, World] = {}

    def number(self, world: World) -> int:
        """The world's number; equal ones have the same."""
        key, highest = self._texts.of_world(world)
        number = self._numbers.setdefault(key, len(self._worlds))
        if number == len(self._worlds):
            self._worlds.append((world, highest))
        return number

    def world(self, number: int) -> World:
        """A copy of it; ids are numbered on from there."""
        world, self._ids.last = self._worlds[number]
        return world.copied()

    def left(self, number: int) -> tuple[tuple[str, int], ...]:
        """Each crossing of the scenario's call there, and the world that a crash at it leaves."""
        if number not in self._left:
            world = self.world(number)
            kept: list[tuple[str, World]] = []
            process = coordinator(
                self._scenario, world, self._state_dir, lambda crossing: kept.append((crossing, world.copied()))
            )
            self._scenario.call(process)
            self._ended[number] = world
            self._left[number] = tuple((crossing, self.number(each)) for crossing, each in kept)
        return self._left[number]

    def after(self, number: int) -> int:
        """The world that the scenario's call leaves where it is not killed."""
        self.left(number)
        return self.number(self._ended[number].copied())

    def end(self, number: int) -> World:
        """What it comes to where nothing is killed any more: run again, as a person would, until nothing is in flight."""
        scenario = self._scenario
        same = scenario.meanwhile is None and scenario.goes_on_with is None
        world = self._ended.pop(number) if same and number in self._ended else self._run_again(number)
        if any(status.in_flight for status in statuses(world).values()):
            coordinator(scenario, world, self._state_dir).resume()
        return world

    def _run_again(self, number: int) -> World:
        scenario, world = self._scenario, self.world(number)
        if scenario.meanwhile is not None:
            scenario.meanwhile(world, coordinator(scenario, world, self._state_dir / "elsewhere"))
        (scenario.goes_on_with or scenario.call)(coordinator(scenario, world, self._state_dir))
        return world


@frozen(kw_only=True)
class Walked:
    """How many schedules there were of each length, and how many different worlds were recovered from."""

    schedules: Counter[int]
    worlds: int


def walk(scenario: Scenario, state_dir: Path, *, crashes: int, every: int = 1) -> Walked:
    """Run all schedules of up to `crashes` crashes. Raises AssertionError at the first that ends illegally. With `every` above
    1 only each so-many-th of the worlds that the last crash leaves is recovered from."""
    with without_chance() as ids:
        tree = Tree(scenario, state_dir, ids)
        begin = tree.number(made(scenario, state_dir))
        legal = tree.end(tree.after(begin))
        check_end(scenario, legal, Outcome.of(legal))
        counted: Counter[int] = Counter()
        reached: dict[int, tuple[str, ...]] = {begin: ()}
        checked = {begin}
        last = Counter({begin: 1})
        for length in range(1, crashes + 1):
            following: Counter[int] = Counter()
            for number, ways in last.items():
                for crossing, left in tree.left(number):
                    following[left] += ways
                    reached.setdefault(left, (*reached[number], crossing))
            for number in list(following)[:: every if length == crashes else 1]:
                counted[length] += following[number]
                if number in checked and number != begin:
                    continue
                checked.add(number)
                try:
                    if length < crashes:
                        tree.left(number)
                    check_end(scenario, tree.end(number), Outcome.of(legal))
                except Exception as error:
                    raise AssertionError(f"{scenario.name}: killed at {' then '.join(reached[number])}: {error!r}") from error
            last = following
    return Walked(schedules=counted, worlds=len(checked))


def check_end(scenario: Scenario, world: World, legal: Outcome) -> None:
    """Everything that must hold when nothing is left to do."""
    assert check_log(world.log).sound
    found = statuses(world)
    assert found[ID].state is scenario.ends, found[ID].state
    assert Outcome.of(world) == legal, f"{Outcome.of(world)} instead of {legal}"
    items = world.local.contents.tables["items"]["a"], world.remote.contents.tables["items"]["a"]
    assert items == scenario.holds, items
    check_ledgers(world)
    _check_told(world)
    _check_quarantine(world)


def check_ledgers(world: World, *, in_flight: bool = False) -> None:
    """The ledgers say what the log says, nothing twice, and nobody holds a lock. What is in flight must be allowed."""
    for database in (world.local, world.remote):
        rows = [row for row in database.contents.ledger if row.direction != HEAD]
        assert len({(row.migration, row.direction, row.step, row.run, row.undoes) for row in rows}) == len(rows), "a row twice"
        assert database.locked_by is None
    for name, status in statuses(world).items():
        assert in_flight or not status.in_flight, name
        for database, by in ((world.local, status.local_by), (world.remote, status.remote_by)):
            ledger = SideLedger(rows=tuple(row for row in database.contents.ledger if row.migration == name))
            applied = ledger.applied_by()
            theirs = applied is not None and not world.log.knows_pair(applied.pair)
            if not status.in_flight:
                agree = (by is not None) == (applied is not None) or (by is None and theirs)
                assert agree, f"the log and a ledger disagree about {name}"


def statuses(world: World) -> dict[str, Status]:
    """What the log says of each migration."""
    streams = [name for name in world.log.streams() if "/" in name]
    return {name.partition("/")[2]: fold(world.log.read(name)) for name in streams}


def _check_told(world: World) -> None:
    """The log tells of each undo that a ledger holds: by runs that it knows, for the log may have been lost before them."""
    events = [decode(record) for record in world.log.read_all()]
    begun = {event.run for event in events if isinstance(event, e.RunStarted)}
    for database, kind in ((world.local, e.LocalUndone), (world.remote, e.RemoteUndone)):
        undid = {row.run for row in database.contents.ledger if row.direction == DOWN} & begun
        told = {event.run for event in events if isinstance(event, kind)}
        assert undid <= told, f"{kind.__name__} is missing"


def _check_quarantine(world: World) -> None:
    """The log tells of every row that was put back by hand, and of none twice."""
    events = [decode(record) for record in world.log.read_all()]
    told = Counter[str]()
    for event in events:
        if isinstance(event, e.QuarantineRestored):
            told[event.restore] += event.rows
    runs = {event.run for event in events if isinstance(event, e.RunEvent)}
    done = [row.put_back_by for row in world.local.contents.quarantine.rows if row.put_back_by is not None]
    assert told == Counter(by for by in done if by not in runs)
