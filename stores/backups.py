"""Backups of the local database: a folder of copies, each proved when it is made and again before it is used.

A backup is one file `<id>.db` with a description `<id>.json` beside it. It is taken from beside the caller's writer lock, so
that no write can fall between it and the change that follows. In this order: space looked for, pages copied, synced, hashed,
opened and checked, restored once to a scratch file and compared, described, renamed, the folder synced. Whatever stops it
leaves nothing under a final name.

Pages come from SQLite's backup API alone. A file copy in a child process would be faster above 100 MB, but is faithful only
with a checkpointed database and a pinned reader. This module must never import migrations or engine. Read next: `copies.py`
(how), `scratch.py` (where), `restoring.py` (the way back).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from attrs import frozen
from uuid_utils import uuid7

from ..events.errors import Blocked, Defect
from .backup_file import Backup, read_description, write_description
from .copies import Progress, copy_to_file, looking_at, problems_of, same_content, sha256_of, sync
from .local_connection import OnConnect, open_local, path_of
from .port import Clock, utc_now
from .restoring import Inspect, overwrite
from .scratch import ScratchFolder, driver_errors, free_bytes
from .seam import Probe, no_probe
from .soundness import Check
from .sqlite_errors import is_busy

__all__ = ["Backup", "BackupFolder", "Pruned"]

OPENING_SECONDS = 5.0

# The crossings of a backup. What stops it at the first leaves none, at the second a whole one.
COPIED = "backup:copied"
RENAMED = "backup:renamed"


@frozen(kw_only=True)
class Pruned:
    """What was really deleted. `bytes` also counts descriptions, and what killed processes had left unfinished."""

    deleted: tuple[Backup, ...]
    bytes: int


class BackupFolder:
    """The backups of one local database. The folder is made (mode 0700) with the first of them."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        clock: Clock = utc_now,
        check: Check = "quick_check",
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self.folder = Path(folder).absolute()
        self._scratch = ScratchFolder(self.folder, free)
        self._clock = clock
        self._check: Check = check

    def back_up(
        self,
        source_path: str | os.PathLike[str],
        *,
        holder: sqlite3.Connection | None,
        on_connect: OnConnect | None = None,
        deadline_seconds: float = 30.0,
        progress: Progress | None = None,
        probe: Probe = no_probe,
    ) -> Backup:
        """Copy the last committed state and prove the copy; durable once it returns.

        `holder` is a connection of the caller whose transaction holds the writer lock and has written nothing yet: what it
        then changes begins exactly at this backup. Raises Defect (T230) where it does not hold it. With None, others may go
        on writing, the backup is one committed state, and what a crashed program left half done is rolled back first.
        `deadline_seconds` limits the waiting for locks; `progress` is told what remains and the total, in pages. Raises
        Blocked: T231 no space, T234 the database is damaged, T237 busy, T239 the folder cannot be used; what was begun is
        removed then.
        """
        waiting = min(OPENING_SECONDS, deadline_seconds)
        # Without a holder nobody has looked yet whether a crash left a journal, and a read-only connection cannot roll back.
        readonly = holder is not None
        with closing(open_local(source_path, readonly=readonly, on_connect=on_connect, busy_seconds=waiting)) as reader:
            if holder is not None:
                _prove_lock(holder, source_path, on_connect)
            return self._keep(reader, on_connect=on_connect, wait_seconds=deadline_seconds, progress=progress, probe=probe)

    def verify(self, backup: Backup, *, on_connect: OnConnect | None = None) -> None:
        """Return if the file is, byte for byte, the one that was made, and sound. Raises Blocked (T232, T233) otherwise."""
        try:
            size = backup.path.stat().st_size
            if size != backup.bytes:
                raise _not_as_written(backup, f"it has {size} bytes instead of {backup.bytes}")
            if sha256_of(backup.path) != backup.sha256:
                raise _not_as_written(backup, "its content has changed")
        except FileNotFoundError as error:
            raise Blocked("T232", backup=backup.id, path=str(backup.path)) from error
        except OSError as error:
            raise _not_as_written(backup, f"it cannot be read ({error.strerror})") from error
        with driver_errors(str(backup.path), "checking it"):
            problems = problems_of(backup.path, check=self._check, on_connect=on_connect)
        if problems:
            raise _not_as_written(backup, "; ".join(problems))

    def restore(
        self,
        backup: Backup,
        destination_path: str | os.PathLike[str],
        *,
        check: Inspect,
        prepare: Callable[[sqlite3.Connection], None],
        replaced: str | None = None,
        on_connect: OnConnect | None = None,
        deadline_seconds: float = 30.0,
        probe: Probe = no_probe,
    ) -> Backup:
        """Put the backup into the live file, durably, and return the backup of what it replaced: its id is `replaced`.

        `prepare` is called inside a transaction on a scratch copy of the backup: what it writes there is restored along.
        `check` is called with a connection to the destination when nobody else can write any more, and raises to stop;
        nothing is changed then. The destination must exist (an empty file will do), and keeps its journal mode.
        Raises what `verify` raises; Blocked: T214, T237 busy, T236 another page size in WAL mode; Defect (T238) where the
        destination cannot be shown to be equal afterwards. A process killed anywhere leaves the old state or the new one.
        """
        self.verify(backup, on_connect=on_connect)
        waiting = min(OPENING_SECONDS, deadline_seconds)
        kept: list[Backup] = []
        with (
            self._scratch.image(backup.path, prepare, on_connect=on_connect, wait_seconds=deadline_seconds) as image,
            closing(open_local(destination_path, on_connect=on_connect, busy_seconds=waiting)) as live,
            looking_at(image, on_connect=on_connect) as pages,
            driver_errors(path_of(live), "restoring a backup"),
        ):
            _check_page_size(backup, live)

            def inspect(connection: sqlite3.Connection) -> None:
                check(connection)
                kept.append(self._keep(connection, id=replaced, on_connect=on_connect, wait_seconds=deadline_seconds))

            def confirm(connection: sqlite3.Connection) -> bool:
                try:
                    with self._scratch.trial(connection, on_connect=on_connect, wait_seconds=deadline_seconds) as trial:
                        return same_content(trial, image, on_connect=on_connect)
                except (sqlite3.Error, OSError) as error:
                    raise _not_confirmed(backup, live, kept[0], f"it could not be read back ({error})") from error

            if not overwrite(
                live,
                pages,
                beside=lambda: closing(
                    open_local(destination_path, readonly=True, on_connect=on_connect, busy_seconds=waiting)
                ),
                inspect=inspect,
                confirm=confirm,
                wait_seconds=deadline_seconds,
                probe=probe,
            ):
                raise _not_confirmed(backup, live, kept[0], "it reads back different")
        return kept[0]

    def list(self) -> tuple[Backup, ...]:
        """The backups whose file is there, oldest first. Raises Blocked (T233) where a description is damaged."""
        copies = sorted(self.folder.glob("*.db"))
        return tuple(read_description(path.with_suffix(".json")) for path in copies if path.with_suffix(".json").exists())

    def delete(self, backup: Backup) -> int:
        """Delete a backup; the bytes really freed, 0 where it was gone already."""
        with self._scratch.errors(needed=0):
            # The copy first: a description alone is not listed, and prune finds it; a copy alone would be lost space.
            freed = _remove(backup.path) + _remove(backup.description)
            if freed:
                sync(self.folder)
        return freed

    def readable(self) -> tuple[Backup, ...]:
        """The same as `list`, without those whose description is damaged."""
        found = []
        for path in sorted(self.folder.glob("*.db")):
            with suppress(Blocked, FileNotFoundError):
                found.append(read_description(path.with_suffix(".json")))
        return tuple(found)

    def prune(self, older_than: datetime, keep: Collection[str] = ()) -> Pruned:
        """Delete what was made before `older_than`, apart from the ids in `keep`, and leftovers of that age."""
        old = [backup for backup in self.list() if backup.created_at < older_than and backup.id not in keep]
        freed = [self.delete(backup) for backup in old]
        deleted = tuple(backup for backup, size in zip(old, freed, strict=True) if size)
        return Pruned(deleted=deleted, bytes=sum(freed) + self.sweep(older_than))

    def sweep(self, older_than: datetime | None) -> int:
        """Delete what killed processes left unfinished before then, or all of it, where nobody else can be at work; the bytes
        freed."""
        with self._scratch.errors(needed=0):
            return sum(
                _remove(path)
                for path in self._scratch.leftovers()
                if older_than is None or path.stat().st_mtime < older_than.timestamp()
            )

    def _keep(
        self,
        source: sqlite3.Connection,
        *,
        on_connect: OnConnect | None,
        wait_seconds: float,
        id: str | None = None,
        progress: Progress | None = None,
        probe: Probe = no_probe,
    ) -> Backup:
        """Copy, prove and keep what a connection sees that has no transaction open."""
        name, id = path_of(source), id or str(uuid7())
        with driver_errors(name, "backing it up"):
            needed = self._scratch.make_room(2 * _size(source))  # the copy, and its trial
        with driver_errors(name, "backing it up"), self._scratch.errors(needed), _nothing_half_done(self.folder, id):
            partial = self.folder / f"{id}.copying"
            copy_to_file(source, partial, on_connect=on_connect, wait_seconds=wait_seconds, progress=progress)
            sync(partial)
            probe(COPIED)
            backup = self._proved(id, partial, name, on_connect)
            write_description(backup)
            partial.rename(backup.path)
            sync(self.folder)
        probe(RENAMED)
        return backup

    def _proved(self, id: str, partial: Path, source: str, on_connect: OnConnect | None) -> Backup:
        problems = problems_of(partial, check=self._check, on_connect=on_connect)
        if problems:
            raise Blocked("T234", source=source, check=self._check, problem="; ".join(problems))
        with looking_at(partial, on_connect=on_connect) as copy:
            (user_version,) = copy.execute("PRAGMA user_version").fetchone()
            (page_size,) = copy.execute("PRAGMA page_size").fetchone()
            with self._scratch.trial(copy, on_connect=on_connect, wait_seconds=0) as trial:
                if not same_content(partial, trial, on_connect=on_connect):
                    raise Defect("T235", source=source)
        return Backup(
            id=id,
            folder=self.folder,
            bytes=partial.stat().st_size,
            sha256=sha256_of(partial),
            created_at=self._clock(),
            source=source,
            user_version=user_version,
            page_size=page_size,
        )


