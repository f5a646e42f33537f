"""Crash schedules on real databases: a process that is really killed, once or twice, and what it leaves to the next one.

The child is forked from a server process that has everything imported and holds no connection (`forked.py`). It kills itself
with SIGKILL at the crossing of the given number: no handler runs, no connection is closed, no transaction rolled back by
anyone but the databases.

Schedules form a tree, as in memory (`schedules.py`). After one kill the next process begins at once, while the server may not
have noticed yet that its client has died. For two kills the world that the first one left is kept, once the server has noticed,
and each second kill begins from a copy of it, under the same path and the same URL: the folder is copied, and the database made
with the kept one as its template. Where two kills in a row leave the same world, apart from ids and times (nothing became
durable between these crossings), only the first of them is followed further; that it is the same is looked at, not assumed.
A statement that runs outside a transaction may go on after its client: for that, `orphans` kills while the server is at it.

What is compared is the world: every row and object of both databases apart from Twinstep's own, what lies in quarantine, and
what was kept of what a down took away, against the only legal one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from attrs import evolve, field, frozen
from forked import Forks, kill_self
from waiting import eventually as eventually_there

from twinstep.engine.coordinator import Coordinator
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events.fold import fold
from twinstep.events.lifecycle import State
from twinstep.migrations import postgres_ledger, sqlite_ledger
from twinstep.migrations.definition import LocalOptions, Migration, Side
from twinstep.migrations.ledger import SideLedger
from twinstep.migrations.rebuild import ForeignKey, rebuild_table
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

ID = "0001_change"
DATABASE = "work"
NEVER = 10_000

LOCAL_TABLE = """
CREATE TABLE item (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, amount INTEGER NOT NULL DEFAULT 0);
"""
LOCAL_SCHEMA = f"""
{LOCAL_TABLE}
INSERT INTO item (name, amount) VALUES ('a', 1), ('b', 2), ('c', 3);
DELETE FROM item WHERE name = 'c';
PRAGMA user_version = 11;
"""
REMOTE_TABLE = """
CREATE TABLE item (id integer PRIMARY KEY, name text NOT NULL, amount integer NOT NULL DEFAULT 0);
"""
REMOTE_SCHEMA = f"""
{REMOTE_TABLE}
INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2);
"""

# Done twice, or half, it shows in the rows.
LOCAL_UP = """
ALTER TABLE item ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
UPDATE item SET amount = amount + 10;
CREATE INDEX item_pinned ON item (pinned);
"""
LOCAL_DOWN = """
DROP INDEX item_pinned;
UPDATE item SET amount = amount - 10;
ALTER TABLE item DROP COLUMN pinned;
"""
INDEX = "CREATE INDEX CONCURRENTLY item_name ON item (name)"
REMOTE_UP = f"""
UPDATE item SET amount = amount + 100;
{INDEX};
ALTER TABLE item ADD COLUMN pinned boolean NOT NULL DEFAULT false;
"""
REMOTE_DOWN = """
ALTER TABLE item DROP COLUMN pinned;
-- twinstep: group
UPDATE item SET amount = amount - 100;
"""
ADD_LOCAL = Side(up="UPDATE item SET amount = amount + 10", down="UPDATE item SET amount = amount - 10")
ADD_REMOTE = Side(up="UPDATE item SET amount = amount + 100", down="UPDATE item SET amount = amount - 100")
REFUSED = "INSERT INTO missing VALUES (1)"

# What the downs of these drop has rows in it: they are kept.
GROUPS = Side(
    up="""
UPDATE item SET amount = amount + 100;
-- twinstep: group
CREATE TABLE note (id integer PRIMARY KEY, item integer REFERENCES item);
INSERT INTO note SELECT id, id FROM item;
-- twinstep: group
UPDATE item SET amount = amount + (SELECT count(*) FROM note);
""",
    down="""
