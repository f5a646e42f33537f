"""The demo: what it shows is so, and it leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from shutil import rmtree

import pytest
from command_line import clean_environment, make_project
from targets import sometimes

from twinstep.engine import embedded
from twinstep.engine.postgres_binaries import choose_binaries

LIMIT_SECONDS = 60.0
SMALL = ("demo", "--notes", "400")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files that the server's account can reach."""
    folder = Path(tempfile.mkdtemp(prefix="twinstep-test-"))
    folder.chmod(0o755)
    yield folder
    rmtree(folder)


def start(temporary: Path, *words: str) -> subprocess.Popen[str]:
    """Start the command with its temporary files in that folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "twinstep", *words],
        cwd=temporary.parent,
        env={**clean_environment(), "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end: exit code, output, errors."""
    out, err = process.communicate(timeout=LIMIT_SECONDS)
    return process.returncode, out, err


def processes_naming(folder: Path) -> list[str]:
    """The command lines of all processes that mention the folder; every server does."""
    listed = subprocess.run(["ps", "-Awwo", "args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line]


def assert_nothing_is_left(temporary: Path) -> None:
    """No file, and no process: at once, or within the time that the server's keeper takes."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while processes_naming(temporary) or list(temporary.iterdir()):
        assert time.monotonic() < deadline, (processes_naming(temporary), list(temporary.rglob("*"))[:20])
        time.sleep(0.05)


def test_the_demo_shows_what_it_read_and_leaves_nothing_behind(temporary: Path) -> None:
    code, out, err = finished(start(temporary, *SMALL))
    assert (code, err, processes_naming(temporary), list(temporary.iterdir())) == (0, "", [], [])
    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert "\x1b" not in out
    built, _, shown = out.partition("Read from both catalogues afterwards")
    assert re.search(r"remote: 400 notes of 20 users, [\d ]+ rows, 42 indexes +\d", built)
    assert re.search(r"local: 400 notes, [\d ]+ rows, 17 indexes, user_version 11 +\d", built)
    assert re.search(r"local applied: 6 tables rebuilt, 10 foreign keys, 10 indexes added +\d", built)
    assert re.search(r"user_version +11 +12\n +foreign keys +0 +10\n.*\(foreign_key_check\) +0\n +tables rebuilt +6\n", shown)
    assert re.search(r"tables with other columns than before +0\n", shown)
    assert re.search(r"local_notes +400 +400\n", shown)
    assert re.search(r"integrity_check +ok +ok\n", shown)
    assert "read again from the file: as recorded" in shown
    assert re.search(r"Backup\n  [\d.]+ kB in notes.db.twinstep/backups/, restored once as a trial\n", shown)
    assert "8 events in 2 streams; the hash chain holds, the read tables agree" in shown
    assert re.search(r"  query +side +before ms +after ms +ratio +of before\n  Q1 main list .*\n  P3 main list ", shown)
    assert re.search(r"\nverified: the migration took .* the demo .*\n$", shown)


def test_the_demo_as_json_is_one_object_with_the_same_facts(temporary: Path) -> None:
    code, out, err = finished(start(temporary, *SMALL, "--json"))
    found = json.loads(out)
    assert (code, err, found["outcome"], found["kept"]) == (0, "", "verified", None)
    before, after = found["before"], found["after"]
    assert (before["local"]["foreign_keys"], after["local"]["foreign_keys"]) == (0, 10)
    assert before["local"]["rows"] == after["local"]["rows"]
    (run,) = found["runs"]
    assert after["local"]["indexes"] - before["local"]["indexes"] == run["local"]["indexes_added"] > 0
    assert after["remote"]["indexes"] - before["remote"]["indexes"] == run["remote"]["indexes_added"] > 0
    assert len(found["tables_rebuilt"]) == run["local"]["tables_rebuilt"]
    assert found["backups"][0]["sha256"] == run["backup"]["sha256"]
    assert found["seconds"] > run["seconds"] > 0
    assert_nothing_is_left(temporary)


def test_what_is_kept_can_be_looked_at_with_every_command(temporary: Path) -> None:
    folder = temporary / "kept"
    code, out, _ = finished(start(temporary, *SMALL, "--keep", str(folder)))
    assert code == 0
    assert f"Kept in {folder}" in out
    assert [path.name for path in temporary.iterdir()] == ["kept"]
    for command in ("status", "check", "plan", "history", "log", "log check", "backup list"):
        done = subprocess.run(
            [sys.executable, "-m", "twinstep", *command.split()],
            cwd=folder,
            env={**clean_environment(), "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"},
            capture_output=True,
            text=True,
        )
        assert (command, done.returncode, done.stderr) == (command, 0, "")
    with closing(sqlite3.connect(folder / "notes.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (12,)


def test_a_folder_that_is_not_empty_is_not_used(temporary: Path) -> None:
    (temporary / "mine.txt").write_text("mine")
    code, out, err = finished(start(temporary, *SMALL, "--keep", str(temporary)))
    assert (code, out) == (2, "")
    assert err.startswith(f"T156 The demo cannot be kept in {temporary}: it is not empty.")
    assert [path.name for path in temporary.iterdir()] == ["mine.txt"]


ENDS = list(
    product(["PostgreSQL ", "Migrating: ", "backed up "], [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
)


@pytest.mark.parametrize(("line", "how"), sometimes(ENDS, 5))
def test_nothing_is_left_of_a_demo_that_is_ended_half_way(temporary: Path, line: str, how: signal.Signals) -> None:
    process = start(temporary, *SMALL)
    assert process.stdout is not None
    while line not in (read := process.stdout.readline()):
        assert read, "the demo ended before it could be ended"
    # To the whole group, as a terminal does; the server's keeper is in a session of its own.
    os.killpg(process.pid, how)
    code, _, err = finished(process)
    assert_nothing_is_left(temporary)
    if how != signal.SIGKILL:
        assert (code, "Traceback" in err) == (130, False)
        assert "What the demo had made is removed" in err
    else:
        assert code == -how


def test_nothing_is_kept_of_a_demo_that_is_interrupted(temporary: Path) -> None:
    process = start(temporary, *SMALL, "--keep", str(temporary / "kept"))
    assert process.stdout is not None
    while "backed up " not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    assert finished(process)[0] == 130
    assert_nothing_is_left(temporary)


def test_without_a_postgresql_the_demo_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "choose_binaries", lambda given: choose_binaries(given, wheel="not_there", debian=tmp_path))
    refused = make_project(tmp_path, capsys).run("demo", "--json")
    assert (refused.code, refused.data["error"]["code"]) == (2, "T131")
    assert "pip install 'twinstep[embedded]'" in refused.err


def test_the_demo_takes_no_database_of_anybody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(tmp_path, capsys)
    refused = project.run("--local", "app.db", "demo")
    assert (refused.code, refused.out, "takes no --local" in refused.err) == (2, "", True)
    assert project.run("demo", "--local", "app.db").code == 2
