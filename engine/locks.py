"""The local locks: one coordinator at a time on one state folder, and on one pair of a log that lies elsewhere.

Each is an advisory lock of the operating system, which dies with its owner; a process that is merely stopped keeps it. Who
holds it stands in a second file beside it, written after it was taken: a claim for people to read, never looked at to decide.

The remote's lock is the target's (`migrations/postgres_target.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ..events.errors import Blocked, Locked

LOCK_NAME = "lock"
HOLDER_NAME = f"{LOCK_NAME}.holder.json"
UNSAID = "somebody who has not said who it is"
SAID_WITHIN = 10


@contextmanager
def coordinator_lock(folder: Path, *, doing: str, wait_seconds: float, name: str = LOCK_NAME) -> Iterator[None]:
    """Hold the lock of that name in the folder, by default the state folder's.

    Raises Locked (T401) naming the holder, Blocked (T261) where the folder cannot be used.
    """
    from filelock import FileLock, Timeout

    holder = folder / f"{name}.holder.json"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(folder / name)
        lock.acquire(timeout=wait_seconds, poll_interval=0.05)
    except Timeout as error:
        raise Locked("T401", side="local", holder=_holder_soon(holder)) from error
    except OSError as error:
        raise Blocked("T261", path=folder, problem=error.strerror or error) from error
    try:
        _write_holder(holder, doing)
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def pair_lock_name(log: Path, pair_key: str) -> str:
    """The name of a pair's lock beside the log that it shares with other pairs, or with state folders elsewhere."""
    return f"{log.name}.{hashlib.sha256(pair_key.encode(errors='surrogatepass')).hexdigest()[:16]}.lock"


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
    return _said_by(state_dir / HOLDER_NAME) or UNSAID


def _holder_soon(path: Path) -> str:
    """The same of any lock. Whoever has just taken it says so a moment later."""
    for _ in range(SAID_WITHIN):
        if (said := _said_by(path)) is not None:
            return said
        time.sleep(0.02)
    return UNSAID


def _said_by(path: Path) -> str | None:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return f"process {said['process']} on {said['host']}, since {said['since']}, to {said['doing']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_holder(path: Path, doing: str) -> None:
    said = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "doing": doing,
    }
    # A full disk keeps nobody from working: it is a claim for people, and the lock itself is held.
    with suppress(OSError):
        written = path.with_name(f"{path.name}.{os.getpid()}")
        written.write_text(json.dumps(said), encoding="utf-8")
        written.replace(path)