@contextmanager
def _nothing_half_done(folder: Path, id: str) -> Iterator[None]:
    """Whatever stops the making of a backup, an interrupt included, leaves none of its files."""
    try:
        yield
    except BaseException:
        for suffix in (".copying", ".db", ".json"):
            (folder / f"{id}{suffix}").unlink(missing_ok=True)
        raise


def _prove_lock(holder: sqlite3.Connection, source: str | os.PathLike[str], on_connect: OnConnect | None) -> None:
    """Raise Defect (T230) unless nobody else can write now. A transaction alone proves nothing: it may be a reader's."""
    if not holder.in_transaction:
        raise Defect("T230", problem="a backup was asked for without a transaction that holds the writer lock")
    if not _is_open_on(holder, Path(source)):
        raise Defect("T230", problem="the writer lock is held on another file than the one to be backed up")
    with closing(open_local(source, on_connect=on_connect, busy_seconds=0)) as rival:
        try:
            rival.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if is_busy(error):
                return
            raise
    raise Defect("T230", problem="a backup was asked for while another writer could begin")


def _is_open_on(connection: sqlite3.Connection, path: Path) -> bool:
    try:
        return path.samefile(path_of(connection))
    except OSError:  # moved or deleted while it was open
        return False


def _check_page_size(backup: Backup, live: sqlite3.Connection) -> None:
    (mode,), (size,) = live.execute("PRAGMA journal_mode").fetchone(), live.execute("PRAGMA page_size").fetchone()
    if mode == "wal" and size != backup.page_size:
        raise Blocked("T236", backup=backup.id, path=path_of(live), wanted=backup.page_size, actual=size)


def _not_as_written(backup: Backup, problem: str) -> Blocked:
    return Blocked("T233", backup=backup.id, path=str(backup.path), problem=problem)


def _not_confirmed(backup: Backup, live: sqlite3.Connection, replaced: Backup, problem: str) -> Defect:
    return Defect("T238", backup=backup.id, path=path_of(live), replaced=replaced.id, problem=problem)


def _size(source: sqlite3.Connection) -> int:
    (pages,), (size,) = source.execute("PRAGMA page_count").fetchone(), source.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)


def _remove(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size
