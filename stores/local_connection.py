"""Connections to the local database: opened, begun and committed the one way in which nothing is lost.

Transactions are explicit (`isolation_level=None`), take the writer lock at their start, and are durable when COMMIT returns
(`synchronous=EXTRA`: with a rollback journal, FULL does not sync the folder). The file is never opened except through SQLite:
closing any other descriptor of it would drop this process's locks, and a rival's acknowledged commit with them.

This module must never import migrations or engine. Read next: `local_guard.py` (what functions of a migration are given),
`sqlite_errors.py` (what error codes mean).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from ..events.errors import Blocked, ConfigurationError, Defect, TwinstepError
from .encryption import looks_encrypted
from .local_guard import LocalConnection, guarded
from .sqlite_errors import is_busy, primary_code, problem_of, translate, translate_commit

__all__ = [
    "LocalConnection",
    "OnConnect",
    "begin_exclusive",
    "begin_immediate",
    "check_writable",
    "commit",
    "guarded",
    "open_local",
    "open_to_read",
    "path_of",
    "restore_foreign_keys",
    "roll_back",
    "set_foreign_keys_off",
    "translate",
]

OnConnect: TypeAlias = "Callable[[sqlite3.Connection], None]"

# STRICT tables, RETURNING, and the exact behaviour of ALTER TABLE that the rebuild of tables was tested with.
OLDEST_SQLITE = (3, 40, 0)

FIRST_PAUSE_SECONDS = 0.001
# Short, because a program that commits in a loop leaves the lock free for some microseconds at a time: with 50 ms between two
# looks, 30 seconds were not enough to meet one of them.
LONGEST_PAUSE_SECONDS = 0.005


def open_local(
    path: str | os.PathLike[str],
    *,
    readonly: bool = False,
    on_connect: OnConnect | None = None,
    busy_seconds: float = 5.0,
) -> LocalConnection:
    """Open an existing SQLite file; nothing is ever created. `on_connect` runs first (keys, functions, collations).

    Raises ConfigurationError for what is no database file, or an encrypted one without its key (T210 to T212, T267), Blocked
    for missing rights (T213), a lock held for longer than `busy_seconds` (T214), a damaged file (T216), or an SQLite that is
    too old (T266). Read-only connections leave the file as it is, also in WAL
    mode, where a writing one changes it when it closes.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise Blocked("T266", version=_dotted(sqlite3.sqlite_version_info), oldest=_dotted(OLDEST_SQLITE[:2]))
    place = _checked(path, readonly=readonly)
    connection: LocalConnection | None = None
    try:
        # No statement cache: a guard sees statements when they are prepared, so each one must be.
        connection = sqlite3.connect(
            f"{place.as_uri()}?mode={'ro' if readonly else 'rw'}",
            uri=True,
            isolation_level=None,
            timeout=busy_seconds,
            cached_statements=0,
            factory=LocalConnection,
        )
        connection.readonly = readonly
        _make_ready(connection, readonly=readonly, on_connect=on_connect)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _not_opened(error, place) from error
        raise
    return connection


def open_to_read(path: str | os.PathLike[str], *, on_connect: OnConnect | None = None) -> LocalConnection:
    """A read-only connection, also to a file whose last writer was killed half-way.

    What such a writer left is a journal that a reader must not touch; it is rolled back here first, as the next opener of
    the file would do. Raises what `open_local` raises.
    """
    try:
        return open_local(path, readonly=True, on_connect=on_connect)
    except Blocked as error:
        if getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
    open_local(path, on_connect=on_connect).close()
    return open_local(path, readonly=True, on_connect=on_connect)


def check_writable(path: str | os.PathLike[str]) -> None:
    """See that `open_local` would be allowed to write there, without opening it. Raises what it raises for rights (T213)."""
    _checked(path, readonly=False)


def begin_immediate(connection: sqlite3.Connection, wait_seconds: float) -> None:
    """Open a transaction that holds the writer lock, or raise Blocked (T214) when it is not free within the limit.

    Raises Defect (T230) for a read-only connection: SQLite would begin a reader's transaction, and not say so.
    """
    if isinstance(connection, LocalConnection) and connection.readonly:
        raise Defect("T230", problem="the writer lock was asked for on a read-only connection")
    with _translated(connection, "taking the writer lock"):
        _until_free(connection, "BEGIN IMMEDIATE", wait_seconds)


def begin_exclusive(connection: sqlite3.Connection, wait_seconds: float) -> None:
    """The same, and with a rollback journal without readers either."""
    with _translated(connection, "taking it for itself"):
        _until_free(connection, "BEGIN EXCLUSIVE", wait_seconds)


