"""The wheel, built from what git tracks and installed into a fresh environment, does the main job there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from documents import ROOT, write


def run(*command: str | Path, folder: Path, code: int = 0) -> str:
    """The output of a command that must end so, run where nothing of the sources lies."""
    unset = ("PYTHONPATH", "COLUMNS", "LINES")
    environment = {name: value for name, value in os.environ.items() if name not in unset and not name.startswith("TWINSTEP_")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder of the commands of a fresh environment with the wheel and what it needs."""
    source, environment = tmp_path / "source", tmp_path / "environment"
    run("git", "clone", "--quiet", ROOT, source, folder=tmp_path)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source, folder=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(environment, with_pip=True)
    commands = environment / ("Scripts" if os.name == "nt" else "bin")
    wanted = (f"{wheel}[embedded,verification]", "pytest", "pytest-xdist")
    run(commands / "python", "-m", "pip", "install", "--quiet", *wanted, folder=tmp_path)
    return commands


def test_the_installed_wheel_runs_the_reference_migration(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    where = run(installed / "python", "-c", "import twinstep; print(twinstep.__file__)", folder=folder)
    assert Path(where.strip()).is_relative_to(installed.parent)
    told = json.loads(run(installed / "twinstep", "demo", "--notes", "200", "--json", folder=folder))
    assert told["outcome"] == "verified"
    assert list(folder.iterdir()) == []
    _verifies_in_pytest(installed, tmp_path / "host")


def _verifies_in_pytest(installed: Path, folder: Path) -> None:
    """The plugin is there by its entry point, also for the workers of pytest-xdist, and so are its fixtures."""
    write(HOST, folder)
    options = ("--twinstep=migrations", "--twinstep-examples=10", "--hypothesis-seed=1", "-p", "no:cacheprovider", "-q")
    wanted = "test_host or applies or keeps-rows or again"
    told = run(installed / "python", "-m", "pytest", *options, "-n", "2", "-k", wanted, folder=folder, code=1)
    assert "1 failed, 6 passed" in told, told
    assert "FAILED ::migrations::0002_status::keeps-rows" in told
    assert "of notes.status is another: id=1: 'old' became 'gone'" in told
    assert "twinstep test 0002_status --migrations migrations --property keeps-rows --seed 1 --examples 10" in told


HOST = {
    "migrations/0001_notes/local.up.sql": "CREATE TABLE notes (id INTEGER PRIMARY KEY, status TEXT);",
    "migrations/0001_notes/remote.up.sql": "CREATE TABLE notes (id bigint PRIMARY KEY, status text);",
    "migrations/0001_notes/remote.down.sql": "DROP TABLE notes;",
    "migrations/0002_status/local.up.sql": "UPDATE notes SET status = 'gone' WHERE status = 'old';",
    "test_host.py": "def test_host(twinstep_coordinator, twinstep_pair):\n"
    "    assert twinstep_coordinator.migrate().outcome == 'verified'\n"
    "    assert twinstep_pair.remote is not None\n",
}
