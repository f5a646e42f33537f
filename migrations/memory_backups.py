"""The copies of a database in memory, behind the same small port as those of a file.

Read next: `target.py` (what is promised), `memory_target.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime

from ..events.types import Json
from ..stores.seam import Probe, no_probe
from .memory_target import Contents, MemoryDatabase, whole_of
from .target import Whole


class MemoryBackups:
    """The copies that a `MemoryDatabase` keeps. See `Backups` in `target.py`."""

    def __init__(self, database: MemoryDatabase, *, probe: Probe = no_probe) -> None:
        self._database = database
        self._probe = probe

    def make(self) -> Mapping[str, Json]:
        """Keep a copy of the contents."""
        name = uuid.uuid4().hex
        self._database.backups[name] = self._database.contents.copied()
        self._probe("backup:renamed")
        return _described(name, self._database.backups[name])

    def verify(self, backup: Mapping[str, Json]) -> None:
        """It is there, and its digest is the one that was noted."""
        self._database.kept(backup)

    def holds(self, backup: Mapping[str, Json]) -> Whole:
        """The ledger in the copy."""
        return whole_of(self._database.kept(backup))

    def delete(self, backup: Mapping[str, Json]) -> int:
        """Forget the copy."""
        found = self._database.backups.pop(str(backup["id"]), None)
        return 0 if found is None else len(repr(found))

    def found(self) -> tuple[Mapping[str, Json], ...]:
        """All that are kept."""
        return tuple(_described(name, kept) for name, kept in self._database.backups.items())

    def sweep(self, older_than: datetime | None) -> int:
        """Nothing is ever left unfinished in memory."""
        return 0


def _described(name: str, kept: Contents) -> dict[str, Json]:
    return {"id": name, "bytes": len(repr(kept)), "sha256": kept.digest(), "verified": True}
