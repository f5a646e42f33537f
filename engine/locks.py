"""The local lock: one coordinator at a time on one state folder, whatever the databases.

It is an advisory lock of the operating system, which dies with its owner; a process that is merely stopped keeps it. Who
holds it stands in a second file beside it, written after it was taken: a claim for people to read, never looked at to decide.

The remote's lock is the target's (`migrations/postgres_target.py`).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ..events.errors import Blocked, Locked

LOCK_NAME = "lock"
HOLDER_NAME = "lock.holder.json"


@contextmanager
def coordinator_lock(state_dir: Path, *, doing: str, wait_seconds: float) -> Iterator[None]:
    """Hold the folder's lock. Raises Locked (T401) naming the holder, Blocked (T261) where the folder cannot be used."""
    from filelock import FileLock, Timeout

    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(state_dir / LOCK_NAME)
        lock.acquire(timeout=wait_seconds, poll_interval=0.05)
    except Timeout as error:
        raise Locked("T401", side="local", holder=holder_of(state_dir)) from error
    except OSError as error:
        raise Blocked("T261", path=state_dir, problem=error.strerror or error) from error
    try:
        _write_holder(state_dir, doing)
        yield
    finally:
        with suppress(OSError):
            (state_dir / HOLDER_NAME).unlink(missing_ok=True)
        lock.release()


def look_at_lock(state_dir: Path, *, wait_seconds: float) -> None:
    """Return once nobody holds the folder's lock, within the limit; makes nothing. Raises Locked (T401), Blocked (T261).

    There is no way to ask but to take it: for the instant that this needs, a coordinator that begins is told that it is held.
    """
    from filelock import FileLock, Timeout

    path = state_dir / LOCK_NAME
    try:
        if path.exists():
            FileLock(path).acquire(timeout=wait_seconds, poll_interval=0.05).lock.release()
    except Timeout as error:
        raise Locked("T401", side="local", holder=holder_of(state_dir)) from error
    except OSError as error:
        raise Blocked("T261", path=state_dir, problem=error.strerror or error) from error


def at_work(state_dir: Path) -> str | None:
    """Who says that it holds the lock, if it is still there; for people, and without touching the lock."""
    try:
        said = json.loads((state_dir / HOLDER_NAME).read_text(encoding="utf-8"))
        if os.name == "posix" and said["host"] == socket.gethostname():  # elsewhere, 0 is a signal that ends
            os.kill(said["process"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return holder_of(state_dir)


def holder_of(state_dir: Path) -> str:
    """Who says that it holds the lock: host, process, since when, doing what."""
    try:
        said = json.loads((state_dir / HOLDER_NAME).read_text(encoding="utf-8"))
        return f"process {said['process']} on {said['host']}, since {said['since']}, to {said['doing']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "somebody who has not said who it is"


def _write_holder(state_dir: Path, doing: str) -> None:
    said = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "doing": doing,
    }
    # A full disk keeps nobody from working: it is a claim for people, and the lock itself is held.
    with suppress(OSError):
        (state_dir / HOLDER_NAME).write_text(json.dumps(said), encoding="utf-8")