UPDATE item SET amount = amount - (SELECT count(*) FROM note);
-- twinstep: group
DROP TABLE note;
-- twinstep: group
UPDATE item SET amount = amount - 100;
""",
)
INDEX_THERE = "CREATE INDEX item_amount ON item (amount, lower(name))"
DROP_INDEX = "DROP INDEX CONCURRENTLY item_amount"
DROPPED = Side(up=f"{DROP_INDEX};\nUPDATE item SET amount = amount + 100;\n", down=ADD_REMOTE.down)
INDEXED = Side(up=f"UPDATE item SET amount = amount + 100;\n{INDEX};\n", down=ADD_REMOTE.down)

TASKS = """
CREATE TABLE task (id INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL, above INTEGER);
INSERT INTO task VALUES (1, 1, NULL), (2, 77, 1), (3, 2, 2), (4, 1, 66);
"""

LOCAL = Side(up=LOCAL_UP, down=LOCAL_DOWN)
REMOTE = Side(up=REMOTE_UP, down=REMOTE_DOWN)
OPTIONS = LocalOptions(user_version_from=(11,), user_version_to=12)


def refuse(connection: object) -> None:
    """A check that says no."""
    raise ValueError("refused on purpose")


def refused(side: Side) -> Side:
    """The same, and a last statement that the database says no to."""
    (up,) = side.up
    return evolve(side, up=f"{str(up).rstrip().removesuffix(';')};\n{REFUSED};")


def add_keys(connection: Any) -> None:
    """Rows that refer to nothing are set aside."""
    keys = [
        ForeignKey(columns="item", parent="item", parent_columns="id", on_delete="CASCADE"),
        ForeignKey(columns="above", parent="task", parent_columns="id", on_delete="CASCADE"),
    ]
    rebuild_table(connection, "task", add_foreign_keys=keys)


def drop_keys(connection: Any) -> None:
    """And put back."""
    keys = [
        ForeignKey(columns="item", parent="item", parent_columns="id", on_delete="CASCADE"),
        ForeignKey(columns="above", parent="task", parent_columns="id", on_delete="CASCADE"),
    ]
    rebuild_table(connection, "task", drop_foreign_keys=keys)


KEYS = Side(up=add_keys, down=drop_keys)


def _migration(local: Side | None = LOCAL, remote: Side | None = REMOTE, *, irreversible: bool = False) -> Migration:
    options = OPTIONS if local is not None else LocalOptions()
    return Migration(id=ID, local=local, remote=remote, local_options=options, irreversible=irreversible)


@frozen(kw_only=True)
class Place:
    """Where one schedule takes place."""

    folder: Path
    url: str
    wait_seconds: float = 20
    retry_for_seconds: float = 10

    @property
    def local(self) -> Path:
        return self.folder / "app.db"

    @property
    def log(self) -> Path:
        return self.folder / "app.db.twinstep" / "log.db"


Call = Callable[[Coordinator], Any]


def _migrate(coordinator: Coordinator) -> Any:
    return coordinator.migrate()


def _skip(coordinator: Coordinator) -> Any:
    return coordinator.migrate(skip_remote=True)


def _back(coordinator: Coordinator) -> Any:
    return coordinator.roll_back()


# What both databases are made from, as a migration: for those that were there before there was a log.
FIRST = Migration(
    id="0000_first",
    local=Side(up=LOCAL_TABLE, down="DROP TABLE item"),
    remote=Side(up=REMOTE_TABLE, down="DROP TABLE item"),
    local_options=LocalOptions(user_version_to=11),
)


def _baseline(coordinator: Coordinator) -> Any:
    return coordinator.baseline(FIRST.id)


def _restore(coordinator: Coordinator) -> Any:
    """The first backup that there is: the one from before the change."""
    first, *_ = coordinator.backups()
    return coordinator.restore_backup(first.backup_id)


def _put_back(coordinator: Coordinator) -> Any:
    """Those rows that were set aside whose parent is there again by now."""
    return coordinator.restore_quarantined()


def _migrate_and_accept(coordinator: Coordinator) -> Any:
    """Whatever the first call leaves, the second one accepts; killed anywhere between, both are made again."""
    coordinator.migrate()
    return coordinator.verify(accept=True)


def _nothing(place: Place) -> None:
    """As it is."""


def _tasks(place: Place) -> None:
    with closing(sqlite3.connect(place.local)) as local:
        local.executescript(TASKS)


def _parent_again(place: Place) -> None:
    with closing(sqlite3.connect(place.local)) as local:
        local.executescript("INSERT INTO item (id, name) VALUES (77, 'late')")


def _index_there(place: Place) -> None:
    with psycopg.connect(place.url, autocommit=True) as remote:
        remote.execute(INDEX_THERE.encode())


def _other_index_there(place: Place) -> None:
    with psycopg.connect(place.url, autocommit=True) as remote:
        remote.execute(b"CREATE INDEX item_name ON item (amount)")


def _applied_by_another_device(place: Place) -> None:
    """The remote change was made from another device, with a file and a log of its own."""
    other = evolve(place, folder=place.folder / "other")
    other.folder.mkdir()
    _make_local(other, "DELETE")
    report = Coordinator(local=other.local, remote=other.url, migrations=[_migration()]).migrate()
    assert report.exit_code == 0, report


@frozen(kw_only=True)
class Scenario:
    """What is run, what was done before it, and as what it may end.

    Before it come what `others` do to the place, the calls `before`, and what others do `afterwards`. `local` and `remote` say
    whether the coordinator is given such a database, `dies_at` at which crossing the last call before is killed.
    """

    migration: Migration
    call: Call = _migrate
    others: tuple[Callable[[Place], None], ...] = ()
    before: tuple[Call, ...] = ()
    afterwards: Callable[[Place], None] = _nothing
    ends: State = State.VERIFIED
    journal: str = "WAL"
    local: bool = True
    remote: bool = True
    dies_at: str = ""
    earlier: tuple[Migration, ...] = ()
    options: dict[str, Any] = field(factory=dict)

    def coordinator(self, place: Place, probe: Callable[[str], None], **options: Any) -> Coordinator:
        """A fresh process on the place."""
        given = {
            "local": place.local if self.local else None,
            "remote": place.url if self.remote else None,
            "state_dir": place.log.parent,
            "migrations": [*self.earlier, self.migration],
            "probe": probe,
            "wait_seconds": place.wait_seconds,
            "retry_for_seconds": place.retry_for_seconds,
        }
        return Coordinator(**{**given, **self.options, **options})

    def begin(self, place: Place, *, before: tuple[Call, ...] | None = None) -> None:
        """Make both databases as they are when the call is made. The remote's is there and empty."""
        _make_local(place, self.journal)
        with psycopg.connect(place.url, autocommit=True) as remote:
            remote.execute(REMOTE_SCHEMA.encode())
        for change in self.others:
            change(place)
        for earlier in self.before if before is None else before:
            report = earlier(self.coordinator(place, _silent))
            assert report.exit_code == 0, report
        self.afterwards(place)

    def check_end(self, place: Place, legal: dict[str, Any]) -> None:
        """What the log, the ledgers and both databases must say when nothing is left to do."""
        with closing(SQLiteEventStore(place.log, readonly=True)) as store:
            report = check_log(store)
            assert report.sound, report.problems
            status = fold(store.read(self.stream(store)))
        assert status.state is self.ends, status.state
        assert world(place) == legal
        with closing(sqlite3.connect(place.local)) as local, psycopg.connect(place.url, autocommit=True) as remote:
            for ledger, by in (
                (sqlite_ledger.read(local, self.migration.id), status.local_by),
                (postgres_ledger.read(remote, self.migration.id), status.remote_by),
            ):
                assert (by is not None) == (ledger.applied_by() is not None), "the log and a ledger disagree"

    def stream(self, store: SQLiteEventStore) -> str:
        """That of its migration."""
        (stream,) = (stream for stream in store.streams() if stream.endswith(self.migration.id))
        return stream


