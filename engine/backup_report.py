"""What the calls about backups answer: frozen values that mirror the JSON of `twinstep backup`. Pure.

Read next: `keeping.py`, `restoring.py` (who makes them).
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from ..events.types import Json
from .report import ErrorReport

# Why a backup was made, where it was not before a migration's change: `why` in its description.
BY_HAND, FOUND, REPLACED, ON_THE_WAY_BACK = "by hand", "found", "replaced by a restore", "replaced on the way back"
# What retention leaves alone; also what was found without a word why, after a crash or under a new log.
LEFT_ALONE = frozenset({BY_HAND, FOUND, REPLACED, ON_THE_WAY_BACK})


@frozen(kw_only=True)
class OneBackup:
    """One backup that a call made, looked at, put back or deleted; `problem` is what is wrong with it."""

    id: str
    bytes: int = 0
    sha256: str = ""
    name: str = ""
    problem: ErrorReport | None = None

    @classmethod
    def of(cls, backup: Mapping[str, Json], *, problem: ErrorReport | None = None) -> OneBackup:
        """From its description."""
        size = backup.get("bytes")
        return cls(
            id=str(backup["id"]),
            bytes=size if isinstance(size, int) else 0,
            sha256=str(backup.get("sha256", "")),
            name=str(backup.get("name", "")),
            problem=problem,
        )


@frozen(kw_only=True)
class BackupReport:
    """`outcome` is created, verified, restored or pruned; or blocked, locked, failed or in_flight, with the `error`.

    `bytes` is what pruning freed. `replaced` is the backup of what a restored one took the place of, `migrations` those that
    stand otherwise since.
    """

    outcome: str
    backups: tuple[OneBackup, ...] = ()
    bytes: int = 0
    replaced: str | None = None
    migrations: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    exit_code: int = 0
    error: ErrorReport | None = None
