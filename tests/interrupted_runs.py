"""Commands that are interrupted by a signal, really, and what must hold afterwards.

`signalled_at` runs the command in a child that sends itself the signal at the crossing of the given number; `start` is the
process `twinstep` itself, signalled from outside. Each has a folder for temporary files of its own, and a mark in its
environment by which whatever it leaves running is found.

What is compared is the world of `real_schedules.py`: every row and object of both databases apart from Twinstep's own.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg
from attrs import define, field
from command_line import Answer, clean_environment
from real_schedules import ID, LOCAL_DOWN, LOCAL_SCHEMA, LOCAL_UP, REMOTE_DOWN, REMOTE_SCHEMA, REMOTE_UP
from real_schedules import Place as RealPlace
from real_schedules import world as real_world

from twinstep import Coordinator
from twinstep.events.fold import fold
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

LIMIT_SECONDS = 60.0
MARK = "INTERRUPTED_RUN"
FILES = {
    "local.up.sql": LOCAL_UP,
    "local.down.sql": LOCAL_DOWN,
    "remote.up.sql": REMOTE_UP,
    "remote.down.sql": REMOTE_DOWN,
}
# Rows that refer to nothing are set aside, and may go back once their parent is there.
QUARANTINE_SCHEMA = """
CREATE TABLE parent (id INTEGER PRIMARY KEY);
CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL);
INSERT INTO child VALUES (1, 7), (2, 8), (3, 7);
"""
QUARANTINE_FILES = {
    "migration.py": (
        "from twinstep import ForeignKey, rebuild_table\n"
        "KEY = ForeignKey(columns='parent', parent='parent', parent_columns='id')\n"
        "def local_up(connection):\n    rebuild_table(connection, 'child', add_foreign_keys=(KEY,))\n"
        "def local_down(connection):\n    rebuild_table(connection, 'child', drop_foreign_keys=(KEY,))\n"
    )
}
# What the command imports, once for all children: one that is not there is no error.
multiprocessing.set_forkserver_preload(["twinstep.engine.cli.app", "twinstep.engine.coordinator", "psycopg", "sqlalchemy"])


@define(kw_only=True)
class Interrupted:
    """One pair of databases, its migrations, and the commands that are run on it."""

    folder: Path
    url: str
    files: dict[str, str] = field(factory=lambda: dict(FILES))
    mark: str = field(factory=lambda: token_hex(8))

    @classmethod
    def made(cls, folder: Path, url: str, *, files: dict[str, str] | None = None, schema: str = LOCAL_SCHEMA) -> Interrupted:
        """Both databases as they are before the migration."""
        folder.mkdir(parents=True)
        made = cls(folder=folder, url=url, files=FILES if files is None else files)
        made.temporary.mkdir()
        migration = folder / "migrations" / ID
        migration.mkdir(parents=True)
        for name, text in made.files.items():
            (migration / name).write_text(text)
        with closing(sqlite3.connect(made.local)) as local:
            local.executescript(schema)
        with psycopg.connect(url, autocommit=True) as remote:
            remote.execute(REMOTE_SCHEMA.encode())
        return made

    @property
    def local(self) -> Path:
        """The SQLite file."""
        return self.folder / "app.db"

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.folder / "app.db.twinstep"

    @property
    def temporary(self) -> Path:
        """The folder for temporary files."""
        return self.folder / "tmp"

    def environment(self) -> dict[str, str]:
        """What the commands find in theirs."""
        return {
            **clean_environment(),
            "TWINSTEP_LOCAL": str(self.local),
            "TWINSTEP_REMOTE": self.url,
            "TWINSTEP_RETRY_FOR": "5",
            "TWINSTEP_WAIT": "5",
            "TMPDIR": str(self.temporary),
            MARK: self.mark,
        }

    def coordinator(self, probe: Callable[[str], None] = lambda crossing: None) -> Coordinator:
        """For calls that are not interrupted."""
        return Coordinator(
            local=self.local,
            remote=self.url,
            migrations=self.folder / "migrations",
            wait_seconds=10,
            retry_for_seconds=5,
            probe=probe,
        )

    def start(self, *words: str, ignoring: signal.Signals | None = None) -> subprocess.Popen[str]:
        """The command, as a process of its own in a group of its own; `ignoring` is a signal that its parent ignores."""
        ignore = None if ignoring is None else partial(signal.signal, ignoring, signal.SIG_IGN)
        return subprocess.Popen(
            [sys.executable, "-m", "twinstep", *words],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            preexec_fn=ignore,
        )

    def signalled_at(self, words: tuple[str, ...], at: int, how: signal.Signals) -> Answer:
        """The command in a child that signals itself at that crossing, or ends before it comes there."""
        child = multiprocessing.get_context("forkserver").Process(
            target=_child, args=(self.folder, self.environment(), words, at, how)
        )
        child.start()
        child.join(timeout=LIMIT_SECONDS)
        assert child.exitcode is not None, "it did not end"
        return Answer(code=child.exitcode, out=(self.folder / "out").read_text(), err=(self.folder / "err").read_text())

    def world(self) -> dict[str, Any]:
        """Every row and object of both databases, apart from Twinstep's own."""
        if self.files is not FILES:
            with closing(sqlite3.connect(self.local)) as local:
                return {"child": local.execute("SELECT * FROM child ORDER BY id").fetchall()}
        return real_world(RealPlace(folder=self.folder, url=self.url))

    def in_flight(self) -> list[str]:
        """What the log says."""
        if not (self.state / "log.db").exists():
            return []
        with closing(SQLiteEventStore(self.state / "log.db", readonly=True)) as store:
            assert check_log(store).sound
            return [name for name in store.streams() if "/" in name and fold(store.read(name)).in_flight]

    def remote(self, query: str) -> list[tuple[Any, ...]]:
        """What the server answers."""
        with psycopg.connect(self.url, autocommit=True) as remote:
            return remote.execute(query.encode()).fetchall()

    def left_behind(self) -> dict[str, list[Any]]:
        """Whatever an interrupted command must not leave, by kind; nothing in any of them is what is hoped for."""
        names = [str(path.relative_to(self.state)) for path in self.state.rglob("*")] if self.state.exists() else []
        endings = (".copying", ".trial", ".image", ".image-journal", ".holder.json", "-journal")
        return {
            "processes": processes(self.mark),
            "temporary files": [path.name for path in self.temporary.iterdir()],
            "unfinished files": [name for name in names if name.endswith(endings) or "rehearsals" in name],
            "backups without a description": [
                name for name in names if name.endswith(".db") and "backups" in name and f"{name[:-3]}.json" not in names
            ],
            "sessions": self.remote(_SESSIONS),
            "locks": self.remote("SELECT pid FROM pg_locks WHERE locktype = 'advisory'"),
            "invalid indexes": self.remote("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"),
        }

    def check_nothing_is_left(self, *, for_seconds: float = 10.0) -> None:
        """A server ends a session some time after its client has: that much is waited for."""
        deadline = time.monotonic() + for_seconds
        while any(found := self.left_behind().values()):
            assert time.monotonic() < deadline, self.left_behind()
            time.sleep(0.02)
        assert not any(found)

    def check_answer(self, ended: Answer, *, as_json: bool) -> None:
        """Exit 130, and a way to go on that fits what is in flight."""
        assert ended.code == 130, ended
        assert "Traceback" not in ended.err
        says_in_flight = "'twinstep resume' to go on" in ended.err
        if "T158" not in ended.err:
            # A second one ended the answer, or the first came before the command had begun.
            assert ended.out == ""
            return
        if "This command changed nothing" not in ended.err:  # else it had not begun, or is one that only tells
            assert says_in_flight == bool(self.in_flight()), ended.err
            assert says_in_flight or "Nothing is in flight" in ended.err, ended.err
        if as_json:
            assert ended.data["outcome"] == ("in_flight" if says_in_flight else "interrupted")
            assert ended.data["error"]["code"] == "T158"

    def check_it_goes_on(self, legal: list[dict[str, Any]]) -> None:
        """`resume` ends what is in flight; both databases are in one of the legal worlds then."""
        report = self.coordinator().resume()
        assert report.exit_code == 0, report
        assert self.in_flight() == []
        assert self.world() in legal, self.world()
        self.check_nothing_is_left()


_SESSIONS = """
SELECT pid, state, query FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'twinstep%'
"""


def processes(mark: str) -> list[int]:
    """Those that bear the mark in their environment, apart from zombies."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended, or is another user's
    return found


def copied(place: Interrupted, folder: Path, url: str) -> Interrupted:
    """The same local files at another place; the remote is the caller's to copy."""
    shutil.copytree(place.folder, folder)
    return Interrupted(folder=folder, url=url, files=place.files)


def _child(folder: Path, environment: dict[str, str], words: tuple[str, ...], at: int, how: signal.Signals) -> None:
    """Be the command: its environment, its streams, its handlers, and a probe that sends the signal."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(folder / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(descriptor, number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    passed = 0

    def probe(crossing: str) -> None:
        nonlocal passed
        passed += 1
        if passed == at + 1:
            os.kill(os.getpid(), how)

    from twinstep.__main__ import main
    from twinstep.engine import coordinator

    coordinator.Coordinator = partial(Coordinator, probe=probe)  # type: ignore[misc, assignment]
    sys.argv = ["twinstep", *words]
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
