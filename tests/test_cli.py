"""The command: every command in words and as JSON, every exit code, on a real SQLite file and a real PostgreSQL."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from command_line import UP, WAITING, Project, clean_environment, make_project

import twinstep
from twinstep.engine.cli.trouble import EXIT_CODES

SECRET = "hidden-word-4711"
COMMANDS = ("status", "plan", "check", "verify", "history", "log", "log check", "backup list", "migrate", "resume", "rollback")
COMMANDS += ("backup create", "backup verify", "backup prune")
NOWHERE = f"postgresql://somebody:{SECRET}@127.0.0.1:1/nothing"


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    """A project that names its local database in the environment, and has one migration of both sides."""
    made = make_project(tmp_path, capsys)
    made.environ["TWINSTEP_LOCAL"] = str(made.local)
    made.add("0001_tags")
    return made


@pytest.fixture
def pair(project: Project, remote_url: str) -> Project:
    """The same with a remote."""
    project.environ["TWINSTEP_REMOTE"] = remote_url
    return project


def remote_tables(project: Project) -> set[str]:
    with psycopg.connect(project.environ["TWINSTEP_REMOTE"]) as connection:
        return {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


# The way through


def test_migrate_takes_both_sides_there_and_rollback_takes_them_back(pair: Project) -> None:
    assert pair.run("check").code == 3
    done = pair.run("migrate")
    assert (done.code, pair.tables(), remote_tables(pair)) == (0, {"notes", "tags"}, {"tags"})
    assert "0001_tags: verified" in done.out
    assert done.out.endswith("Verified.\n")
    assert pair.run("check").code == 0
    assert "Nothing to do." in pair.run("migrate").out
    back = pair.run("rollback")
    assert (back.code, pair.tables(), remote_tables(pair)) == (0, {"notes"}, set())
    assert pair.run("check").code == 3


def test_status_shows_both_sides_and_each_migration(pair: Project) -> None:
    before = pair.run("status")
    assert before.code == 0
    assert f"local   {pair.local}: user_version 3, nothing applied" in before.out
    assert "Pending: 0001_tags.\nNext: 'twinstep plan'" in before.out
    pair.run("migrate")
    after = pair.run("status").out
    assert "0001_tags  verified  completed  completed     1\n" in after
    assert "1 applied, the last 0001_tags" in after
    assert after.endswith("Nothing is pending.\n")


def test_status_as_json_has_the_shape_of_the_contract(pair: Project) -> None:
    pair.run("migrate")
    pair.add("0002_more", {"local.up.sql": "CREATE TABLE more (x);"})
    data = pair.run("status", "--json").data
    assert list(data) == ["pair", "needs_migration", "in_flight", "local", "remote", "pending", "migrations", "conflicts"]
    assert data["local"] == {"reachable": True, "applied": ["0001_tags"], "user_version": 3}
    assert data["remote"] == {"reachable": True, "applied": ["0001_tags"], "role": "apply"}
    assert (data["needs_migration"], data["pending"], data["in_flight"]) == (True, ["0002_more"], None)
    first, second = data["migrations"]
    assert list(first) == ["id", "state", "local_status", "remote_status", "checksum", "runs"]
    assert (first["state"], first["remote_status"], first["runs"]) == ("verified", "completed", 1)
    assert (second["state"], second["local_status"], second["remote_status"]) == ("pending", "pending", "not_needed")


def test_migrate_as_json_has_the_shape_of_the_contract(pair: Project) -> None:
    data = pair.run("migrate", "--json").data
    assert (data["outcome"], data["error"]) == ("verified", None)
    (run,) = data["runs"]
    assert (run["migration"], run["state"], run["error"], run["findings"]) == ("0001_tags", "verified", None, [])
    assert [step["effect"] for step in run["steps"]] == ["VALIDATE", "BACK_UP", "APPLY_LOCAL", "APPLY_REMOTE", "VERIFY"]
    assert run["local"]["indexes_added"] == 1
    assert run["remote"]["tables_added"] == 1
    backup = Path(run["backup"]["path"])
    assert (backup.stat().st_size, backup.parent.name) == (run["backup"]["bytes"], "backups")
    assert len(run["backup"]["sha256"]) == 64


def test_plan_shows_the_statements_in_order_and_runs_none(pair: Project) -> None:
    pair.add("0002_fast", {"remote.up.sql": "CREATE INDEX CONCURRENTLY tags_fast ON tags (name);"})
    shown = pair.run("plan")
    order = ["0001_tags", "CREATE TABLE tags (name TEXT);", "CREATE TABLE tags (name text);", "0002_fast", "CONCURRENTLY"]
    places = [shown.out.index(text) for text in order]
    assert places == sorted(places)
    assert "3. remote" not in shown.out
    data = pair.run("plan", "--json").data["migrations"]
    assert [(one["id"], [step["side"] for step in one["steps"]]) for one in data] == [
        ("0001_tags", ["local", "remote"]),
        ("0002_fast", ["remote"]),
    ]
    assert data[1]["steps"][0]["kind"] == "single"
    assert pair.run("plan", "--to", "0001_tags").out.count("0002_fast") == 0
    assert (pair.tables(), remote_tables(pair)) == ({"notes"}, set())


def test_what_only_looks_writes_nothing_and_makes_no_file(project: Project) -> None:
    before = (sorted(path.name for path in project.folder.iterdir()), project.local.read_bytes())
    for command in ("status", "plan", "check", "history", "log", "log check", "backup list"):
        project.run(*command.split())
        project.run(*command.split(), "--json")
    assert (sorted(path.name for path in project.folder.iterdir()), project.local.read_bytes()) == before


def test_history_log_and_backups_tell_of_what_was_done(project: Project) -> None:
    project.run("migrate")
    project.run("rollback")
    told = project.run("history")
    assert "0001_tags: verified" in told.out
    assert "0001_tags: taking back, rolled_back" in told.out
    assert told.out.endswith("2 attempts: 1 rolled_back, 1 verified.\n")
    runs = project.run("history", "--json").data["runs"]
    assert [(run["direction"], run["state"]) for run in runs] == [("apply", "verified"), ("back", "rolled_back")]
    assert all(run["started_at"] <= run["ended_at"] for run in runs)
    first, second = project.run("backup", "list", "--json").data["backups"]
    assert (first["migration"], first["present"], first["status"]) == ("0001_tags", True, "cleanup_scheduled")
    listed = project.run("backup", "list").out
    assert first["id"] in listed
    assert second["id"] in listed


def test_the_log_is_shown_an_event_a_line_and_with_json_whole(project: Project) -> None:
    project.add("0002_more", {"local.up.sql": "CREATE TABLE more (x);"})
    project.run("migrate")
    lines = project.run("log").out.splitlines()
    events = project.run("log", "--json").data["events"]
    assert lines[0].split() == ["#", "time", "(UTC)", "migration", "version", "event", "what"]
    assert [line.split()[0] for line in lines[1:]] == [str(number + 1) for number in range(len(events))]
    assert [(one["previous_hash"], one["stream"]) for one in events[1:6]] == [
        (one["hash"], one["stream"]) for one in events[:5]
    ]
    assert events[0]["payload"]["migration"] == "0001_tags"
    some = project.run("log", "--stream", "0002_more", "--json").data["events"]
    assert {one["stream"].partition("/")[2] for one in some} == {"0002_more"}
    assert project.run("log", "--stream", some[0]["stream"], "--json").data["events"] == some
    unknown = project.run("log", "--stream", "0003_none")
    assert (unknown.code, unknown.out) == (2, "")
    assert "T155" in unknown.err


def test_the_log_is_read_when_the_databases_and_the_migrations_are_gone(project: Project) -> None:
    project.run("migrate")
    project.local.unlink()
    (project.folder / "migrations" / "0001_tags" / "local.up.sql").write_text("BEGIN")
    assert len(project.run("log").out.splitlines()) > 5
    log = f"sqlite:///{project.folder}/app.db.twinstep/log.db"
    project.environ.clear()
    checked = project.run("log", "check", "--log", log, "--json").data
    assert (checked["sound"], checked["streams"], checked["problems"]) == (True, 2, [])
    assert "The hash chain of each stream holds" in project.run("log", "check", "--log", log).out


def test_a_damaged_log_is_reported_with_exit_code_5(project: Project) -> None:
    project.run("migrate")
    with closing(sqlite3.connect(project.folder / "app.db.twinstep" / "log.db")) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE twinstep_events SET payload = replace(payload, 'bytes', 'bites') WHERE version = 3")
        connection.commit()
    shown = project.run("log", "check")
    assert shown.code == 5
    assert shown.err == ""
    assert "T501 The log is damaged: event 3 of stream" in shown.out
    data = project.run("log", "check", "--json")
    assert (data.code, data.data["sound"], data.data["problems"][0]["code"]) == (5, False, "T501")


# Exit codes


def test_a_refused_migration_is_rolled_back_and_exits_1(pair: Project) -> None:
    pair.add("0002_bad", {**UP, "local.up.sql": "CREATE TABLE bad (x);", "local.down.sql": "DROP TABLE bad;"})
    (pair.folder / "migrations/0002_bad/remote.up.sql").write_text("CREATE TABLE bad (x int);\nSELECT 1 / 0;")
    failed = pair.run("migrate", "--json")
    assert failed.code == 1
    assert failed.data["outcome"] == "rolled_back"
    assert [run["state"] for run in failed.data["runs"]] == ["verified", "rolled_back"]
    assert "T331" in failed.data["error"]["code"]
    assert "division by zero" in failed.err
    assert "Next: Correct the step" in failed.err
    assert (pair.tables(), remote_tables(pair)) == ({"notes", "tags"}, {"tags"})
    assert pair.run("migrate").code == 1


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"local.up.sql": "COMMIT; CREATE TABLE x (y);"}, "T112"),
        ({"local.up.sql": "CREATE TABLE x (y"}, "T114"),
        ({"migration.toml": "descripton = 'x'", "local.up.sql": "CREATE TABLE x (y);"}, "T106"),
        ({}, "T105"),
    ],
)
def test_a_bad_folder_is_refused_by_name_and_exits_2(project: Project, files: dict[str, str], code: str) -> None:
    project.add("0002_bad", files)
    for command in ("migrate", "status", "check", "plan"):
        refused = project.run(command)
        assert (refused.code, refused.out if command in ("status", "check", "plan") else "") == (2, "")
        assert refused.err.startswith(code)
        assert "0002_bad" in refused.err
        as_json = project.run(command, "--json").data
        assert (as_json["outcome"], as_json["error"]["code"]) == ("failed", code)
    assert project.tables() == {"notes"}


def test_without_a_database_nothing_is_done_and_the_flags_are_named(project: Project) -> None:
    project.environ.clear()
    for command in COMMANDS:
        if command.startswith("log"):
            continue
        refused = project.run(*command.split())
        assert (refused.code, "T142" in refused.err, "--local PATH and --remote URL" in refused.err) == (2, True, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["migrat"], "No such command 'migrat'"),
        (["migrate", "--skip-remot"], "No such option"),
        (["migrate", "--to"], "--to"),
        (["status", "surplus"], "surplus"),
        (["backup"], "Missing command"),
        (["--wait", "soon", "status"], "--wait cannot be used: it must be a number of seconds"),
        (["status", "--remote-role", "master"], "it must be apply, require or skip"),
        (["status", "--local", ""], "--local cannot be used: it must be a path"),
        (["status", "--local", "postgresql://u@h/db"], "--local cannot be used: it must be a path"),
        (["status", "--keep-days", "-1"], "--keep-days"),
        (["status", "--log", "file:x"], "T144"),
    ],
)
def test_a_wrong_line_says_what_is_wrong_and_exits_2(project: Project, words: list[str], said: str) -> None:
    refused = project.run(*words)
    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err
    assert "Traceback" not in refused.err
    assert "Next: " in refused.err
    as_json = project.run(*words, "--json") if words[-1] != "--to" else project.run("--json", *words)
    assert (as_json.code, as_json.data["outcome"]) == (2, "failed")
    assert said in as_json.data["error"]["message"] + as_json.data["error"]["code"]


def test_pending_operations_block_and_exit_5_and_nothing_is_changed(project: Project) -> None:
    toml = "[local]\npending = 'SELECT count(*) FROM notes'\n"
    project.add("0002_wait", {"local.up.sql": "CREATE TABLE more (x);", "migration.toml": toml})
    with closing(sqlite3.connect(project.local)) as connection:
        connection.execute("INSERT INTO notes (title) VALUES ('unsent')")
        connection.commit()
    blocked = project.run("migrate", "--json")
    assert (blocked.code, blocked.data["outcome"], blocked.data["error"]["code"]) == (5, "blocked", "T202")
    assert "more" not in project.tables()


def test_a_remote_that_is_down_exits_5_and_status_says_so(project: Project) -> None:
    project.environ["TWINSTEP_REMOTE"] = "postgresql://nobody@127.0.0.1:1/nothing"
    project.environ["TWINSTEP_RETRY_FOR"] = "0"
    refused = project.run("migrate", "--json")
    assert (refused.code, refused.data["outcome"], refused.data["error"]["code"]) == (5, "blocked", "T221")
    assert project.tables() == {"notes"}
    status = project.run("status", "--json")
    assert (status.code, status.data["remote"]["reachable"]) == (0, False)
    assert "T221" in status.data["remote"]["problem"]
    assert "cannot be reached" in project.run("status").out
    assert project.run("check").code == 3


def test_nothing_pending_but_a_remote_that_cannot_be_asked_is_not_all_well(project: Project) -> None:
    (project.folder / "migrations/0001_tags/remote.up.sql").unlink()
    (project.folder / "migrations/0001_tags/remote.down.sql").unlink()
    assert project.run("migrate").code == 0
    down = ["--remote", "postgresql://nobody@127.0.0.1:1/nothing"]
    asked = project.run("check", "--json", *down)
    assert (asked.code, asked.data["unreachable"]) == (5, ["remote"])
    assert project.run("check", "--remote-role", "skip", *down).code == 0


def test_a_missing_local_database_is_named_and_not_made(project: Project) -> None:
    for command in ("migrate", "status", "check"):
        missing = project.run(command, "--local", "other.db")
        assert (missing.code, "T211" in missing.err) == (2, True)
    assert not (project.folder / "other.db").exists()


def test_another_coordinator_at_work_is_named_with_exit_code_4(project: Project) -> None:
    project.add("0002_waiting", {"migration.py": WAITING})
    worker = project.start("migrate")
    project.wait_for("begun")
    locked = project.run("migrate", "--json")
    assert (locked.code, locked.data["outcome"]) == (4, "locked")
    assert f"process {worker.pid}" in locked.data["error"]["message"]
    assert "Next: Wait until it has finished, or give --wait SECONDS." in locked.err
    (project.folder / "go").touch()
    worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert project.run("migrate", "--wait", "20").code == 0


def test_a_lost_remote_leaves_the_run_in_flight_with_exit_code_6(pair: Project) -> None:
    cut = "def remote_up(connection):\n    connection.exec_driver_sql('SELECT pg_terminate_backend(pg_backend_pid())')\n"
    down = "def remote_down(connection):\n    pass\n"
    pair.add("0002_cut", {"migration.py": cut + down, "local.up.sql": "CREATE TABLE more (x);"})
    lost = pair.run("migrate", "--json", "--retry-for", "0")
    assert (lost.code, lost.data["outcome"], lost.data["runs"][-1]["state"]) == (6, "in_flight", "local_applied")
    status = pair.run("status")
    assert "In flight: 0002_cut is local_applied, since" in status.out
    assert "Next: 'twinstep resume' finishes it, 'twinstep rollback' takes it back." in status.out
    assert pair.run("check").code == 3


@pytest.mark.parametrize("command", ["resume", "migrate"])
def test_a_killed_run_is_in_flight_and_running_again_finishes_it(pair: Project, command: str) -> None:
    pair.add("0002_waiting", {"migration.py": WAITING})
    killed = pair.start("migrate")
    pair.wait_for("begun")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=30)
    assert killed.returncode == -signal.SIGKILL
    in_flight = pair.run("status", "--json").data["in_flight"]
    assert (in_flight["migration"], in_flight["state"]) == ("0002_waiting", "backed_up")
    assert pair.run("check").code == 3
    (pair.folder / "go").touch()
    resumed = pair.run(command, "--json")
    assert (resumed.code, resumed.data["outcome"]) == (0, "verified")
    assert "waited" in pair.tables()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [["migrate"], ["migrate", "--json"]])
def test_an_interrupted_run_exits_130_and_says_how_to_go_on(project: Project, how: signal.Signals, words: list[str]) -> None:
    project.add("0002_waiting", {"migration.py": WAITING})
    process = project.start(*words)
    project.wait_for("begun")
    process.send_signal(how)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "0002_waiting stays where it is, after BackedUp" in err
    assert "'twinstep resume' to go on" in err
    if "--json" in words:
        assert json.loads(out)["outcome"] == "in_flight"
    assert "waited" not in project.tables()
    (project.folder / "go").touch()
    assert project.run("resume").code == 0
    assert "waited" in project.tables()


def test_a_rolled_back_resume_and_one_with_nothing_to_do_exit_0(project: Project) -> None:
    assert project.run("resume", "--json").data == {"outcome": "up_to_date", "runs": [], "findings": [], "error": None}
    project.run("migrate")
    taken = project.run("rollback", "0001_tags", "--json")
    assert (taken.code, taken.data["outcome"], taken.data["runs"][0]["direction"]) == (0, "rolled_back", "back")
    nothing = project.run("rollback", "--json")
    assert (nothing.code, nothing.data["outcome"]) == (0, "up_to_date")
    assert "nothing is applied" in nothing.data["findings"][0]


def test_taking_back_one_that_is_not_applied_names_it_where_others_are(project: Project) -> None:
    project.run("migrate")
    later = project.folder / "migrations" / "0009_later"
    later.mkdir()
    (later / "local.up.sql").write_text("CREATE TABLE later (x)")
    answer = project.run("rollback", "0009_later", "--json")
    assert (answer.code, answer.data["outcome"], answer.data["error"]) == (0, "up_to_date", None)
    assert answer.data["findings"] == ["0009_later is not applied, so that there is nothing to take back"]
    assert "tags" in project.tables()


def test_a_conflict_is_shown_with_its_next_step_and_blocks(project: Project) -> None:
    project.run("migrate")
    (project.folder / "migrations/0001_tags/local.up.sql").write_text("CREATE TABLE tags (name TEXT, more TEXT);")
    shown = project.run("status")
    assert "Conflict (edited): 0001_tags was edited after it was applied on the local side." in shown.out
    assert "Next: Put its up text back as it was" in shown.out
    assert project.run("check", "--json").data["conflicts"][0]["kind"] == "edited"
    assert [project.run(command).code for command in ("check", "migrate", "rollback")] == [3, 5, 5]


def test_an_error_that_nobody_foresaw_is_shown_whole_and_exits_6(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fault that no database can be made to have: the coordinator itself is broken.
    def broken(self: object, at: object) -> None:
        raise RuntimeError(f"cannot reach postgresql://u:{SECRET}@h/db")

    monkeypatch.setattr("twinstep.engine.coordinator.Coordinator.status", broken)
    failed = project.run("status", "--json")
    assert (failed.code, failed.data["error"]["code"]) == (6, "T159")
    assert "RuntimeError: cannot reach postgresql://u:***@h/db" in failed.err
    assert SECRET not in failed.err + failed.out


# One object, and nothing else


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_one_object_with_json_wherever_the_flag_stands(project: Project, command: str) -> None:
    project.run("migrate")
    for words in ([*command.split(), "--json"], ["--json", *command.split()]):
        answer = project.run(*words)
        assert isinstance(answer.data, dict)
        assert answer.out.startswith("{\n")
        assert answer.out.endswith("}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_gets_plain_text_without_a_word_on_the_error_stream(project: Project, command: str) -> None:
    project.run("migrate")
    answer = project.child(*command.split())
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.endswith("\n")
    assert "\x1b" not in answer.out
    assert "\r" not in answer.out


def test_ids_are_never_cut_off_in_a_pipe(project: Project) -> None:
    name = "0002_" + "a_very_long_name_" * 10
    project.add(name, {"local.up.sql": "CREATE TABLE more (x);"})
    project.run("migrate")
    for command in ("status", "history", "log", "backup list"):
        assert name in project.child(*command.split()).out
    (row,) = [line for line in project.run("status").out.splitlines() if line.startswith(name)]
    assert row.split() == [name, "verified", "completed", "not_needed", "1"]


def on_a_terminal(project: Project, columns: int, *words: str) -> str:
    """What the command writes to a terminal of that width, colours and all."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environ = {**clean_environment(), **project.environ, "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "twinstep", *words]
    with subprocess.Popen(command, cwd=project.folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        with os.fdopen(ours, "rb", buffering=0) as terminal, suppress(OSError):
            while block := terminal.read(65536):
                written += block
    assert process.returncode == 0
    return written.decode()


def test_on_a_terminal_each_step_is_shown_as_it_is_done(pair: Project) -> None:
    written = on_a_terminal(pair, 80, "migrate")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    steps = [
        "0001_tags: began to apply on the local and remote sides",
        "  checked: local 1 table, 0 rows",
        "  backed up 8.2 kB, hashed",
    ]
    steps += [
        "  local applied: 1 table, 1 index added",
        "  remote applied: 1 table added",
        "  verified  ",
        "0001_tags: verified",
        "Verified.",
    ]
    # Each at the beginning of a line that was cleared of what was moving on it.
    lines = re.split(r"[\r\n]+", plain)
    places = [next(number for number, line in enumerate(lines) if line.startswith(step)) for step in steps]
    assert places == sorted(places)
    assert "\x1b[1m" in written


def test_on_a_terminal_the_end_of_a_dry_run_is_wrapped_too(pair: Project) -> None:
    pair.add("0002_index", {"remote.up.sql": "CREATE INDEX CONCURRENTLY n ON tags (name)", "remote.down.sql": ""})
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_a_terminal(pair, 80, "migrate", "--dry-run"))
    assert "not rehearsed, see above." in plain
    # A path is never broken, and may be longer than the terminal is wide.
    assert [line for line in re.split(r"[\r\n]+", plain) if len(line) > 80 and str(pair.folder) not in line] == []


