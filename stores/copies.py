"""Copies of SQLite databases, page by page through SQLite's backup API, and how two of them are compared.

A file made here is ours alone, so it may be read and hashed as a file once its connections are closed; a live database never
is. A copy is one file: no journal and no -wal belongs to it, and whatever lies beside it under such a name is not looked at
(`immutable=1`). This module must never import migrations or engine. Read next: `backups.py`, `restoring.py`.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from ..events.errors import Blocked
from .local_connection import OnConnect, path_of, roll_back
from .local_guard import STEPS_BETWEEN_SIGNALS, let_signals_in
from .soundness import Check, unsound
from .sqlite_errors import BUSY, is_busy, primary_code

Progress: TypeAlias = "Callable[[int, int], None]"

CHUNK_BYTES = 1 << 20
# Some milliseconds: between two steps Python sees whether a signal has come.
PAGES_A_STEP = 1024
PAUSE_SECONDS = 0.002
MAGIC = b"SQLite format 3\0"

# The parts of the first 100 bytes that say who wrote last and how, not what is kept: journal mode (18, 19), change counter
# (24 to 27), schema cookie (40 to 43), and to which counter and library version the page count belongs (92 to 99). The backup
# API sets them anew. https://www.sqlite.org/fileformat2.html#the_database_header
BOOKKEEPING = ((18, 20), (24, 28), (40, 44), (92, 100))


def copy_pages(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    *,
    wait_seconds: float,
    pages: int = PAGES_A_STEP,
    progress: Progress | None = None,
) -> None:
    """Copy the whole database, `pages` at a time; `progress` gets what remains and the total, in pages, while locks are held.

    It is one state of the source whoever writes. Without a limit the driver would wait for ever for a lock: Blocked (T237)
    after `wait_seconds`. What `progress` raises ends the copy, and the target is as it was; so does a Ctrl-C.
    """
    deadline = time.monotonic() + wait_seconds

    def each(status: int, remaining: int, total: int) -> None:
        if status & 0xFF in BUSY:
            if time.monotonic() >= deadline:
                raise Blocked("T237", path=path_of(source), seconds=wait_seconds, doing="copying to or from it")
        elif progress is not None:
            progress(remaining, total)

    with _one_state(source, deadline, wait_seconds):
        source.backup(target, pages=pages, progress=each, sleep=PAUSE_SECONDS)


@contextmanager
def _one_state(source: sqlite3.Connection, deadline: float, wait_seconds: float) -> Iterator[None]:
    """A reader's transaction: between two steps of a copy nobody's commit comes in, and the copy does not begin anew."""
    if source.in_transaction:
        yield
        return
    while True:
        try:
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            break
        except sqlite3.OperationalError as error:
            roll_back(source)
            if not is_busy(error):
                raise
            if time.monotonic() >= deadline:
                raise Blocked("T237", path=path_of(source), seconds=wait_seconds, doing="copying it") from error
            time.sleep(PAUSE_SECONDS)
    try:
        yield
    finally:
        roll_back(source)


def copy_to_file(
    source: sqlite3.Connection,
    path: Path,
    *,
    on_connect: OnConnect | None,
    wait_seconds: float,
    progress: Progress | None = None,
) -> None:
    """Make a new file (mode 0600, not yet durable) that holds what `source` sees. The path must be free."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with building(path, journal="OFF", on_connect=on_connect) as target:
        copy_pages(source, target, wait_seconds=wait_seconds, progress=progress)


@contextmanager
def building(path: Path, *, journal: Literal["OFF", "DELETE"], on_connect: OnConnect | None) -> Iterator[sqlite3.Connection]:
    """A connection to a file of ours that nobody else uses and that may be lost: nothing is synced."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as connection:
        if on_connect is not None:
            on_connect(connection)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA journal_mode = {journal}")
        yield connection


@contextmanager
def looking_at(path: Path, *, on_connect: OnConnect | None) -> Iterator[sqlite3.Connection]:
    """A connection to a finished copy that reads this one file only, without locks, and cannot change it."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)) as connection:
        if on_connect is not None:
            on_connect(connection)
        connection.set_progress_handler(let_signals_in, STEPS_BETWEEN_SIGNALS)
        yield connection


def problems_of(path: Path, *, check: Check, on_connect: OnConnect | None) -> list[str]:
    """What SQLite's check finds wrong in a copy; empty when it is sound. CHECK constraints are the application's affair."""
    try:
        with looking_at(path, on_connect=on_connect) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            return unsound(connection, check)
    except sqlite3.DatabaseError as error:
        if primary_code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        return [str(error)]


def same_content(first: Path, second: Path, *, on_connect: OnConnect | None) -> bool:
    """Whether two copies hold the same pages, apart from the header's bookkeeping."""
    if _is_plain(first) and _is_plain(second):
        return _same_bytes(first, second)
    # Encrypted pages differ each time they are written: compare what the key makes of them, at the price of memory.
    with looking_at(first, on_connect=on_connect) as one, looking_at(second, on_connect=on_connect) as other:
        return _content(one.serialize()) == _content(other.serialize())


def sha256_of(path: Path) -> str:
    """The hash of a copy's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Make a copy, or a folder's list of names, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_plain(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _same_bytes(first: Path, second: Path) -> bool:
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as one, second.open("rb") as other:
        if _content(one.read(CHUNK_BYTES)) != _content(other.read(CHUNK_BYTES)):
            return False
        while chunk := one.read(CHUNK_BYTES):
            if chunk != other.read(CHUNK_BYTES):
                return False
    return True


def _content(image: bytes) -> bytes:
    """An image, or its beginning, with the bookkeeping blanked."""
    blanked = bytearray(image)
    for start, end in BOOKKEEPING:
        blanked[start:end] = bytes(end - start)
    return bytes(blanked)
