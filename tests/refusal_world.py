"""The world in which a refusal is shown: a project with a real SQLite file and, where asked for, a real PostgreSQL.

It can be looked at as a whole (`seen`), so that "nothing was changed" is compared and not claimed: the bytes, schema and rows
of the local file, catalogue and rows of the remote, every file of the folder, and the events of the log.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from attrs import define, field, frozen
from command_line import LIMIT_SECONDS, UP, Answer, clean_environment
from filelock import FileLock, Timeout

from twinstep import Coordinator
from twinstep.engine.cli.app import run

if TYPE_CHECKING:
    from twinstep.engine.embedded import EmbeddedPostgres

NOBODY = 65534


class Killed(BaseException):
    """Stands for SIGKILL."""


@frozen(kw_only=True)
class Seen:
    """Everything that a call could have changed."""

    files: frozenset[str]
    local_hash: str
    local: Mapping[str, object]
    remote: Mapping[str, object]
    events: tuple[tuple[object, ...], ...]


@define(kw_only=True)
class World:
    """A folder with `app.db` and `migrations/`, and what a case has made around it."""

    folder: Path
    server: EmbeddedPostgres
    stack: ExitStack = field(factory=ExitStack)
    environ: dict[str, str] = field(factory=dict)
    remote: str = ""
    secrets: list[str] = field(factory=list)

    @property
    def local(self) -> Path:
        """The SQLite file."""
        return self.folder / "app.db"

    @property
    def state(self) -> Path:
        """The state folder where none is named."""
        return self.folder / "app.db.twinstep"

    # What cases are prepared with

    def add(self, name: str = "0001_tags", files: Mapping[str, str] | None = None, **texts: str) -> None:
        """Write a migration; by default one that makes a table on both sides. `local_up="..."` is local.up.sql."""
        folder = self.folder / "migrations" / name
        folder.mkdir(parents=True, exist_ok=True)
        named = {f"{key.replace('_', '.')}.sql": text for key, text in texts.items()}
        for file, text in ({**files, **named} if files is not None else named or UP).items():
            (folder / file).write_text(text, encoding="utf-8")

    def sql(self, *statements: str) -> None:
        """Run them on the local database, as the application would."""
        with closing(sqlite3.connect(self.local, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    def with_remote(self, *statements: str) -> str:
        """Give the world a remote database of its own, and name it in the environment; returns its URL."""
        self.remote = self.server.create_database()
        name = self.remote.partition("?")[0].rpartition("/")[2]
        self.stack.callback(self.server.drop_database, name)
        self.environ["TWINSTEP_REMOTE"] = self.remote
        self.remote_sql("CREATE TABLE item (id int PRIMARY KEY, n int)", "INSERT INTO item VALUES (1, 10)", *statements)
        return self.remote

    def remote_sql(self, *statements: str) -> None:
        """Run them on the remote, as its owner would."""
        with psycopg.connect(self.remote, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def tcp(self, *, user: str = "postgres", password: str | None = None, database: str | None = None, more: str = "") -> str:
        """Name the remote over TCP, where a password is asked for; with the right one unless told otherwise."""
        if not self.remote:
            self.with_remote()
        right = self.server.url(tcp=True).partition("@")
        secret = right[0].rpartition(":")[2] if password is None else password
        self.secrets.append(secret)
        name = database or self.remote.partition("?")[0].rpartition("/")[2]
        words = f"{user}:{quote(secret)}" if secret else user
        url = f"postgresql://{words}@{right[2].partition('/')[0]}/{name}{more}"
        self.environ["TWINSTEP_REMOTE"] = url
        return url

    def role(self, *statements: str) -> str:
        """A role without any right; statements may name it as {role}. The remote is named with it."""
        role = "poor_" + os.urandom(4).hex()
        self.remote_sql(f"CREATE ROLE {role} LOGIN", *(each.format(role=role) for each in statements))
        self.stack.callback(self.remote_sql, f"REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}")
        self.environ["TWINSTEP_REMOTE"] = self.remote.replace("postgresql://postgres@", f"postgresql://{role}@")
        return role

    def migrated(self) -> None:
        """Migrate, which must succeed."""
        answer = self.run("migrate")
        assert answer.code == 0, answer.err

    def killed_at(self, crossing: str, local: Path | None = None) -> None:
        """Migrate (another local database, where one is given), and be killed at that crossing."""

        def probe(name: str) -> None:
            if name == crossing:
                raise Killed

        with contextlib.suppress(Killed):
            Coordinator(
                local=local or self.local,
                remote=self.environ.get("TWINSTEP_REMOTE"),
                migrations=self.folder / "migrations",
                probe=probe,
            ).migrate()
            raise AssertionError(f"{crossing} was never crossed")

    # The command

    def run(self, *words: str) -> Answer:
        """Run the command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(words, environ={"TWINSTEP_LOCAL": str(self.local), **self.environ}, folder=self.folder)
        return Answer(code=code, out=out.getvalue(), err=err.getvalue())

    def run_without_rights(self, *words: str) -> Answer:
        """Run it in a process of its own as somebody who owns nothing here."""
        order = {"words": words, "environ": {"TWINSTEP_LOCAL": str(self.local), **self.environ}, "folder": str(self.folder)}
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_RIGHTS, json.dumps(order), str(NOBODY)],
            env=clean_environment(),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        return Answer(code=done.returncode, out=done.stdout, err=done.stderr)

    # What can be seen

    def seen(self) -> Seen:
        """Look at everything, and change nothing."""
        return Seen(
            files=frozenset(str(path.relative_to(self.folder)) for path in self.folder.rglob("*")),
            local_hash=_hash(self.local),
            local=dict(_local(self.local)),
            remote=dict(_remote(self.remote)) if self.remote else {},
            events=_events(self.state / "log.db"),
        )

    def holds_a_lock(self) -> bool:
        """Whether a call that is over still holds the folder's lock, the local writer lock or the remote's advisory lock."""
        if (self.state / "lock").exists():
            try:
                with FileLock(self.state / "lock", timeout=0):
                    pass
            except Timeout:
                return True
        if self.remote:
            with psycopg.connect(self.remote) as connection:
                row = connection.execute(HELD).fetchone()
                return row is not None and row[0] > 0
        return False


