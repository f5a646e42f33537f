"""The copies of one local SQLite database, as calls by hand and retention use them: `BackupFolder` behind the small port.

Must never import engine. Read next: `target.py` (what is promised), `stores/backups.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from ..events.errors import Blocked
from ..events.types import Json
from ..stores.backups import Backup, BackupFolder
from ..stores.copies import looking_at
from ..stores.local_connection import OnConnect
from ..stores.scratch import driver_errors
from ..stores.seam import Probe, no_probe
from . import sqlite_ledger as sql
from .target import Whole


class SQLiteBackups:
    """The copies of the database at `path`. See `Backups` in `target.py`."""

    def __init__(
        self, path: Path, folder: BackupFolder, *, on_connect: OnConnect | None = None, probe: Probe = no_probe
    ) -> None:
        self._path = path
        self._folder = folder
        self._on_connect = on_connect
        self._probe = probe

    def make(self) -> Mapping[str, Json]:
        """Copy and prove it; others may go on writing meanwhile."""
        made = self._folder.back_up(self._path, holder=None, on_connect=self._on_connect, probe=self._probe)
        return {**made.to_json(), "verified": True}

    def verify(self, backup: Mapping[str, Json]) -> None:
        """Size, hash and SQLite's own check."""
        self._folder.verify(self._of(backup), on_connect=self._on_connect)

    def holds(self, backup: Mapping[str, Json]) -> Whole:
        """Read the ledger in the copy."""
        found = self._of(backup)
        if not found.path.exists():
            raise Blocked("T232", backup=found.id, path=str(found.path))
        try:
            with driver_errors(str(found.path), "reading it"), looking_at(found.path, on_connect=self._on_connect) as copy:
                return sql.read_whole(copy)
        except sqlite3.Error as error:
            raise Blocked("T233", backup=found.id, path=str(found.path), problem=str(error)) from error

    def delete(self, backup: Mapping[str, Json]) -> int:
        """The copy and its description."""
        found = self._of(backup)
        was_there = found.path.exists()
        freed = self._folder.delete(found)
        return freed if was_there else 0

    def found(self) -> tuple[Mapping[str, Json], ...]:
        """What lies in the folder and was made of this file."""
        return tuple(
            {**backup.to_json(), "verified": True} for backup in self._folder.readable() if backup.source == str(self._path)
        )

    def sweep(self, older_than: datetime | None) -> int:
        """Unfinished copies, and descriptions without one."""
        return self._folder.sweep(older_than)

    def _of(self, backup: Mapping[str, Json]) -> Backup:
        return Backup.from_json(backup, folder=self._folder.folder)
