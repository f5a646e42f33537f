"""The runs that are killed anywhere in memory, by kind, and what each may end as. How they are walked: `worlds.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

from attrs import evolve
from worlds import ID, NOW, Scenario, World

from twinstep.engine.backup_report import BackupReport
from twinstep.engine.coordinator import Coordinator
from twinstep.engine.quarantining import QuarantineReport
from twinstep.engine.report import Report, VerifyReport
from twinstep.events.lifecycle import State
from twinstep.migrations.catalogue import CatalogueObject
from twinstep.migrations.definition import Migration, Side
from twinstep.migrations.memory_quarantine import set_aside, take_in
from twinstep.migrations.memory_target import Contents, MemoryDatabase
from twinstep.stores.memory import MemoryEventStore

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
NEXT = "-- twinstep: group"
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
        log = MemoryEventStore(clock=lambda: NOW)
        device = Coordinator(local=other, remote=shared, migrations=[_migration()], log=log, state_dir=state_dir)
        report = device.migrate()
    assert report.outcome == "verified", report
    _become(remote, shared.contents)


def _become(contents: Contents, other: Contents) -> None:
    contents.tables, contents.objects, contents.ledger = other.tables, other.objects, other.ledger


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


def _all_groups(*last: object, **sides: object) -> Migration:
    """A remote of three groups and two builds; `last` is what the third group does besides."""
    up = (add(100), INDEX, add(1000), "CREATE INDEX CONCURRENTLY other_index ON items (key)", add(10000), *last)
    down = (add(-10000), NEXT, add(-1000), NEXT, add(-100))
    return _migration(remote=Side(up=up, down=down, **sides))  # type: ignore[arg-type]


def _index_is_there(local: Contents, remote: Contents) -> None:
    remote.objects["index items_index"] = CatalogueObject(kind="index", name="items_index", definition=INDEX)


def _orphans(contents: Contents) -> None:
    """Sets aside all items but "a", as a new key would."""
    set_aside(contents, "items", [key for key in contents.tables["items"] if key != "a"], "they refer to nothing")


def _orphans_back(contents: Contents) -> None:
    take_in(contents, "items")


def _put_back(coordinator: Coordinator) -> QuarantineReport:
    return coordinator.restore_quarantined()


def _adopt(coordinator: Coordinator) -> Report:
    return coordinator.migrate(adopt=True)


def _adopt_and_back(coordinator: Coordinator) -> Report:
    coordinator.migrate(adopt=True)
    return coordinator.roll_back()


def _lose_the_log(world: World) -> None:
    world.log = MemoryEventStore(clock=lambda: NOW)


def _remote_is_set_back(world: World) -> None:
    """What the other device had applied is gone, and its rows in the ledger with it."""
    contents = world.remote.contents = world.remote.contents.copied()
    _become(contents, Contents(tables={"items": {"a": 1, "b": 2}}))


def _host_writes(world: World) -> None:
    contents = world.local.contents = world.local.contents.copied()
    contents.tables["items"]["b"] = 3000


def _without_the_remote(world: World, process: Coordinator) -> None:
    """The first recovery does not reach the remote."""
    world.remote.reachable = False
    process.resume()
    world.remote.reachable = True


def _rival(world: World, process: Coordinator) -> None:
    """Another coordinator finishes what is in flight."""
    process.resume()


def _another_device(world: World, process: Coordinator) -> None:
    """Another device, with a local database and a log of its own, migrates on the same remote."""
    local = MemoryDatabase()
    local.contents.tables["items"] = {"a": 1, "b": 2}
    log = MemoryEventStore(clock=lambda: NOW)
    with tempfile.TemporaryDirectory() as state_dir:
        Coordinator(
            local=local, remote=world.remote, migrations=[_migration()], log=log, state_dir=state_dir, clock=lambda: NOW
        ).migrate()


def _rival_migrates(world: World, process: Coordinator) -> None:
    process.migrate()


def _rival_takes_back(world: World, process: Coordinator) -> None:
    process.roll_back()


def _back_up(coordinator: Coordinator) -> BackupReport:
    return coordinator.create_backup()


def _restore_and_discard(coordinator: Coordinator) -> BackupReport:
    first, *_ = coordinator.backups()
    return coordinator.restore_backup(first.backup_id, discard_local_writes=True)


def _restore_the_last(coordinator: Coordinator) -> BackupReport:
    """The one that was made by hand after the change: nothing else stands then."""
    made = [each for each in coordinator.backups() if each.migration_version is None]
    return coordinator.restore_backup(made[0].backup_id)


def _prune(coordinator: Coordinator) -> BackupReport:
    return coordinator.prune_backups(0)


SECOND = Migration(
    id="0002_second",
    local=Side(up=make("seconds"), down=drop("seconds")),
    remote=Side(up=make("seconds"), down=drop("seconds")),
)
REFUSED_SECOND = evolve(SECOND, remote=Side(up=(make("seconds"), refuse), down=drop("seconds")))
DROPPED = "DROP INDEX CONCURRENTLY items_index"


def _aside(*last: object) -> Migration:
    """Rows are set aside locally, between two changes of them; `last` is what the remote does besides."""
    return _migration(
        local=Side(up=(add(3), _orphans, add(7)), down=(add(-7), _orphans_back, add(-3))),
        remote=Side(up=(add(100), *last), down=add(-100)),  # type: ignore[arg-type]
    )


def _resume(coordinator: Coordinator) -> Report:
    return coordinator.resume()


def _skip_and_then_do_it(coordinator: Coordinator) -> Report:
    coordinator.migrate(skip_remote=True)
    return coordinator.migrate()


def _put_back_and_back(coordinator: Coordinator) -> Report:
    coordinator.restore_quarantined()
    return coordinator.roll_back()


def _restore_and_migrate(coordinator: Coordinator) -> Report:
    _restore(coordinator)
    return coordinator.migrate()


def _adopt_and_back_once(coordinator: Coordinator) -> Report:
    """Killed after the adoption there is nothing to adopt any more, and killed later it is finished before."""
    coordinator.resume()
    if coordinator.status().migrations[0].state == State.PENDING:
        coordinator.migrate(adopt=True)
    return coordinator.roll_back()


def _back_to_the_first(coordinator: Coordinator) -> Report:
    return coordinator.roll_back(FIRST.id)


BOTH, LOCAL_ONLY, REMOTE_ONLY, SKIP = "both sides", "local-only", "remote-only", "skip"
REQUIRE, BACK, GROUPS, BUILDS = "require", "take back", "several groups", "concurrent builds"
QUARANTINE, RESTORE, ACCEPT, SETTLE = "quarantine", "restore", "accept", "adopt and baseline"
BATCH, RIVAL, AWAY, RETENTION = "several migrations", "a rival", "the remote away", "retention"

_REFUSED = {"ends": State.ROLLED_BACK, "holds": (1, 1)}

_INTERRUPTED: dict[str, dict[str, object]] = {
    "success": {"migration": _migration()},
    "refused remotely": {
        "migration": _migration(remote=Side(up=(add(100), INDEX, refuse), down=(add(0), NEXT, add(-100)))),
        **_REFUSED,
    },
    "refused verification": {"migration": _migration(local=Side(up=add(10), down=add(-10), check=refuse)), **_REFUSED},
    "a take-back": {"migration": _migration(), "before": (_migrate,), "call": _back, **_REFUSED},
}

SCENARIOS = (
    Scenario(kind=BOTH, name="success", migration=_migration()),
    Scenario(
        kind=BOTH, name="refused locally", migration=_migration(local=Side(up=(add(10), refuse), down=add(-10))), **_REFUSED
    ),
    Scenario(
        kind=BOTH,
        name="refused remotely",
        migration=_migration(remote=Side(up=(add(100), refuse), down=add(-100))),
        **_REFUSED,
    ),
    Scenario(
        kind=BOTH,
        name="refused remotely, the local side restored from its backup",
        migration=_migration(local=Side(up=add(10)), remote=Side(up=refuse, down=add(0))),
        **_REFUSED,
    ),
    Scenario(
        kind=BOTH,
        name="failing verification locally",
        migration=_migration(local=Side(up=add(10), down=add(-10), check=refuse)),
        **_REFUSED,
    ),
    Scenario(
        kind=BOTH,
        name="failing verification remotely",
        migration=_migration(remote=Side(up=(add(100), INDEX), down=add(-100), check=refuse)),
        **_REFUSED,
    ),
    Scenario(kind=LOCAL_ONLY, name="local only", migration=_migration(remote=None), remote=False, holds=(11, 1)),
    Scenario(
        kind=LOCAL_ONLY,
        name="local only, refused",
        migration=_migration(local=Side(up=(add(10), refuse), down=add(-10)), remote=None),
        remote=False,
        **_REFUSED,
    ),
    Scenario(
        kind=LOCAL_ONLY,
        name="local only, its verification refused",
        migration=_migration(local=Side(up=add(10), down=add(-10), check=refuse), remote=None),
        remote=False,
        **_REFUSED,
    ),
    Scenario(
        kind=LOCAL_ONLY,
        name="local only, its verification refused, restored from its backup",
        migration=_migration(local=Side(up=add(10), check=refuse), remote=None),
        remote=False,
        **_REFUSED,
    ),
    Scenario(
        kind=LOCAL_ONLY,
        name="local only, taken back",
        migration=_migration(remote=None),
        remote=False,
        before=(_migrate,),
        call=_back,
        **_REFUSED,
    ),
    Scenario(kind=REMOTE_ONLY, name="remote only", migration=_migration(local=None), local=False, holds=(1, 101)),
    Scenario(
        kind=REMOTE_ONLY,
        name="remote only, refused",
        migration=_migration(local=None, remote=Side(up=(add(100), INDEX, refuse), down=(add(0), NEXT, add(-100)))),
        local=False,
        **_REFUSED,
    ),
    Scenario(
        kind=REMOTE_ONLY,
        name="remote only, its verification refused",
        migration=_migration(local=None, remote=Side(up=(add(100), INDEX), down=add(-100), check=refuse)),
        local=False,
        **_REFUSED,
    ),
    Scenario(
        kind=REMOTE_ONLY,
        name="remote only, taken back",
        migration=_migration(local=None),
        local=False,
        before=(_migrate,),
        call=_back,
        **_REFUSED,
    ),
    Scenario(
        kind=REMOTE_ONLY,
        name="remote only beside a local database",
        migration=_migration(local=None),
        holds=(1, 101),
    ),
    Scenario(kind=SKIP, name="the remote skipped", migration=_migration(), call=_skip, holds=(11, 1)),
    Scenario(kind=SKIP, name="the skipped remote done later", migration=_migration(), before=(_skip,)),
    Scenario(
        kind=SKIP,
        name="the skipped remote refused later",
        migration=_migration(remote=Side(up=refuse, down=add(0))),
        before=(_skip,),
        holds=(11, 1),
    ),
    Scenario(kind=SKIP, name="skipped and taken back", migration=_migration(), before=(_skip,), call=_back, **_REFUSED),
    Scenario(
        kind=SKIP,
        name="skipped, killed, and not skipped any more",
        migration=_migration(),
        call=_skip,
        goes_on_with=_skip_and_then_do_it,
    ),
    Scenario(kind=REQUIRE, name="the remote confirmed", migration=_migration(), begin=_applied_by_another_device),
    Scenario(
        kind=REQUIRE,
        name="the remote required",
        migration=_migration(),
        begin=_applied_by_another_device,
        options={"remote_role": "require"},
    ),
    Scenario(
        kind=REQUIRE,
        name="the required remote gone meanwhile",
        migration=_migration(),
        begin=_applied_by_another_device,
        options={"remote_role": "require"},
        before=(_migrate,),
        dies_at="local:group:after-commit",
        then=_remote_is_set_back,
        call=_resume,
        **_REFUSED,
    ),
    Scenario(
        kind=REQUIRE,
        name="the confirmed remote taken back",
        migration=_migration(),
        begin=_applied_by_another_device,
        before=(_migrate,),
        call=_back,
        ends=State.ROLLED_BACK,
        holds=(1, 101),
    ),
    Scenario(kind=BACK, name="taken back", migration=_migration(), before=(_migrate,), call=_back, **_REFUSED),
    Scenario(
        kind=BACK,
        name="taken back while in flight",
        migration=_migration(),
        before=(_migrate,),
        dies_at="remote:single:after-commit",
        call=_back,
        **_REFUSED,
    ),
    Scenario(
        kind=BACK,
        name="taken back although somebody wrote since",
        migration=_migration(),
        before=(_migrate,),
        then=_host_writes,
        call=_back,
        **_REFUSED,
    ),
    Scenario(kind=GROUPS, name="three groups", migration=_all_groups(), holds=(11, 11101)),
    Scenario(
        kind=GROUPS,
        name="refused in the second group",
        migration=_migration(remote=Side(up=(add(100), INDEX, add(1000), refuse), down=(add(-1000), NEXT, add(-100)))),
        **_REFUSED,
    ),
    Scenario(kind=GROUPS, name="refused in the third group", migration=_all_groups(refuse), **_REFUSED),
    Scenario(kind=GROUPS, name="three groups taken back", migration=_all_groups(), before=(_migrate,), call=_back, **_REFUSED),
    Scenario(
        kind=BUILDS,
        name="refused remotely after an index was built",
        migration=_migration(remote=Side(up=(INDEX, refuse), down=add(0))),
        **_REFUSED,
    ),
    Scenario(kind=BUILDS, name="an index that was there before", migration=_migration(), begin=_index_is_there),
    Scenario(
        kind=BUILDS,
        name="an index that was there before, taken back",
        migration=_migration(),
        begin=_index_is_there,
        before=(_migrate,),
        call=_back,
        **_REFUSED,
    ),
    Scenario(
        kind=BUILDS,
        name="refused after an index that was there before",
        migration=_migration(remote=Side(up=(INDEX, refuse), down=add(0))),
        begin=_index_is_there,
        **_REFUSED,
    ),
    Scenario(
        kind=BUILDS,
        name="an index dropped concurrently",
        migration=_migration(remote=Side(up=(add(100), DROPPED), down=add(-100))),
        begin=_index_is_there,
    ),
    Scenario(
        kind=BUILDS,
        name="an index dropped concurrently, taken back",
        migration=_migration(remote=Side(up=(add(100), DROPPED), down=add(-100))),
        begin=_index_is_there,
        before=(_migrate,),
        call=_back,
        **_REFUSED,
    ),
    Scenario(
        kind=BUILDS,
        name="refused after an index was dropped concurrently",
        migration=_migration(remote=Side(up=(DROPPED, refuse), down=add(0))),
        begin=_index_is_there,
        **_REFUSED,
    ),
    Scenario(kind=QUARANTINE, name="rows set aside", migration=_aside()),
    Scenario(kind=QUARANTINE, name="rows set aside and refused", migration=_aside(refuse), **_REFUSED),
    Scenario(
        kind=QUARANTINE, name="rows set aside and taken back", migration=_aside(), before=(_migrate,), call=_back, **_REFUSED
    ),
    Scenario(
        kind=QUARANTINE,
        name="rows set aside and restored from the backup",
        migration=_migration(local=Side(up=(add(10), _orphans)), remote=Side(up=refuse, down=add(0))),
        **_REFUSED,
    ),
    Scenario(kind=QUARANTINE, name="rows put back by hand", migration=_aside(), before=(_migrate,), call=_put_back),
    Scenario(
        kind=QUARANTINE,
        name="rows put back by hand, killed, and taken back",
        migration=_aside(),
        before=(_migrate,),
        call=_put_back,
        goes_on_with=_put_back_and_back,
        **_REFUSED,
    ),
    Scenario(
        kind=QUARANTINE,
        name="rows put back by hand and taken back",
        migration=_aside(),
        before=(_migrate, _put_back),
        call=_back,
        **_REFUSED,
    ),
    Scenario(
        kind=RESTORE,
        name="restored",
        migration=_migration(),
        before=(_migrate,),
        call=_restore,
        ends=State.PENDING,
        holds=(1, 101),
    ),
    Scenario(
        kind=RESTORE,
        name="restored while in flight",
        migration=_migration(),
        before=(_migrate,),
        dies_at="local:group:after-commit",
        call=_restore,
        ends=State.PENDING,
        holds=(1, 1),
    ),
    Scenario(
        kind=RESTORE,
        name="restored while going back",
        migration=_migration(remote=Side(up=(add(100), refuse), down=add(-100))),
        before=(_migrate,),
        dies_at="UNDO_LOCAL:before",
        call=_restore,
        ends=State.PENDING,
        holds=(1, 1),
    ),
    Scenario(
        kind=RESTORE, name="restored and migrated again", migration=_migration(), before=(_migrate, _restore), call=_migrate
    ),
    Scenario(
        kind=RESTORE,
        name="restored, killed, and migrated",
        migration=_migration(),
        before=(_migrate,),
        call=_restore,
        goes_on_with=_restore_and_migrate,
    ),
    Scenario(
        kind=RESTORE,
        name="restored, migrated, and taken back",
        migration=_migration(),
        before=(_migrate, _restore, _migrate),
        call=_back,
        ends=State.ROLLED_BACK,
        holds=(1, 1),
    ),
    Scenario(
        kind=RESTORE,
        name="restored although somebody wrote since",
        migration=_migration(),
        before=(_migrate,),
        then=_host_writes,
        call=_restore_and_discard,
        ends=State.PENDING,
        holds=(1, 101),
    ),
    Scenario(
        kind=RESTORE,
        name="not restored because somebody wrote since",
        migration=_migration(),
        before=(_migrate,),
        then=_host_writes,
        call=_restore,
    ),
    Scenario(
        kind=RESTORE,
        name="a backup made by hand restored",
        migration=_migration(),
        before=(_migrate, _back_up),
        call=_restore_the_last,
    ),
    Scenario(
        kind=RESTORE,
        name="a backup restored in which a change stands that does not stand any more",
        migration=_migration(),
        before=(_migrate, _back_up, _back),
        call=_restore_the_last,
        ends=State.PENDING,
        holds=(11, 1),
    ),
    Scenario(kind=RESTORE, name="backed up by hand", migration=_migration(), before=(_migrate,), call=_back_up),
    Scenario(
        kind=ACCEPT,
        name="the refused verification of an irreversible migration accepted",
        migration=_migration(remote=Side(up=add(100), check=refuse), irreversible=True),
        call=_migrate_and_accept,
    ),
    Scenario(
        kind=ACCEPT,
        name="a take-back abandoned that has undone nothing",
        migration=_migration(remote=Side(up=add(100), down=refuse)),
        before=(_migrate,),
        call=_back_and_accept,
    ),
    Scenario(
        kind=ACCEPT,
        name="the difference that going back has left accepted",
        migration=_migration(local=Side(up=add(10), down=(add(-10), LEFT_BEHIND)), remote=Side(up=refuse, down=add(0))),
        call=_migrate_once_and_accept,
        **_REFUSED,
    ),
    Scenario(
        kind=ACCEPT,
        name="the difference that taking back has left accepted",
        migration=_migration(local=Side(up=add(10), down=(add(-10), LEFT_BEHIND))),
        before=(_migrate,),
        call=_back_and_accept,
        **_REFUSED,
    ),
    Scenario(
        kind=ACCEPT,
        name="a take-back that was killed half-way is not accepted but finished",
        migration=_migration(),
        before=(_migrate,),
        call=_accept_and_back,
        **_REFUSED,
    ),
    Scenario(kind=SETTLE, name="baselined", migration=MADE, begin=_is_there_already, call=_baseline, holds=(1, 1)),
    Scenario(
        kind=SETTLE,
        name="baselined and taken back",
        migration=MADE,
        begin=_is_there_already,
        before=(_baseline,),
        call=_back,
        **_REFUSED,
    ),
    Scenario(
        kind=SETTLE,
        name="baselined and migrated further",
        earlier=(FIRST,),
        migration=_migration(),
        begin=_is_there_already,
        before=(_baseline_first,),
        call=_migrate,
    ),
    Scenario(
        kind=SETTLE,
        name="adopted after the log was lost",
        migration=_migration(),
        before=(_migrate,),
        then=_lose_the_log,
        call=_adopt,
    ),
    Scenario(
        kind=SETTLE,
        name="adopted where only the local side stands",
        migration=_migration(),
        before=(_skip,),
        then=_lose_the_log,
        call=_adopt,
    ),
    Scenario(
        kind=SETTLE,
        name="adopted and taken back",
        migration=_migration(),
        before=(_migrate,),
        then=_lose_the_log,
        call=_adopt_and_back,
        single_call=False,
        goes_on_with=_adopt_and_back_once,
        **_REFUSED,
    ),
    Scenario(kind=BATCH, name="two migrations", earlier=(FIRST,), migration=_migration()),
    Scenario(
        kind=BATCH,
        name="the second of two refused",
        earlier=(FIRST,),
        migration=_migration(remote=Side(up=(add(100), refuse), down=add(-100))),
        **_REFUSED,
    ),
    Scenario(
        kind=BATCH,
        name="two of three, the last refused",
        earlier=(FIRST,),
        migration=_migration(),
        later=(REFUSED_SECOND,),
    ),
    Scenario(
        kind=BATCH,
        name="both taken back",
        earlier=(FIRST,),
        migration=_migration(),
        before=(_migrate,),
        call=_back_to_the_first,
        **_REFUSED,
    ),
    *(
        Scenario(kind=RIVAL, name=f"{name}, and a rival finishes it", meanwhile=_rival, **rest)
        for name, rest in _INTERRUPTED.items()
    ),
    Scenario(kind=RIVAL, name="success, and another device migrates", migration=_migration(), meanwhile=_another_device),
    Scenario(
        kind=RIVAL,
        name="remote only, and a device migrates",
        migration=_migration(local=None),
        local=False,
        meanwhile=_another_device,
        holds=(1, 101),
    ),
    Scenario(
        kind=RIVAL,
        name="taken back, killed, and a rival migrates",
        migration=_migration(),
        before=(_migrate,),
        call=_back,
        meanwhile=_rival_migrates,
        **_REFUSED,
    ),
    Scenario(
        kind=RIVAL,
        name="migrated, killed, and a rival takes it back",
        migration=_migration(),
        meanwhile=_rival_takes_back,
    ),
    *(
        Scenario(kind=AWAY, name=f"{name}, the remote away at first", meanwhile=_without_the_remote, **rest)
        for name, rest in _INTERRUPTED.items()
    ),
    Scenario(
        kind=RETENTION,
        name="old backups deleted at the end",
        migration=_migration(),
        options={"keep_days": 0},
    ),
    Scenario(
        kind=RETENTION,
        name="old backups deleted at the end of a take-back",
        migration=_migration(),
        before=(_migrate,),
        call=_back,
        options={"keep_days": 0},
        **_REFUSED,
    ),
    Scenario(
        kind=RETENTION,
        name="old backups deleted by hand",
        migration=_migration(),
        before=(_migrate, _back_up),
        call=_prune,
    ),
)
