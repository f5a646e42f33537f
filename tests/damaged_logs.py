"""A pair of databases whose log is damaged by hand, for the tests of what Twinstep does then.

A `World` is one device: a local file, a remote, migrations of which the last is still to come, and a log. It is made once and
copied for each case. A kind of log is a class like `SQLiteFile`: how it is named, edited around its own guards, copied and
lost. Another kind adds such a class and an entry to KINDS, and every case of the table that is not of files runs on it.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from attrs import evolve, frozen

from twinstep import Coordinator, Migration, Side
from twinstep.engine.bootstrap import bootstrap
from twinstep.events.chain import link
from twinstep.events.errors import TwinstepError
from twinstep.stores.sqlite_events import SQLiteEventStore

FIRST, SECOND, LAST = "0001_tags", "0002_more", "0003_last"


def texts(name: str) -> dict[str, str]:
    """A migration that makes a table of its own on both sides: its files."""
    table = name.partition("_")[2]
    return {
        "local.up.sql": f"CREATE TABLE {table} (a); INSERT INTO {table} VALUES (1);",
        "local.down.sql": f"DROP TABLE {table}",
        "remote.up.sql": f"CREATE TABLE {table} (a int)",
        "remote.down.sql": f"DROP TABLE {table}",
    }


def migration(name: str) -> Migration:
    """The same as a value."""
    files = texts(name)
    sides = {side: Side(up=files[f"{side}.up.sql"], down=files[f"{side}.down.sql"]) for side in ("local", "remote")}
    return Migration(id=name, local=sides["local"], remote=sides["remote"])


def write_migrations(folder: Path) -> None:
    """All of them, as a folder."""
    for name in (FIRST, SECOND, LAST):
        (folder / name).mkdir(parents=True)
        for file, text in texts(name).items():
            (folder / name / file).write_text(text)


MIGRATIONS = [migration(name) for name in (FIRST, SECOND, LAST)]


class LogKind(Protocol):
    """Where a log is kept."""

    def log(self, folder: Path) -> str:
        """What `--log` is given for the log of the device in that folder."""

    def edit(self, folder: Path, *statements: str) -> None:
        """Run SQL on the tables of the log, around whatever guards them."""

    def query(self, folder: Path, statement: str) -> list[tuple[Any, ...]]:
        """What the log answers."""

    def copy(self, folder: Path, to: Path) -> None:
        """Make a copy of the log of one device the log of another."""

    def lose(self, folder: Path) -> None:
        """Have no log there any more."""


class SQLiteFile:
    """The log in a file of its own."""

    def path(self, folder: Path) -> Path:
        """The file."""
        return folder / "app.db.twinstep" / "log.db"

    def log(self, folder: Path) -> str:
        return f"sqlite:///{self.path(folder)}"

    def edit(self, folder: Path, *statements: str) -> None:
        with closing(sqlite3.connect(self.path(folder), isolation_level=None)) as connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                connection.execute(f'DROP TRIGGER "{name}"')
            for statement in statements:
                connection.execute(statement)

    def query(self, folder: Path, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path(folder)}?mode=ro", uri=True)) as connection:
            return connection.execute(statement).fetchall()

    def copy(self, folder: Path, to: Path) -> None:
        self.lose(to)
        self.path(to).parent.mkdir(exist_ok=True)
        shutil.copy(self.path(folder), self.path(to))

    def lose(self, folder: Path) -> None:
        for path in self.path(folder).parent.glob("log.db*"):
            path.unlink()


KINDS: dict[str, LogKind] = {"sqlite": SQLiteFile()}


@frozen(kw_only=True)
class World:
    """One device. `backup` is one made by hand, `new_log` another log than its own, where it is told of one."""

    folder: Path
    url: str | None
    kind: LogKind
    backup: str = ""
    new_log: str = ""

    @property
    def local(self) -> Path:
        """The local file."""
        return self.folder / "app.db"

    def coordinator(self, **options: Any) -> Coordinator:
        """A coordinator on the device's log."""
        given: dict[str, Any] = {
            "local": self.local,
            "remote": self.url,
            "migrations": MIGRATIONS,
            "log": self.new_log or self.kind.log(self.folder),
        }
        return Coordinator(**{**given, **options})

    def bootstrap(self) -> Any:
        """What a host is told at its start."""
        log = self.new_log or self.kind.log(self.folder)
        return bootstrap(local=self.local, remote=self.url, migrations=MIGRATIONS, log=log)

    def with_another_log(self) -> World:
        """The same device, told of a log that is not made yet."""
        return evolve(self, new_log=f"sqlite:///{self.folder / 'another.db'}")

    def copied(self, folder: Path, url: str | None) -> World:
        """The device as it is, in another folder and on another remote."""
        shutil.copytree(self.folder, folder)
        return evolve(self, folder=folder, url=url)

    def databases(self) -> tuple[object, ...]:
        """The local file byte for byte, the remote row by row."""
        return self.local.read_bytes() if self.local.exists() else None, self._remote()

    def _remote(self) -> object:
        if self.url is None:
            return None
        with psycopg.connect(self.url, autocommit=True) as connection:
            tables = connection.execute(
                "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind = 'r' AND n.nspname IN ('public', 'twinstep') ORDER BY 1, 2"
            ).fetchall()
            return {
                table: connection.execute(f'SELECT t::text FROM "{table[0]}"."{table[1]}" t ORDER BY 1'.encode()).fetchall()
                for table in tables
            }

    def tables(self) -> set[str]:
        """The local tables that a migration made."""
        with closing(sqlite3.connect(self.local)) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        return names & {name.partition("_")[2] for name in (FIRST, SECOND, LAST)}


