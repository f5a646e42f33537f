"""The wheel, built from what git tracks and installed into a fresh environment, does the main job there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, folder: Path) -> str:
    """The output of a command that must succeed, run where nothing of the sources lies."""
    unset = ("PYTHONPATH", "COLUMNS", "LINES")
    environment = {name: value for name, value in os.environ.items() if name not in unset and not name.startswith("TWINSTEP_")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
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
    run(commands / "python", "-m", "pip", "install", "--quiet", f"{wheel}[embedded]", folder=tmp_path)
    return commands


def test_the_installed_wheel_runs_the_reference_migration(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    where = run(installed / "python", "-c", "import twinstep; print(twinstep.__file__)", folder=folder)
    assert Path(where.strip()).is_relative_to(installed.parent)
    told = json.loads(run(installed / "twinstep", "demo", "--notes", "200", "--json", folder=folder))
    assert told["outcome"] == "verified"
    assert list(folder.iterdir()) == []