def test_on_a_terminal_what_goes_on_without_beginning_a_run_is_named_too(pair: Project) -> None:
    pair.run("migrate")
    (pair.local.parent / f"{pair.local.name}.twinstep" / "log.db").unlink()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_a_terminal(pair, 80, "migrate", "--adopt"))
    lines = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    place = lines.index("  taken as verified")
    assert "0001_tags" in lines[:place]


def test_a_table_that_is_too_wide_for_the_terminal_is_shown_row_by_row_and_whole(project: Project) -> None:
    project.run("migrate")
    backup = project.run("backup", "list", "--json").data["backups"][0]["id"]
    # The path is in it, and may be long.
    wide, narrow = on_a_terminal(project, 400, "backup", "list"), on_a_terminal(project, 60, "backup", "list")
    assert re.search(rf"{backup}  [-0-9]+ [:0-9]+  0001_tags  ", wide)
    assert re.search(rf"backup +{backup}\b.*\r\n(.*\r\n)?.*before +0001_tags", narrow)


def test_a_reader_that_goes_away_does_not_disturb_the_work(project: Project) -> None:
    with project.start("migrate") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=30)) == ("", 0)
    assert "tags" in project.tables()


# Where settings come from


def test_a_flag_goes_before_the_environment_and_that_before_the_file(project: Project) -> None:
    project.environ.clear()
    names = ("flag", "variable", "file")
    for name in names:
        with closing(sqlite3.connect(project.folder / f"{name}.db")) as connection:
            connection.execute(f"PRAGMA user_version = {names.index(name) + 1}")
    (project.folder / "twinstep.toml").write_text('local = "file.db"\n')
    below = project.folder / "deep" / "down"
    below.mkdir(parents=True)

    def version(*words: str) -> int:
        found = project.run("status", "--json", *words, folder=below).data["local"]["user_version"]
        assert isinstance(found, int)
        return found

    assert version() == 3
    project.environ["TWINSTEP_LOCAL"] = str(project.folder / "variable.db")
    assert version() == 2
    assert version("--local", str(project.folder / "flag.db")) == 1
    assert project.run("--local", "no.db", "status", "--local", str(project.folder / "flag.db")).code == 0


