"""One log in PostgreSQL for several pairs, through coordinator and command: at once, beside a ledger, and damaged."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from command_line import UP, Project, make_project
from event_stores import PostgresLog, TickingClock, append

from twinstep import Coordinator
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events import types as e
from twinstep.events.errors import LostLock
from twinstep.stores.log_check import check_log
from twinstep.stores.memory import MemoryEventStore
from twinstep.stores.postgres_events import PostgresEventStore
from twinstep.stores.sqlite_events import SQLiteEventStore

SECOND = {
    "local.up.sql": "CREATE TABLE more (x);",
    "local.down.sql": "DROP TABLE more;",
    "remote.up.sql": "ALTER TABLE tags ADD COLUMN n int;",
    "remote.down.sql": "ALTER TABLE tags DROP COLUMN n;",
}


@pytest.fixture
def url(log_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[str]:
    """A database for the log, which is the remote too; the tables of the remote go with it."""
    log = PostgresLog(tmp_path, TickingClock())
    yield log.url
    with psycopg.connect(log.url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS public.tags CASCADE")
    log.close()


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str) -> Project:
    """A project of two migrations whose log lies beside its remote's ledger."""
    made = make_project(tmp_path, capsys)
    made.add("0001_tags", UP)
    made.add("0002_more", SECOND)
    made.environ.update(TWINSTEP_LOCAL=str(made.local), TWINSTEP_REMOTE=url, TWINSTEP_LOG=url)
    return made


def test_several_pairs_migrate_at_once_on_one_log_and_one_remote(project: Project, url: str) -> None:
    """Each has its own file; all share the remote, and the log lies beside the ledger in it."""
    paths = [project.folder / f"device{number}.db" for number in range(3)]
    for path in paths:
        sqlite3.connect(path).close()
    barrier = threading.Barrier(len(paths))

    def coordinator(path: Path) -> Coordinator:
        return Coordinator(local=path, remote=url, log=url, migrations=project.folder / "migrations", wait_seconds=60)

    def migrate(path: Path) -> object:
        barrier.wait()
        report = coordinator(path).migrate()
        return report.outcome, report.error, [run.state for run in report.runs]

    with ThreadPoolExecutor(len(paths)) as pool:
        for answer in pool.map(migrate, paths):
            assert answer == ("verified", None, ["verified", "verified"])
    with closing(PostgresEventStore(url, readonly=True)) as store:
        assert check_log(store).problems == ()
        pairs = {stream.partition("/")[0] for stream in store.streams()}
        assert len(pairs) == len(paths)
        of_a_run = [row for row in store.rows("migration_history") if row.version in ("0001_tags", "0002_more")]  # type: ignore[union-attr]
        assert sorted((row.pair, row.id) for row in of_a_run) == sorted({(row.pair, row.id) for row in of_a_run})
        assert len(of_a_run) == 2 * len(paths)
    runs = []
    for path in paths:
        one = coordinator(path)
        assert [(each.id, each.state, each.runs) for each in one.status().migrations] == [
            ("0001_tags", "verified", 1),
            ("0002_more", "verified", 1),
        ]
        assert [run.state for run in one.history()] == ["verified", "verified"]
        assert not one.needs_migration()
        runs += [run.run for run in one.history()]
    assert len(set(runs)) == 2 * len(paths)


def test_the_command_works_on_a_log_in_the_database_of_the_remote(project: Project) -> None:
    """Neither the accounting nor the look for drift takes the log's tables for the application's."""
    assert project.run("log", "check").code == 2
    assert project.run("migrate").code == 0
    status = project.run("--json", "status").data
    assert status["conflicts"] == []
    assert [each["state"] for each in status["migrations"]] == ["verified", "verified"]
    assert project.run("check").code == 0
    remote = project.run("--json", "history").data["runs"][0]["remote"]
    assert "twinstep" not in str(remote)
    assert project.run("verify").code == 0
    assert project.run("rollback", "0002_more").code == 0
    assert project.run("resume").code == 0
    assert project.run("migrate").code == 0
    checked = project.run("--json", "log", "check").data
    assert checked["sound"]
    assert project.run("log").code == 0
    assert len(project.run("log", "export").out.splitlines()) == checked["events"]
    assert "postgresql" in checked["log"]
    assert not (project.folder / "app.db.twinstep" / "log.db").exists()


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE twinstep.events SET payload = replace(payload, '0001_tags', '0001_togs') WHERE version = 1", "T501"),
        ("DELETE FROM twinstep.events WHERE stream LIKE '%0001_tags' AND version > 3", "T293"),
        ("DELETE FROM twinstep.events WHERE position > 3; UPDATE twinstep.log SET last_position = 3", "T258"),
        ("DROP TABLE twinstep.events CASCADE", "T514"),
        ("UPDATE twinstep.log SET schema_version = 2", "T508"),
    ],
)
def test_nothing_is_run_on_a_damaged_log(project: Project, url: str, statement: str, code: str) -> None:
    assert project.run("migrate", "--to", "0001_tags").code == 0
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("events", "log"):
            connection.execute(f"ALTER TABLE twinstep.{table} DISABLE TRIGGER ALL".encode())
        connection.execute(statement.encode())
    answer = project.run("migrate")
    assert (answer.code, code in answer.err) == (5, True), answer.err
    assert "more" not in project.tables()


def test_a_password_of_the_log_is_shown_nowhere(project: Project) -> None:
    for address in ("postgresql://me:the-secret@127.0.0.1:1/x", "postgresql://me:the-sec/ret@127.0.0.1:1/x"):
        project.environ["TWINSTEP_LOG"] = address
        for words in (("migrate",), ("status",), ("log",), ("log", "check"), ("--json", "migrate"), ("--json", "log")):
            answer = project.run(*words)
            assert answer.code in (2, 5)
            assert "the-sec" not in answer.out + answer.err
            assert ("T511" in answer.err) or ("T516" in answer.err)
    told = repr(Coordinator(local=project.local, log="postgresql://me:the-secret@127.0.0.1:1/x", migrations=[]).migrate())
    assert "T511" in told
    assert "the-secret" not in told


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
def test_a_coordinator_claims_its_pair_before_it_appends(project: Project, url: str, kind: str) -> None:
    stores = {
        "memory": lambda: MemoryEventStore(),
        "sqlite": lambda: SQLiteEventStore(project.folder / "log.db"),
        "postgres": lambda: PostgresEventStore(url),
    }
    with closing(stores[kind]()) as held:
        log = {"memory": held, "sqlite": f"sqlite:///{project.folder / 'log.db'}", "postgres": url}[kind]
        pair = held.register_pair(str(project.local))
        other = held.another_handle() if isinstance(held, MemoryEventStore) else held
        other.claim(pair)
        append(other, pair, e.SyncChecked(conflicts=0))
        migrated = Coordinator(local=project.local, log=log, migrations=project.folder / "migrations", remote_role="skip")
        assert migrated.migrate().outcome == "verified"
        with pytest.raises(LostLock):
            append(other, pair, e.SyncChecked(conflicts=0))
