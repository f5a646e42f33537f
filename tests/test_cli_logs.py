"""The log from the command line: followed while others write, exported for checking elsewhere, and missed where it is not."""

from __future__ import annotations

import hashlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import LIMIT_SECONDS, Project, clean_environment, make_project

ONE = {"local.up.sql": "CREATE TABLE more (x);"}


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    made = make_project(tmp_path, capsys)
    made.environ["TWINSTEP_LOCAL"] = str(made.local)
    made.add("0001_first", {"local.up.sql": "CREATE TABLE first (x);"})
    return made


class Followed:
    """`twinstep log --follow` in a process of its own, whose lines go into a file."""

    def __init__(self, project: Project, *words: str) -> None:
        self.path = project.folder / "followed"
        command = [sys.executable, "-m", "twinstep", "log", "--follow", *words]
        environ = {**clean_environment(), **project.environ}
        with self.path.open("w") as out:
            self.process = subprocess.Popen(
                command, cwd=project.folder, env=environ, stdout=out, stderr=subprocess.PIPE, text=True, process_group=0
            )

    def lines(self, number: int) -> list[str]:
        """What was written, once there are so many lines."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while (lines := self.path.read_text().splitlines()) is not None and len(lines) < number:
            assert self.process.poll() is None
            assert time.monotonic() < deadline, lines
            time.sleep(0.01)
        return lines

    def ended_by(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        _, err = self.process.communicate(timeout=LIMIT_SECONDS)
        return self.process.returncode, err

    def __enter__(self) -> Followed:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def events_of(project: Project) -> list[dict[str, Any]]:
    events = project.run("log", "--json").data["events"]
    assert isinstance(events, list)
    return events


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_following_tells_of_each_event_of_every_stream_once_as_it_comes(project: Project, how: signal.Signals) -> None:
    with Followed(project, "--json") as followed:
        # It is there before the log is.
        project.run("migrate")
        first = events_of(project)
        assert [json.loads(line) for line in followed.lines(len(first))] == first
        project.add("0002_more", ONE)
        project.run("migrate")
        project.run("rollback", "0002_more")
        both = events_of(project)
        assert len({event["stream"] for event in both}) == 3  # two migrations, and the pair's own
        assert [json.loads(line) for line in followed.lines(len(both))] == both
        assert followed.ended_by(how) == (130, "")
        assert len(followed.path.read_text().splitlines()) == len(both)


def test_following_in_words_is_a_line_an_event_and_of_one_stream_if_asked(project: Project) -> None:
    project.run("migrate")
    project.add("0002_more", ONE)
    with Followed(project, "--stream", "0002_more") as followed:
        project.run("migrate")
        wanted = [event for event in events_of(project) if event["stream"].endswith("/0002_more")]
        lines = followed.lines(len(wanted))
        assert [line.split()[0] for line in lines] == [str(event["position"]) for event in wanted]
        assert all("  0002_more  " in line for line in lines)
        assert "  Verified  " in lines[-1]
        assert followed.ended_by(signal.SIGINT) == (130, "")


def test_following_ends_when_nobody_reads_any_more(project: Project) -> None:
    project.run("migrate")
    with project.start("log", "--follow") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        project.add("0002_more", ONE)
        project.run("migrate")
        assert process.wait(timeout=LIMIT_SECONDS) == 0


def test_following_writes_nothing(project: Project) -> None:
    project.run("migrate")
    log = project.folder / "app.db.twinstep" / "log.db"
    before = log.read_bytes()
    with Followed(project) as followed:
        followed.lines(len(events_of(project)))
        followed.ended_by(signal.SIGINT)
    assert log.read_bytes() == before


# Export


def chained(lines: list[str]) -> dict[str, int]:
    """How many events each stream has, its chain checked by the rule in docs/log.md, without any code of Twinstep."""
    heads: dict[str, tuple[int, str]] = {}
    for line in lines:
        event = json.loads(line)
        version, previous = heads.get(event["stream"], (0, "0" * 64))
        parts = [previous, event["stream"], str(version + 1), event["type"], str(event["schema_version"])]
        digest = hashlib.sha256()
        for part in (*parts, event["recorded_at"], event["payload"]):
            data = part.encode()
            digest.update(f"{len(data)}:".encode() + data)
        assert (event["version"], event["previous_hash"], event["hash"]) == (version + 1, previous, digest.hexdigest())
        heads[event["stream"]] = (version + 1, event["hash"])
    return {stream: version for stream, (version, _) in heads.items()}


@pytest.mark.parametrize("words", [[], ["--format", "jsonl"], ["--json"]])
def test_an_export_is_enough_to_check_the_hash_chains_elsewhere(project: Project, words: list[str]) -> None:
    project.add("0002_mørë", {"local.up.sql": "CREATE TABLE more (x DEFAULT 'ä\u2028😀');"})
    project.run("migrate")
    exported = project.run("log", "export", *words)
    assert (exported.code, exported.err) == (0, "")
    lines = exported.out.split("\n")
    assert lines.pop() == ""
    counts = chained(lines)
    assert len(counts) == 3  # two migrations, and the pair's own
    assert sum(counts.values()) == len(lines) == len(events_of(project))
    with closing(sqlite3.connect(project.folder / "app.db.twinstep" / "log.db")) as log:
        written = log.execute("SELECT payload FROM twinstep_events ORDER BY position").fetchall()
    assert [json.loads(line)["payload"] for line in lines] == [payload for (payload,) in written]
    lines[2] = lines[2].replace("bytes", "bites")
    with pytest.raises(AssertionError):
        chained(lines)


def test_another_format_is_refused(project: Project) -> None:
    project.run("migrate")
    refused = project.run("log", "export", "--format", "xml")
    assert (refused.code, refused.out, refused.err[:4]) == (2, "", "T151")


# A log that is not there


@pytest.mark.parametrize(
    "command", ["log", "log --follow", "log check", "log export", "history", "backup list", "log --json", "log check --json"]
)
def test_a_wrong_path_of_the_log_is_refused_with_the_path(project: Project, command: str) -> None:
    project.run("migrate")
    wrong = project.folder / "app.db.twinstep" / "lgo.db"
    refused = project.run(*command.split(), "--log", f"sqlite:///{wrong}")
    assert (refused.code, refused.err[:4]) == (2, "T163")
    assert str(wrong) in refused.err
    assert not wrong.exists()


@pytest.mark.parametrize("command", ["log", "log check", "history", "backup list"])
def test_a_wrong_path_of_the_local_database_is_no_empty_log(project: Project, command: str) -> None:
    project.run("migrate")
    refused = project.run(*command.split(), "--local", "ap.db")
    assert (refused.code, refused.err[:4]) == (2, "T163")
    assert str(project.folder / "ap.db.twinstep") in refused.err


def test_before_the_first_migration_there_is_nothing_to_tell_and_nothing_to_check(project: Project) -> None:
    assert [project.run(*words.split()).code for words in ("log", "history", "backup list")] == [0, 0, 0]
    assert [project.run("log", word).err[:4] for word in ("check", "export")] == ["T163", "T163"]


# An answer that cannot be written


def onto_a_full_disk(project: Project, *words: str) -> tuple[int, str]:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "twinstep", *words],
            cwd=project.folder,
            env={**clean_environment(), **project.environ},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", ["status", "status --json", "log", "log export", "history", "plan", "--help", "log --help"])
def test_an_answer_onto_a_full_disk_is_said_to_be_lost(project: Project, words: str) -> None:
    project.run("migrate")
    code, err = onto_a_full_disk(project, *words.split())
    assert err.startswith("T166 The answer could not be written: No space left on device.")
    assert (code, "Traceback" in err, "Exception ignored" in err) == (5, False, False)


def test_a_full_disk_under_the_report_does_not_change_what_was_done(project: Project) -> None:
    code, err = onto_a_full_disk(project, "migrate", "--json")
    assert (code, err[:4]) == (0, "T166")
    assert "first" in project.tables()
    project.add("0002_bad", {"local.up.sql": "CREATE TABLE first (x);"})
    code, err = onto_a_full_disk(project, "migrate")
    assert (code, "T331" in err, "T166" in err) == (1, True, True)


def test_following_onto_a_full_disk_ends(project: Project) -> None:
    project.run("migrate")
    code, err = onto_a_full_disk(project, "log", "--follow")
    assert (code, err[:4]) == (5, "T166")


# Next to a conflict


def test_beside_a_conflict_that_stops_everything_no_other_command_is_recommended(project: Project) -> None:
    project.run("migrate")
    project.add("0002_more", ONE)
    (project.folder / "migrations/0001_first/local.up.sql").write_text("CREATE TABLE first (x, y);")
    for command in ("status", "check"):
        shown = project.run(command)
        assert "Pending: 0002_more." in shown.out
        assert "Next: Put its up text back as it was" in shown.out
        assert "twinstep migrate" not in shown.out
