"""`twinstep migrate --dry-run` as somebody types it: what is printed, the one object of --json, the exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import UP, Project, make_project


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str], remote_url: str) -> Project:
    made = make_project(tmp_path, capsys)
    made.environ = {"TWINSTEP_LOCAL": "app.db", "TWINSTEP_REMOTE": remote_url}
    return made


def test_a_dry_run_tells_what_would_change_on_each_side_and_leaves_nothing(project: Project) -> None:
    project.add(
        "0001_tags", {**UP, "remote.up.sql": f"{UP['remote.up.sql']}\nCREATE INDEX CONCURRENTLY tags_name ON tags (name);"}
    )
    files = sorted(project.folder.rglob("*"))
    answer = project.run("migrate", "--dry-run")
    assert answer.code == 0
    assert sorted(project.folder.rglob("*")) == files
    for line in (
        "0001_tags: rehearsed",
        "  local    1 table, 1 index added",
        "added: index tags_name, table tags",
        "  remote   1 table, 1 index added",
        "added: index public.tags_name, table public.tags",
        "and all is as before",
        "not rehearsed: step 2: CREATE INDEX CONCURRENTLY tags_name ON tags (name)",
        "because: tried on an empty copy of the table",
        "other writers of the local file would wait for",
        "for the backup with its trial, and the file's growth with its journal",
        "sequences may have moved",
        "Rehearsed: no fault was found; 1 thing was not rehearsed, see above. Nothing was changed.",
    ):
        assert line in answer.out, line
    assert project.run("status").out.count("pending") > 0


def test_the_object_of_a_dry_run_is_that_of_migrate_with_a_rehearsal(project: Project) -> None:
    project.add("0001_tags", {**UP, "remote.up.sql": "CREATE TABLE tags (name text); INSERT INTO tags VALUES ('a')"})
    told = project.run("migrate", "--dry-run", "--json").data
    (run,) = told["runs"]
    assert (told["outcome"], told["error"], run["state"], run["backup"]) == ("rehearsed", None, "rehearsed", None)
    assert [step["effect"] for step in run["steps"]] == ["VALIDATE", "BACK_UP", "APPLY_LOCAL", "APPLY_REMOTE", "VERIFY"]
    rehearsal = told["rehearsal"]
    assert set(rehearsal) == {"migrations", "held_seconds", "disk", "faults", "not_tried", "traces"}
    (one,) = rehearsal["migrations"]
    assert set(one) == {"migration", "local", "remote", "notes"}
    assert one["remote"]["rows"] == [{"table": "public.tags", "inserted": 1, "updated": 0, "deleted": 0}]
    assert one["local"]["objects_added"] == ["index tags_name", "table tags"]
    assert one["remote"]["steps"][0]["statement"] == "CREATE TABLE tags (name text)"
    assert set(rehearsal["disk"][0]) == {"folder", "purpose", "needed_bytes", "free_bytes"}
    done = project.run("migrate", "--json").data
    assert "rehearsal" not in done
    assert set(run) == set(done["runs"][0])
    assert (run["local"], run["remote"]) == (done["runs"][0]["local"], done["runs"][0]["remote"])


def test_a_fault_is_told_with_its_statement_on_the_other_stream_too(project: Project) -> None:
    project.add("0001_tags", {**UP, "remote.down.sql": "DROP TABLE other;", "local.up.sql": "DROP TABLE missing;"})
    answer = project.run("migrate", "--dry-run")
    assert answer.code == 1
    assert "T331" in answer.err
    assert "It was 'DROP TABLE missing'" in answer.err
    assert "This was a rehearsal: neither database was changed." in answer.err
    assert "Also: T338" in answer.out
    assert "Rehearsed: 2 faults found. Nothing was changed." in answer.out
    told = project.run("migrate", "--dry-run", "--json")
    assert (told.code, told.data["outcome"], told.data["error"]["code"]) == (1, "rehearsed", "T331")
    assert [(each["effect"], each["code"]) for each in told.data["rehearsal"]["faults"]] == [
        ("APPLY_LOCAL", "T331"),
        ("UNDO_REMOTE", "T338"),
    ]


def test_the_help_says_what_a_dry_run_does(project: Project) -> None:
    text = " ".join(project.run("migrate", "--help").out.split())
    assert "--dry-run" in text
    assert "Rehearse: execute everything, change nothing" in text