def commit(connection: sqlite3.Connection, wait_seconds: float) -> None:
    """Commit durably. While a reader keeps COMMIT from happening, the transaction stays open and it is tried again.

    When it fails, the transaction is rolled back: Blocked (T214 busy for longer than the limit, T215 full), Refused (T217, a
    deferred constraint, say). After an I/O error it may have been committed all the same: InDoubt (T218).
    """
    try:
        _until_free(connection, "COMMIT", wait_seconds)
    except sqlite3.Error as error:
        path = path_of(connection)
        roll_back(connection)
        raise translate_commit(error, path=path, doing="committing") from error


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction without a trace, if one is open. Never raises: the error that led here is worth more.

    Should ROLLBACK itself fail, closing the connection rolls back, and so does the next opener after a crash.
    """
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def set_foreign_keys_off(connection: sqlite3.Connection) -> bool:
    """Switch enforcement off before BEGIN, and say whether it was on. Raises Defect (T230) where it did not take.

    With enforcement on, DROP TABLE deletes the children; inside a transaction the pragma is silently ignored.
    """
    was_on = _foreign_keys(connection)
    connection.execute("PRAGMA foreign_keys = OFF")
    if _foreign_keys(connection):
        raise Defect("T230", problem="foreign keys cannot be switched off inside a transaction")
    return was_on


def restore_foreign_keys(connection: sqlite3.Connection, was_on: bool) -> None:
    """Set enforcement back to what `set_foreign_keys_off` found, after the transaction. Raises Defect (T230) otherwise."""
    connection.execute(f"PRAGMA foreign_keys = {'ON' if was_on else 'OFF'}")
    if _foreign_keys(connection) != was_on:
        raise Defect("T230", problem="foreign keys cannot be switched back inside a transaction")


def path_of(connection: sqlite3.Connection) -> str:
    """The file that a connection is open on, for messages; links are resolved."""
    with suppress(sqlite3.Error):
        for _, name, file in connection.execute("PRAGMA database_list"):
            if name == "main":
                return str(file)
    return "the local database"


def _checked(path: str | os.PathLike[str], *, readonly: bool) -> Path:
    if os.fspath(path) in ("", ":memory:"):
        raise ConfigurationError("T210", path=os.fspath(path), problem="a database in memory is gone when it is closed")
    place = Path(path).absolute()
    try:
        mode = place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigurationError("T211", path=str(place)) from error
    except OSError as error:
        raise Blocked("T213", path=str(place), doing="looking at it", problem=str(error.strerror)) from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a device or pipe"
        raise ConfigurationError("T210", path=str(place), problem=f"it is {what}")
    _check_rights(place, readonly=readonly)
    return place


def _check_rights(place: Path, *, readonly: bool) -> None:
    """SQLite itself opens a file that may not be written to as read-only, and says nothing before the first write."""
    missing = None
    if not os.access(place, os.R_OK):
        missing = "the file may not be read"
    elif not readonly and not os.access(place, os.W_OK):
        missing = "the file may not be written to"
    elif not readonly and not os.access(place.resolve().parent, os.W_OK | os.X_OK):
        missing = "its folder may not be written to, and the journal must be kept there"
    if missing is not None:
        raise Blocked("T213", path=str(place), doing="opening it", problem=missing)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _not_opened(error: sqlite3.Error, place: Path) -> TwinstepError:
    if primary_code(error) == sqlite3.SQLITE_NOTADB and looks_encrypted(place):
        return ConfigurationError("T267", path=str(place), problem=problem_of(error))
    return translate(error, path=str(place), doing="opening it")


def _make_ready(connection: sqlite3.Connection, *, readonly: bool, on_connect: OnConnect | None) -> None:
    if on_connect is not None:
        on_connect(connection)
    if not readonly:
        connection.execute("PRAGMA synchronous = EXTRA")
    # The first look at the file: SQLite opens anything, and finds out here whether it can read it.
    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()


def _until_free(connection: sqlite3.Connection, statement: str, wait_seconds: float) -> None:
    """Run BEGIN or COMMIT, again and again while it is busy. Our own loop: SQLite's does not wait in every case of BUSY."""
    deadline = time.monotonic() + wait_seconds
    pause = FIRST_PAUSE_SECONDS
    with _no_other_waiting(connection):
        while True:
            try:
                connection.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


@contextmanager
def _no_other_waiting(connection: sqlite3.Connection) -> Iterator[None]:
    (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(before)}")


@contextmanager
def _translated(connection: sqlite3.Connection, doing: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path=path_of(connection), doing=doing) from error


def _foreign_keys(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA foreign_keys").fetchone()[0])
