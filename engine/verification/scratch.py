"""Databases to be changed at will: the schema before a migration, filled anew for each trial.

The schema is made once, by running the earlier migrations for real, and copied: the SQLite file as a file, the PostgreSQL
database as a template. The application's own databases are never opened. All of it lies in one temporary folder and on a
server for trials, and goes with the block.

Read next: `subject.py` (what is verified), `trial.py` (what is done to them).
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ...events.errors import DefinitionError, TwinstepError
from ...events.messages import UNTOUCHED
from ...migrations.definition import Migration, SideName
from ...migrations.postgres_target import PostgresTarget
from ...migrations.sqlite_target import SQLiteTarget
from ...migrations.target import Target
from ...stores.backups import BackupFolder
from ...stores.local_connection import open_local, open_to_read
from ...stores.port import utc_now
from ...stores.remote_connection import libpq_url, open_remote
from ...stores.seam import Probe, no_probe
from ..coordinator import Coordinator
from .applying import apply_to_both
from .filling import fill_postgres, fill_sqlite
from .looks import Look, all_schemas, look_at_postgres, look_at_sqlite
from .postgres_shape import reflect_postgres
from .shape import Content, Shape
from .sqlite_shape import reflect_sqlite
from .subject import Subject, works_of

if TYPE_CHECKING:
    from ...stores.remote_connection import Remote

LOCAL: Final = "local.db"
STATE: Final = "state"
LOG: Final = "log.db"
# Nobody but the trial itself is waited for.
PATIENCE_SECONDS: Final = 5.0
SQLITE: Final = b"SQLite format 3\0"
# Databases that nobody needs any more are dropped so many later.
_LEFT: Final = 2
# A migration that depends on the session's time zone is not to be right by chance: that of hardly any server.
ZONE: Final = "Asia/Kathmandu"
# Of a dump: what psql reads, and the server does not.
PSQL_COMMAND: Final = "\\"


def schema_text(path: Path) -> str:
    """SQL that makes the schema of a file: a SQLite database, whose rows are not read, or SQL as it stands.

    Raises what opening a database raises, and DefinitionError (T108) for a file that is neither.
    """
    with path.open("rb") as file:
        is_database = file.read(len(SQLITE)) == SQLITE
    if not is_database:
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DefinitionError("T108", path=path, problem=f"byte {error.start} is not UTF-8") from error
    with closing(open_to_read(path)) as connection:
        texts = [sql for (sql,) in connection.execute(_SCHEMA).fetchall()]
        marks = [(name, connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("user_version", "application_id")]
    return ";\n".join([*texts, *(f"PRAGMA {name} = {value}" for name, value in marks)])


# Without what a virtual table makes for itself.
_SCHEMA = r"""
    SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL
    AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE 'twinstep\_%' ESCAPE '\'
    AND tbl_name NOT IN (SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow') ORDER BY rowid
"""


class ScratchServer:
    """A PostgreSQL server on which databases for trials are made and dropped; their names begin with `twinstep_trial_`."""

    def __init__(self, url: str) -> None:
        self._conninfo = libpq_url(url)
        self._names = (f"twinstep_trial_{secrets.token_hex(4)}_{number}" for number in count(1))
        self._made: list[str] = []
        self._left: list[str] = []
        self._open: Remote | None = None

    def create(self, template: str | None = None) -> str:
        """A new database, empty or as a copy of another one of its own, by URL; its URL.

        Raises Unreachable, or DefinitionError (T380) where the server does not let us make one.
        """
        name = next(self._names)
        copied = "template0" if template is None else str(conninfo_to_dict(template)["dbname"])
        try:
            self._ask(f'CREATE DATABASE "{name}" TEMPLATE "{copied}"')
            self._ask(f"ALTER DATABASE \"{name}\" SET TimeZone = '{ZONE}'")
        except psycopg.Error as error:
            raise DefinitionError("T380", problem=error.diag.message_primary or str(error)) from error
        self._made.append(name)
        return make_conninfo(self._conninfo, dbname=name)

    def drop(self, url: str) -> None:
        """Drop one of its databases, and end whoever is connected to it.

        That is done when a later one is dropped: the server waits by the tenth of a second for sessions that have only just
        been closed, and until then these are gone.
        """
        self._left.append(str(conninfo_to_dict(url)["dbname"]))
        while len(self._left) > _LEFT:
            self._drop(self._left.pop(0))

    def _drop(self, name: str) -> None:
        self._ask(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._made.remove(name)

    def close(self) -> None:
        """Drop what is left, and disconnect."""
        for name in [*self._made]:
            with suppress(psycopg.Error):
                self._drop(name)
        if self._open is not None:
            self._open.close()
        self._open = None

    def _ask(self, statement: str) -> None:
        if self._open is None or self._open.closed:
            self._open = open_remote(self._conninfo, doing="verify migrations")
        self._open.execute(statement.encode())


class Databases:
    """A pair with the schema before the migration, and rows. `local` and `remote` are None where the side is not needed."""

    def __init__(self, folder: Path, local: Path | None, remote: str | None) -> None:
        self.folder = folder
        self.local = local
        self.remote = remote
        self._session: Remote | None = None
        self._remote_target: PostgresTarget | None = None

    @property
    def session(self) -> Remote:
        """The session in which the remote is filled and looked at: one for all, since a new one learns the catalogues anew,
        which takes as long as a look. What it is set to does not show in what is seen. It is in no transaction."""
        assert self.remote is not None
        if self._session is None or self._session.closed:
            self._session = open_remote(self.remote)
        return self._session

    def disconnect(self) -> None:
        """End all sessions with the remote; a template must have none. Who asks next has a new one."""
        for opened in (self._session, self._remote_target):
            if opened is not None:
                opened.close()
        self._session = self._remote_target = None

    def look(self) -> dict[SideName, Look]:
        """Both sides, whole."""
        looks: dict[SideName, Look] = {}
        if self.local is not None:
            with closing(open_local(self.local, readonly=True)) as reading:
                looks["local"] = look_at_sqlite(reading)
        if self.remote is not None:
            looks["remote"] = look_at_postgres(self.session)
        return looks

    def fill(self, shapes: Mapping[SideName, Shape], contents: Mapping[SideName, Content]) -> dict[SideName, Content]:
        """Insert the rows; those that the schema has admitted."""
        admitted: dict[SideName, Content] = {}
        if self.local is not None and "local" in contents:
            with closing(sqlite3.connect(self.local, isolation_level=None)) as writing:
                writing.execute("BEGIN IMMEDIATE")
                admitted["local"] = fill_sqlite(writing, shapes["local"], contents["local"])
                writing.execute("COMMIT")
        if self.remote is not None and "remote" in contents:
            with self.session.transaction():
                admitted["remote"] = fill_postgres(self.session, shapes["remote"], contents["remote"])
        return admitted

    @contextmanager
    def target(self, side: SideName) -> Iterator[Target]:
        """What the real migration works by on that side. That of the remote stays connected, and holds what it holds."""
        if side == "remote":
            assert self.remote is not None
            self._remote_target = self._remote_target or PostgresTarget(self.remote)
            yield self._remote_target
            return
        assert self.local is not None
        with closing(SQLiteTarget(self.local, backups=BackupFolder(self.folder / STATE / "backups", clock=utc_now))) as target:
            yield target

    def migrate_to(self, subject: Subject, *, done: int, logged: bool) -> None:
        """Run those of the earlier migrations that have not been run, of which so many have: by the whole engine, or without
        a log, which takes a fraction of the time. Raises DefinitionError (T381)."""
        if not logged:
            self._apply(subject.earlier[done:], subject)
        elif subject.earlier:
            report = self.coordinator(subject.earlier).migrate()
            if report.exit_code:
                problem = report.outcome if report.error is None else report.error.message.removesuffix(f" {UNTOUCHED}")
                raise DefinitionError("T381", migration=subject.id, problem=problem)
        self.disconnect()
        # Copies are made of the files alone.
        if self.local is not None:
            with closing(sqlite3.connect(self.local)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")
        log = self.folder / STATE / LOG
        if log.exists():
            with closing(sqlite3.connect(log)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _apply(self, migrations: Sequence[Migration], subject: Subject) -> None:
        for migration in migrations:
            try:
                apply_to_both(self.target, works_of(migration))
            except TwinstepError as error:
                raise DefinitionError("T381", migration=subject.id, problem=error.condition) from error

    def coordinator(self, migrations: Sequence[Migration], *, probe: Probe = no_probe) -> Coordinator:
        """The whole engine on them."""
        return Coordinator(
            local=self.local,
            remote=self.remote,
            migrations=migrations,
            state_dir=self.folder / STATE,
            retry_for_seconds=PATIENCE_SECONDS,
            probe=probe,
        )


class Schemas:
    """The schemas before the migrations of one folder: each is made from the one before it, where that is a part of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)
        self._made: dict[tuple[object, ...], tuple[tuple[Migration, ...], Databases]] = {}

    def before(
        self, subject: Subject, server: ScratchServer | None, texts: Mapping[SideName, str], *, logged: bool
    ) -> Databases:
        """A pair with the schema before it, for as long as no other one is asked for; `logged` where the engine is to go on
        from there.

        `texts` are SQL that makes a side's schema in place of the earlier migrations. Raises DefinitionError: T381 where an
        earlier migration fails by itself, T382 where such a text does, T383 for a remote without a server for trials.
        """
        if "remote" in subject.sides and server is None:
            raise DefinitionError("T383", migration=subject.id)
        key = (subject.sides, server, logged, *sorted(texts.items()))
        earlier, databases = self._made.pop(key, ((), None))
        if databases is None or subject.earlier[: len(earlier)] != earlier:
            earlier, databases = (), make(self._folder / str(next(self._numbers)), subject.sides, server)
            for side, text in texts.items():
                _execute(databases, side, text)
        databases.migrate_to(subject, done=len(earlier), logged=logged)
        self._made[key] = subject.earlier, databases
        return databases


