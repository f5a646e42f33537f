"""The local side rehearsed on a copy of the real file, made by SQLite's backup API from a read-only connection.

The copy is one committed state, whoever writes meanwhile; it keeps the journal mode, and `on_connect` runs on it as on the
real file, so that an encrypted one is copied encrypted. The real `SQLiteTarget` works on it. Beside what every rehearsal
tells, what the real run would need on the disk is measured: the backup and its trial, what the file grows by, and the journal
(or -wal) at its largest.

The real file is never opened for writing, and never except through SQLite. Read next: `on_a_copy.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from ...events.errors import Blocked, Refused
from ...events.types import Json
from ...stores.backups import Backup, BackupFolder
from ...stores.copies import copy_to_file
from ...stores.local_connection import OnConnect, open_local
from ...stores.rehearsal_folder import rehearsal_folder
from ...stores.scratch import MARGIN_BYTES, ScratchFolder, driver_errors, free_bytes
from ...stores.seam import Probe, no_probe
from ..catalogue import Catalogue, Fingerprint
from ..definition import SideName
from ..sqlite_catalogue import read_catalogue
from ..sqlite_target import SQLiteTarget
from .on_a_copy import rehearse_on
from .rehearsing import DiskNeed, Part, PartRehearsal, SideRehearsal

COPY_NAME = "local.db"
COPIED = "rehearsal:copied"
BESIDE = ("-journal", "-wal")


class SQLiteRehearser:
    """Rehearses the local side; the copy lies under `state_folder` for as long as it takes."""

    side: SideName = "local"

    def __init__(
        self,
        path: Path,
        *,
        state_folder: Path,
        on_connect: OnConnect | None = None,
        wait_seconds: float = 5.0,
        free: Callable[[Path], int] = free_bytes,
        probe: Probe = no_probe,
    ) -> None:
        self._path = path
        self._state_folder = state_folder
        self._on_connect = on_connect
        self._wait_seconds = wait_seconds
        self._free = free
        self._probe = probe

    def rehearse(self, parts: Sequence[Part]) -> SideRehearsal:
        """See `rehearsing.py`. Raises Blocked: T231 no space for a copy, T261 no folder for it, and what opening raises."""
        with rehearsal_folder(self._state_folder) as folder:
            file = folder / COPY_NAME
            free_before = self._free(folder)
            self._copy(file)
            self._probe(COPIED)
            copy = _Copy(
                file,
                free_before,
                real_backups=self._state_folder / "backups",
                on_connect=self._on_connect,
                free=self._free,
                probe=self._probe,
            )
            try:
                told, held = rehearse_on(copy, self.side, parts)
            finally:
                copy.target.close()
            disk = self._needs(copy, free_before)
        _look_for_space(disk, told)
        return SideRehearsal(side=self.side, parts=told, held_seconds=held, disk=disk)

    def _copy(self, file: Path) -> None:
        scratch = ScratchFolder(file.parent, self._free)
        source = open_local(self._path, readonly=True, on_connect=self._on_connect)
        with closing(source), driver_errors(str(self._path), "copying it for a rehearsal"):
            (pages,), (size,) = source.execute("PRAGMA page_count").fetchone(), source.execute("PRAGMA page_size").fetchone()
            needed = scratch.make_room(int(pages) * int(size))
            with scratch.errors(needed):
                copy_to_file(source, file, on_connect=self._on_connect, wait_seconds=self._wait_seconds)

    def _needs(self, copy: _Copy, free_before: int) -> tuple[DiskNeed, ...]:
        """By folder; both purposes in one where the folders lie in one file system."""
        if not copy.measured:
            return ()
        backups, file = copy.backup_bytes, copy.file_bytes
        state, home = self._state_folder.absolute(), self._path.parent
        if _device(state) == _device(home):
            purpose = "the backup with its trial, and the file's growth with its journal"
            return (DiskNeed(folder=str(home), purpose=purpose, needed=max(backups, copy.kept_bytes + file), free=free_before),)
        return (
            DiskNeed(folder=str(state), purpose="the backup with its trial", needed=backups, free=free_before),
            DiskNeed(folder=str(home), purpose="the file's growth with its journal", needed=file, free=self._free(home)),
        )


class _Copy:
    """See `on_a_copy.py`. What it measures is by looking at file sizes, never by opening a file."""

    def __init__(
        self,
        file: Path,
        free_before: int,
        *,
        real_backups: Path,
        on_connect: OnConnect | None,
        free: Callable[[Path], int],
        probe: Probe,
    ) -> None:
        self._file = file
        self._on_connect = on_connect
        self._free_before = free_before
        self._real_backups = real_backups
        self._probe = probe
        self._backups = BackupFolder(file.parent / "backups", free=free)
        self.target = SQLiteTarget(file, backups=self._backups, on_connect=on_connect, probe=self._crossing)
        self._start = self._size_before = _size(file)
        self._journal = 0
        self.measured = False
        self.kept_bytes = 0
        self.backup_bytes = 0
        self.file_bytes = 0

    def catalogue(self) -> Catalogue:
        with closing(open_local(self._file, readonly=True, on_connect=self._on_connect)) as connection:
            return read_catalogue(connection)

    def with_rows(self, look: Fingerprint) -> Fingerprint:
        return look

    def back_up(self, part: Part, told: PartRehearsal) -> Mapping[str, Json] | None:
        """Make and prove the backup as the real run does."""
        size = _size(self._file)
        # Each migration keeps a backup of its own; while one is made, its trial lies beside it.
        self.backup_bytes = self.kept_bytes + 2 * size + MARGIN_BYTES
        self.kept_bytes += size
        self.measured = True
        try:
            return self.target.back_up(part.order)
        except Blocked as error:
            if error.code != "T231":
                raise
            if self._free_before < self.backup_bytes:
                folder = str(self._real_backups)
                raise Blocked("T231", folder=folder, needed=self.backup_bytes, free=self._free_before) from error
            told.omit("the backup", "there is room for the real one, but not for one beside the copy that the rehearsal uses")
            return None

    def forget(self, backup: Mapping[str, Json] | None) -> None:
        if backup is not None:
            self._backups.delete(Backup.from_json(backup, folder=self._backups.folder))

    def changing(self) -> None:
        self._journal = 0
        self._size_before = _size(self._file)

    def changed(self) -> None:
        grown = max(0, _size(self._file) - self._start)
        self.file_bytes = max(self.file_bytes, grown + self._journal)

    def _crossing(self, crossing: str) -> None:
        self._journal = max(self._journal, *(_size(self._file.with_name(self._file.name + end)) for end in BESIDE))
        self._probe(crossing)


def _look_for_space(disk: Sequence[DiskNeed], told: Sequence[PartRehearsal]) -> None:
    """Too little space is a fault of the first migration: nothing of it would be begun, or all of it be taken back."""
    for need in disk:
        if need.free < need.needed and not any(part.faults for part in told):
            error = Refused("T352", folder=need.folder, needed=need.needed, free=need.free, purpose=need.purpose)
            told[0].fail("BACK_UP", error)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _device(path: Path) -> int:
    """The file system in which the folder lies, or would lie once it is made."""
    while not path.exists():
        path = path.parent
    return path.stat().st_dev