def world(place: Place) -> dict[str, Any]:
    """Every row and object of both databases, apart from Twinstep's own."""
    with closing(sqlite3.connect(place.local)) as local, psycopg.connect(place.url) as remote:
        return _local_world(local) | _remote_world(remote)


def world_after(scenario: Scenario, place: Place) -> dict[str, Any]:
    """The legal one: after the same call where nothing happens."""
    scenario.begin(place)
    scenario.call(scenario.coordinator(place, _silent))
    return world(place)


_SUCCESS = Scenario(migration=_migration())
_REFUSED_REMOTELY = Scenario(migration=_migration(remote=refused(REMOTE)), ends=State.ROLLED_BACK)
_AND_RESTORED = Scenario(
    migration=_migration(local=Side(up=LOCAL_UP), remote=Side(up=REFUSED, down="")), ends=State.ROLLED_BACK
)
_TAKEN_BACK = Scenario(migration=_migration(), before=(_migrate,), call=_back, ends=State.ROLLED_BACK)
_RESTORED = Scenario(migration=_migration(remote=INDEXED), before=(_migrate,), call=_restore, ends=State.PENDING)
_SMALL = _migration(local=ADD_LOCAL, remote=ADD_REMOTE)


def _with_a_rollback_journal(scenario: Scenario) -> Scenario:
    return evolve(scenario, journal="DELETE")


