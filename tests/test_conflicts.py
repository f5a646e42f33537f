"""Every kind of conflict, end to end: made on real databases, named by `status --json`, and ended by the way out it names.

The way out is followed as a person would: by the command, or by the SQL that the message says. What the log remembers of it is
looked at too.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from command_line import Project, make_project

from twinstep.engine.coordinator import Coordinator
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

TAGS = {
    "local.up.sql": "CREATE TABLE tags (name TEXT);",
    "local.down.sql": "DROP TABLE tags;",
    "remote.up.sql": "CREATE TABLE tags (name text);",
    "remote.down.sql": "DROP TABLE tags;",
}
MORE = {name: text.replace("tags", "more") for name, text in TAGS.items()}
FIRST, SECOND = "0001_tags", "0002_more"


@pytest.fixture
def project(tmp_path: Path, remote_url: str, capsys: pytest.CaptureFixture[str]) -> Project:
    """A project on both databases, with two migrations."""
    project = make_project(tmp_path, capsys)
    project.environ.update({"TWINSTEP_LOCAL": str(project.local), "TWINSTEP_REMOTE": remote_url})
    project.add(FIRST, TAGS)
    project.add(SECOND, MORE)
    return project


def succeeds(project: Project, *words: str) -> dict[str, Any]:
    answer = project.run(*words, "--json")
    assert answer.code == 0, answer.err
    return answer.data


def status(project: Project) -> dict[str, Any]:
    return succeeds(project, "status")


def conflict(project: Project, kind: str) -> dict[str, Any]:
    """The first conflict of that kind; `check` says 3 because of it, and neither appends anything."""
    before = log(project)
    found = [one for one in status(project)["conflicts"] if one["kind"] == kind]
    assert found
    assert {name for one in found for name in one} == {"kind", "migration", "message", "next_step"}
    assert project.run("check").code == 3
    assert log(project) == before
    return found[0]


def all_well(project: Project) -> None:
    assert status(project)["conflicts"] == []
    assert project.run("check").code == 0


def store(project: Project) -> SQLiteEventStore:
    return SQLiteEventStore(project.local.with_name("app.db.twinstep") / "log.db", readonly=True)


def log(project: Project) -> list[tuple[str, dict[str, Any]]]:
    """The events of all streams: type and payload."""
    with closing(store(project)) as opened:
        assert check_log(opened).sound
        return [(record.type, json.loads(record.payload)) for record in opened.read_all()]


def of_the_pair(project: Project) -> list[tuple[str, str, str]]:
    """The conflicts that came and went, in order: type, kind, and how it ended."""
    return [(name, payload["kind"], payload.get("how", "")) for name, payload in log(project) if name.startswith("Conflict")]


def local(project: Project, *statements: str) -> None:
    with closing(sqlite3.connect(project.local, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def remote(project: Project, *statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(project.environ["TWINSTEP_REMOTE"], autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def sync_row(project: Project, migration: str) -> tuple[int, str | None, str | None]:
    with closing(sqlite3.connect(project.local.with_name("app.db.twinstep") / "log.db")) as connection:
        query = "SELECT sync_conflict_detected, conflict_resolution, last_sync_check FROM migration_sync_status WHERE id = ?"
        found = connection.execute(query, (migration,)).fetchone()
    assert isinstance(found, tuple)
    return found


# One side ahead of the other


def test_a_local_side_that_is_ahead_is_caught_up_with_by_migrating(project: Project) -> None:
    succeeds(project, "migrate", "--to", FIRST, "--skip-remote")
    found = conflict(project, "local_ahead")
    assert found["migration"] == FIRST
    assert "twinstep migrate" in found["next_step"]
    succeeds(project, "migrate")
    all_well(project)
    assert of_the_pair(project)[0] == ("ConflictDetected", "local_ahead", "")
    assert ("ConflictResolved", "local_ahead", "migrated") in of_the_pair(project)
    assert sync_row(project, FIRST)[:2] == (0, "migrated")


def test_a_remote_that_is_ahead_is_caught_up_with_by_migrating(project: Project, tmp_path: Path) -> None:
    operator = Coordinator(
        remote=project.environ["TWINSTEP_REMOTE"], migrations=tmp_path / "migrations", state_dir=tmp_path / "operator"
    )
    succeeds(project, "migrate", "--to", FIRST)
    assert operator.migrate().outcome == "verified"
    found = conflict(project, "remote_ahead")
    assert found["migration"] == SECOND
    assert "twinstep migrate" in found["next_step"]
    # What another pair did to a shared remote is no drift, although the schema is not the one verified here last.
    assert [one["kind"] for one in status(project)["conflicts"]] == ["remote_ahead"]
    succeeds(project, "migrate")
    all_well(project)
    assert of_the_pair(project) == [
        ("ConflictDetected", "remote_ahead", ""),
        ("ConflictResolved", "remote_ahead", "migrated"),
    ]
    # And from here on it is compared again.
    remote(project, "ALTER TABLE more ADD COLUMN by_hand int")
    assert "more differs" in conflict(project, "drift")["message"]


# The folder and the databases


def test_an_edited_migration_blocks_until_its_text_is_as_it_was(project: Project) -> None:
    succeeds(project, "migrate")
    up = project.folder / "migrations" / FIRST / "local.up.sql"
    up.write_text("CREATE TABLE tags (name TEXT, other TEXT);")
    found = conflict(project, "edited")
    assert found["migration"] == FIRST
    assert "Put its up text back" in found["next_step"]
    assert project.run("migrate").code == 5
    assert sync_row(project, FIRST)[:2] == (1, None)
    assert project.run("migrate").code == 5
    assert of_the_pair(project) == [("ConflictDetected", "edited", "")]  # seen twice, recorded once
    up.write_text(TAGS["local.up.sql"])
    all_well(project)
    succeeds(project, "migrate")
    assert of_the_pair(project)[1:] == [("ConflictResolved", "edited", "gone")]
    assert sync_row(project, FIRST)[:2] == (0, "gone")


def test_a_migration_that_the_folder_does_not_have_blocks_until_it_is_put_back(project: Project) -> None:
    succeeds(project, "migrate")
    away = project.folder / "away"
    shutil.move(project.folder / "migrations" / SECOND, away)
    found = conflict(project, "unknown")
    assert found["migration"] == SECOND
    assert "put the migration's folder back" in found["next_step"]
    assert project.run("migrate").code == 5
    shutil.move(away, project.folder / "migrations" / SECOND)
    all_well(project)
    succeeds(project, "migrate")
    assert of_the_pair(project) == [("ConflictDetected", "unknown", ""), ("ConflictResolved", "unknown", "gone")]


# The log and the ledgers


def test_an_older_local_file_is_behind_the_log_until_its_ledger_is_adopted(project: Project) -> None:
    succeeds(project, "migrate", "--to", FIRST)
    shutil.copy(project.local, project.folder / "older.db")
    succeeds(project, "migrate")
    shutil.copy(project.folder / "older.db", project.local)
    found = conflict(project, "behind_log")
    assert found["migration"] == SECOND
    assert "twinstep migrate --adopt" in found["next_step"]
    assert project.run("migrate").code == 5
    succeeds(project, "migrate", "--adopt")
    all_well(project)
    assert "more" in project.tables()
    assert ("ConflictResolved", "behind_log", "adopted") in of_the_pair(project)


def test_databases_of_a_lost_log_are_foreign_until_their_ledgers_are_adopted(project: Project) -> None:
    succeeds(project, "migrate")
    shutil.rmtree(project.local.with_name("app.db.twinstep"))
    (found,) = status(project)["conflicts"]
    assert found["kind"] == "foreign_log"
    assert "twinstep migrate --adopt" in found["next_step"]
    assert project.run("migrate").code == 5
    succeeds(project, "migrate", "--adopt")
    all_well(project)


def test_a_log_that_lost_its_tail_is_foreign_and_may_be_put_back(project: Project) -> None:
    succeeds(project, "migrate", "--to", FIRST)
    state = project.local.with_name("app.db.twinstep")
    shutil.copytree(state, project.folder / "older-state")
    succeeds(project, "migrate")
    shutil.move(state, project.folder / "lost")
    shutil.move(project.folder / "older-state", state)
    found = conflict(project, "foreign_log")
    assert "Name the right log with --log" in found["next_step"]
    assert project.run("migrate").code == 5
    assert project.run("check", "--log", f"sqlite:///{project.folder / 'lost' / 'log.db'}").code == 0


# Drift

LOCAL_DRIFT: dict[str, tuple[str, str, str]] = {
    "a new index": ("CREATE INDEX by_hand ON notes (title)", "index by_hand is new", "DROP INDEX by_hand"),
    "another column": (
        "ALTER TABLE tags ADD COLUMN by_hand TEXT",
        "table tags differs",
        "ALTER TABLE tags DROP COLUMN by_hand",
    ),
    "a missing table": ("DROP TABLE tags", "table tags is missing", "CREATE TABLE tags (name TEXT)"),
    "another version": ("PRAGMA user_version = 77", "user_version was 3, is 77", "PRAGMA user_version = 3"),
}


@pytest.mark.parametrize("how", LOCAL_DRIFT)
def test_a_local_schema_that_somebody_changed_is_drift_until_it_is_put_back(project: Project, how: str) -> None:
    change, said, back = LOCAL_DRIFT[how]
    succeeds(project, "migrate")
    all_well(project)
    local(project, change)
    found = conflict(project, "drift")
    assert (found["migration"], said in found["message"]) == (SECOND, True), found
    assert "Put back what is named" in found["next_step"]
    # It blocks nothing.
    succeeds(project, "migrate")
    assert sync_row(project, SECOND)[:2] == (1, None)
    local(project, back)
    all_well(project)
    succeeds(project, "migrate")
    assert of_the_pair(project) == [("ConflictDetected", "drift", ""), ("ConflictResolved", "drift", "gone")]
    assert sync_row(project, SECOND)[:2] == (0, "gone")


REMOTE_DRIFT: dict[str, tuple[str, str, str]] = {
    "a new function": ("CREATE FUNCTION f() RETURNS int RETURN 1", "function public.f() is new", "DROP FUNCTION f()"),
    "another column": (
        "ALTER TABLE tags ALTER COLUMN name SET NOT NULL",
        "table public.tags differs",
        "ALTER TABLE tags ALTER COLUMN name DROP NOT NULL",
    ),
    "a missing table": ("DROP TABLE more", "table public.more is missing", "CREATE TABLE more (name text)"),
}


@pytest.mark.parametrize("how", REMOTE_DRIFT)
def test_a_remote_schema_that_somebody_changed_is_drift_until_it_is_put_back(project: Project, how: str) -> None:
    change, said, back = REMOTE_DRIFT[how]
    succeeds(project, "migrate")
    remote(project, change)
    assert said in conflict(project, "drift")["message"]
    remote(project, back)
    all_well(project)


def test_a_drift_is_accepted_by_name_and_what_changes_after_it_is_drift_again(project: Project) -> None:
    succeeds(project, "migrate")
    local(project, "CREATE INDEX by_hand ON notes (title)")
    remote(project, "CREATE TABLE by_hand (x int)")
    assert [one["kind"] for one in status(project)["conflicts"]] == ["drift", "drift"]
    assert "twinstep verify --accept" in status(project)["conflicts"][0]["next_step"]
    report = succeeds(project, "verify", "--accept")
    assert report["outcome"] == "accepted"
    accepted = [(one["migration"], one["differences"]) for one in report["accepted"]]
    assert accepted == [(SECOND, ["index by_hand is new"]), (SECOND, ["table public.by_hand is new"])]
    all_well(project)
    recorded = [payload for name, payload in log(project) if name == "ConflictResolved"]
    assert [payload["differences"] for payload in recorded] == [one["differences"] for one in report["accepted"]]
    assert sync_row(project, SECOND)[:2] == (0, "accepted")
    local(project, "CREATE INDEX another ON notes (title)")
    found = conflict(project, "drift")
    assert "index another is new" in found["message"]
    assert "by_hand" not in found["message"]


def test_a_side_that_is_not_read_keeps_its_conflicts(project: Project) -> None:
    succeeds(project, "migrate")
    remote(project, "CREATE TABLE by_hand (x int)")
    assert project.run("verify").code == 3
    for words in (("migrate", "--skip-remote"), ("migrate", "--remote-role", "skip"), ("verify", "--remote-role", "skip")):
        assert project.run(*words).code == 0
    away = {**project.environ, "TWINSTEP_REMOTE": "postgresql://nobody@127.0.0.1:1/nowhere"}
    here, project.environ = project.environ, away
    assert project.run("verify").code == 5
    project.environ = here
    assert of_the_pair(project) == [("ConflictDetected", "drift", "")]
    assert sync_row(project, SECOND)[:2] == (1, None)


def test_who_has_not_read_both_sides_does_not_say_that_they_agree(project: Project) -> None:
    succeeds(project, "migrate", "--to", FIRST, "--skip-remote")
    assert project.run("verify").code == 3
    assert project.run("verify", "--remote-role", "skip").code == 0
    assert of_the_pair(project) == [("ConflictDetected", "local_ahead", "")]


def test_what_was_accepted_does_not_outlive_a_change_that_is_taken_back(project: Project) -> None:
    succeeds(project, "migrate")
    local(project, "CREATE INDEX by_hand ON notes (title)")
    succeeds(project, "verify", "--accept")
    succeeds(project, "rollback")
    # Compared with the first migration's look again, in which it was not yet.
    found = conflict(project, "drift")
    assert (found["migration"], "index by_hand is new" in found["message"]) == (FIRST, True)
    succeeds(project, "verify", "--accept")
    assert status(project)["conflicts"] == []


def test_a_migration_over_a_drift_ends_it_and_the_log_says_so(project: Project) -> None:
    succeeds(project, "migrate", "--to", FIRST)
    local(project, "CREATE INDEX by_hand ON notes (title)")
    succeeds(project, "migrate")
    all_well(project)
    assert of_the_pair(project) == [("ConflictDetected", "drift", ""), ("ConflictResolved", "drift", "migrated")]


def test_a_dry_run_over_a_conflict_records_nothing_and_goes_through(project: Project) -> None:
    succeeds(project, "migrate", "--to", FIRST)
    local(project, "CREATE INDEX by_hand ON notes (title)")
    before = log(project)
    assert succeeds(project, "migrate", "--dry-run")["outcome"] == "rehearsed"
    assert log(project) == before
    conflict(project, "drift")


def test_what_hosts_and_twinstep_itself_write_is_no_drift(project: Project) -> None:
    succeeds(project, "migrate")
    local(project, "INSERT INTO notes VALUES (1, 'x')", "ANALYZE", "VACUUM", "CREATE TABLE twinstep_quarantine (x)")
    remote(project, "INSERT INTO tags VALUES ('x')", "CREATE TABLE twinstep.kept (x int)", "ANALYZE")
    all_well(project)


def test_a_drift_is_noticed_also_where_another_schema_is_named(project: Project) -> None:
    remote(project, "CREATE SCHEMA app")
    toml = '[remote]\nschemas = ["app"]\n'
    files = {"remote.up.sql": "CREATE TABLE app.t (x int)", "remote.down.sql": "DROP TABLE app.t", "migration.toml": toml}
    project.add("0003_app", files)
    succeeds(project, "migrate")
    remote(project, "CREATE INDEX by_hand ON app.t (x)")
    assert "index app.by_hand is new" in conflict(project, "drift")["message"]


# Invalid indexes


def _left_invalid(project: Project) -> None:
    """An index that a concurrent build has left behind: the rows are not unique."""
    remote(project, "INSERT INTO tags VALUES ('x'), ('x')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        remote(project, "CREATE UNIQUE INDEX CONCURRENTLY tags_once ON tags (name)")


@pytest.mark.parametrize(
    "way_out",
    [
        ("DROP INDEX CONCURRENTLY public.tags_once",),
        # Finished, it is an index that no migration knows: drift, which is accepted or written down.
        ("DELETE FROM tags", "REINDEX INDEX CONCURRENTLY public.tags_once"),
    ],
    ids=["dropped", "finished"],
)
def test_an_invalid_index_is_named_until_it_is_dropped_or_finished(project: Project, way_out: tuple[str, ...]) -> None:
    succeeds(project, "migrate")
    _left_invalid(project)
    found = conflict(project, "invalid_index")
    assert "public.tags_once" in found["message"]
    assert "DROP INDEX CONCURRENTLY" in found["next_step"]
    assert "REINDEX INDEX CONCURRENTLY" in found["next_step"]
    assert [one["kind"] for one in status(project)["conflicts"]] == ["invalid_index"]  # and is no drift besides
    succeeds(project, "migrate")
    for statement in way_out:
        remote(project, statement)
    assert "invalid_index" not in [one["kind"] for one in status(project)["conflicts"]]
    if len(way_out) > 1:
        assert "index public.tags_once is new" in conflict(project, "drift")["message"]
        succeeds(project, "verify", "--accept")
    all_well(project)
    succeeds(project, "migrate")
    assert ("ConflictResolved", "invalid_index", "gone") in of_the_pair(project)


def test_an_invalid_index_is_named_before_anything_was_migrated(project: Project) -> None:
    remote(project, "CREATE TABLE tags_before (name text)", "INSERT INTO tags_before VALUES ('x'), ('x')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        remote(project, "CREATE UNIQUE INDEX CONCURRENTLY before_once ON tags_before (name)")
    (found,) = status(project)["conflicts"]
    assert (found["kind"], "public.before_once" in found["message"]) == ("invalid_index", True)


@pytest.fixture
def builder(project: Project) -> Iterator[Callable[[], threading.Thread]]:
    """Begins to build an index concurrently, and is kept from finishing by an old snapshot until the test is over."""
    url = project.environ["TWINSTEP_REMOTE"]
    with psycopg.connect(url) as old:
        threads: list[threading.Thread] = []

        def begin() -> threading.Thread:
            old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            old.execute("LOCK TABLE tags IN ROW EXCLUSIVE MODE")
            statement = "CREATE INDEX CONCURRENTLY tags_slow ON tags (name)"
            thread = threading.Thread(target=remote, args=(project, statement))
            thread.start()
            threads.append(thread)
            query = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE relname = 'tags_slow'"
            while remote(project, query) == [(0,)]:
                pass
            return thread

        try:
            yield begin
        finally:
            old.rollback()
            for thread in threads:
                thread.join(30)


def test_an_index_that_somebody_is_building_right_now_is_no_conflict(
    project: Project, builder: Callable[[], threading.Thread]
) -> None:
    succeeds(project, "migrate")
    builder()
    query = "SELECT indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE relname = 'tags_slow'"
    assert remote(project, query) == [(False,)]
    all_well(project)


# Looking does not disturb


def test_a_table_that_somebody_has_locked_keeps_status_waiting_only_a_moment(project: Project) -> None:
    succeeds(project, "migrate")
    remote(project, "CREATE VIEW seen AS SELECT name FROM tags")
    with psycopg.connect(project.environ["TWINSTEP_REMOTE"]) as other:
        other.execute("LOCK TABLE tags IN ACCESS EXCLUSIVE MODE")
        found = status(project)
        assert found["remote"]["reachable"]
        assert "T272" in found["remote"]["problem"]
        assert found["remote"]["applied"] == [FIRST, SECOND]
        other.rollback()
    assert "view public.seen is new" in conflict(project, "drift")["message"]


def test_asking_a_remote_takes_few_round_trips(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    succeeds(project, "migrate")
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def counting(self: psycopg.Cursor[Any], query: Any, *arguments: Any, **options: Any) -> Any:
        sent.append(str(query))
        return execute(self, query, *arguments, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", counting)
    status(project)
    assert 0 < len(sent) <= 6, sent


def test_the_rows_about_conflicts_come_back_as_they_were(project: Project) -> None:
    succeeds(project, "migrate")
    local(project, "CREATE INDEX by_hand ON notes (title)")
    _left_invalid(project)
    succeeds(project, "migrate")
    assert project.run("verify").code == 3
    path = project.local.with_name("app.db.twinstep") / "log.db"
    query = "SELECT * FROM migration_sync_status ORDER BY rowid"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        before = connection.execute(query).fetchall()
        assert sync_row(project, SECOND)[:2] == (1, None)
        connection.execute("DROP TABLE migration_sync_status")
    with closing(SQLiteEventStore(path)) as opened:
        opened.rebuild_rows()
        assert check_log(opened).sound
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(query).fetchall() == before
