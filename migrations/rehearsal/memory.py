"""The database in memory, rehearsed on a deep copy of its contents: complete, and what the real rehearsals are compared with.

Read next: `on_a_copy.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from attrs import evolve

from ...events.errors import Locked, Unreachable
from ...events.types import Json
from ...stores.seam import Probe, no_probe
from ..catalogue import Catalogue, Fingerprint
from ..definition import SideName
from ..memory_target import MemoryDatabase, MemoryTarget
from .on_a_copy import rehearse_on
from .rehearsing import Part, PartRehearsal, SideRehearsal

POLL_SECONDS = 0.05


class MemoryRehearser:
    """Rehearses one side of a pair in memory."""

    def __init__(self, side: SideName, database: MemoryDatabase, *, wait_seconds: float = 0.0, probe: Probe = no_probe) -> None:
        self._side: SideName = side
        self._database = database
        self._wait_seconds = wait_seconds
        self._probe = probe

    def rehearse(self, parts: Sequence[Part]) -> SideRehearsal:
        """See `rehearsing.py`. Raises Unreachable (T221) and Locked (T401) as the target does."""
        if not self._database.reachable:
            raise Unreachable("T221", url=f"the {self._side} database in memory", problem="it is switched off")
        if self._side == "remote":  # locally, a copy can be made beside whoever writes
            self._wait_for_others()
        database = evolve(self._database, contents=self._database.contents.copied(), locked_by=None, backups={})
        target = MemoryTarget(self._side, database, probe=self._probe)
        try:
            told, held = rehearse_on(_Copy(target, database), self._side, parts)
        finally:
            target.close()
        return SideRehearsal(side=self._side, parts=told, held_seconds=held)

    def _wait_for_others(self) -> None:
        """Somebody at work is waited for as long as was asked, and never kept from working."""
        deadline = time.monotonic() + self._wait_seconds
        while (holder := self._database.locked_by) is not None:
            if time.monotonic() >= deadline:
                raise Locked("T401", side=self._side, holder=f"token {holder}")
            time.sleep(POLL_SECONDS)


class _Copy:
    """See `on_a_copy.py`."""

    def __init__(self, target: MemoryTarget, database: MemoryDatabase) -> None:
        self.target = target
        self._database = database

    def catalogue(self) -> Catalogue:
        contents = self._database.contents
        rows = {table: len(rows) for table, rows in contents.tables.items()}
        return Catalogue(objects={found.key: found for found in contents.objects.values()}, rows=rows)

    def with_rows(self, look: Fingerprint) -> Fingerprint:
        contents = self._database.contents
        return evolve(
            look,
            rows={table: len(rows) for table, rows in contents.tables.items()},
            content={table: contents.digest_of(table) for table in contents.tables},
        )

    def back_up(self, part: Part, told: PartRehearsal) -> Mapping[str, Json] | None:
        return self.target.back_up(part.order)

    def forget(self, backup: Mapping[str, Json] | None) -> None:
        if backup is not None:
            self._database.backups.pop(str(backup["id"]), None)

    def changing(self) -> None:
        """Nothing is measured in memory."""

    def changed(self) -> None:
        """As for `changing`."""