SCENARIOS = {
    "success": _SUCCESS,
    "success, rollback journal": _with_a_rollback_journal(Scenario(migration=_migration(remote=ADD_REMOTE))),
    "refused locally": Scenario(migration=_migration(local=refused(LOCAL)), ends=State.ROLLED_BACK),
    "refused remotely": _REFUSED_REMOTELY,
    "refused remotely, rollback journal": _with_a_rollback_journal(
        Scenario(migration=_migration(remote=refused(ADD_REMOTE)), ends=State.ROLLED_BACK)
    ),
    "refused remotely and restored from the backup": _AND_RESTORED,
    "refused remotely and restored from the backup, rollback journal": _with_a_rollback_journal(_AND_RESTORED),
    "refused by the local check": Scenario(
        migration=_migration(local=evolve(LOCAL, check=refuse), remote=ADD_REMOTE), ends=State.ROLLED_BACK
    ),
    "refused by the remote check": Scenario(migration=_migration(remote=evolve(REMOTE, check=refuse)), ends=State.ROLLED_BACK),
    "irreversible, refused by its check, and accepted": Scenario(
        migration=_migration(local=ADD_LOCAL, remote=Side(up=ADD_REMOTE.up, check=refuse), irreversible=True),
        call=_migrate_and_accept,
    ),
    "local only": Scenario(migration=_migration(remote=None), remote=False),
    "local only, refused by its check": Scenario(
        migration=_migration(local=evolve(LOCAL, check=refuse), remote=None), remote=False, ends=State.ROLLED_BACK
    ),
    "remote only": Scenario(migration=_migration(local=None), local=False),
    "remote only, refused by its check": Scenario(
        migration=_migration(local=None, remote=evolve(REMOTE, check=refuse)), local=False, ends=State.ROLLED_BACK
    ),
    "the remote skipped": Scenario(migration=_migration(remote=ADD_REMOTE), call=_skip),
    "the skipped remote done later": Scenario(migration=_migration(), before=(_skip,)),
    "the skipped remote refused later": Scenario(
        migration=_migration(remote=Side(up=REFUSED, down="")), before=(_skip,), ends=State.VERIFIED
    ),
    "the remote applied by another device": Scenario(migration=_migration(), others=(_applied_by_another_device,)),
    "the remote required": Scenario(
        migration=_migration(), others=(_applied_by_another_device,), options={"remote_role": "require"}
    ),
    "the remote of another device, taken back": Scenario(
        migration=_migration(),
        others=(_applied_by_another_device,),
        before=(_migrate,),
        call=_back,
        ends=State.ROLLED_BACK,
    ),
    "taken back": _TAKEN_BACK,
    "taken back, rollback journal": _with_a_rollback_journal(evolve(_TAKEN_BACK, migration=_migration(remote=ADD_REMOTE))),
    "several groups, refused": Scenario(migration=_migration(local=ADD_LOCAL, remote=refused(GROUPS)), ends=State.ROLLED_BACK),
    "several groups, taken back": Scenario(
        migration=_migration(local=ADD_LOCAL, remote=GROUPS), before=(_migrate,), call=_back, ends=State.ROLLED_BACK
    ),
    "an index dropped": Scenario(migration=_migration(local=ADD_LOCAL, remote=DROPPED), others=(_index_there,)),
    "an index dropped and built again": Scenario(
        migration=_migration(local=ADD_LOCAL, remote=refused(DROPPED)), others=(_index_there,), ends=State.ROLLED_BACK
    ),
    "another index has the name": Scenario(
        migration=_migration(local=ADD_LOCAL, remote=INDEXED), others=(_other_index_there,), ends=State.ROLLED_BACK
    ),
    "rows set aside": Scenario(migration=_migration(local=KEYS, remote=ADD_REMOTE), others=(_tasks,)),
    "rows set aside and put back by going back": Scenario(
        migration=_migration(local=KEYS, remote=refused(ADD_REMOTE)), others=(_tasks,), ends=State.ROLLED_BACK
    ),
    "rows set aside and put back by a person": Scenario(
        migration=_migration(local=KEYS, remote=None),
        others=(_tasks,),
        before=(_migrate,),
        afterwards=_parent_again,
        call=_put_back,
        remote=False,
    ),
    "baselined": Scenario(migration=evolve(FIRST, id=ID), call=lambda coordinator: coordinator.baseline(ID)),
    "baselined and migrated further": Scenario(migration=_SMALL, earlier=(FIRST,), before=(_baseline,)),
    "two migrations in one call": Scenario(
        migration=_SMALL, earlier=(evolve(_SMALL, id="0000_first", local_options=LocalOptions()),)
    ),
    "restored": _RESTORED,
    "restored, rollback journal": _with_a_rollback_journal(_RESTORED),
    "restored while in flight": evolve(_RESTORED, dies_at="local:group:after-commit"),
    "restored and migrated again": Scenario(migration=_migration(remote=INDEXED), before=(_migrate, _restore)),
}


