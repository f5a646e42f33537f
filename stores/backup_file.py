"""One backup as a value, and its description: the JSON file that lies beside it, so that it is understood without the log.

No database is touched here. Read next: `backups.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from uuid import UUID

from attrs import field, frozen

from ..events.errors import Blocked
from ..events.types import Json

FORMAT = 1


def _is_uuid(_instance: object, _attribute: object, value: str) -> None:
    if str(UUID(value)) != value:
        raise ValueError(f"{value!r} is not written as a UUID is")


@frozen(kw_only=True)
class Backup:
    """One backup, described: where it lies, what its file must be, and what it was taken of. Sizes are in bytes."""

    id: str = field(validator=_is_uuid)  # it becomes a file name
    folder: Path = field(converter=Path)
    bytes: int
    sha256: str
    created_at: datetime
    source: str
    user_version: int
    page_size: int

    @property
    def name(self) -> str:
        """The file's name in the folder of backups."""
        return f"{self.id}.db"

    @property
    def path(self) -> Path:
        return (self.folder / self.name).absolute()

    @property
    def description(self) -> Path:
        """The JSON file beside it."""
        return self.path.with_suffix(".json")

    def to_json(self) -> dict[str, Json]:
        """For the log and the file beside it; without the folder, which may move."""
        return {
            "format": FORMAT,
            "id": self.id,
            "name": self.name,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "created_at": self.created_at.isoformat(),
            "source": self.source,
            "user_version": self.user_version,
            "page_size": self.page_size,
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Json], *, folder: Path) -> Backup:
        """The backup that `to_json` described, in that folder. Raises Blocked (T233) where it cannot be one."""
        try:
            return cls(
                id=str(said["id"]),
                folder=folder,
                bytes=_whole(said["bytes"]),
                sha256=str(said["sha256"]),
                created_at=datetime.fromisoformat(str(said["created_at"])),
                source=str(said["source"]),
                user_version=_whole(said["user_version"]),
                page_size=_whole(said["page_size"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(said.get("id"), folder) from error


def write_description(backup: Backup) -> None:
    """Write the JSON file beside a backup, whole or not at all; its name is durable once the folder is synced."""
    partial = backup.path.with_suffix(".json.copying")
    descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(backup.to_json(), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(descriptor)
        partial.rename(backup.description)
    finally:
        partial.unlink(missing_ok=True)


def read_description(path: Path) -> Backup:
    """The backup that a JSON file describes. Raises Blocked (T233) where it is damaged, or was written for another one."""
    try:
        said = json.loads(path.read_bytes())
    except ValueError as error:
        raise _unreadable(path.stem, path) from error
    if not isinstance(said, dict) or said.get("id") != path.stem:
        raise Blocked("T233", backup=path.stem, path=str(path), problem="its description is not of this backup")
    return Backup.from_json(said, folder=path.parent)


def _unreadable(backup: object, path: Path) -> Blocked:
    return Blocked("T233", backup=backup, path=str(path), problem="its description cannot be read")


def _whole(value: Json) -> int:
    if not isinstance(value, int):
        raise TypeError(value)
    return value
