"""The folder in which backups are made and proved: its space and rights, and the files that live there for a while only.

Their endings say what they are (`.copying`, `.trial`, `.image`); a killed process may leave some, and they are never taken
for a backup. This module must never import migrations or engine. Read next: `backups.py`.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from uuid_utils import uuid7

from ..events.errors import Blocked
from .copies import building, copy_to_file, looking_at, sync
from .local_connection import OnConnect, begin_immediate, commit
from .sqlite_errors import translate

# For the description, the folder's entries, and what the file system adds.
MARGIN_BYTES = 1 << 20
MEMORY = Path("/dev/shm")
UNFINISHED = (".copying", ".trial", ".image", ".image-journal")
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})


def free_bytes(folder: Path) -> int:
    """The space that this user may still fill in the folder's file system."""
    return shutil.disk_usage(folder).free


def folder_in_memory(room_bytes: int) -> Path | None:
    """Where files are quickest, for what need not outlive the machine (Linux's /dev/shm), if there is that much room.

    None where the environment says where temporary files go.
    """
    if any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")) or not os.access(MEMORY, os.W_OK):
        return None
    return MEMORY if free_bytes(MEMORY) >= room_bytes else None


class ScratchFolder:
    """A folder of our own (mode 0700, made when first needed); `free` tells the bytes that may still be written there."""

    def __init__(self, path: Path, free: Callable[[Path], int]) -> None:
        self.path = path
        self._free = free

    def make_room(self, needed: int) -> int:
        """Make the folder, and return the bytes asked for together with a margin; Blocked (T231) where they are not free."""
        needed += MARGIN_BYTES
        with self.errors(needed):
            if not self.path.is_dir():
                self.path.mkdir(mode=0o700, parents=True)
                sync(self.path.parent)
            self.path.chmod(0o700)
            if self._free(self.path) < needed:
                raise self._full(needed)
        return needed

    @contextmanager
    def errors(self, needed: int) -> Iterator[None]:
        """What goes wrong with files of this folder: no space (T231) or no rights (T239). Databases elsewhere are only read."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) in FULL:
                raise self._full(needed) from error
            raise
        except OSError as error:
            if error.errno in NO_SPACE:
                raise self._full(needed) from error
            raise Blocked("T239", folder=str(self.path), problem=str(error.strerror)) from error

    @contextmanager
    def trial(self, source: sqlite3.Connection, *, on_connect: OnConnect | None, wait_seconds: float) -> Iterator[Path]:
        """A file with what a connection sees, gone afterwards."""
        path = self.path / f"{uuid7()}.trial"
        try:
            copy_to_file(source, path, on_connect=on_connect, wait_seconds=wait_seconds)
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def image(
        self, backup: Path, prepare: Callable[[sqlite3.Connection], None], *, on_connect: OnConnect | None, wait_seconds: float
    ) -> Iterator[Path]:
        """A copy of a backup, prepared in one transaction, in rollback mode and closed; gone afterwards."""
        needed = self.make_room(2 * backup.stat().st_size)  # the image, and the reading back
        path = self.path / f"{uuid7()}.image"
        try:
            with driver_errors(str(path), "preparing what is to be restored"), self.errors(needed):
                with looking_at(backup, on_connect=on_connect) as copy:
                    copy_to_file(copy, path, on_connect=on_connect, wait_seconds=wait_seconds)
                # Out of WAL mode: its mark in page 1 would come into a live file that is not.
                with building(path, journal="DELETE", on_connect=on_connect) as scratch:
                    begin_immediate(scratch, wait_seconds)
                    prepare(scratch)
                    commit(scratch, wait_seconds)
            yield path
        finally:
            for leftover in (path, path.with_name(f"{path.name}-journal")):
                leftover.unlink(missing_ok=True)

    def leftovers(self) -> Iterator[Path]:
        """What killed processes left: unfinished files, and descriptions without a copy."""
        for path in self.path.glob("*"):
            if path.name.endswith(UNFINISHED) or (path.suffix == ".json" and not path.with_suffix(".db").exists()):
                yield path

    def _full(self, needed: int) -> Blocked:
        return Blocked("T231", folder=str(self.path), needed=needed, free=self._free(self.path))


@contextmanager
def driver_errors(path: str, doing: str) -> Iterator[None]:
    """Turn what SQLite raises inside into ours, as `sqlite_errors.translate` does."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path=path, doing=doing) from error