def _silent(crossing: str) -> None:
    """Nothing happens."""


def _make_local(place: Place, journal: str) -> None:
    with closing(sqlite3.connect(place.local)) as local:
        local.execute(f"PRAGMA journal_mode = {journal}")
        local.executescript(LOCAL_SCHEMA)


def call(name: str, folder: str, url: str, at: int | None, dies_at: str = "", waits_at: str = "") -> None:
    """In a child: make the call, and be killed at the crossing of that number, counted from 0, or of that name.

    At the crossing `waits_at` it makes the file "waiting" above its folder, and goes on when that is gone.
    """
    passed = 0

    def probe(crossing: str) -> None:
        nonlocal passed
        if passed == at or crossing == dies_at:
            kill_self()
        if crossing == waits_at:
            waiting.touch()
            while waiting.exists():
                time.sleep(0.002)
        passed += 1

    scenario = SCENARIOS[name]
    place = Place(folder=Path(folder), url=url)
    waiting = place.folder.with_name("waiting")
    (scenario.before[-1] if dies_at else scenario.call)(scenario.coordinator(place, probe))


class Ground:
    """Where the schedules of one scenario take place, one after the other: always the same path and the same database."""

    def __init__(self, name: str, server: EmbeddedPostgres, forks: Forks, root: Path, admin: psycopg.Connection[Any]) -> None:
        self.name = name
        self.scenario = SCENARIOS[name]
        self.place = Place(folder=root / "work", url=server.url(DATABASE))
        self._forks = forks
        self._root = root
        self._admin = admin

    @classmethod
    @contextmanager
    def prepared(cls, name: str, server: EmbeddedPostgres, forks: Forks, root: Path) -> Iterator[Ground]:
        """With both databases as they are when the call to be killed is made, kept as "origin"."""
        with psycopg.connect(server.url(), autocommit=True) as admin:
            ground = cls(name, server, forks, root, admin)
            try:
                ground._begin()
                yield ground
            finally:
                for kept in ("origin", "crashed", DATABASE):
                    ground._drop(kept)

    def _begin(self) -> None:
        scenario, place = self.scenario, self.place
        self._drop(DATABASE)
        self._admin.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0".encode())
        place.folder.mkdir()
        scenario.begin(place, before=scenario.before[:-1] if scenario.dies_at else None)
        if scenario.dies_at:
            killed, _ = self._forks.call(
                "real_schedules", "call", self.name, str(place.folder), place.url, None, scenario.dies_at
            )
            assert killed
        self.keep("origin")

    def keep(self, kept: str) -> None:
        """Put the world aside under that name, once no session of a dead process is left."""
        self.wait_until_left_alone()
        self._drop(kept)
        shutil.rmtree(self._root / kept, ignore_errors=True)
        self._admin.execute(f"ALTER DATABASE {DATABASE} RENAME TO {kept}".encode())
        self.place.folder.rename(self._root / kept)

    def again(self, kept: str) -> None:
        """Begin from a copy of what was kept."""
        shutil.rmtree(self.place.folder, ignore_errors=True)
        shutil.copytree(self._root / kept, self.place.folder)
        self._drop(DATABASE)
        self._admin.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {kept} STRATEGY FILE_COPY".encode())

    @property
    def _where(self) -> tuple[str, str]:
        return str(self.place.folder), self.place.url

    def _drop(self, database: str) -> None:
        self._admin.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)".encode())

    def wait_until_left_alone(self) -> None:
        """No session is left in the database: that of a killed client ends when the server notices."""
        sessions = "SELECT 1 FROM pg_stat_activity WHERE datname = %s"
        eventually(lambda: self._admin.execute(sessions, (DATABASE,)).fetchone() is None)

    def killed(self, at: int) -> bool:
        """Make the call in a child that is killed at that crossing; whether it was, rather than ending by itself."""
        killed, _ = self._forks.call("real_schedules", "call", self.name, *self._where, at)
        return killed

    def killed_during(self, statement: str, crossing: str, *, goes_on: bool) -> None:
        """Make the call in a child that is killed while the server is at this statement, which it sends after that crossing.

        Somebody who writes to the table keeps the server waiting: a concurrent statement waits for all of them, and is the only
        one that this is in the way of. It stops at once, so that the server goes on without its client; or not before the
        server has noticed that there is none, and has left the statement half done.
        """
        waiting = self._root / "waiting"
        child = self._forks.begin("real_schedules", "call", self.name, *self._where, None, "", crossing)
        eventually(waiting.exists)
        with psycopg.connect(self.place.url) as other, other.transaction(force_rollback=True):
            other.execute(b"INSERT INTO item (id, name) VALUES (50, 'not committed')")
            waiting.unlink()
            at_it = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock' AND query LIKE %s"
            eventually(lambda: self._admin.execute(at_it, (DATABASE, f"{statement}%")).fetchone() is not None)
            os.kill(child, signal.SIGKILL)
            assert self._forks.ended() == (True, None)
            if not goes_on:
                eventually(lambda: self._admin.execute(at_it, (DATABASE, f"{statement}%")).fetchone() is None)

    def run_again(self) -> None:
        """What a person would do: the same call, and another one to finish whatever is left."""
        self.scenario.call(self.scenario.coordinator(self.place, _silent))
        if self._state() not in (State.VERIFIED, State.ROLLED_BACK, State.PENDING):
            self.scenario.coordinator(self.place, _silent).resume()

    def _state(self) -> State:
        with closing(SQLiteEventStore(self.place.log, readonly=True)) as store:
            return fold(store.read(self.scenario.stream(store))).state

    def shape(self) -> object:
        """What a dead process has left, without ids and times: what the next one can tell it from others by.

        Read from a copy of the folder, since whoever opens a database that was not closed changes its files.
        """
        self.wait_until_left_alone()
        copied = Place(folder=self._root / "copied", url=self.place.url)
        shutil.rmtree(copied.folder, ignore_errors=True)
        shutil.copytree(self.place.folder, copied.folder)
        ordinals: dict[str, int] = {}

        def rows(ledgers: Iterable[SideLedger]) -> list[object]:
            return [
                (
                    row.migration,
                    row.direction,
                    row.step,
                    row.state,
                    *(ordinals.setdefault(id, len(ordinals)) for id in (row.run, row.undoes)),
                )
                for ledger in ledgers
                for row in ledger.rows
            ]

        with closing(sqlite3.connect(copied.local)) as local, psycopg.connect(copied.url, autocommit=True) as remote:
            rows_and_objects = _local_world(local) | _remote_world(remote)
            heads = sqlite_ledger.read_whole(local), postgres_ledger.read_whole(remote)
            ledgers = [(bool(whole.head.pair), whole.head.restored_by != "", rows(whole.ledgers.values())) for whole in heads]
        with closing(SQLiteEventStore(copied.log, readonly=True)) as store:
            log = [
                (record.stream.rpartition("/")[2] if "/" in record.stream else "", record.type) for record in store.read_all()
            ]
        files = sorted(re.sub("[0-9a-f]", "", path.name) for path in self.place.folder.rglob("*"))
        return rows_and_objects, ledgers, log, files

    def world(self) -> dict[str, Any]:
        """Every row and object of both databases, apart from Twinstep's own."""
        return world(self.place)

    def check_end(self, legal: dict[str, Any]) -> None:
        """Everything that must hold when nothing is left to do."""
        self.scenario.check_end(self.place, legal)
        self.wait_until_left_alone()
        held = (
            "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory' AND datname = %s"
        )
        assert self._admin.execute(held, (DATABASE,)).fetchone() == (0,)


