"""The reference migration end to end on databases of its own: built, migrated, and looked at afterwards.

Everything is read back: the counts come from the catalogues of SQLite and PostgreSQL, not from the migration's report; the
backup's hash from its file; the log from its own check. Nothing is left behind unless it is to be kept: the files lie in the
folder of the embedded PostgreSQL, which is removed however this process ends.

Prints nothing: `cli/demonstration.py` does. Read next: `embedded.py`, `../migrations/phase3/`.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import frozen

from ..events.errors import ConfigurationError
from ..migrations import phase3
from ..stores.log_check import LogReport, check_log
from ..stores.sqlite_events import SQLiteEventStore
from .coordinator import Coordinator
from .embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from ..events.types import Recorded
    from .report import Report

USERS: Final = 20
LOCAL_NAME: Final = "notes.db"
MIGRATIONS_NAME: Final = "migrations"
SETTINGS: Final = f"""# Made by 'twinstep demo --keep'. The PostgreSQL of the demo was a temporary one, and is gone.
local = "{LOCAL_NAME}"
migrations = "{MIGRATIONS_NAME}"
remote-role = "skip"
"""

Told: TypeAlias = "Callable[[str | LocalLook | RemoteLook, float], None]"


@frozen(kw_only=True)
class LocalLook:
    """What the SQLite file's own catalogue says. Twinstep's tables, and those behind the full-text search, are left out."""

    user_version: int
    rows: Mapping[str, int]
    columns: Mapping[str, tuple[tuple[object, ...], ...]]
    roots: Mapping[str, int]
    foreign_keys: int
    broken_keys: int
    indexes: int
    triggers: Mapping[str, str]
    integrity: str
    bytes: int


@frozen(kw_only=True)
class RemoteLook:
    """What PostgreSQL's catalogue says of the schema public; `invalid` counts indexes that are not valid."""

    users: int
    rows: Mapping[str, int]
    indexes: int
    invalid: int


@frozen(kw_only=True)
class Look:
    """Both sides at one instant."""

    local: LocalLook
    remote: RemoteLook

    def rebuilt_since(self, before: Look) -> tuple[str, ...]:
        """The local tables that lie elsewhere in the file now: made anew, and filled."""
        return tuple(name for name, root in self.local.roots.items() if root != before.local.roots.get(name, root))


@frozen(kw_only=True)
class BackupFile:
    """A backup's file as it lies there, read once more."""

    path: Path
    bytes: int
    sha256: str


@frozen(kw_only=True)
class Found:
    """What the demo found: the migration's own report, and what everything else says about it."""

    before: Look
    after: Look
    report: Report
    backups: tuple[BackupFile, ...]
    log: LogReport
    server_version: str
    state: Path
    seconds: float


def _silent(record: Recorded) -> None:
    """Nobody listens."""


@frozen(kw_only=True)
class Stage:
    """The two databases of the demo, built and running."""

    folder: Path
    remote: str
    server_version: str

    @property
    def local(self) -> Path:
        """The SQLite file."""
        return self.folder / LOCAL_NAME

    @property
    def state(self) -> Path:
        """The folder of the log and the backups."""
        return self.folder / f"{LOCAL_NAME}.twinstep"

    def coordinator(self, on_event: Callable[[Recorded], None] = _silent) -> Coordinator:
        """The coordinator that an application would use."""
        return Coordinator(local=self.local, remote=self.remote, migrations=self.folder / MIGRATIONS_NAME, on_event=on_event)

    def look(self) -> Look:
        """Read both catalogues."""
        return Look(local=_look_local(self.local), remote=_look_remote(self.remote))

    def migrate(self, on_event: Callable[[Recorded], None], *, began: float) -> Found:
        """Look, migrate, look again, and read the backup and the log; `began` is the instant that all of it counts from."""
        before = self.look()
        report = self.coordinator(on_event).migrate()
        backups = {backup["id"]: self._backup(str(backup["name"])) for run in report.runs if (backup := run.backup) is not None}
        after, log = self.look(), self._check_log()
        return Found(
            before=before,
            after=after,
            report=report,
            backups=tuple(backups.values()),
            log=log,
            server_version=self.server_version,
            state=self.state,
            seconds=time.perf_counter() - began,
        )

    def _check_log(self) -> LogReport:
        with closing(SQLiteEventStore(self.state / "log.db", readonly=True)) as store:
            return check_log(store)

    def _backup(self, name: str) -> BackupFile:
        path = self.state / "backups" / name
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return BackupFile(path=path, bytes=path.stat().st_size, sha256=digest)


