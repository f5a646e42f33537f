"""`verify`: what is applied is checked again, on real databases that somebody has changed; and what a person may accept.

Neither database is changed by it: the local file's bytes and the remote's catalogue and rows are the same afterwards.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from command_line import Answer, Project, make_project

from twinstep.engine.coordinator import Coordinator
from twinstep.engine.locks import coordinator_lock
from twinstep.migrations.postgres_catalogue import read_fingerprint
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

FIRST, SECOND = "0001_tags", "0002_more"
TOML = """
[local]
user_version = { from = [3], to = 4 }

[[query]]
name = "notes by title"
side = "local"
sql = "SELECT * FROM notes WHERE title = 'x'"
uses_index = "notes_title"

[[query]]
name = "notes there"
side = "remote"
sql = "SELECT * FROM notes WHERE title = 'x'"

[[query]]
name = "one that writes"
side = "remote"
sql = "DELETE FROM notes"

[[query]]
name = "another that writes"
side = "local"
sql = "DELETE FROM notes"
"""
CHECKS = """
def check_local(connection):
    assert connection.exec_driver_sql("SELECT count(*) FROM tags WHERE name = 'forbidden'").scalar() == 0, "forbidden here"

def check_remote(connection):
    assert connection.exec_driver_sql("SELECT count(*) FROM tags WHERE name = 'forbidden'").scalar() == 0, "forbidden there"
"""
TAGS = {
    "local.up.sql": "CREATE TABLE tags (name TEXT);\nCREATE INDEX notes_title ON notes (title);",
    "local.down.sql": "DROP INDEX notes_title; DROP TABLE tags;",
    "remote.up.sql": "CREATE TABLE tags (name text);\nCREATE INDEX CONCURRENTLY notes_title ON notes (title);",
    "remote.down.sql": "DROP TABLE tags;",
    "migration.toml": TOML,
    "migration.py": CHECKS,
}
MORE = {
    "local.up.sql": "CREATE TABLE more (name TEXT);",
    "local.down.sql": "DROP TABLE more;",
    "remote.up.sql": "CREATE TABLE more (name text);",
    "remote.down.sql": "DROP TABLE more;",
    "migration.toml": "[local]\nuser_version = { from = [4], to = 5 }\n",
}


@pytest.fixture
def project(tmp_path: Path, remote_url: str, capsys: pytest.CaptureFixture[str]) -> Project:
    """A project on both databases, in WAL mode, with two migrations."""
    project = make_project(tmp_path, capsys)
    local(project, "PRAGMA journal_mode = WAL")
    project.environ.update({"TWINSTEP_LOCAL": str(project.local), "TWINSTEP_REMOTE": remote_url})
    remote(project, "CREATE TABLE notes (id bigint, title text)", "INSERT INTO notes VALUES (1, 'x')")
    project.add(FIRST, TAGS)
    project.add(SECOND, MORE)
    return project


def local(project: Project, *statements: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(project.local, isolation_level=None)) as connection:
        return [row for statement in statements for row in connection.execute(statement).fetchall()]


def remote(project: Project, *statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(project.environ["TWINSTEP_REMOTE"], autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def world(project: Project) -> tuple[object, ...]:
    """The bytes of the local file, and the remote's catalogue, ledger and the physical place of each row."""
    with psycopg.connect(project.environ["TWINSTEP_REMOTE"], autocommit=True) as connection:
        looks = read_fingerprint(connection, ("public", "twinstep"))
        rows = [
            connection.execute(query).fetchall() for query in ("SELECT * FROM twinstep.ledger", "SELECT ctid, * FROM notes")
        ]
    return hashlib.sha256(project.local.read_bytes()).hexdigest(), looks, rows


def verify(project: Project, *words: str) -> Answer:
    """`verify`, seen to change neither database."""
    before = world(project)
    answer = project.run("verify", *words, "--json")
    assert world(project) == before
    return answer


def migrated(project: Project) -> None:
    answer = project.run("migrate")
    assert answer.code == 0, answer.err


def problems(answer: Answer) -> dict[str, list[str]]:
    return {one["id"]: one["problems"] for one in answer.data["migrations"]}