def _local_world(local: sqlite3.Connection) -> dict[str, Any]:
    ours = "name NOT LIKE 'twinstep%' AND tbl_name NOT LIKE 'twinstep%'"
    schema = local.execute(f"SELECT type, name, sql FROM sqlite_schema WHERE {ours} ORDER BY 1, 2").fetchall()
    tables = [name for kind, name, _ in schema if kind == "table" and not name.startswith("sqlite_")]
    found: dict[str, Any] = {
        "schema": [(kind, name, " ".join((sql or "").split())) for kind, name, sql in schema],
        "rows": {name: local.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables},
        "marks": local.execute("SELECT * FROM sqlite_sequence WHERE name NOT LIKE 'twinstep%' ORDER BY 1").fetchall(),
        "user_version": local.execute("PRAGMA user_version").fetchall(),
        "integrity": local.execute("PRAGMA integrity_check").fetchall(),
    }
    if local.execute("SELECT 1 FROM sqlite_schema WHERE name = 'twinstep_quarantine'").fetchone():
        # What a run that went back had set aside is there once for each such run.
        quarantine = "SELECT kind, table_name, row_key, content FROM twinstep_quarantine WHERE put_back_at IS"
        found["in quarantine"] = local.execute(f"{quarantine} NULL ORDER BY 1, 2, 3").fetchall()
        found["put back"] = set(local.execute(f"{quarantine} NOT NULL"))
        twice = "SELECT 1 FROM twinstep_quarantine GROUP BY run, kind, table_name, row_key HAVING count(*) > 1"
        found["set aside twice"] = local.execute(twice).fetchall()
    return found


