"""Crash schedules in memory: every run is killed at every crossing, and again while it recovers, and must end legally.

A *world* is two databases and a log. A *scenario* says how the world begins, what is called, and what it may end as. A
*schedule* is the crossings at which the successive calls are killed. Schedules form a tree, walked depth first: the world
as the first crash left it is kept, and every second crash begins from a copy of it. Nothing is left out or merged.

What must hold at every end: the log rests, its chain and its read tables hold, the ledgers say what the log says, and each
database equals, row for row, the one legal outcome.
"""

from __future__ import annotations

import copy
import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import define, evolve, field, frozen

from twinstep.engine.backup_report import BackupReport
from twinstep.engine.coordinator import Coordinator
from twinstep.engine.report import Report, VerifyReport
from twinstep.events.fold import fold
from twinstep.events.lifecycle import State
from twinstep.migrations.catalogue import CatalogueObject
from twinstep.migrations.definition import Migration, Side
from twinstep.migrations.memory_target import Contents, MemoryDatabase
from twinstep.stores.log_check import check_log
from twinstep.stores.memory import MemoryEventStore

ID = "0001_change"


class Crash(BaseException):
    """The process is dead. Not an Exception: nothing may catch it."""


class Killer:
    """A probe that kills at the crossing of that number, counted from 0, and remembers what it passed."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.passed: list[str] = []

    def __call__(self, crossing: str) -> None:
        self.passed.append(crossing)
        if self.at is not None and len(self.passed) > self.at:
            raise Crash(crossing)


@define(kw_only=True)
class World:
    """Two databases and a log."""

    local: MemoryDatabase = field(factory=MemoryDatabase)
    remote: MemoryDatabase = field(factory=MemoryDatabase)
    log: MemoryEventStore = field(factory=MemoryEventStore)

    def copied(self) -> World:
        """An independent copy, as a dead process left it."""
        copied = World(local=copy.deepcopy(self.local), remote=copy.deepcopy(self.remote), log=copy_of(self.log))
        copied.local.crashed()
        copied.remote.crashed()
        return copied


def copy_of(log: MemoryEventStore) -> MemoryEventStore:
    """The log with everything that was appended."""
    copied = copy.copy(log)
    for name, value in vars(log).items():
        if isinstance(value, dict | list | set):
            setattr(copied, name, copy.copy(value) if not isinstance(value, dict) else {k: _own(v) for k, v in value.items()})
    return copied


def _own(value: object) -> object:
    return copy.copy(value) if isinstance(value, list | dict | set) else value


Call = Callable[[Coordinator], object]


@frozen(kw_only=True)
class Scenario:
    """How a world begins, what is called in it, and which of the two outcomes is legal."""

    name: str
    migration: Migration
    call: Call = lambda coordinator: coordinator.migrate()
    begin: Callable[[Contents, Contents], None] = lambda local, remote: None
    before: tuple[Call, ...] = ()
    ends: State = State.VERIFIED
    local: bool = True
    remote: bool = True
    options: dict[str, object] = field(factory=dict)
    stands: frozenset[str] | None = None
    earlier: tuple[Migration, ...] = ()
    # The crossing at which the last call before is killed; the call with which a person goes on, where it is another one.
    dies_at: str = ""
    goes_on_with: Call | None = None


def coordinator(scenario: Scenario, world: World, state_dir: Path, probe: Callable[[str], None]) -> Coordinator:
    """A fresh process on the world."""
    world.log._probe = probe
    return Coordinator(
        local=world.local if scenario.local else None,
        remote=world.remote if scenario.remote else None,
        migrations=[*scenario.earlier, scenario.migration],
        log=world.log,
        state_dir=state_dir,
        probe=probe,
        retry_for_seconds=0.0,
        **scenario.options,
    )


def made(scenario: Scenario, state_dir: Path) -> World:
    """The world as it is when the call to be killed is made."""
    world = World()
    for contents in (world.local.contents, world.remote.contents):
        contents.tables["items"] = {"a": 1, "b": 2}
        contents.user_version = 11
    scenario.begin(world.local.contents, world.remote.contents)
    *calls, last = scenario.before or (lambda coordinator: None,)
    for call in calls:
        call(coordinator(scenario, world, state_dir, lambda crossing: None))

    def dying(crossing: str) -> None:
        if crossing == scenario.dies_at:
            raise Crash(crossing)

    try:
        last(coordinator(scenario, world, state_dir, dying))
    except Crash:
        return world.copied()
    assert not scenario.dies_at, f"never came to {scenario.dies_at}"
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
    objects = sorted((key, found.definition, found.valid) for key, found in contents.objects.items())
    return repr((sorted(contents.tables.items()), objects, contents.user_version))


def expected(scenario: Scenario, state_dir: Path) -> Outcome:
    """The outcome of the same call where nothing is killed."""
    world = made(scenario, state_dir)
    scenario.call(coordinator(scenario, world, state_dir, lambda crossing: None))
    _finish(scenario, world, state_dir)
    return Outcome.of(world)


def walk(scenario: Scenario, state_dir: Path, *, crashes: int, every: int = 1) -> Counter[int]:
    """Run all schedules of up to `crashes` crashes; how many there were of each length. Raises AssertionError at the first
    that ends illegally. With `every` above 1 only each so-many-th crossing of the last crash is taken."""
    legal = expected(scenario, state_dir)
    counted: Counter[int] = Counter()
    for schedule, world in _worlds(scenario, made(scenario, state_dir), state_dir, (), crashes, every):
        counted[len(schedule)] += 1
        _finish(scenario, world, state_dir)
        try:
            check_end(scenario, world, legal)
        except Exception as error:
            raise AssertionError(f"{scenario.name}: killed at {' then '.join(schedule)}: {error!r}") from error
    return counted


def _worlds(
    scenario: Scenario, world: World, state_dir: Path, schedule: tuple[str, ...], left: int, every: int
) -> Iterator[tuple[tuple[str, ...], World]]:
    """Each world that a schedule leads to, as the last crash left it."""
    if left == 0:
        return
    for at in itertools.count(0, every if left == 1 else 1):
        crashed = world.copied()
        killer = Killer(at)
        try:
            scenario.call(coordinator(scenario, crashed, state_dir, killer))
        except Crash as crash:
            longer = (*schedule, str(crash))
            yield longer, crashed.copied()
            yield from _worlds(scenario, crashed.copied(), state_dir, longer, left - 1, every)
        else:
            return


def _finish(scenario: Scenario, world: World, state_dir: Path) -> None:
    """Run again, as a person would: the same call, until nothing is in flight."""
    calls = (scenario.goes_on_with or scenario.call, lambda coordinator: coordinator.resume())
    for call in calls:
        call(coordinator(scenario, world, state_dir, lambda crossing: None))


def check_end(scenario: Scenario, world: World, legal: Outcome) -> None:
    """Everything that must hold when nothing is left to do."""
    (stream,) = (name for name in world.log.streams() if name.endswith(ID))
    status = fold(world.log.read(stream))
    assert status.state is scenario.ends, status.state
    assert Outcome.of(world) == legal, (Outcome.of(world), legal)
    assert check_log(world.log).sound
    for database, by in ((world.local, status.local_by), (world.remote, status.remote_by)):
        rows = [row for row in database.contents.ledger if row.migration == ID]
        assert len({(row.direction, row.step, row.run, row.undoes) for row in rows}) == len(rows), "a ledger row twice"
        assert (by is not None) == _stands(database), "the log and a ledger disagree"
    assert world.local.locked_by is None
    assert world.remote.locked_by is None


def _stands(database: MemoryDatabase) -> bool:
    from twinstep.migrations.ledger import SideLedger

    return SideLedger(rows=tuple(row for row in database.contents.ledger if row.migration == ID)).applied_by() is not None


# What migrations do, so that doing it twice, or half, shows in the rows.


def add(amount: int) -> Callable[[Contents], None]:
    """Adds to every item: once is right, twice is seen."""

    def change(contents: Contents) -> None:
        contents.tables["items"] = {key: int(value) + amount for key, value in contents.tables["items"].items()}  # type: ignore[arg-type]

    return change


def refuse(contents: Contents) -> None:
    """A step or check that says no."""
    raise ValueError("refused on purpose")


INDEX = "CREATE INDEX CONCURRENTLY items_index ON items (key)"
LEFT_BEHIND = "CREATE TABLE left_behind"
LOCAL = Side(up=add(10), down=add(-10))
REMOTE = Side(up=(add(100), INDEX), down=add(-100))


def _migration(**changes: object) -> Migration:
    return evolve(Migration(id=ID, local=LOCAL, remote=REMOTE), **changes)  # type: ignore[arg-type]


def _applied_by_another_device(local: Contents, remote: Contents) -> None:
    """The remote change was made from another device, with a log of its own."""
    other = MemoryDatabase()
    other.contents.tables["items"] = {"a": 1, "b": 2}
    shared = MemoryDatabase(contents=remote)
    with tempfile.TemporaryDirectory() as state_dir:
        device = Coordinator(local=other, remote=shared, migrations=[_migration()], log=MemoryEventStore(), state_dir=state_dir)
        report = device.migrate()
    assert report.outcome == "verified", report
    made_by_other = shared.contents
    remote.tables, remote.objects, remote.ledger = made_by_other.tables, made_by_other.objects, made_by_other.ledger


def make(name: str) -> Callable[[Contents], None]:
    """Makes a table of that name with one row in it, from nothing."""

    def change(contents: Contents) -> None:
        contents.tables[name] = {"a": 1}
        contents.objects[f"table {name}"] = CatalogueObject(kind="table", name=name, definition="a")

    return change


def drop(name: str) -> Callable[[Contents], None]:
    """Takes it away again."""

    def change(contents: Contents) -> None:
        del contents.tables[name]
        del contents.objects[f"table {name}"]

    return change


FIRST = Migration(
    id="0000_first",
    local=Side(up=make("things"), down=drop("things")),
    remote=Side(up=(make("things"), "CREATE INDEX CONCURRENTLY things_index ON things (key)"), down=drop("things")),
)
# The same as the migration that the schedules look at.
MADE = evolve(FIRST, id=ID)


def _is_there_already(local: Contents, remote: Contents) -> None:
    """Somebody made the tables and the index before there was a log."""
    make("things")(local)
    make("things")(remote)
    index = "CREATE INDEX CONCURRENTLY things_index ON things (key)"
    remote.objects["index things_index"] = CatalogueObject(kind="index", name="things_index", definition=index)


def _baseline(coordinator: Coordinator) -> Report:
    return coordinator.baseline(ID)


def _baseline_first(coordinator: Coordinator) -> Report:
    return coordinator.baseline(FIRST.id)


def _restore(coordinator: Coordinator) -> BackupReport:
    """The first backup that there is: the one from before the change."""
    first, *_ = coordinator.backups()
    return coordinator.restore_backup(first.backup_id)


def _migrate(coordinator: Coordinator) -> Report:
    return coordinator.migrate()


def _skip(coordinator: Coordinator) -> Report:
    return coordinator.migrate(skip_remote=True)


def _back(coordinator: Coordinator) -> Report:
    return coordinator.roll_back()


def _migrate_once_and_accept(coordinator: Coordinator) -> VerifyReport:
    """The same where the migration would run anew once it is rolled back."""
    if coordinator.status().migrations[0].state != State.ROLLED_BACK:
        coordinator.migrate()
    return coordinator.verify(accept=True)


def _migrate_and_accept(coordinator: Coordinator) -> VerifyReport:
    """Whatever the first call leaves, the second one accepts; killed anywhere between, both are made again."""
    coordinator.migrate()
    return coordinator.verify(accept=True)


def _accept_and_back(coordinator: Coordinator) -> Report:
    """What was half undone is not accepted, and what was not undone at all is taken back anew."""
    coordinator.verify(accept=True)
    return coordinator.roll_back()


def _back_and_accept(coordinator: Coordinator) -> VerifyReport:
    coordinator.roll_back()
    return coordinator.verify(accept=True)


SCENARIOS = (
    Scenario(name="success", migration=_migration()),
    Scenario(
        name="refused locally", migration=_migration(local=Side(up=(add(10), refuse), down=add(-10))), ends=State.ROLLED_BACK
    ),
    Scenario(
        name="refused remotely",
        migration=_migration(remote=Side(up=(add(100), refuse), down=add(-100))),
        ends=State.ROLLED_BACK,
    ),
    Scenario(
        name="refused remotely after an index was built",
        migration=_migration(remote=Side(up=(INDEX, refuse), down=add(0))),
        ends=State.ROLLED_BACK,
    ),
    Scenario(
        name="refused remotely, the local side restored from its backup",
        migration=_migration(local=Side(up=add(10)), remote=Side(up=refuse, down=add(0))),
        ends=State.ROLLED_BACK,
    ),
    Scenario(
        name="failing verification locally",
        migration=_migration(local=Side(up=add(10), down=add(-10), check=refuse)),
        ends=State.ROLLED_BACK,
    ),
    Scenario(
        name="failing verification remotely",
        migration=_migration(remote=Side(up=(add(100), INDEX), down=add(-100), check=refuse)),
        ends=State.ROLLED_BACK,
    ),
    Scenario(name="local only", migration=_migration(remote=None), remote=False),
    Scenario(name="remote only", migration=_migration(local=None), local=False),
    Scenario(name="the remote skipped", migration=_migration(), call=_skip),
    Scenario(name="the skipped remote done later", migration=_migration(), before=(_skip,)),
    Scenario(
        name="the skipped remote refused later",
        migration=_migration(remote=Side(up=refuse, down=add(0))),
        before=(_skip,),
    ),
    Scenario(name="taken back", migration=_migration(), before=(_migrate,), call=_back, ends=State.ROLLED_BACK),
    Scenario(name="skipped and taken back", migration=_migration(), before=(_skip,), call=_back, ends=State.ROLLED_BACK),
    Scenario(name="the remote confirmed", migration=_migration(), begin=_applied_by_another_device),
    Scenario(
        name="the remote required",
        migration=_migration(),
        begin=_applied_by_another_device,
        options={"remote_role": "require"},
    ),
    Scenario(
        name="the confirmed remote taken back",
        migration=_migration(),
        begin=_applied_by_another_device,
        before=(_migrate,),
        call=_back,
        ends=State.ROLLED_BACK,
    ),
    Scenario(
        name="the refused verification of an irreversible migration accepted",
        migration=_migration(remote=Side(up=add(100), check=refuse), irreversible=True),
        call=_migrate_and_accept,
    ),
    Scenario(
        name="a take-back abandoned that has undone nothing",
        migration=_migration(remote=Side(up=add(100), down=refuse)),
        before=(_migrate,),
        call=_back_and_accept,
    ),
    Scenario(
        name="the difference that going back has left accepted",
        migration=_migration(local=Side(up=add(10), down=(add(-10), LEFT_BEHIND)), remote=Side(up=refuse, down=add(0))),
        call=_migrate_once_and_accept,
        ends=State.ROLLED_BACK,
    ),
    Scenario(
        name="the difference that taking back has left accepted",
        migration=_migration(local=Side(up=add(10), down=(add(-10), LEFT_BEHIND))),
        before=(_migrate,),
        call=_back_and_accept,
        ends=State.ROLLED_BACK,
    ),
    Scenario(
        name="a take-back that was killed half-way is not accepted but finished",
        migration=_migration(),
        before=(_migrate,),
        call=_accept_and_back,
        ends=State.ROLLED_BACK,
    ),
    Scenario(name="baselined", migration=MADE, begin=_is_there_already, call=_baseline),
    Scenario(
        name="baselined and taken back",
        migration=MADE,
        begin=_is_there_already,
        before=(_baseline,),
        call=_back,
        ends=State.ROLLED_BACK,
    ),
    Scenario(
        name="baselined and migrated further",
        earlier=(FIRST,),
        migration=_migration(),
        begin=_is_there_already,
        before=(_baseline_first,),
        call=_migrate,
    ),
    Scenario(name="restored", migration=_migration(), before=(_migrate,), call=_restore, ends=State.PENDING),
    Scenario(
        name="restored while in flight",
        migration=_migration(),
        before=(_migrate,),
        dies_at="local:group:after-commit",
        call=_restore,
        ends=State.PENDING,
    ),
    Scenario(
        name="restored while going back",
        migration=_migration(remote=Side(up=(add(100), refuse), down=add(-100))),
        before=(_migrate,),
        dies_at="UNDO_LOCAL:before",
        call=_restore,
        ends=State.PENDING,
    ),
    Scenario(name="restored and migrated again", migration=_migration(), before=(_migrate, _restore), call=_migrate),
    Scenario(
        name="restored, killed, and migrated",
        migration=_migration(),
        before=(_migrate,),
        call=_restore,
        goes_on_with=_migrate,
    ),
    Scenario(
        name="restored, killed, and taken back",
        migration=_migration(),
        before=(_migrate, _restore, _migrate),
        call=_back,
        ends=State.ROLLED_BACK,
    ),
)