def events(project: Project) -> list[tuple[str, dict[str, Any]]]:
    with closing(SQLiteEventStore(project.local.with_name("app.db.twinstep") / "log.db", readonly=True)) as store:
        assert check_log(store).sound
        return [(record.type, json.loads(record.payload)) for record in store.read_all()]


def test_what_is_as_it_was_is_verified_and_only_the_log_hears_of_it(project: Project) -> None:
    migrated(project)
    before = events(project)
    answer = verify(project)
    assert (answer.code, answer.data["outcome"], answer.err) == (0, "verified", "")
    assert problems(answer) == {FIRST: [], SECOND: []}
    assert all(one["ok"] for one in answer.data["migrations"])
    assert answer.data["drift"] == {
        side: {"since": SECOND, "differences": [], "not_compared": None} for side in ("local", "remote")
    }
    # The queries that would write are left out, whichever side they are of.
    assert [query["name"] for query in answer.data["migrations"][0]["queries"]] == ["notes by title", "notes there"]
    assert events(project)[len(before) :] == [("SyncChecked", {"conflicts": 0, "migrations": [FIRST, SECOND]})]
    assert project.run("verify").out.endswith("Verified: everything is as it was recorded.\n")


def test_one_migration_can_be_verified_and_an_unknown_or_a_pending_one_is_named(project: Project) -> None:
    project.run("migrate", "--to", FIRST)
    assert list(problems(verify(project, FIRST))) == [FIRST]
    answer = verify(project, SECOND)
    assert (answer.code, problems(answer)) == (3, {SECOND: ["is not applied"]})
    answer = verify(project, "0009_nothing")
    assert (answer.code, answer.data["outcome"], answer.data["error"]["code"]) == (2, "failed", "T145")


def test_nothing_applied_is_nothing_to_verify(project: Project) -> None:
    answer = project.run("verify", "--json")
    assert (answer.code, answer.data["outcome"], answer.data["migrations"]) == (0, "verified", [])
    assert events(project) == []