def made_world(folder: Path, url: str | None, kind: LogKind) -> World:
    """A device on which the first two migrations are applied, and the third is due. Beside it lies the same device as it was
    before the second one (`before`), and a copy of the log as it is now (`kept`)."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / "app.db")) as connection:
        connection.executescript("CREATE TABLE item (a); INSERT INTO item VALUES (1);")
    world = World(folder=folder, url=url, kind=kind)
    coordinator = world.coordinator()
    assert coordinator.migrate(to=FIRST).outcome == "verified"
    world = evolve(world, backup=coordinator.create_backup().backups[0].id)
    shutil.copytree(folder, folder.parent / "before")
    assert coordinator.migrate(to=SECOND).outcome == "verified"
    assert coordinator.verify().exit_code == 0
    shutil.copytree(folder, folder.parent / "kept")
    return world


def pair_of(world: World) -> str:
    """The id of the pair."""
    ((stream,),) = world.kind.query(world.folder, "SELECT DISTINCT stream FROM twinstep_events WHERE stream NOT LIKE '%/%'")
    return str(stream)


def rehashed(world: World, position: int, **changes: object) -> str:
    """The SQL that edits an event and gives it the hash that is right for it alone."""
    columns = ("previous_hash", "stream", "version", "type", "schema_version", "recorded_at", "payload")
    (found,) = world.kind.query(world.folder, f"SELECT {', '.join(columns)} FROM twinstep_events WHERE position = {position}")
    event: dict[str, Any] = {**dict(zip(columns, found, strict=True)), **changes}
    values = {**changes, "hash": link(event.pop("previous_hash"), **event)}
    text = ", ".join(f"{name} = {_literal(value)}" for name, value in values.items())
    return f"UPDATE twinstep_events SET {text} WHERE position = {position}"


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def as_read(path: Path) -> object:
    """Everything that a log tells whoever reads it, apart from when it was made and by what key a pair is looked for."""
    with closing(SQLiteEventStore(path, readonly=True)) as store:
        events = list(store.read_all())
        streams = {name: store.read(name) for name in store.streams()}
        return store.log_id, events, streams


# What is about backups and the quarantine alone: the local side's.
OF_BACKUPS = {"create_backup", "restore_backup", "prune_backups", "restore_quarantined"}


def calls(world: World) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every call that changes something, or builds on what the log says; those that only ask raise."""
    coordinator = world.coordinator()
    yield "migrate", coordinator.migrate
    yield "a dry run", lambda: coordinator.migrate(dry_run=True)
    yield "resume", coordinator.resume
    yield "roll_back", coordinator.roll_back
    yield "verify", coordinator.verify
    yield "accept", lambda: coordinator.verify(accept=True)
    yield "baseline", lambda: coordinator.baseline(SECOND)
    yield "create_backup", coordinator.create_backup
    yield "restore_backup", lambda: coordinator.restore_backup(world.backup)
    yield "prune_backups", lambda: coordinator.prune_backups(0)
    yield "restore_quarantined", coordinator.restore_quarantined


def is_newer_told(world: World, code: str) -> None:
    """Every call says that a newer program was at work here, and does nothing."""
    before = world.databases()
    started = world.bootstrap()
    assert (started.decision, started.error.code) == ("stop", code)
    with pytest.raises(TwinstepError, match="newer Twinstep") as caught:
        world.coordinator().status()
    assert (caught.value.code, caught.value.exit_code) == (code, 5)
    for name, call in calls(world):
        if world.url is not None and name in OF_BACKUPS:
            continue  # these ask no remote
        report = call()
        assert (report.error.code, report.exit_code) == (code, 5), name
    assert world.databases() == before