# Everything is imported, by a run that succeeds, before the rights are given away: what is imported late could not be read.
WITHOUT_RIGHTS = """
import json, os, sqlite3, sys, tempfile
from pathlib import Path
from contextlib import redirect_stdout, redirect_stderr
from io import StringIO
from twinstep.engine.cli.app import run
order = json.loads(sys.argv[1])
with tempfile.TemporaryDirectory() as warm, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
    sqlite3.connect(warm + "/app.db").close()
    (Path(warm) / "migrations" / "1_a").mkdir(parents=True)
    (Path(warm) / "migrations" / "1_a" / "local.up.sql").write_text("CREATE TABLE a (x);")
    (Path(warm) / "migrations" / "1_a" / "migration.toml").write_text("description = 'a'")
    assert run(("--json", "migrate"), environ={"TWINSTEP_LOCAL": warm + "/app.db"}, folder=Path(warm)) == 0
    assert run(("migrate", "--local", "nowhere"), environ={}, folder=Path(warm)) == 2
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
sys.exit(run(order["words"], environ=order["environ"], folder=Path(order["folder"])))
"""


def _hash(path: Path) -> str:
    """Of its bytes, read by another process: closing it here would drop the locks that a host of the case holds on it."""
    if not path.is_file():
        return "no file"
    return hashlib.sha256(subprocess.run(["cat", path], capture_output=True, check=True).stdout).hexdigest()


def _local(path: Path) -> Iterator[tuple[str, object]]:
    """Schema, marks and rows as SQLite reads them (its -wal included), without Twinstep's own; as far as it can read them."""
    if not path.is_file():
        return
    with (
        closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection,
        contextlib.suppress(sqlite3.DatabaseError),
    ):
        schema = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()
        yield "user_version", connection.execute("PRAGMA user_version").fetchone()
        yield "schema", [row for row in schema if "twinstep" not in row[1]]
        for kind, name, _ in schema:
            if kind == "table" and "twinstep" not in name:
                yield name, connection.execute(f'SELECT * FROM "{name}" ORDER BY rowid').fetchall()


def _remote(url: str) -> Iterator[tuple[str, object]]:
    """Every relation, column, index and constraint that is not Twinstep's, and all rows."""
    with psycopg.connect(url) as connection:
        for name, query in CATALOGUE.items():
            yield name, connection.execute(query.encode()).fetchall()
        tables = connection.execute(
            b"SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' "
            b"AND nspname NOT IN ('pg_catalog', 'information_schema', 'twinstep', 'pg_toast') ORDER BY 1"
        ).fetchall()
        for (table,) in tables:
            yield table, connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1".encode()).fetchall()


HELD = b"""
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_OURS = "n.nspname NOT IN ('pg_catalog', 'information_schema', 'twinstep', 'pg_toast')"
_JOINED = "JOIN pg_namespace n ON n.oid = relnamespace"
CATALOGUE = {
    "schemas": f"SELECT nspname FROM pg_namespace n WHERE {_OURS} AND nspname NOT LIKE 'pg_%' ORDER BY 1",
    "relations": f"SELECT n.nspname, relname, relkind FROM pg_class c {_JOINED} WHERE {_OURS} ORDER BY 1, 2",
    "columns": "SELECT c.oid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute a "
    f"JOIN pg_class c ON c.oid = attrelid {_JOINED} WHERE {_OURS} AND attnum > 0 ORDER BY 1, 2",
    "indexes": "SELECT pg_get_indexdef(i.indexrelid), indisvalid FROM pg_index i "
    f"JOIN pg_class c ON c.oid = i.indexrelid {_JOINED} WHERE {_OURS} ORDER BY 1",
    "constraints": "SELECT conname, pg_get_constraintdef(k.oid) FROM pg_constraint k "
    f"JOIN pg_namespace n ON n.oid = connamespace WHERE {_OURS} ORDER BY 1, 2",
}


def _events(log: Path) -> tuple[tuple[object, ...], ...]:
    """The events of a log, oldest first; none of what is no log."""
    if not log.is_file():
        return ()
    with closing(sqlite3.connect(f"{log.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            rows: list[Any] = connection.execute("SELECT * FROM twinstep_events ORDER BY rowid").fetchall()
        except sqlite3.DatabaseError:
            return ()
        return tuple(tuple(row) for row in rows)


@contextlib.contextmanager
def made_world(folder: Path, server: EmbeddedPostgres) -> Iterator[World]:
    """A world with one local table of one row, user_version 3, an empty folder of migrations, and no remote yet."""
    world = World(folder=folder, server=server)
    world.sql(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT)",
        "INSERT INTO notes (title) VALUES ('first')",
        "PRAGMA user_version = 3",
    )
    (folder / "migrations").mkdir()
    with world.stack:
        yield world
