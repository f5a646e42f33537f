"""Crash schedules on real databases: a child process that is really killed, and what it leaves to the next one.

The child is forked from a small server process that has everything imported and holds no connection, so that a kill costs
milliseconds and never hits the test's own process. It kills itself with SIGKILL at the crossing of the given number: no
handler runs, no connection is closed, no transaction rolled back by anyone but the databases.

What is compared is the world: every row and object of both databases apart from Twinstep's own, against the only legal one.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from attrs import frozen

from twinstep.engine.backup_report import BackupReport
from twinstep.engine.coordinator import Coordinator
from twinstep.engine.report import Report
from twinstep.events.fold import fold
from twinstep.events.lifecycle import State
from twinstep.migrations.definition import LocalOptions, Migration, Side
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

ID = "0001_change"
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
REMOTE_UP = """
UPDATE item SET amount = amount + 100;
CREATE INDEX CONCURRENTLY item_name ON item (name);
ALTER TABLE item ADD COLUMN pinned boolean NOT NULL DEFAULT false;
"""
REMOTE_DOWN = """
ALTER TABLE item DROP COLUMN pinned;
-- twinstep: group
UPDATE item SET amount = amount - 100;
"""

LOCAL = Side(up=LOCAL_UP, down=LOCAL_DOWN)
REMOTE = Side(up=REMOTE_UP, down=REMOTE_DOWN)
OPTIONS = LocalOptions(user_version_from=(11,), user_version_to=12)


def refuse(connection: object) -> None:
    """A check that says no."""
    raise ValueError("refused on purpose")


def _migration(local: Side | None = LOCAL, remote: Side | None = REMOTE) -> Migration:
    return Migration(id=ID, local=local, remote=remote, local_options=OPTIONS)


Call = Callable[[Coordinator], "Report | BackupReport"]


def _migrate(coordinator: Coordinator) -> Report:
    return coordinator.migrate()


def _back(coordinator: Coordinator) -> Report:
    return coordinator.roll_back()


# What both databases are made from, as a migration: for those that were there before there was a log.
FIRST = Migration(
    id="0000_first",
    local=Side(up=LOCAL_TABLE, down="DROP TABLE item"),
    remote=Side(up=REMOTE_TABLE, down="DROP TABLE item"),
    local_options=LocalOptions(user_version_to=11),
)


def _baseline(coordinator: Coordinator) -> Report:
    return coordinator.baseline(FIRST.id)


def _restore(coordinator: Coordinator) -> BackupReport:
    """The first backup that there is: the one from before the change."""
    first, *_ = coordinator.backups()
    return coordinator.restore_backup(first.backup_id)


@frozen(kw_only=True)
class Scenario:
    """What is run, what was run before it, and as what it may end."""

    migration: Migration
    call: Call = _migrate
    before: tuple[Call, ...] = ()
    ends: State = State.VERIFIED


SCENARIOS = {
    "success": Scenario(migration=_migration()),
    "refused_locally": Scenario(
        migration=_migration(local=Side(up=f"{LOCAL_UP} INSERT INTO missing VALUES (1);", down=LOCAL_DOWN)),
        ends=State.ROLLED_BACK,
    ),
    "refused_remotely": Scenario(
        migration=_migration(remote=Side(up=f"{REMOTE_UP} INSERT INTO missing VALUES (1);", down=REMOTE_DOWN)),
        ends=State.ROLLED_BACK,
    ),
    "refused_remotely_and_restored": Scenario(
        migration=_migration(local=Side(up=LOCAL_UP), remote=Side(up="INSERT INTO missing VALUES (1)", down="")),
        ends=State.ROLLED_BACK,
    ),
    "failing_verification": Scenario(
        migration=_migration(remote=Side(up=REMOTE_UP, down=REMOTE_DOWN, check=refuse)), ends=State.ROLLED_BACK
    ),
    "taken_back": Scenario(migration=_migration(), before=(_migrate,), call=_back, ends=State.ROLLED_BACK),
    "baselined": Scenario(migration=FIRST, call=_baseline),
    "restored": Scenario(migration=_migration(), before=(_migrate,), call=_restore, ends=State.PENDING),
    "restored_and_migrated_again": Scenario(migration=_migration(), before=(_migrate, _restore)),
}


@frozen(kw_only=True)
class Place:
    """Where one schedule takes place."""

    folder: Path
    url: str
    wait_seconds: float = 10
    retry_for_seconds: float = 5

    @property
    def local(self) -> Path:
        return self.folder / "app.db"

    def coordinator(self, scenario: Scenario, probe: Callable[[str], None]) -> Coordinator:
        return Coordinator(
            local=self.local,
            remote=self.url,
            migrations=[scenario.migration],
            probe=probe,
            wait_seconds=self.wait_seconds,
            retry_for_seconds=self.retry_for_seconds,
        )


def _silent(crossing: str) -> None:
    """Nothing happens."""


def begin(name: str, folder: Path, url: str) -> Place:
    """Both databases as they are when the call to be killed is made."""
    scenario, place = SCENARIOS[name], Place(folder=folder, url=url)
    with closing(sqlite3.connect(place.local)) as local:
        local.executescript(LOCAL_SCHEMA)
    with psycopg.connect(url, autocommit=True) as remote:
        remote.execute(REMOTE_SCHEMA.encode())
    for call in scenario.before:
        report = call(place.coordinator(scenario, _silent))
        assert report.exit_code == 0, report
    return place


def killed_at(name: str, place: Place, at: int) -> bool:
    """Make the call in a child that is killed at that crossing; whether it was, rather than ending by itself."""
    context = multiprocessing.get_context("forkserver")
    child = context.Process(target=_call, args=(name, place.folder, place.url, at))
    child.start()
    child.join(timeout=60)
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0


def _call(name: str, folder: Path, url: str, at: int) -> None:
    passed = 0

    def probe(crossing: str) -> None:
        nonlocal passed
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    scenario = SCENARIOS[name]
    scenario.call(Place(folder=folder, url=url).coordinator(scenario, probe))


def run_again(name: str, place: Place) -> Report:
    """What a person would do: the same call, and once more to see that nothing is left to do."""
    scenario = SCENARIOS[name]
    scenario.call(place.coordinator(scenario, _silent))
    return place.coordinator(scenario, _silent).resume()


def world(place: Place) -> dict[str, Any]:
    """Every row and object of both databases, apart from Twinstep's own."""
    with closing(sqlite3.connect(place.local)) as local:
        ours = "name NOT LIKE 'twinstep%' AND tbl_name NOT LIKE 'twinstep%'"
        schema = local.execute(f"SELECT type, name, sql FROM sqlite_schema WHERE {ours} ORDER BY 1, 2").fetchall()
        found: dict[str, Any] = {
            "schema": [(kind, name, " ".join((sql or "").split())) for kind, name, sql in schema],
            "rows": local.execute("SELECT * FROM item ORDER BY id").fetchall(),
            "marks": local.execute("SELECT * FROM sqlite_sequence WHERE name = 'item'").fetchall(),
            "user_version": local.execute("PRAGMA user_version").fetchall(),
            "integrity": local.execute("PRAGMA integrity_check").fetchall(),
        }
    with psycopg.connect(place.url) as remote:
        found["remote rows"] = remote.execute("SELECT * FROM item ORDER BY id").fetchall()
        found["remote indexes"] = remote.execute(
            "SELECT indexdef, indisvalid FROM pg_indexes JOIN pg_index ON indexrelid = indexname::regclass "
            "WHERE schemaname = 'public' ORDER BY 1"
        ).fetchall()
    return found


def legal_world(name: str, folder: Path, url: str) -> dict[str, Any]:
    """The world after the same call where nothing is killed."""
    place = begin(name, folder, url)
    run_again(name, place)
    return world(place)


def check_end(name: str, place: Place, legal: dict[str, Any]) -> None:
    """Everything that must hold when nothing is left to do."""
    store = SQLiteEventStore(place.folder / "app.db.twinstep" / "log.db", readonly=True)
    with closing(store):
        assert check_log(store).sound
        (stream,) = (stream for stream in store.streams() if stream.endswith(SCENARIOS[name].migration.id))
        assert fold(store.read(stream)).state is SCENARIOS[name].ends
    assert world(place) == legal
    with psycopg.connect(place.url) as remote:
        held = remote.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert held == (0,)


def database_of(url: str) -> str:
    """The name in it."""
    return urlsplit(url).path.removeprefix("/")


def copied(place: Place, folder: Path, url: str) -> Place:
    """The same local files at another place; the remote is the caller's to copy."""
    shutil.copytree(place.folder, folder)
    return Place(folder=folder, url=url)


def crossings() -> Iterator[int]:
    """0, 1, 2 and so on, as long as there are any."""
    return iter(range(NEVER))