def test_everything_can_stand_in_a_file_and_its_paths_are_relative_to_it(project: Project) -> None:
    project.environ.clear()
    (project.folder / "migrations").rename(project.folder / "steps")
    settings = (
        'local = "app.db"\nmigrations = "steps"\nlog = "sqlite:///kept/my.db"\nstate-dir = "kept"\n'
        'remote-role = "skip"\nwait = 1\nretry-for = 2.5\nkeep-days = 7\n'
    )
    (project.folder / "twinstep.toml").write_text(settings)
    below = project.folder / "below"
    below.mkdir()
    assert project.run("migrate", folder=below).code == 0
    assert (project.folder / "kept" / "my.db").exists()
    assert list((project.folder / "kept" / "backups").glob("*.db"))
    assert list(below.iterdir()) == []


def test_settings_may_stand_in_pyproject_and_an_own_file_goes_before_it(project: Project) -> None:
    project.environ.clear()
    shared = project.folder / "pyproject.toml"
    shared.write_text('[tool.other]\nlocal = "x"\n')
    assert project.run("status").code == 2
    shared.write_text('[tool.twinstep]\nlocal = "app.db"\n')
    assert project.run("status").code == 0
    shared.write_text('[tool.twinstep]\nlocal = "elsewhere.db"\n')
    (project.folder / "twinstep.toml").write_text('local = "app.db"\n')
    assert project.run("status").code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('locl = "app.db"', "has a setting that is not known: locl (did you mean local?)."),
        ('state_dir = "x"', "has a setting that is not known: state_dir (did you mean state-dir?)."),
        ("local = 7", "local in "),
        ("wait = true", "wait in "),
        ('wait = "long"', "wait in "),
        ("local = ", "could not be read"),
    ],
)
def test_a_wrong_settings_file_is_refused_by_name(project: Project, text: str, said: str) -> None:
    path = project.folder / "twinstep.toml"
    path.write_text(text)
    project.environ.clear()
    refused = project.run("migrate")
    assert refused.code == 2
    assert said in refused.err
    assert str(path) in refused.err


