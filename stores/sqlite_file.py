"""The file of a log in SQLite: made safely, opened late, its errors turned into ours.

Nothing is made before the first write, and then the file belongs to its owner alone before anything is in it. One
connection is held, used by one thread at a time under a lock, and left behind in a forked child, which opens its own.
`close` lets go of it; the next use opens it again.

No code here opens the file except through SQLite: closing any descriptor of it would drop the locks that this process
holds on it. Read next: `sqlite_events.py`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR
from threading import RLock
from time import monotonic, sleep
from typing import Final, Literal, TypeAlias

from ..events.errors import Blocked, LogDamaged
from .envelope import new_id
from .sqlite_rows import make_rows_again, missing_read_tables, table_names
from .sqlite_schema import CLAIMS, LOG_TABLES, LOG_VERSION

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

# What SQLite says when the circumstances do not allow it; anything else that it says is about the content.
CIRCUMSTANCES: Final = {
    sqlite3.SQLITE_PERM: "its file may not be used by this user",
    sqlite3.SQLITE_BUSY: "another program holds its file",
    sqlite3.SQLITE_LOCKED: "another statement holds its file",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_READONLY: "its file, or the folder around it, is read-only",
    sqlite3.SQLITE_INTERRUPT: "it was interrupted",
    sqlite3.SQLITE_IOERR: "reading or writing its file failed",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_PROTOCOL: "another program holds its file",
    sqlite3.SQLITE_TOOBIG: "an event is larger than SQLite can keep",
}


class SQLiteLogFile:
    """One file, the connection held to it, and the log's id that it says (empty until a log is there)."""

    def __init__(
        self,
        path: Path,
        *,
        created_at: Callable[[], str],
        synchronous: Synchronous,
        readonly: bool,
        busy_timeout_seconds: float,
    ) -> None:
        self.path = path
        self.log_id = ""
        self._created_at = created_at
        self._synchronous = synchronous
        self._readonly = readonly
        self._busy_timeout_seconds = busy_timeout_seconds
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._ready_for_writing = False
        self._process = os.getpid()
        self._left_behind: list[sqlite3.Connection] = []

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """The connection, or None where there is no log yet: no file, or nothing in it."""
        self._leave_behind_after_fork()
        with self._lock, self._errors():
            connection = self._opened()
            yield connection if connection is not None and self._is_log(connection) else None

    @contextmanager
    def writing(self, before_commit: Callable[[], None] = lambda: None) -> Iterator[sqlite3.Connection]:
        """The connection inside BEGIN IMMEDIATE, committed at the end; whatever is raised inside rolls back."""
        self._leave_behind_after_fork()
        with self._lock, self._errors():
            connection = self._opened_for_writing()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                before_commit()
                connection.execute("COMMIT")
            except BaseException:
                # The first error is what the caller must see; SQLite may have rolled back by itself already.
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._leave_behind_after_fork()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._forget()

    def _opened(self) -> sqlite3.Connection | None:
        identity = self._identity_on_disk()
        if self._connection is None:
            return None if identity is None else self._connect()
        if identity != self._identity:
            # SQLite would go on, into a file that nobody finds again.
            raise self._blocked("its file was moved or replaced while it was open")
        return self._connection

    def _opened_for_writing(self) -> sqlite3.Connection:
        if self._readonly:
            raise self._blocked("it was opened for reading only")
        connection = self._opened()
        if connection is None:
            try:
                _make_folder(self.path.parent)
            except OSError as error:
                raise self._blocked(f"its folder cannot be made ({error.strerror})") from error
            connection = self._connect()
        if not self._ready_for_writing:
            self._make_ready(connection)
            self._ready_for_writing = True
        return connection

    def _connect(self) -> sqlite3.Connection:
        is_new = self._identity_on_disk() is None
        mode = "ro" if self._readonly else "rwc" if is_new else "rw"
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=self._busy_timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        if is_new:
            # A file system without rights refuses this, and has none to give.
            with suppress(OSError):
                self.path.chmod(0o600)
        self._connection, self._identity = connection, self._identity_on_disk()
        if not self._readonly:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        return connection

    def _is_log(self, connection: sqlite3.Connection) -> bool:
        """Whether a log is in the file, and then its id is known. Refuses what is not ours, or newer than this program."""
        if self.log_id:
            return True
        tables = table_names(connection)
        if not tables:
            return False
        if "twinstep_log" not in tables:
            raise LogDamaged("T507", path=self.path, problem="it has other tables than a log")
        found = connection.execute("SELECT log_id, schema_version FROM twinstep_log").fetchone()
        if found is None:
            raise LogDamaged("T507", path=self.path, problem="it has lost its id")
        if found[1] != LOG_VERSION:
            raise LogDamaged("T508", path=self.path, schema=found[1], known=LOG_VERSION)
        self.log_id = found[0]
        return True

    def _make_ready(self, connection: sqlite3.Connection) -> None:
        is_log = self._is_log(connection)
        self._use_write_ahead_log(connection)
        if is_log and not missing_read_tables(connection) and "twinstep_claims" in table_names(connection):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Asked again: another process may have been first.
            if not self._is_log(connection):
                for statement in LOG_TABLES:
                    connection.execute(statement)
                connection.execute("INSERT INTO twinstep_log VALUES (?, ?, ?)", (new_id(), LOG_VERSION, self._created_at()))
            connection.execute(CLAIMS)
            if missing_read_tables(connection):
                make_rows_again(connection)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        self._is_log(connection)

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        deadline = monotonic() + self._busy_timeout_seconds
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself when two processes change the mode of a new file at once.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                    raise
                sleep(0.01)

    def _identity_on_disk(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._blocked(f"its file cannot be looked at ({error.strerror})") from error
        if S_ISDIR(found.st_mode):
            raise self._blocked("it is a folder")
        return found.st_dev, found.st_ino

    def _leave_behind_after_fork(self) -> None:
        if os.getpid() == self._process:
            return
        self._process = os.getpid()
        # Neither used nor closed here: the connection, and whoever held the lock, belong to the parent.
        self._lock = RLock()
        if self._connection is not None:
            self._left_behind.append(self._connection)
        self._forget()

    def _forget(self) -> None:
        self._connection, self._identity, self._ready_for_writing, self.log_id = None, None, False, ""

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise  # A wrong use of the driver is our bug, and no news about the file.
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is None:
                raise LogDamaged("T507", path=self.path, problem="a text in it is not UTF-8") from error
            if code & 0xFF in CIRCUMSTANCES:
                raise self._blocked(CIRCUMSTANCES[code & 0xFF]) from error
            raise LogDamaged("T507", path=self.path, problem=f"SQLite says: {error}") from error

    def _blocked(self, problem: str) -> Blocked:
        return Blocked("T506", path=self.path, problem=problem)


def _make_folder(folder: Path) -> None:
    """Make the folder and those above it, for their owner alone, so that a power loss does not take them away again."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