@contextmanager
def staged(*, notes: int, told: Told, keep: Path | None = None) -> Iterator[Stage]:
    """Start a PostgreSQL, build both databases with about so many notes each, and take everything away after the block.

    `keep` is a folder in which the local file, its log and the migrations stay if the block ends well; it must be empty or
    missing. `told` is called with the server's version once it runs, then with a look at each database, and the seconds
    that each took. Raises ConfigurationError: T131 to T133
    without a PostgreSQL, T156 for a folder that cannot be used.
    """
    if keep is not None:
        _check_keep(keep)
    began = time.perf_counter()
    with EmbeddedPostgres.started() as server:
        told(server.version, time.perf_counter() - began)
        with _folder(keep, server.folder / "demo") as folder:
            stage = Stage(folder=folder, remote=server.create_database("notes"), server_version=server.version)
            _build(stage, notes, told)
            yield stage


def _build(stage: Stage, notes: int, told: Told) -> None:
    shutil.copytree(phase3.FOLDER, stage.folder / MIGRATIONS_NAME, ignore=shutil.ignore_patterns("__pycache__"))
    (stage.folder / "twinstep.toml").write_text(SETTINGS, encoding="utf-8")
    began = time.perf_counter()
    phase3.build_remote(stage.remote, users=USERS, notes_per_user=-(-notes // USERS))
    remote = _look_remote(stage.remote)
    told(remote, time.perf_counter() - began)
    began = time.perf_counter()
    phase3.build_local(stage.local, notes=notes)
    told(_look_local(stage.local), time.perf_counter() - began)


def _check_keep(folder: Path) -> None:
    try:
        if folder.exists() and any(folder.iterdir()):
            raise ConfigurationError("T156", path=folder, problem="it is not empty")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError("T156", path=folder, problem=error.strerror or error) from error


@contextmanager
def _folder(keep: Path | None, temporary: Path) -> Iterator[Path]:
    """Where the files go: for good into `keep`, unless the block fails; else where the server's keeper removes them."""
    if keep is None:
        temporary.mkdir()
        yield temporary
        return
    try:
        yield keep.resolve()
    except BaseException:
        shutil.rmtree(keep)
        raise


def _look_local(path: Path) -> LocalLook:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        run = connection.execute
        tables = [name for (name,) in run(_LOCAL_TABLES)]
        roots = dict(run("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table' AND rootpage > 0").fetchall())
        return LocalLook(
            user_version=run("PRAGMA user_version").fetchone()[0],
            rows={name: run(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables},
            columns={name: tuple(run("SELECT * FROM pragma_table_info(?)", (name,))) for name in tables},
            roots={name: roots[name] for name in tables if name in roots},
            foreign_keys=sum(_foreign_keys(connection, name) for name in tables),
            broken_keys=len(run("PRAGMA foreign_key_check").fetchall()),
            indexes=run(_LOCAL_INDEXES).fetchone()[0],
            triggers=dict(run("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()),
            integrity=run("PRAGMA integrity_check").fetchone()[0],
            bytes=path.stat().st_size,
        )


def _foreign_keys(connection: sqlite3.Connection, table: str) -> int:
    row = connection.execute("SELECT count(DISTINCT id) FROM pragma_foreign_key_list(?)", (table,)).fetchone()
    return int(row[0])


_LOCAL_TABLES: Final = r"""
SELECT name FROM sqlite_schema AS t
WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE 'twinstep\_%' ESCAPE '\'
AND NOT EXISTS (
    SELECT 1 FROM sqlite_schema AS v
    WHERE v.sql LIKE 'CREATE VIRTUAL TABLE%' AND substr(t.name, 1, length(v.name) + 1) = v.name || '_')
ORDER BY name"""

_LOCAL_INDEXES: Final = r"""
SELECT count(*) FROM sqlite_schema
WHERE type = 'index' AND sql IS NOT NULL AND tbl_name NOT LIKE 'twinstep\_%' ESCAPE '\'"""


def _look_remote(url: str) -> RemoteLook:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute(_REMOTE_TABLES).fetchall()
        rows: dict[str, int] = {}
        for name, quoted in tables:
            counted = connection.execute(f"SELECT count(*) FROM {quoted}".encode()).fetchone()
            assert counted is not None
            rows[name] = counted[0]
        indexes = connection.execute(_REMOTE_INDEXES).fetchone()
        assert indexes is not None
        users = connection.execute("SELECT count(DISTINCT user_id) FROM notes").fetchone()
        assert users is not None
        return RemoteLook(users=users[0], rows=rows, indexes=indexes[0], invalid=indexes[1])


_REMOTE_TABLES: Final = """
SELECT relname, format('public.%I', relname) FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"""

_REMOTE_INDEXES: Final = """
SELECT count(*), count(*) FILTER (WHERE NOT i.indisvalid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace"""
