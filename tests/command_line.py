"""What the tests of the command share: a project with a real SQLite file, and the command, run in or beside this process."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen

from twinstep.engine.cli.app import run

LIMIT_SECONDS = 30.0

UP = {
    "local.up.sql": "CREATE TABLE tags (name TEXT);\nCREATE INDEX tags_name ON tags (name);",
    "local.down.sql": "DROP TABLE tags;",
    "remote.up.sql": "CREATE TABLE tags (name text);",
    "remote.down.sql": "DROP TABLE tags;",
}

# A step that says that it has begun, and then waits until the test lets it go on.
WAITING = """
import time
from pathlib import Path

def local_up(connection):
    connection.exec_driver_sql("CREATE TABLE waited (x)")
    here = Path(__file__).parent.parent.parent
    (here / "begun").touch()
    while not (here / "go").exists():
        time.sleep(0.01)

def local_down(connection):
    connection.exec_driver_sql("DROP TABLE waited")
"""


@frozen(kw_only=True)
class Answer:
    """What one call of the command gave."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """The one object on the standard output."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


@define(kw_only=True)
class Project:
    """A folder with `app.db` and `migrations/`, in which the command is run as somebody would who is there."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    environ: dict[str, str] = field(factory=dict)

    @property
    def local(self) -> Path:
        """The SQLite file."""
        return self.folder / "app.db"

    def add(self, name: str, files: Mapping[str, str] | None = None) -> None:
        """Write a migration; by default one that makes a table on both sides."""
        folder = self.folder / "migrations" / name
        folder.mkdir(parents=True)
        for file, text in (UP if files is None else files).items():
            (folder / file).write_text(text)

    def run(self, *words: str, folder: Path | None = None) -> Answer:
        """Run the command in this process."""
        self.capsys.readouterr()
        code = run(words, environ=self.environ, folder=folder or self.folder)
        caught = self.capsys.readouterr()
        return Answer(code=code, out=caught.out, err=caught.err)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the command as a process of its own, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "twinstep", *words],
            cwd=self.folder,
            env={**clean_environment(), **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def child(self, *words: str) -> Answer:
        """Run the command as a process of its own, to its end."""
        process = self.start(*words)
        out, err = process.communicate(timeout=LIMIT_SECONDS)
        return Answer(code=process.returncode, out=out, err=err)

    def tables(self) -> set[str]:
        """The local tables that are not Twinstep's."""
        with closing(sqlite3.connect(self.local)) as connection:
            names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return {name for (name,) in names if not name.startswith("twinstep_")}

    def wait_for(self, name: str) -> None:
        """Wait until a file of that name is in the folder."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"{name} did not appear"
            time.sleep(0.01)


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of the command, or of the terminal that it is shown on."""
    others = {"DATABASE_URL", "COLUMNS", "LINES"}
    return {name: value for name, value in os.environ.items() if not name.startswith("TWINSTEP_") and name not in others}


def make_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    """A project with one local table, user_version 3, and no migration yet."""
    project = Project(folder=folder, capsys=capsys)
    with closing(sqlite3.connect(project.local)) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT)")
        connection.execute("PRAGMA user_version = 3")
        connection.commit()
    (folder / "migrations").mkdir()
    return project