def _remote_world(remote: psycopg.Connection[Any]) -> dict[str, Any]:
    def asked(query: str) -> list[Any]:
        return remote.execute(query.encode()).fetchall()

    tables = asked("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1")
    columns = "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod) FROM pg_attribute JOIN pg_class c"
    found: dict[str, Any] = {
        "remote rows": {name: asked(f"SELECT * FROM {name} ORDER BY 1") for (name,) in tables},
        "remote columns": asked(
            f"{columns} ON c.oid = attrelid WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0 "
            "AND NOT attisdropped ORDER BY 1, attnum"
        ),
        "remote indexes": asked(
            "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
            "WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        ),
    }
    if asked("SELECT to_regclass('twinstep.kept') IS NOT NULL") == [(True,)]:
        kept = asked("SELECT kept_as, what, relation, rows FROM twinstep.kept ORDER BY id")
        found["kept"] = {(*kept_of, repr(asked(f"SELECT * FROM {name} ORDER BY 1"))) for name, *kept_of in kept if name}
        found["kept twice"] = asked("SELECT 1 FROM twinstep.kept GROUP BY run, step, what, relation HAVING count(*) > 1")
    return found


def legal_world(ground: Ground) -> dict[str, Any]:
    """The world after the same call where nothing is killed."""
    ground.again("origin")
    assert not ground.killed(NEVER)
    ground.run_again()
    return ground.world()


def walk(
    ground: Ground,
    legal: dict[str, Any],
    *,
    singles: slice = slice(0, None),
    firsts: slice = slice(0, None),
    seconds: slice = slice(0, None),
) -> Counter[int]:
    """Run the schedules of one and of two kills; how many there were of each length. Raises AssertionError at the first that
    ends illegally. Slices take only some crossings: of the only kill, of the first of two, and of the second."""
    counted: Counter[int] = Counter()
    for at in _numbers(singles):
        ground.again("origin")
        if not ground.killed(at):
            break
        _ends_legally(ground, legal, at)
        counted[1] += 1
    before: object = None
    for first in _numbers(firsts):
        ground.again("origin")
        if not ground.killed(first):
            break
        shape = ground.shape()
        if shape != before:
            ground.keep("crashed")
            _killed_again(ground, legal, first, seconds, counted)
        before = shape
    return counted


def _killed_again(ground: Ground, legal: dict[str, Any], first: int, seconds: slice, counted: Counter[int]) -> None:
    before: object = None
    for second in _numbers(seconds):
        ground.again("crashed")
        if not ground.killed(second):
            break
        shape = ground.shape()
        if shape != before:
            _ends_legally(ground, legal, first, second)
        before = shape
        counted[2] += 1


def orphans(
    ground: Ground, legal: dict[str, Any], statement: str, crossing: str, *, goes_on: bool, seconds: slice = slice(0, None)
) -> int:
    """Kill while the server is at the statement, and goes on with it or not; then recover at once, killed once more or not.
    How many schedules there were."""
    for counted, second in enumerate(_numbers(seconds), start=1):
        ground.again("origin")
        ground.killed_during(statement, crossing, goes_on=goes_on)
        killed = ground.killed(second)
        _ends_legally(ground, legal, statement, second)
        if not killed:
            return counted
    raise AssertionError("there is always a crossing that is not reached")


def _ends_legally(ground: Ground, legal: dict[str, Any], *schedule: object) -> None:
    try:
        ground.run_again()
        ground.check_end(legal)
    except Exception as error:
        raise AssertionError(f"{ground.name}: killed at {' then '.join(map(str, schedule))}: {error!r}") from error


# Each schedule waits a few times: what happens within milliseconds is to be seen then.
eventually = partial(eventually_there, seconds=30, every=0.002)


def _numbers(wanted: slice) -> Iterator[int]:
    return iter(range(wanted.start or 0, wanted.stop or NEVER, wanted.step or 1))
