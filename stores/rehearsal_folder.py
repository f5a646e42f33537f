"""The folder of one rehearsal: its copies of the local database lie in it, and nothing of it is left, whatever happens.

It lies under the state folder, beside a lock that dies with its owner. A rehearsal that was killed leaves both; whoever comes
next sees that nobody holds the lock, and removes them, together with the folders that the killed one had made. The lock's file
is made before the folder and removed after it, so that a folder is never without one.

This module must never import migrations or engine. Read next: `copies.py` (what is put there).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uuid_utils import uuid7

from ..events.errors import Blocked

REHEARSALS = "rehearsals"
LOCK_SUFFIX = ".lock"
MADE_SUFFIX = ".made.json"


@contextmanager
def rehearsal_folder(state_folder: Path) -> Iterator[Path]:
    """An empty folder of our own (mode 0700), gone afterwards with every folder that was made for it.

    What killed rehearsals left is removed first. Raises Blocked (T261) where the state folder cannot be used.
    """
    from filelock import FileLock

    state_folder = state_folder.absolute()
    remove_leftovers(state_folder)
    home = state_folder / REHEARSALS
    folder = home / str(uuid7())
    lock = FileLock(folder.with_suffix(LOCK_SUFFIX))
    made = [each for each in (home, *home.parents) if not each.is_dir()]
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        folder.with_suffix(MADE_SUFFIX).write_text(json.dumps([str(each) for each in made]), encoding="utf-8")
        folder.mkdir(mode=0o700)
    except OSError as error:
        lock.release()
        _remove(folder)
        _remove_empty(made)
        raise Blocked("T261", path=state_folder, problem=error.strerror or error) from error
    try:
        yield folder
    finally:
        _remove(folder)
        lock.release()
        folder.with_suffix(LOCK_SUFFIX).unlink(missing_ok=True)
        _remove_empty([home, *made])


def remove_leftovers(state_folder: Path) -> None:
    """Remove what rehearsals that are dead have left; those that live are let alone. Does nothing where there is none."""
    from filelock import FileLock, Timeout

    home = state_folder.absolute() / REHEARSALS
    if not home.is_dir():
        return
    for path in sorted(home.glob(f"*{LOCK_SUFFIX}")):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue  # it lives, or this user may not remove it
        folder = path.with_suffix("")
        made = _made_by(folder)
        _remove(folder)
        lock.release()
        path.unlink(missing_ok=True)
        _remove_empty([home, *made])
    _remove_empty([home])


def _made_by(folder: Path) -> list[Path]:
    """The folders that it had made, innermost first; none where it was killed before it could say."""
    try:
        return [Path(each) for each in json.loads(folder.with_suffix(MADE_SUFFIX).read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return []


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(MADE_SUFFIX).unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    """Each that is empty; one in which something has come to lie since stays."""
    for each in folders:
        with suppress(OSError):
            each.rmdir()