CHANGED: dict[str, tuple[Callable[[Project], object], str, str]] = {
    "a check fails locally": (lambda p: local(p, "INSERT INTO tags VALUES ('forbidden')"), FIRST, "forbidden here"),
    "a check fails remotely": (lambda p: remote(p, "INSERT INTO tags VALUES ('forbidden')"), FIRST, "forbidden there"),
    "the version is another": (lambda p: local(p, "PRAGMA user_version = 4"), SECOND, "user_version is 4, not 5"),
    "an index that a query needs is gone": (
        lambda p: local(p, "DROP INDEX notes_title"),
        FIRST,
        "query notes by title (local) does not use notes_title any more",
    ),
    "an index is invalid": (
        lambda p: remote(p, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'notes_title'::regclass"),
        FIRST,
        "invalid indexes: public.notes_title",
    ),
    "a ledger row was edited": (
        lambda p: local(p, "UPDATE twinstep_ledger SET checksum = '1:0' WHERE migration = '0002_more' AND direction = 'up'"),
        SECOND,
        "another checksum",
    ),
    "a table of a query is gone": (
        lambda p: local(p, "ALTER TABLE notes RENAME TO others"),
        FIRST,
        "query notes by title (local) cannot be measured: no such table",
    ),
}


@pytest.mark.parametrize("how", CHANGED)
def test_what_is_not_as_it_was_is_named_and_exits_3(project: Project, how: str) -> None:
    change, migration, said = CHANGED[how]
    migrated(project)
    change(project)
    answer = verify(project)
    if how == "a ledger row was edited":
        # The folder's text is not what that row says either, which blocks every run.
        assert (answer.code, answer.data["outcome"]) == (5, "blocked")
    else:
        assert (answer.code, answer.data["outcome"]) == (3, "problems")
    assert any(said in problem for problem in problems(answer)[migration]), problems(answer)
    assert "taken back" not in answer.out + answer.err
    assert migration in project.run("verify").out


def test_a_file_that_is_damaged_is_named(project: Project) -> None:
    migrated(project)
    local(project, "PRAGMA journal_mode = DELETE", *[f"INSERT INTO notes VALUES ({n}, '{'x' * 900}')" for n in range(50)])
    (root,) = local(project, "SELECT rootpage FROM sqlite_schema WHERE name = 'notes'")[0]
    size = 4096
    with project.local.open("r+b") as file:
        file.seek((root - 1) * size + 8)
        file.write(b"\xff" * 200)
    answer = project.run("verify", "--json")
    # So damaged that SQLite does not even say how.
    assert (answer.code, answer.data["outcome"], answer.data["error"]["code"]) == (5, "blocked", "T216")
    assert problems(answer)[FIRST] == ["the local side could not be checked"]


def test_drift_alone_exits_3_and_says_what_differs_from_what(project: Project) -> None:
    migrated(project)
    local(project, "CREATE INDEX by_hand ON tags (name)")
    answer = verify(project)
    assert (answer.code, answer.data["outcome"], problems(answer)) == (3, "drift", {FIRST: [], SECOND: []})
    assert answer.data["drift"]["local"] == {
        "since": SECOND,
        "differences": ["index by_hand is new"],
        "not_compared": None,
    }
    assert answer.data["conflicts"][0]["kind"] == "drift"
    assert "1 difference since 0002_more" in project.run("verify").out


def test_a_plan_that_changed_is_a_finding_where_no_index_was_asked_for(project: Project) -> None:
    migrated(project)
    remote(project, "INSERT INTO notes SELECT g, 'y' || g FROM generate_series(1, 9000) g", "ANALYZE notes")
    answer = verify(project)
    assert answer.code == 0
    assert answer.data["migrations"][0]["findings"] == ["query notes there (remote) has another plan than when measured last"]
    assert [query["plan_changed"] for query in answer.data["migrations"][0]["queries"]] == [False, True]


def test_a_remote_that_is_away_is_exit_5_and_the_local_side_is_told_of(project: Project) -> None:
    migrated(project)
    local(project, "INSERT INTO tags VALUES ('forbidden')")
    project.environ["TWINSTEP_REMOTE"] = "postgresql://nobody@127.0.0.1:1/nowhere"
    answer = project.run("verify", "--json")
    assert (answer.code, answer.data["outcome"], answer.data["error"]["code"]) == (5, "blocked", "T221")
    assert "forbidden here" in problems(answer)[FIRST][0]
    assert problems(answer)[FIRST][1] == problems(answer)[SECOND][0] == "the remote side could not be checked"
    assert answer.data["drift"]["remote"]["not_compared"] == "it was not read"
    answer = project.run("verify", "--json", "--remote-role", "skip")
    assert (answer.code, answer.data["outcome"]) == (3, "problems")


def test_a_log_and_a_ledger_that_do_not_fit_are_exit_5(project: Project) -> None:
    migrated(project)
    local(project, "DELETE FROM twinstep_ledger WHERE migration = '0002_more'")
    answer = verify(project)
    assert (answer.code, answer.data["outcome"], answer.data["error"]["code"]) == (5, "blocked", "T253")
    # Accepting would hide it.
    answer = verify(project, "--accept")
    assert (answer.code, answer.data["outcome"], answer.data["error"]["code"]) == (5, "blocked", "T253")
    assert answer.data["accepted"] == []


@pytest.mark.parametrize("stream", ["a migration's", "the pair's"])
def test_an_edited_event_is_exit_5(project: Project, stream: str) -> None:
    migrated(project)
    verify(project)
    path = project.local.with_name("app.db.twinstep") / "log.db"
    of = "LIKE '%/%'" if stream == "a migration's" else "NOT LIKE '%/%'"
    with closing(sqlite3.connect(path, isolation_level=None)) as log:
        for (name,) in log.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            log.execute(f'DROP TRIGGER "{name}"')
        log.execute(f"UPDATE twinstep_events SET recorded_at = '2001-01-01T00:00:00+00:00' WHERE stream {of} AND version = 1")
    answer = project.run("verify", "--json")
    assert (answer.code, answer.data["outcome"], answer.data["error"]["code"]) == (5, "blocked", "T501")


def test_another_coordinator_is_waited_for_or_named(project: Project) -> None:
    migrated(project)
    with coordinator_lock(project.local.with_name("app.db.twinstep"), doing="test", wait_seconds=0):
        answer = project.run("verify", "--json")
    assert (answer.code, answer.data["outcome"]) == (4, "locked")


def test_a_run_in_flight_is_a_problem_until_it_is_resumed(project: Project) -> None:
    project.run("migrate", "--to", FIRST)

    class Killed(BaseException):
        pass

    def kill(crossing: str) -> None:
        if crossing == "APPLY_REMOTE:before":
            raise Killed

    host = Coordinator(
        local=project.local,
        remote=project.environ["TWINSTEP_REMOTE"],
        migrations=project.folder / "migrations",
        probe=kill,
    )
    with pytest.raises(Killed):
        host.migrate()
    answer = verify(project)
    assert (answer.code, answer.data["outcome"]) == (3, "problems")
    assert "is in flight (local_applied)" in problems(answer)[SECOND][0]
    assert answer.data["drift"]["local"]["not_compared"] == "0002_more is in flight"
    # Nothing in it is for a person to accept, and nothing is finished or undone by asking.
    answer = verify(project, "--accept")
    assert (answer.code, answer.data["outcome"], answer.data["error"]["code"]) == (6, "in_flight", "T274")
    assert project.run("resume").code == 0
    assert verify(project).code == 0


# What a person may accept


def test_with_nothing_to_accept_it_says_so_and_exits_0(project: Project) -> None:
    migrated(project)
    answer = verify(project, "--accept")
    assert (answer.code, answer.data["outcome"], answer.data["accepted"]) == (0, "verified", [])
    assert answer.data["findings"] == ["There was nothing to accept."]


IRREVERSIBLE = {
    "local.up.sql": "CREATE TABLE more (name TEXT);",
    "local.down.sql": "DROP TABLE more;",
    "remote.up.sql": "CREATE TABLE more (name text);",
    "migration.toml": "irreversible = true",
    "migration.py": 'def check_remote(connection):\n    raise AssertionError("never right")\n',
}


def test_an_irreversible_migration_whose_verification_is_refused_waits_until_it_is_accepted(project: Project) -> None:
    project.run("migrate", "--to", FIRST)
    for name in MORE:
        (project.folder / "migrations" / SECOND / name).unlink()
    (project.folder / "migrations" / SECOND).rmdir()
    project.add(SECOND, IRREVERSIBLE)
    assert project.run("migrate").code == 6
    assert project.run("resume").code == 6
    assert project.run("rollback").code == 6
    assert "'twinstep verify --accept'" in project.run("status", "--json").data["in_flight"]["next_step"]
    answer = verify(project, "--accept")
    assert (answer.code, answer.data["outcome"]) == (0, "accepted")
    (accepted,) = answer.data["accepted"]
    assert (accepted["migration"], accepted["what"]) == (SECOND, "what verification has refused")
    assert "never right" in accepted["differences"][0]
    last = [(name, payload) for name, payload in events(project) if name in ("VerificationAccepted", "Verified")][-2:]
    assert [name for name, _ in last] == ["VerificationAccepted", "Verified"]
    assert last[0][1]["differences"] == accepted["differences"]
    assert last[1][1]["accepted"]
    status = project.run("status", "--json").data
    assert (status["in_flight"], status["migrations"][1]["state"], status["conflicts"]) == (None, "verified", [])
    assert (status["migrations"][1]["local_status"], status["migrations"][1]["remote_status"]) == ("completed", "completed")
    # Its check fails still, which was accepted, and is no problem any more; another failure would be one.
    again = verify(project)
    assert (again.code, again.data["outcome"]) == (0, "verified")
    (finding,) = again.data["migrations"][1]["findings"]
    assert finding == f"accepted before: {accepted['differences'][0]}"
    script = project.folder / "migrations" / SECOND / "migration.py"
    script.write_text(IRREVERSIBLE["migration.py"].replace("never", "not"))
    assert verify(project).data["outcome"] == "problems"
    script.write_text(IRREVERSIBLE["migration.py"])
    # Its look is the one that is compared with from now on.
    remote(project, "ALTER TABLE more ADD COLUMN by_hand int")
    assert [one["kind"] for one in project.run("status", "--json").data["conflicts"]] == ["drift"]


def test_only_what_was_reported_before_is_accepted(project: Project) -> None:
    project.add(
        "0003_strict",
        {
            **IRREVERSIBLE,
            "local.up.sql": "CREATE TABLE x (a)",
            "local.down.sql": "DROP TABLE x",
            "remote.up.sql": "CREATE TABLE x (a int)",
        },
    )
    assert project.run("migrate").code == 6
    check = project.folder / "migrations" / "0003_strict" / "migration.py"
    check.write_text('def check_remote(connection):\n    raise AssertionError("something else")\n')
    answer = project.run("verify", "--accept", "--json")
    assert (answer.code, answer.data["error"]["code"], answer.data["accepted"]) == (6, "T273", [])
    assert "something else" in answer.data["error"]["message"]
    answer = project.run("verify", "--accept", "--json")
    assert "something else" in answer.data["accepted"][0]["differences"][0]
    assert project.run("status", "--json").data["in_flight"] is None


def test_a_verification_that_holds_by_now_is_verified_and_not_accepted(project: Project) -> None:
    project.add(
        "0003_strict",
        {
            **IRREVERSIBLE,
            "local.up.sql": "CREATE TABLE x (a)",
            "local.down.sql": "DROP TABLE x",
            "remote.up.sql": "CREATE TABLE x (a int)",
        },
    )
    assert project.run("migrate").code == 6
    check = project.folder / "migrations" / "0003_strict" / "migration.py"
    check.write_text("def check_remote(connection):\n    pass\n")
    answer = project.run("verify", "--accept", "--json")
    assert (answer.code, answer.data["outcome"], answer.data["accepted"]) == (0, "verified", [])
    assert "VerificationAccepted" not in [name for name, _ in events(project)]


def test_a_take_back_that_undid_nothing_is_abandoned(project: Project) -> None:
    (project.folder / "migrations" / SECOND / "remote.down.sql").write_text("DROP TABLE mispelt;")
    migrated(project)
    assert project.run("rollback").code == 6
    answer = verify(project, "--accept")
    assert (answer.code, answer.data["outcome"]) == (0, "accepted")
    assert answer.data["accepted"] == [
        {"migration": SECOND, "what": "that it stays applied: nothing had been taken back yet", "differences": []}
    ]
    assert events(project)[-2][0] == "RollbackAbandoned"
    status = project.run("status", "--json").data
    assert (status["in_flight"], status["migrations"][1]["state"], status["conflicts"]) == (None, "verified", [])
    assert (status["migrations"][1]["local_status"], status["migrations"][1]["remote_status"]) == ("completed", "completed")


def test_a_take_back_that_has_undone_half_is_not_accepted(project: Project) -> None:
    (project.folder / "migrations" / SECOND / "local.down.sql").write_text("DROP TABLE mispelt;")
    migrated(project)
    assert project.run("rollback").code == 6
    assert project.run("status", "--json").data["in_flight"]["next_step"].startswith("Correct the down file")
    assert remote(project, "SELECT to_regclass('more') IS NULL") == [(True,)]
    answer = verify(project, "--accept")
    assert (answer.code, answer.data["error"]["code"], answer.data["accepted"]) == (6, "T274", [])
    assert "still stands on the local side" in answer.data["error"]["message"]
    (project.folder / "migrations" / SECOND / "local.down.sql").write_text("DROP TABLE more;")
    assert project.run("resume").code == 0
    assert verify(project).code == 0


def test_the_difference_that_going_back_left_is_accepted_by_name(project: Project) -> None:
    (project.folder / "migrations" / SECOND / "local.down.sql").write_text("DROP TABLE more; CREATE TABLE left_behind (x);")
    migrated(project)
    assert project.run("rollback").code == 6
    # Taking back cannot help: what leads out is what was said when it was refused.
    in_flight = project.run("status", "--json").data["in_flight"]
    assert in_flight["problem"].startswith("T335 ")
    assert "table left_behind is new" in in_flight["problem"]
    for words in (["status"], ["check"]):
        shown = " ".join(project.run(*words).out.split())
        assert "T335" in shown
        assert "keep it as it is with 'twinstep verify --accept'" in shown
        assert "takes it back" not in shown
    answer = verify(project, "--accept")
    (accepted,) = answer.data["accepted"][:1]
    assert (accepted["what"], accepted["differences"]) == (
        "what going back has left",
        ["local: table left_behind is new"],
    )
    names = [name for name, _ in events(project)]
    assert names[names.index("VerificationAccepted") + 1] == "RolledBack"
    status = project.run("status", "--json").data
    assert (status["in_flight"], status["migrations"][1]["state"]) == (None, "rolled_back")
