"""What a host application gets from `Coordinator`, on a real SQLite file and a real PostgreSQL.

What is looked at is the world: rows, schemas, ledgers and the log, read without the coordinator's help.
"""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import frozen
from sqlalchemy import Connection
from targets import Crash, crash_at, sometimes

from twinstep.engine.coordinator import Coordinator
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.engine.locks import coordinator_lock
from twinstep.engine.report import Report
from twinstep.events.chain import GENESIS
from twinstep.events.errors import Blocked, ConfigurationError, DefinitionError, TwinstepError
from twinstep.events.types import ValidationFailed
from twinstep.migrations.catalogue import Fingerprint
from twinstep.migrations.definition import LocalOptions, Migration, Query, RemoteOptions, Side
from twinstep.migrations.postgres_catalogue import read_fingerprint as read_postgres
from twinstep.migrations.sqlite_catalogue import read_fingerprint as read_sqlite
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

FIRST, SECOND, THIRD = "0001_first", "0002_second", "0003_third"
AWAY = "postgresql://nobody@127.0.0.1:1/nowhere"


@frozen(kw_only=True)
class World:
    """Everything committed in both databases, apart from Twinstep's own."""

    local: Fingerprint
    remote: Fingerprint
    items: tuple[object, ...]


class Pair:
    """A device's file, its folder of migrations, and the remote that it shares."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.path = folder / "notes.db"
        self.url = url
        self.migrations = folder / "migrations"
        folder.mkdir(exist_ok=True)
        with closing(self.connected()) as local:
            local.execute("PRAGMA journal_mode = WAL")
            local.execute("CREATE TABLE item (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER NOT NULL)")
            local.execute("CREATE TABLE pending_ops (id INTEGER PRIMARY KEY)")
            local.executemany("INSERT INTO item VALUES (?, ?)", [(1, 1), (2, 2), (7, 7)])
            local.execute("DELETE FROM item WHERE id = 7")
            local.execute("PRAGMA user_version = 11")

    def connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None, timeout=2)

    def coordinator(self, **options: Any) -> Coordinator:
        given = {"local": self.path, "remote": self.url, "migrations": self.migrations, "retry_for_seconds": 0.4}
        return Coordinator(**{**given, **options})

    def write(self, migration: str, **files: str) -> None:
        """A migration's folder; `local_up` is local.up.sql and so on, `toml` and `py` the other two."""
        place = self.migrations / migration
        place.mkdir(parents=True, exist_ok=True)
        names = {"toml": "migration.toml", "py": "migration.py"}
        for name, content in files.items():
            (place / names.get(name, f"{name.replace('_', '.')}.sql")).write_text(content)

    def world(self) -> World:
        with closing(self.connected()) as local:
            seen = read_sqlite(local)
        with psycopg.connect(self.url, autocommit=True) as remote:
            items = tuple(remote.execute("SELECT id, n FROM item ORDER BY id").fetchall())
            return World(local=seen, remote=read_postgres(remote, ("public",)), items=items)

    def local(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(self.connected()) as local:
            return local.execute(statement).fetchall()

    def remote(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as remote:
            cursor = remote.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> list[str]:
        """The types of the events of all streams, in order."""
        with closing(SQLiteEventStore(self.path.with_name("notes.db.twinstep") / "log.db", readonly=True)) as store:
            assert check_log(store).sound
            return [record.type for record in store.read_all()]


@pytest.fixture
def remote_database(remote_url: str) -> str:
    with psycopg.connect(remote_url, autocommit=True) as remote:
        remote.execute("CREATE TABLE item (id bigint PRIMARY KEY, n bigint NOT NULL)")
        remote.execute("INSERT INTO item VALUES (1, 1), (2, 2)")
    return remote_url


@pytest.fixture
def pair(tmp_path: Path, remote_database: str) -> Pair:
    made = Pair(tmp_path / "device", remote_database)
    made.write(
        FIRST,
        local_up="ALTER TABLE item ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0; CREATE INDEX item_pinned ON item (pinned);",
        local_down="DROP INDEX item_pinned; ALTER TABLE item DROP COLUMN pinned;",
        remote_up="ALTER TABLE item ADD COLUMN pinned boolean NOT NULL DEFAULT false;\n"
        "CREATE INDEX CONCURRENTLY item_pinned ON item (pinned);",
        remote_down="ALTER TABLE item DROP COLUMN pinned;",
        toml="[local]\nuser_version = { from = [11], to = 12 }\n",
    )
    return made


def second(pair: Pair, **changes: str) -> None:
    """A second migration, which adds to every item on both sides."""
    files = {
        "local_up": "UPDATE item SET n = n + 10; CREATE TABLE more (id INTEGER PRIMARY KEY);",
        "local_down": "UPDATE item SET n = n - 10; DROP TABLE more;",
        "remote_up": "UPDATE item SET n = n + 100; CREATE TABLE more (id bigint);",
        "remote_down": "UPDATE item SET n = n - 100; DROP TABLE more;",
        "toml": "[local]\nuser_version = { from = [12], to = 13 }\n",
        **changes,
    }
    pair.write(SECOND, **{name: content for name, content in files.items() if content})


def ended(report: Report) -> tuple[str, int]:
    return report.outcome, report.exit_code


REFUSED = "UPDATE item SET n = n + 100; SELECT 1 / 0;"


# Migrating


def test_migrating_brings_both_sides_to_verified_and_then_there_is_nothing_to_do(pair: Pair) -> None:
    assert pair.coordinator().needs_migration()
    report = pair.coordinator().migrate()
    assert ended(report) == ("verified", 0), report.error
    (run,) = report.runs
    assert (run.state, run.error, run.migration) == ("verified", None, FIRST)
    assert run.local["indexes_added"] == run.remote["indexes_added"] == 1
    assert [step.effect for step in run.steps] == ["VALIDATE", "BACK_UP", "APPLY_LOCAL", "APPLY_REMOTE", "VERIFY"]
    assert run.backup is not None
    assert pair.local("SELECT count(*), sum(pinned) FROM item") == [(2, 0)]
    assert pair.remote("SELECT count(*) FROM item WHERE NOT pinned") == [(2,)]
    again = pair.coordinator().migrate()
    assert ended(again) == ("up_to_date", 0)
    assert again.runs == ()
    assert not pair.coordinator().needs_migration()


def test_status_history_events_backups_and_sync_status_tell_the_same_story(pair: Pair) -> None:
    second(pair)
    before = pair.coordinator().status()
    assert (before.pair, before.pending, before.local.user_version) == (None, (FIRST, SECOND), 11)
    assert not (pair.path.with_name("notes.db.twinstep")).exists()
    seen: list[str] = []
    pair.coordinator(on_event=lambda record: seen.append(record.type)).migrate(to=FIRST)
    status = pair.coordinator().status()
    assert (status.local.applied, status.remote.applied, status.pending) == ((FIRST,), (FIRST,), (SECOND,))
    assert (status.local.user_version, status.in_flight, status.conflicts) == (12, None, ())
    assert {one.id: (one.state, one.local_status, one.remote_status, one.runs) for one in status.migrations} == {
        FIRST: ("verified", "completed", "completed", 1),
        SECOND: ("pending", "pending", "pending", 0),
    }
    (run,) = pair.coordinator().history()
    assert (run.migration, run.state) == (FIRST, "verified")
    assert [record.type for record in pair.coordinator().events()] == seen == pair.log()
    (backup,) = pair.coordinator().backups()
    assert backup.migration_version == FIRST
    assert (backup.status, backup.restoration_verified) == ("cleanup_scheduled", 1)
    (row,) = pair.coordinator().sync_status()
    assert (row.migration_version, row.local_status, row.remote_status) == (FIRST, "completed", "completed")
    (planned,) = pair.coordinator().plan()
    assert (planned.id, [step.side for step in planned.steps]) == (SECOND, ["local", "remote"])


def test_a_batch_runs_in_order_up_to_the_named_one_and_an_unknown_name_is_refused(pair: Pair) -> None:
    second(pair)
    pair.write(THIRD, local_up="CREATE TABLE third (id);", local_down="DROP TABLE third;")
    assert ended(pair.coordinator().migrate(to="0099_nothing")) == ("failed", 2)
    report = pair.coordinator().migrate(to=SECOND)
    assert [(run.migration, run.state) for run in report.runs] == [(FIRST, "verified"), (SECOND, "verified")]
    assert pair.coordinator().status().pending == (THIRD,)
    assert ended(pair.coordinator().migrate()) == ("verified", 0)
    assert pair.coordinator().sync_status()[-1].remote_status == "not_needed"


def test_a_batch_stops_at_the_first_that_is_refused(pair: Pair) -> None:
    pair.coordinator().migrate()
    second(pair, remote_up=REFUSED)
    pair.write(THIRD, local_up="CREATE TABLE third (id);", local_down="DROP TABLE third;")
    world = pair.world()
    report = pair.coordinator().migrate()
    assert ended(report) == ("rolled_back", 1)
    assert [(run.migration, run.state) for run in report.runs] == [(SECOND, "rolled_back")]
    assert pair.world() == world
    assert pair.coordinator().status().pending == (SECOND, THIRD)


def test_a_side_that_is_not_configured_is_left_for_later(pair: Pair) -> None:
    assert ended(pair.coordinator(remote=None).migrate()) == ("verified", 0)
    assert pair.remote("SELECT to_regnamespace('twinstep')::text") == [(None,)]
    assert not pair.coordinator(remote=None).needs_migration()
    assert pair.coordinator().status().pending == (FIRST,)
    assert ended(pair.coordinator().migrate()) == ("verified", 0)
    assert pair.coordinator().status().remote.applied == (FIRST,)


def test_an_operator_without_a_local_file_changes_the_remote_alone(pair: Pair, tmp_path: Path) -> None:
    operator = {"local": None, "state_dir": tmp_path / "operator"}
    assert ended(pair.coordinator(**operator).migrate()) == ("verified", 0)
    status = pair.coordinator(**operator).status()
    assert (status.local.reachable, status.remote.applied, status.pending) == (None, (FIRST,), ())
    assert not pair.path.with_name("notes.db.twinstep").exists()
    assert ended(pair.coordinator(**operator).roll_back()) == ("rolled_back", 0)
    assert pair.remote("SELECT count(*) FROM information_schema.columns WHERE column_name = 'pinned'") == [(0,)]


def test_callables_and_sequences_of_migrations_do_the_same_as_folders(pair: Pair) -> None:
    def up(connection: Connection) -> None:
        connection.exec_driver_sql("UPDATE item SET n = n + 5")

    def down(connection: Connection) -> None:
        connection.exec_driver_sql("UPDATE item SET n = n - 5")

    world = pair.world()
    given = [Migration(id="1_calls", local=Side(up=up, down=down), remote=Side(up=up, down=down))]
    assert ended(pair.coordinator(migrations=given).migrate()) == ("verified", 0)
    assert pair.local("SELECT n FROM item") == pair.remote("SELECT n FROM item ORDER BY id") == [(6,), (7,)]
    assert ended(pair.coordinator(migrations=given).roll_back()) == ("rolled_back", 0)
    assert pair.world() == world


# Without the remote, and later with it


def test_skipping_the_remote_touches_no_network_and_a_later_run_does_it(pair: Pair) -> None:
    second(pair)
    pair.write(THIRD, local_up="CREATE TABLE third (id);", local_down="DROP TABLE third;", toml="[local]\npending = 'SELECT 0'")
    report = pair.coordinator(remote=AWAY, retry_for_seconds=30).migrate(skip_remote=True)
    assert ended(report) == ("verified", 0)
    assert [run.remote_skipped for run in report.runs] == [True, True, False]
    assert pair.remote("SELECT to_regnamespace('twinstep')::text") == [(None,)]
    status = pair.coordinator().status()
    assert (status.local.applied, status.pending) == ((FIRST, SECOND, THIRD), (FIRST, SECOND))
    assert {conflict.kind for conflict in status.conflicts} == {"local_ahead"}
    local = pair.world().local
    report = pair.coordinator().migrate()
    assert ended(report) == ("verified", 0), report.error
    assert pair.world().local == local
    assert pair.world().items == ((1, 101), (2, 102))
    assert pair.coordinator().status().conflicts == ()
    assert pair.coordinator().status().pending == ()


def test_the_role_skip_touches_no_network_at_all(pair: Pair) -> None:
    offline = pair.coordinator(remote=AWAY, remote_role="skip", retry_for_seconds=30)
    assert ended(offline.migrate()) == ("verified", 0)
    assert offline.status().remote.reachable is None
    assert ended(offline.migrate()) == ("up_to_date", 0)
    world = pair.local("PRAGMA user_version")
    assert world == [(12,)]
    assert ended(offline.roll_back()) == ("rolled_back", 0)
    assert pair.local("PRAGMA user_version") == [(11,)]


def test_a_skipped_remote_that_is_refused_later_leaves_the_migration_as_it_was(pair: Pair) -> None:
    pair.write(FIRST, remote_up=REFUSED, remote_down="SELECT 1")
    pair.coordinator().migrate(skip_remote=True)
    world = pair.world()
    report = pair.coordinator().migrate()
    assert ended(report) == ("rolled_back", 1)
    assert pair.world() == world
    (one,) = pair.coordinator().status().migrations
    assert (one.state, one.local_status, one.remote_status) == ("verified", "completed", "failed")


def test_a_role_that_requires_the_remote_waits_for_whoever_may_change_it(pair: Pair, tmp_path: Path) -> None:
    world = pair.world()
    report = pair.coordinator(remote_role="require").migrate()
    assert ended(report) == ("blocked", 5)
    assert report.error is not None
    assert report.error.code == "T205"
    assert pair.world() == world
    pair.coordinator(local=None, state_dir=tmp_path / "operator").migrate()
    assert ended(pair.coordinator(remote_role="require").migrate()) == ("verified", 0)
    assert pair.local("PRAGMA user_version") == [(12,)]


def test_a_remote_that_is_away_blocks_before_anything_is_changed(pair: Pair) -> None:
    world = pair.world()
    report = pair.coordinator(remote=AWAY).migrate()
    assert ended(report) == ("blocked", 5)
    assert pair.world() == world
    assert pair.log() == ["ValidationFailed"]
    status = pair.coordinator(remote=AWAY).status()
    assert (status.remote.reachable, status.local.reachable) == (False, True)
    assert ended(pair.coordinator().migrate()) == ("verified", 0)


# Refused


@pytest.mark.parametrize("down", ["with a down", "without a down"])
@pytest.mark.parametrize("mode", sometimes(["WAL", "DELETE"], 2))
def test_a_remote_that_refuses_after_the_local_commit_leaves_both_sides_as_before(pair: Pair, down: str, mode: str) -> None:
    pair.local(f"PRAGMA journal_mode = {mode}")
    pair.write(FIRST, remote_up="CREATE TABLE one (n int);\nCREATE INDEX CONCURRENTLY item_n ON item (n);\nSELECT 1 / 0;")
    pair.write(
        FIRST, remote_down="-- twinstep: group\nDROP TABLE one;", local_up="UPDATE item SET n = n + 10; CREATE TABLE l (x);"
    )
    pair.write(FIRST, local_down="UPDATE item SET n = n - 10; DROP TABLE l;")
    if down == "without a down":
        (pair.migrations / FIRST / "local.down.sql").unlink()
    world = pair.world()
    report = pair.coordinator().migrate()
    assert ended(report) == ("rolled_back", 1)
    assert report.error is not None
    assert report.error.code == "T331"
    assert "division by zero" in report.error.message
    assert pair.world() == world
    status = pair.coordinator().status()
    assert (status.in_flight, status.local.applied, status.remote.applied) == (None, (), ())
    assert status.migrations[0].local_status == "rolled_back"
    (run,) = pair.coordinator().history()
    assert (run.state, run.error is not None) == ("rolled_back", True)
    assert run.steps[-1].effect == "COMPARE"


def test_a_corrected_migration_runs_after_it_was_rolled_back(pair: Pair) -> None:
    pair.write(FIRST, remote_up=REFUSED, remote_down="SELECT 1")
    pair.coordinator().migrate()
    pair.write(FIRST, remote_up="UPDATE item SET n = n + 100;", remote_down="UPDATE item SET n = n - 100;")
    assert ended(pair.coordinator().migrate()) == ("verified", 0)
    assert pair.world().items == ((1, 101), (2, 102))


def _another_writes(pair: Pair, crossing: str = "APPLY_REMOTE:before") -> Callable[[str], None]:
    """Another program writes to the local file when the coordinator comes to that crossing."""

    def probe(passed: str) -> None:
        if passed == crossing:
            pair.local("INSERT INTO item (n) VALUES (77)")

    return probe


def test_writes_by_others_after_the_local_change_survive_a_rollback_by_down_steps(pair: Pair) -> None:
    pair.write(FIRST, remote_up=REFUSED, remote_down="SELECT 1")
    world = pair.world()
    report = pair.coordinator(probe=_another_writes(pair)).migrate()
    assert ended(report) == ("rolled_back", 1)
    assert pair.local("SELECT id, n FROM item") == [(1, 1), (2, 2), (8, 77)]
    assert pair.world().local.objects == world.local.objects
    assert pair.world().remote == world.remote


def test_without_a_down_writes_by_others_are_never_lost_unless_given_up(pair: Pair) -> None:
    pair.write(FIRST, remote_up=REFUSED, remote_down="SELECT 1")
    (pair.migrations / FIRST / "local.down.sql").unlink()
    world = pair.world()
    report = pair.coordinator(probe=_another_writes(pair)).migrate()
    assert ended(report) == ("in_flight", 6)
    assert report.error is not None
    assert report.error.code == "T336"
    assert pair.local("SELECT n, pinned FROM item") == [(1, 0), (2, 0), (77, 0)]
    for again in (pair.coordinator().resume(), pair.coordinator().migrate()):
        assert ended(again) == ("in_flight", 6)
    assert pair.log().count("StepFailed") == 2, "the same refusal is noted once"
    status = pair.coordinator().status()
    assert status.in_flight is not None
    assert (status.in_flight.state, status.needs_migration) == ("rolling_back", True)
    report = pair.coordinator().resume(discard_local_writes=True)
    assert ended(report) == ("rolled_back", 1)
    assert pair.world() == world
    kept = sorted((pair.path.with_name("notes.db.twinstep") / "backups").glob("*.db"))
    assert any(_rows(path) == 3 for path in kept), "what was given up is kept all the same"


def _rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as backup:
        return int(backup.execute("SELECT count(*) FROM item").fetchone()[0])


@pytest.mark.parametrize("side", ["local", "remote"])
def test_a_check_that_fails_takes_both_sides_back(pair: Pair, side: str) -> None:
    pair.write(FIRST, py=f"def check_{side}(connection):\n    raise ValueError('the rows are wrong')\n")
    world = pair.world()
    report = pair.coordinator().migrate()
    assert ended(report) == ("rolled_back", 1)
    assert report.error is not None
    assert (report.error.code, "the rows are wrong" in report.error.message) == ("T332", True)
    assert pair.world() == world


def test_a_query_that_the_migration_breaks_takes_both_sides_back(pair: Pair) -> None:
    pair.write(
        FIRST,
        local_up="ALTER TABLE item RENAME COLUMN n TO m;",
        local_down="ALTER TABLE item RENAME COLUMN m TO n;",
        toml="[[query]]\nname = 'the list'\nside = 'local'\nsql = 'SELECT n FROM item'\n",
    )
    world = pair.world()
    report = pair.coordinator().migrate()
    assert ended(report) == ("rolled_back", 1)
    assert report.error is not None
    assert report.error.code == "T341"
    assert pair.world() == world


def test_queries_are_measured_before_and_after(pair: Pair) -> None:
    def up(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE INDEX item_n ON item (n)")

    queries = [Query(name="by n", side=side, sql="SELECT id FROM item WHERE n = 1", uses_index="item_n") for side in ("local",)]
    given = [Migration(id="1_measured", local=Side(up=up, down="DROP INDEX item_n"), queries=queries)]
    (run,) = pair.coordinator(migrations=given).migrate().runs
    (measured,) = run.queries
    assert (measured.name, measured.plan_changed, run.findings) == ("by n", True, ())
    assert measured.before_ms > 0 < measured.after_ms


def test_pending_operations_block_and_nothing_is_changed(pair: Pair) -> None:
    pair.write(FIRST, toml='[local]\npending = "SELECT count(*) FROM pending_ops"\n')
    pair.local("INSERT INTO pending_ops VALUES (1), (2)")
    world = pair.world()
    for _ in range(3):
        report = pair.coordinator().migrate()
        assert ended(report) == ("blocked", 5)
        assert report.error is not None
        assert report.error.code == "T202"
    assert pair.log() == ["ValidationFailed"], "an identical refusal is noted once"
    assert pair.world() == world
    pair.local("DELETE FROM pending_ops")
    assert ended(pair.coordinator().migrate()) == ("verified", 0)


def test_a_user_version_that_is_not_wanted_blocks(pair: Pair) -> None:
    pair.local("PRAGMA user_version = 7")
    world = pair.world()
    report = pair.coordinator().migrate()
    assert ended(report) == ("blocked", 5)
    assert report.error is not None
    assert (report.error.code, "11" in report.error.message, "7" in report.error.message) == ("T201", True, True)
    assert pair.world() == world


def test_rows_that_would_be_lost_are_named_and_kept(pair: Pair) -> None:
    pair.write(FIRST, local_up="DELETE FROM item WHERE id = 1;", local_down="SELECT 1;")
    world = pair.world()
    report = pair.coordinator().migrate()
    assert ended(report) == ("rolled_back", 1)
    assert report.error is not None
    assert report.error.code == "T334"
    assert pair.world() == world


# Taking back


def test_taking_back_leaves_both_sides_as_before_and_can_be_done_again(pair: Pair) -> None:
    worlds = [pair.world()]
    second(pair)
    pair.coordinator().migrate(to=FIRST)
    worlds.append(pair.world())
    pair.coordinator().migrate()
    assert ended(pair.coordinator().roll_back()) == ("rolled_back", 0)
    assert pair.world() == worlds[1]
    assert pair.coordinator().status().pending == (SECOND,)
    assert ended(pair.coordinator().migrate()) == ("verified", 0)
    report = pair.coordinator().roll_back(FIRST)
    assert ended(report) == ("rolled_back", 0)
    assert [run.migration for run in report.runs] == [SECOND, FIRST]
    assert pair.world() == worlds[0]
    assert ended(pair.coordinator().roll_back()) == ("up_to_date", 0)
    assert ended(pair.coordinator().roll_back("0099_nothing")) == ("failed", 2)
    assert ended(pair.coordinator().migrate()) == ("verified", 0)


def test_a_take_back_whose_down_forgets_something_on_the_remote_is_found_out(pair: Pair) -> None:
    second(pair, remote_down="UPDATE item SET n = n - 100;")
    pair.coordinator().migrate()
    report = pair.coordinator().roll_back()
    assert ended(report) == ("in_flight", 6)
    assert report.error is not None
    assert (report.error.code, "remote: table public.more is new" in report.error.message) == ("T335", True)
    pair.remote("DROP TABLE more")
    assert ended(pair.coordinator().resume()) == ("rolled_back", 0)


def test_what_others_made_on_the_remote_meanwhile_is_not_held_against_a_take_back(pair: Pair) -> None:
    pair.coordinator().migrate()
    pair.remote("CREATE TABLE of_others (n int)")
    assert ended(pair.coordinator().roll_back()) == ("rolled_back", 0)
    assert pair.remote("SELECT to_regclass('of_others')::text") == [("of_others",)]


def test_a_skipped_remote_that_was_done_later_is_compared_with_what_it_was_then(pair: Pair) -> None:
    second(pair, remote_down="UPDATE item SET n = n - 100;")
    pair.coordinator().migrate(skip_remote=True)
    pair.coordinator().migrate()
    report = pair.coordinator().roll_back()
    assert report.error is not None
    assert (ended(report), report.error.code) == (("in_flight", 6), "T335")


def test_without_a_local_down_a_verified_migration_is_not_taken_back(pair: Pair) -> None:
    (pair.migrations / FIRST / "local.down.sql").unlink()
    pair.coordinator().migrate()
    world = pair.world()
    report = pair.coordinator().roll_back()
    assert ended(report) == ("blocked", 5)
    assert report.error is not None
    assert report.error.code == "T206"
    assert pair.world() == world
    assert pair.coordinator().status().migrations[0].state == "verified"


def test_a_take_back_without_space_for_its_backup_changes_nothing(pair: Pair) -> None:
    pair.coordinator().migrate()
    world = pair.world()
    backups = pair.path.with_name("notes.db.twinstep") / "backups"
    shutil.rmtree(backups)
    backups.write_text("a file where the folder should be")
    report = pair.coordinator().roll_back()
    assert ended(report) == ("blocked", 5), report
    assert pair.world() == world
    assert pair.coordinator().status().migrations[0].state == "verified"
    backups.unlink()
    assert ended(pair.coordinator().roll_back()) == ("rolled_back", 0)


def test_two_devices_on_one_remote_rely_on_it_and_only_the_last_takes_it_back(pair: Pair, tmp_path: Path) -> None:
    other = Pair(tmp_path / "other device", pair.url)
    other.migrations = pair.migrations
    world = pair.world()
    assert ended(pair.coordinator().migrate()) == ("verified", 0)
    assert other.coordinator().status().conflicts[0].kind == "remote_ahead"
    report = other.coordinator().migrate()
    assert ended(report) == ("verified", 0)
    assert "RemoteConfirmed" in other.log()
    applied = pair.world()
    assert ended(pair.coordinator().roll_back()) == ("rolled_back", 0)
    assert pair.world().remote == applied.remote
    assert pair.world().local == world.local
    assert other.coordinator().status().conflicts == ()
    assert ended(pair.coordinator().migrate()) == ("verified", 0), "it relies on what stands"
    assert ended(other.coordinator().roll_back()) == ("rolled_back", 0)
    assert pair.world().remote == applied.remote
    assert ended(pair.coordinator().roll_back()) == ("rolled_back", 0)
    assert pair.world() == world


def test_what_another_device_applied_stays_when_this_one_goes_back(pair: Pair, tmp_path: Path) -> None:
    other = Pair(tmp_path / "other device", pair.url)
    other.migrations = pair.migrations
    pair.coordinator().migrate()
    applied = pair.world()
    other.coordinator().migrate()
    assert ended(other.coordinator().roll_back()) == ("rolled_back", 0)
    assert pair.world() == applied
    assert pair.coordinator().status().conflicts == ()


# What does not fit together: nothing is run


def blocked(pair: Pair, kind: str, **options: Any) -> None:
    """Every changing call is refused with exit code 5, nothing changes, the status names the conflict, and the log once."""
    world, log = pair.world(), pair.log() if not options else None
    assert kind in [conflict.kind for conflict in pair.coordinator(**options).status().conflicts]
    for call in (Coordinator.migrate, Coordinator.roll_back):
        report = call(pair.coordinator(**options))
        assert ended(report) == ("blocked", 5), (call, report)
        assert report.error is not None
        assert report.error.next_step
    assert pair.world() == world
    if log is not None:
        new = pair.log()[len(log) :]
        # A log that does not know the pair has no stream of it.
        assert set(new) == (set() if kind == "foreign_log" else {"ConflictDetected", "SyncChecked"})
        assert new.count("SyncChecked") == (kind != "foreign_log")


def test_a_migration_that_was_edited_after_it_was_applied_blocks(pair: Pair) -> None:
    pair.coordinator().migrate()
    second(pair)
    pair.write(FIRST, local_up="CREATE TABLE something_else (n);")
    blocked(pair, "edited")


def test_a_comment_or_a_corrected_down_is_no_edit(pair: Pair) -> None:
    pair.coordinator().migrate()
    up = pair.migrations / FIRST / "local.up.sql"
    up.write_text(f"-- a remark\r\n{up.read_text()}")
    pair.write(FIRST, local_down="DROP INDEX item_pinned;\n\nALTER TABLE item DROP COLUMN pinned; -- corrected")
    assert ended(pair.coordinator().migrate()) == ("up_to_date", 0)


def test_a_database_that_is_newer_than_the_folder_blocks(pair: Pair) -> None:
    second(pair)
    pair.coordinator().migrate()
    shutil.rmtree(pair.migrations / FIRST)
    blocked(pair, "unknown")


def test_a_lost_log_blocks(pair: Pair) -> None:
    pair.coordinator().migrate()
    second(pair)
    shutil.rmtree(pair.path.with_name("notes.db.twinstep"))
    pair.coordinator().migrate()  # which makes a new log
    blocked(pair, "foreign_log")


@pytest.mark.parametrize("applied", [FIRST, SECOND])
def test_an_older_copy_of_the_local_file_under_a_newer_log_blocks(pair: Pair, applied: str) -> None:
    second(pair)
    if applied == SECOND:
        pair.coordinator().migrate(to=FIRST)
    pair.local("PRAGMA wal_checkpoint(TRUNCATE)")
    older = pair.path.read_bytes()
    pair.coordinator().migrate()
    for suffix in ("-wal", "-shm"):
        pair.path.with_name(f"notes.db{suffix}").unlink(missing_ok=True)
    pair.path.write_bytes(older)
    blocked(pair, "behind_log")


def test_a_remote_that_was_set_back_in_time_blocks(pair: Pair) -> None:
    pair.coordinator().migrate()
    pair.remote("ALTER TABLE item DROP COLUMN pinned")
    pair.remote("DROP SCHEMA twinstep CASCADE")
    blocked(pair, "behind_log")


def test_an_in_flight_run_is_not_resumed_on_an_older_copy(pair: Pair) -> None:
    pair.local("PRAGMA wal_checkpoint(TRUNCATE)")
    older = pair.path.read_bytes()
    with pytest.raises(Crash):
        pair.coordinator(probe=crash_at("APPLY_REMOTE:before")).migrate()
    for suffix in ("-wal", "-shm"):
        pair.path.with_name(f"notes.db{suffix}").unlink(missing_ok=True)
    pair.path.write_bytes(older)
    world = pair.world()
    for call in (Coordinator.resume, Coordinator.migrate, Coordinator.roll_back):
        assert ended(call(pair.coordinator())) == ("blocked", 5)
    assert pair.world() == world


def test_a_pair_follows_its_file_when_that_is_moved(pair: Pair, tmp_path: Path) -> None:
    second(pair)
    log = f"sqlite:///{tmp_path / 'kept' / 'log.db'}"
    pair.coordinator(log=log).migrate(to=FIRST)
    named = pair.coordinator(log=log).status().pair
    moved = tmp_path / "moved.db"
    pair.local("PRAGMA wal_checkpoint(TRUNCATE)")
    pair.path.rename(moved)
    pair.path = moved
    assert pair.coordinator(log=log).status().pair == named
    assert ended(pair.coordinator(log=log).migrate()) == ("verified", 0)
    assert ended(pair.coordinator(log=log).roll_back(FIRST)) == ("rolled_back", 0)


# In flight


CROSSINGS = (
    "BACK_UP:performed",
    "APPLY_LOCAL:before",
    "local:group:after-commit",
    "START_REMOTE:before",
    "APPLY_REMOTE:before",
    "remote:open:after-commit",
    "remote:done:before-commit",
    "APPLY_REMOTE:performed",
    "VERIFY:before",
)


@pytest.mark.parametrize("gone", ["edited", "deleted", "the folder deleted"])
@pytest.mark.parametrize(
    "crossing", sometimes(["local:group:after-commit", "APPLY_LOCAL:before", "remote:open:after-commit"], 2)
)
def test_a_run_in_flight_is_finished_from_what_it_recorded(pair: Pair, crossing: str, gone: str) -> None:
    with pytest.raises(Crash):
        pair.coordinator(probe=crash_at(crossing)).migrate()
    if gone == "edited":
        pair.write(FIRST, local_up="CREATE TABLE wrong (n);", remote_up="CREATE TABLE wrong (n int);", remote_down="SELECT 1")
    elif gone == "deleted":
        second(pair)
        shutil.rmtree(pair.migrations / FIRST)
    else:
        shutil.rmtree(pair.migrations)
    status_before = pair.coordinator().status() if gone != "the folder deleted" else None
    assert status_before is None or status_before.in_flight is not None
    report = pair.coordinator().resume()
    assert ended(report) == ("verified", 0), report.error
    assert pair.local("SELECT sum(pinned) FROM item") == [(0,)]
    assert pair.remote("SELECT count(*) FROM item WHERE NOT pinned") == [(2,)]


@pytest.mark.parametrize("crossing", sometimes(CROSSINGS, 3))
def test_what_is_in_flight_is_finished_by_running_again(pair: Pair, crossing: str) -> None:
    with pytest.raises(Crash):
        pair.coordinator(probe=crash_at(crossing)).migrate()
    assert pair.coordinator().needs_migration()
    assert ended(pair.coordinator().migrate()) == ("verified", 0)
    assert pair.local("SELECT sum(pinned) FROM item") == [(0,)]
    assert pair.coordinator().status().in_flight is None
    assert pair.coordinator().status().conflicts == ()
    pair.log()


@pytest.mark.parametrize("crossing", sometimes(CROSSINGS, 3))
def test_what_is_in_flight_can_be_taken_back_instead(pair: Pair, crossing: str) -> None:
    world = pair.world()
    with pytest.raises(Crash):
        pair.coordinator(probe=crash_at(crossing)).migrate()
    report = pair.coordinator().roll_back()
    assert ended(report) == ("rolled_back", 0), report.error
    assert pair.world() == world
    pair.log()


def test_a_remote_that_goes_away_in_the_middle_leaves_the_run_in_flight_until_it_is_back(pair: Pair) -> None:
    with pytest.raises(Crash):
        pair.coordinator(probe=crash_at("APPLY_REMOTE:before")).migrate()
    for call in (Coordinator.resume, Coordinator.migrate):
        report = call(pair.coordinator(remote=AWAY))
        assert ended(report) == ("in_flight", 6)
        assert report.error is not None
        assert report.error.code == "T221"
    assert pair.local("PRAGMA user_version") == [(12,)]
    assert ended(pair.coordinator().resume()) == ("verified", 0)


def test_a_session_that_is_cut_in_the_middle_is_tried_again_within_the_limit(pair: Pair) -> None:
    cut: list[str] = []

    def probe(crossing: str) -> None:
        if crossing in ("remote:group:before-commit", "remote:single:before", "VERIFY:before") and crossing not in cut:
            cut.append(crossing)
            pair.remote(
                "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE 'twinstep on %'"
            )

    report = pair.coordinator(probe=probe, retry_for_seconds=20).migrate()
    assert ended(report) == ("verified", 0), report.error
    assert len(cut) == 3
    assert pair.world().items == ((1, 1), (2, 2))


def test_a_log_that_cannot_be_written_stops_the_run_and_takes_nothing_back(pair: Pair) -> None:
    """The change stands and is in its ledger: a hiccup of the log is no reason to undo it."""
    full: list[bool] = []

    def fill(crossing: str) -> None:
        if crossing == "APPLY_LOCAL:performed":
            full.append(True)
        if full and crossing == "append:before-commit":
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
            raise error

    report = pair.coordinator(probe=fill).migrate()
    assert ended(report) == ("in_flight", 6), report
    assert report.error is not None
    assert report.error.code == "T506"
    assert pair.local("PRAGMA user_version") == [(12,)]
    assert "RollbackStarted" not in pair.log()
    assert ended(pair.coordinator().resume()) == ("verified", 0)


# One at a time


def test_who_comes_second_is_told_who_works_and_waits_if_asked_to(pair: Pair, tmp_path: Path) -> None:
    state = pair.path.with_name("notes.db.twinstep")
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom twinstep.engine.locks import coordinator_lock\n"
        f"with coordinator_lock(Path({str(state)!r}), doing='migrate', wait_seconds=0):\n"
        "    print('held', flush=True)\n    sys.stdin.readline()\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdin is not None
    with other, other.stdout, other.stdin:
        assert other.stdout.readline() == "held\n"
        world = pair.world()
        for call in (Coordinator.migrate, Coordinator.resume, Coordinator.roll_back):
            report = call(pair.coordinator())
            assert ended(report) == ("locked", 4)
            assert report.error is not None
            assert f"process {other.pid} on " in report.error.message
        assert pair.world() == world
        assert pair.coordinator().status().pending == (FIRST,)
        other.kill()
        assert ended(pair.coordinator(wait_seconds=20).migrate()) == ("verified", 0)


def test_a_remote_that_another_device_changes_right_now_is_left_for_later(pair: Pair, tmp_path: Path) -> None:
    other = Pair(tmp_path / "other device", pair.url)
    other.migrations = pair.migrations
    seen: list[Report] = []

    def probe(crossing: str) -> None:
        if crossing == "remote:open:after-commit":
            seen.append(other.coordinator().migrate())

    assert ended(pair.coordinator(probe=probe).migrate()) == ("verified", 0)
    assert seen[0].exit_code in (4, 5)
    assert seen[0].error is not None
    assert ended(other.coordinator().migrate()) == ("verified", 0)


@pytest.mark.parametrize("crossing", ["VALIDATE:performed", "APPLY_LOCAL:performed"])
def test_a_second_coordinator_of_one_log_loses_and_is_told_so(pair: Pair, crossing: str) -> None:
    """Where no lock stood between them, the log's own check still does."""

    def another_writes(passed: str) -> None:
        if passed == crossing:
            with closing(SQLiteEventStore(pair.path.with_name("notes.db.twinstep") / "log.db")) as store:
                (stream,) = store.streams() or [f"{store.register_pair(str(pair.path.resolve()))}/{FIRST}"]
                records = store.read(stream)
                version, last = (records[-1].version, records[-1].hash) if records else (0, GENESIS)
                run = json.loads(records[0].payload)["run"] if records else "another"
                note = ValidationFailed(run=run, code="T202", message="Another one was first.")
                store.append(stream, [note], expected_version=version, expected_hash=last)

    report = pair.coordinator(probe=another_writes).migrate()
    assert ended(report) == ("locked", 4)
    assert report.error is not None
    assert report.error.code == "T504"
    assert ended(pair.coordinator().migrate()) == ("verified", 0)
    assert pair.local("SELECT sum(pinned) FROM item") == [(0,)]


# Secrets


PASSWORD = "p4ss/w@rd-of-the-remote"


@pytest.fixture
def with_password(pair: Pair, postgres: EmbeddedPostgres) -> Iterator[str]:
    """The remote by a URL with a password in it."""
    role = f"secretive_{pair.url.partition('test_')[2][:6]}"
    pair.remote(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    quoted = PASSWORD.replace("/", "%2F").replace("@", "%40")
    yield pair.url.replace("postgresql://postgres@", f"postgresql://{role}:{quoted}@")
    pair.remote(f"REASSIGN OWNED BY {role} TO postgres")
    pair.remote(f"DROP OWNED BY {role}")
    pair.remote(f"DROP ROLE {role}")


def _secrets() -> tuple[str, ...]:
    return (PASSWORD, PASSWORD.replace("/", "%2F").replace("@", "%40"), PASSWORD[:6], "rd-of-the-remote")


def test_the_password_is_in_no_report_log_ledger_or_exception(
    pair: Pair, with_password: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    second(pair, remote_up=REFUSED)
    coordinator = pair.coordinator(remote=with_password)
    told = [repr(coordinator.migrate()), repr(coordinator.status()), repr(coordinator.history()), repr(vars(coordinator))]
    told.append(repr(pair.coordinator(remote=with_password.replace("test_", "nothing_")).migrate()))
    told += [json.dumps([record.payload for record in coordinator.events()]), caplog.text, *capfd.readouterr()]
    told += [repr(pair.local("SELECT * FROM twinstep_ledger")), repr(pair.remote("SELECT * FROM twinstep.ledger"))]
    files = b"".join(path.read_bytes() for path in pair.path.parent.rglob("*") if path.is_file())
    told.append(files.decode("latin-1"))
    for text in told:
        assert not any(secret in text for secret in _secrets())


@pytest.mark.parametrize(
    "url",
    sometimes(
        [
            "postgresql://user:SECRET@127.0.0.1:1/db",
            "postgresql+psycopg://user:SECRET@127.0.0.1:1/db",
            "postgresql://user:SECRET/more@127.0.0.1:1/db",
            "postgresql://user:SECRET#more@127.0.0.1:1/db",
            "postgresql://user:SECRET?more@127.0.0.1:1/db",
            "postgresql://user:SECRET@more@127.0.0.1:1/db",
            "postgresql://user:SECRET",
            "postgresql://user:SECRET/",
            "postgresql://127.0.0.1:1/db?user=me&password=SECRET",
            "postgresql://127.0.0.1:1/db?user=me&pass%77ord=SECRET",
            "postgresql://127.0.0.1:1/db?user=me&sslpassword=SECRET",
            "postgresql://user:SECRET@[::1/db",
            "postgresql://user:SECRET%zz@127.0.0.1:1/db",
            "mysql://user:SECRET@127.0.0.1/db",
            "host=127.0.0.1 port=1 user=me password=SECRET",
            "host=127.0.0.1 port=1 user=me sslpassword=SECRET password='SEC RET'",
            "host=127.0.0.1 user=me password='SECRET",
            "SECRET",
        ],
        2,
    ),
)
def test_no_way_to_write_an_address_gives_its_password_away(pair: Pair, url: str) -> None:
    coordinator = pair.coordinator(remote=url)
    report = coordinator.migrate()
    assert report.exit_code in (2, 5)
    told = [repr(report), repr(vars(coordinator))]
    for call in (coordinator.status, coordinator.plan, coordinator.history):
        try:
            told.append(repr(call()))
        except TwinstepError as error:
            told += traceback.format_exception(error)
    assert not any("SECRET" in text or "SEC RET" in text or "more@" in text for text in told), told


# Input


def test_bad_input_is_named_before_anything_is_made(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Coordinator(migrations=[])
    with pytest.raises(ConfigurationError):
        pair.coordinator(remote_role="sometimes")
    pair.write(SECOND, local_up="SELECT 'not closed")
    with pytest.raises(DefinitionError):
        pair.coordinator().status()
    assert ended(pair.coordinator().migrate()) == ("failed", 2)
    assert ended(pair.coordinator(local=tmp_path / "nothing.db").migrate()) == ("failed", 2)
    assert not (tmp_path / "nothing.db").exists()
    assert not (tmp_path / "nothing.db.twinstep").exists()


def test_the_lock_of_a_state_folder_that_cannot_be_made_blocks(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Blocked, match="T261"), coordinator_lock(tmp_path / "file" / "state", doing="test", wait_seconds=0):
        pass


def test_local_options_are_those_of_the_migration_that_is_run(pair: Pair) -> None:
    given = [
        Migration(
            id="1_a", local=Side(up="CREATE TABLE a (n)", down="DROP TABLE a"), local_options=LocalOptions(user_version_to=20)
        ),
        Migration(
            id="2_b",
            local=Side(up="CREATE TABLE b (n)", down="DROP TABLE b"),
            local_options=LocalOptions(user_version_from=(20,), user_version_to=21),
        ),
    ]
    world = pair.world()
    assert ended(pair.coordinator(migrations=given).migrate()) == ("verified", 0)
    assert pair.local("PRAGMA user_version") == [(21,)]
    assert ended(pair.coordinator(migrations=given).roll_back("1_a")) == ("rolled_back", 0)
    assert pair.world() == world


def test_a_query_that_cannot_be_measured_because_of_others_does_not_hold_the_migration_up(
    remote_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(remote_url, autocommit=True) as made:
        made.execute("CREATE TABLE busy (a int)")
    migration = Migration(
        id="0001_change",
        remote=Side(up="CREATE TABLE made (a int)", down="DROP TABLE made"),
        queries=(Query(name="slow", side="remote", sql="SELECT * FROM busy"),),
        remote_options=RemoteOptions(schemas=("nothing",)),
    )
    with psycopg.connect(remote_url) as other:
        other.execute("LOCK TABLE busy IN ACCESS EXCLUSIVE MODE")
        report = Coordinator(remote=remote_url, migrations=[migration], state_dir=tmp_path).migrate()
    assert report.outcome == "verified", report.error
    assert report.runs[0].queries == ()


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_query_whose_rows_python_has_no_value_for_is_measured(remote_url: str, tmp_path: Path, dry_run: bool) -> None:
    with psycopg.connect(remote_url, autocommit=True) as made:
        made.execute("CREATE TABLE late (at timestamptz, d date)")
        made.execute("INSERT INTO late VALUES ('infinity', '-infinity'), ('20000-01-01', '0044-03-15 BC')")
    migration = Migration(
        id="0001_change",
        remote=Side(up="ALTER TABLE late ADD COLUMN n int", down="ALTER TABLE late DROP COLUMN n"),
        queries=(Query(name="late", side="remote", sql="SELECT at, d FROM late"),),
    )
    with Coordinator(remote=remote_url, migrations=[migration], state_dir=tmp_path) as coordinator:
        report = coordinator.migrate(dry_run=dry_run)
    assert report.exit_code == 0, report.error
    (query,) = report.runs[0].queries
    assert query.before_ms is not None
    assert query.after_ms is not None
