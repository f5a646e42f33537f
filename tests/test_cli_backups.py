"""`twinstep backup` and `twinstep baseline`, as they are typed: what they print, their JSON, their exit codes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from command_line import Project, make_project


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    """A project whose one migration is applied, and so has one backup."""
    made = make_project(tmp_path, capsys)
    made.environ["TWINSTEP_LOCAL"] = str(made.local)
    made.add("0001_tags", {"local.up.sql": "CREATE TABLE tags (name TEXT)", "local.down.sql": "DROP TABLE tags"})
    assert made.run("migrate").code == 0
    return made


def write(project: Project) -> None:
    with closing(sqlite3.connect(project.local, isolation_level=None)) as connection:
        connection.execute("INSERT INTO notes (title) VALUES ('theirs')")


def ids(project: Project) -> list[str]:
    return [backup["id"] for backup in project.run("backup", "list", "--json").data["backups"]]


def test_a_backup_is_made_checked_put_back_and_deleted(project: Project) -> None:
    made = project.run("backup", "create", "--json").data
    assert (made["outcome"], made["error"]) == ("created", None)
    assert Path(made["backups"][0]["path"]).stat().st_size == made["backups"][0]["bytes"]
    assert "Every one is what was made." in project.run("backup", "verify").out

    first, by_hand = ids(project)
    write(project)
    refused = project.run("backup", "restore", first)
    assert (refused.code, "T282" in refused.err) == (5, True)
    assert f"twinstep backup restore {first} --discard-local-writes" in refused.err.replace("\n", " ").replace("      ", "")
    restored = project.run("backup", "restore", first, "--discard-local-writes", "--json").data
    assert (restored["outcome"], restored["migrations"]) == ("restored", ["0001_tags"])
    assert restored["replaced"] in ids(project)
    assert "tags" not in project.tables()
    assert project.run("check").code == 3
    told = project.run("history").out
    assert restored["replaced"] in told

    freed = sum(path.stat().st_size for path in (project.folder / "app.db.twinstep" / "backups").iterdir())
    pruned = project.run("backup", "prune", "--keep-days", "0", "--json").data
    assert ({one["id"] for one in pruned["backups"]}, pruned["bytes"]) == ({first, by_hand, restored["replaced"]}, freed)
    listed = project.run("backup", "list").out
    assert listed.count(" deleted ") == 3


def test_a_backup_that_was_found_is_listed_with_the_time_at_which_it_was_made(project: Project) -> None:
    (before,) = project.run("backup", "list", "--json").data["backups"]
    (project.folder / "app.db.twinstep" / "log.db").unlink()
    (described,) = (project.folder / "app.db.twinstep" / "backups").glob("*.json")
    made = "2026-01-02T03:04:05+00:00"
    described.write_text(json.dumps({**json.loads(described.read_text()), "created_at": made}))
    assert project.run("migrate", "--adopt").code == 0
    (found,) = project.run("backup", "list", "--json").data["backups"]
    assert (found["id"], found["created_at"], found["why"]) == (before["id"], made, "found")
    assert "2026-01-02 03:04:05" in project.run("backup", "list").out


def test_a_damaged_backup_is_named_and_exits_5(project: Project) -> None:
    (first,) = ids(project)
    path = project.folder / "app.db.twinstep" / "backups" / f"{first}.db"
    path.write_bytes(path.read_bytes()[:-1])
    checked = project.run("backup", "verify")
    assert (checked.code, "T233" in checked.err, "1 backup must not be used." in checked.out) == (5, True, True)
    as_json = project.run("backup", "verify", first, "--json").data
    assert (as_json["outcome"], as_json["backups"][0]["problem"]["code"]) == ("blocked", "T233")
    assert project.run("backup", "restore", first).code == 5


def test_what_the_log_does_not_know_exits_5_and_a_missing_id_2(project: Project) -> None:
    assert project.run("backup", "restore", "nothing").code == 5
    assert project.run("backup", "restore").code == 2
    assert project.run("baseline").code == 2


def test_what_is_kept_by_default_says_until_when(project: Project) -> None:
    assert "kept until" in project.run("backup", "list").out
    (backup,) = project.run("backup", "list", "--json").data["backups"]
    assert backup["status"] == "cleanup_scheduled"
    assert backup["cleanup_at"] is not None


def test_keep_days_is_read_from_the_settings_too(project: Project) -> None:
    (project.folder / "twinstep.toml").write_text("keep-days = 0\n")
    assert project.run("resume").code == 0
    assert [path.suffix for path in (project.folder / "app.db.twinstep" / "backups").iterdir()] == []


def test_a_pair_is_taken_as_being_at_a_migration(tmp_path: Path, capsys: pytest.CaptureFixture[str], remote_url: str) -> None:
    project = make_project(tmp_path, capsys)
    project.environ |= {"TWINSTEP_LOCAL": str(project.local), "TWINSTEP_REMOTE": remote_url}
    notes = "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT)"
    project.add("0001_notes", {"local.up.sql": notes, "local.down.sql": "DROP TABLE notes", "remote.up.sql": notes})
    (project.folder / "migrations" / "0001_notes" / "remote.down.sql").write_text("DROP TABLE notes")
    refused = project.run("baseline", "0001_notes")
    assert (refused.code, "T285" in refused.err, "table public.notes is missing" in refused.err) == (5, True, True)
    with psycopg.connect(remote_url, autocommit=True) as remote:
        remote.execute(notes.encode())
    done = project.run("baseline", "0001_notes", "--json").data
    assert (done["outcome"], [run["state"] for run in done["runs"]]) == ("verified", ["verified"])
    assert project.run("check").code == 0
    assert "Nothing to do." in project.run("baseline", "0001_notes").out