def make(folder: Path, sides: Sequence[SideName], server: ScratchServer | None, template: Databases | None = None) -> Databases:
    """An empty pair, or a copy of another one, to which nobody is connected."""
    local, remote = None, None
    (folder / STATE).mkdir(parents=True)
    if "local" in sides:
        local = folder / LOCAL
        if template is None:
            sqlite3.connect(local).close()
        else:
            assert template.local is not None
            shutil.copyfile(template.local, local)
    if template is not None and (log := template.folder / STATE / LOG).exists():
        shutil.copyfile(log, folder / STATE / LOG)
    if "remote" in sides:
        assert server is not None
        remote = server.create(None if template is None else template.remote)
    return Databases(folder, local, remote)


class Scratch:
    """The schema before one migration, and as many copies of it as are asked for, one at a time."""

    def __init__(self, subject: Subject, folder: Path, server: ScratchServer | None, before: Databases) -> None:
        self.subject = subject
        self._folder = folder
        self._server = server
        self._numbers = count(1)
        self._template = before
        self.shapes = self._reflect()

    @contextmanager
    def empty(self) -> Iterator[Databases]:
        """A pair with the schema, and no rows but those that the earlier migrations make."""
        with self.copy_of(self._template) as databases:
            yield databases

    @contextmanager
    def copy_of(self, original: Databases) -> Iterator[Databases]:
        """A pair with the same rows, to the last default. The original is disconnected."""
        original.disconnect()
        databases = self._make(original)
        try:
            yield databases
        finally:
            databases.disconnect()
            if databases.remote is not None and self._server is not None:
                self._server.drop(databases.remote)
            shutil.rmtree(databases.folder)

    def made_by(self, schemas: Mapping[SideName, str]) -> dict[SideName, Look]:
        """Looks at what these texts make of empty databases."""
        if not schemas:
            return {}
        databases = self._make(None)
        for side, text in schemas.items():
            _execute(databases, side, text)
        looks = databases.look()
        databases.disconnect()
        return {side: look for side, look in looks.items() if side in schemas}

    def _make(self, template: Databases | None) -> Databases:
        return make(self._folder / str(next(self._numbers)), self.subject.sides, self._server, template)

    def _reflect(self) -> dict[SideName, Shape]:
        shapes: dict[SideName, Shape] = {}
        if self._template.local is not None:
            with closing(open_local(self._template.local, readonly=True)) as reading:
                shapes["local"] = reflect_sqlite(reading)
        if self._template.remote is not None:
            session = self._template.session
            shapes["remote"] = reflect_postgres(session, all_schemas(session))
        return shapes


def _execute(databases: Databases, side: SideName, text: str) -> None:
    try:
        if side == "local" and databases.local is not None:
            with closing(sqlite3.connect(databases.local)) as connection:
                connection.executescript(text)
        elif side == "remote" and databases.remote is not None:
            plain = "\n".join(line for line in text.splitlines() if not line.startswith(PSQL_COMMAND))
            with closing(open_remote(databases.remote)) as remote:
                remote.execute(plain.encode())
    except (sqlite3.Error, psycopg.Error) as error:
        raise DefinitionError("T382", side=side, problem=error) from error