def test_database_url_is_used_for_postgresql_only_and_then_shown_without_its_password(
    project: Project, remote_url: str
) -> None:
    project.environ["DATABASE_URL"] = "mysql://u@h/db"
    assert project.run("status", "--json").data["remote"]["reachable"] is None
    foreign = remote_url.replace("postgresql://postgres@", f"postgresql+psycopg://postgres:{SECRET}@")
    assert SECRET in foreign
    project.environ["DATABASE_URL"] = foreign
    found = project.run("status", "--json")
    assert found.data["remote"]["reachable"] is True
    assert found.err.startswith("Remote database, from DATABASE_URL: postgresql+psycopg://postgres@/")
    assert SECRET not in found.err
    project.environ["TWINSTEP_REMOTE"] = NOWHERE
    found = project.run("status", "--json")
    assert (found.data["remote"]["reachable"], found.err) == (False, "")


def test_no_command_ever_prints_or_keeps_a_password(project: Project, remote_url: str) -> None:
    addresses = [remote_url.replace("postgres@", f"postgres:{SECRET}@"), f"{remote_url}&password={SECRET}", NOWHERE]
    project.environ["TWINSTEP_RETRY_FOR"] = "0"
    said = ""
    for address in addresses:
        for command in COMMANDS:
            for words in ([*command.split()], [*command.split(), "--json"]):
                for way in ([*words, "--remote", address], [*words, address], ["--local", address, *words], [address, *words]):
                    answer = project.run(*way)
                    said += answer.out + answer.err
    assert "T221" in said
    assert "verified" in said
    assert SECRET not in said
    kept = [path for path in project.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert kept == []


# What teaches


def test_the_overview_lists_what_there_is_in_the_order_of_use(project: Project) -> None:
    alone, asked = project.run(), project.run("--help")
    assert (alone.code, alone.out, asked.code) == (0, asked.out, 0)
    names = ["demo", "init", "new", "status", "plan", "check", "verify", "migrate", "resume", "rollback", "baseline"]
    names += ["history", "log", "log check", "log export"]
    names += ["backup list", "backup create", "backup verify", "backup restore", "backup prune"]
    places = [alone.out.index(f"\n  {name}  ") for name in names]
    assert places == sorted(places)
    for later in ("doctor", "serve", "lint"):
        assert f"\n  {later} " not in alone.out
    assert project.child("--version").out == f"twinstep {twinstep.__version__}\n"


@pytest.mark.parametrize("command", [*COMMANDS, "init", "new", "log export", "demo", "backup", "backup restore", "baseline"])
def test_the_help_of_each_command_says_what_it_never_does_and_how_it_exits(project: Project, command: str) -> None:
    text = project.run(*command.split(), "--help")
    assert (text.code, text.err) == (0, "")
    assert all(len(line) <= 80 for line in text.out.splitlines())
    for heading in ("\nNever:\n", "\nExample", "\nOptions:\n", "\nExit codes:\n"):
        assert heading in text.out
    assert f"\n  twinstep {command.split()[0]}" in text.out
    assert f"0  {EXIT_CODES[0]}" in text.out.replace("0    ", "0  ")


def loaded_by(folder: Path, *words: str) -> set[str]:
    """The modules of a process after it has run the command."""
    program = (
        "import sys; from pathlib import Path; from twinstep.engine.cli.app import run;"
        f"code = run({list(words)!r}, environ={{}}, folder=Path({str(folder)!r}));"
        "print(code, *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=clean_environment(), cwd=folder
    )
    code, *modules = done.stderr.split()
    assert code == "0"
    return {name.partition(".")[0] for name in modules}


def test_what_is_not_needed_is_not_loaded(project: Project) -> None:
    project.run("migrate")
    (project.folder / "twinstep.toml").write_text('local = "app.db"\nremote-role = "skip"\n')
    heavy = {"sqlalchemy", "psycopg", "rich", "transitions", "tenacity", "filelock", "asyncio"}
    assert loaded_by(project.folder, "check", "--help") & (heavy | {"sqlglot", "sqlite3", "tomllib"}) == set()
    checked = loaded_by(project.folder, "check")
    assert checked & heavy == set()
    assert "sqlite3" in checked


LOADED_WHILE_LOCKED = """
import sqlite3, sys
from importlib.abc import MetaPathFinder

locked = []

class Watching(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "sqlalchemy":
            other = sqlite3.connect("app.db", timeout=0, isolation_level=None)
            try:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
                locked.append(False)
            except sqlite3.OperationalError:
                locked.append(True)
            other.close()

sys.meta_path.insert(0, Watching())
from twinstep import Coordinator

with Coordinator(local="app.db", migrations="migrations") as coordinator:
    report = coordinator.migrate()
print(report.outcome, locked)
"""


def test_what_functions_need_is_loaded_before_other_writers_are_shut_out(project: Project) -> None:
    function = "def local_up(connection):\n    connection.exec_driver_sql('CREATE TABLE made (x)')\n"
    project.add("0002_made", {"migration.py": function, "local.down.sql": "DROP TABLE made;"})
    done = subprocess.run(
        [sys.executable, "-c", LOADED_WHILE_LOCKED],
        cwd=project.folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("verified [False]\n", "")


def test_an_interrupt_inside_of_an_executed_text_has_the_exit_code_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import sys\nfrom twinstep.__main__ import main\nfrom twinstep.engine.cli import app\n\n\n"
        "def run(*arguments, **options):\n    try:\n        exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt:\n        return 130\n\n\napp.run = run\nsys.exit(main())\n",
        encoding="utf-8",
    )
    ended = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, check=False)
    assert ended.returncode == 130
