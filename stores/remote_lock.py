"""The advisory lock of all coordinators of one remote: taken, waited for, and who holds it.

It is the session's, and ends with it. Waiting is done by polling: a session that waits in `pg_advisory_lock` holds a snapshot,
for which CREATE INDEX CONCURRENTLY waits in turn. Who holds it is read from the name of the session, which says the process and
what it does; and a mark of the machine, so that the session of a process that is known to be dead is no rival.

This module must never import migrations or engine. Read next: `remote_connection.py`.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import psycopg

from ..events.errors import Locked

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    Remote: TypeAlias = psycopg.Connection[TupleRow]

# The advisory lock of all coordinators of one database: the bytes of the name, as a bigint.
LOCK_KEY: Final = int.from_bytes(b"twinstep", "big")
POLL_SECONDS: Final = 0.1

# The session of a process that is dead: the server notices that its client is gone within about a second (on Linux), also in
# the middle of a statement. One that does not is ended, and waited for.
ORPHAN_NOTICES_SECONDS: Final = 2.5
ORPHAN_ENDS_SECONDS: Final = 10.0
# Who held it has let go before it could be asked who that is: then it is there to be taken, and nobody is to be named.
LET_GO_SECONDS: Final = 2.0

# The server keeps so many bytes of a session's name.
NAME_BYTES: Final = 63


def session_name(doing: str) -> str:
    """What a session of this process is called on the server: the host, the process and what it does, for people; and a mark
    of the machine, by which a later process on it knows whether this one could still be alive."""
    host = socket.gethostname().encode("ascii", "replace").decode()
    name = "twinstep on {} (process {}) to {} [{}]"
    room = NAME_BYTES - len(name.format("", os.getpid(), "", _machine()))
    host = host[: max(8, room - len(doing))]
    return name.format(host, os.getpid(), doing[: room - len(host)], _machine())


def take_lock(connection: Remote, wait_seconds: float) -> None:
    """Take the advisory lock, polling for it within the limit.

    What a dead process of this machine left behind is no other coordinator: it is waited for beyond the limit, and ended
    where the server does not notice by itself.

    Raises Locked (T401) naming who holds it, or the driver's errors.
    """
    began = time.monotonic()
    ended: set[int] = set()
    while True:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK_KEY,)).fetchone()
        if row is not None and row[0]:
            return
        waited, holder = time.monotonic() - began, _held_by(connection)
        limit = wait_seconds
        if holder is None:
            limit = max(limit, LET_GO_SECONDS)
        elif is_orphan(str(holder[0])):
            limit = max(limit, ORPHAN_ENDS_SECONDS)
            if holder[1] not in ended and waited > ORPHAN_NOTICES_SECONDS:
                ended.add(holder[1])
                _end(connection, holder[1])
        if waited >= limit:
            raise Locked("T401", side="remote", holder=_holder(holder))
        time.sleep(POLL_SECONDS)


def wait_for_others(connection: Remote, wait_seconds: float) -> None:
    """Return once nobody holds the advisory lock, without ever taking it: who begins meanwhile must not find it taken.

    Raises Locked (T401) naming who still holds it after the limit, or the driver's errors.
    """
    deadline = time.monotonic() + wait_seconds
    while (holder := _held_by(connection)) is not None:
        if time.monotonic() >= deadline:
            raise Locked("T401", side="remote", holder=_holder(holder))
        time.sleep(POLL_SECONDS)


def holds_lock(connection: Remote) -> bool:
    """Whether this very session holds the advisory lock now; asks the server. Raises the driver's errors."""
    row = _held_by(connection)
    return row is not None and bool(row[3])


def is_orphan(name: str) -> bool:
    """Whether a session of that name was this machine's, and its process is dead. Not known of others: then it is not."""
    found = _OF_OURS.fullmatch(name)
    if found is None or not _machine() or found["machine"] != _machine():
        return False
    try:
        os.kill(int(found["process"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


@cache
def _machine() -> str:
    """A mark of this machine since it was started, and of the processes that see each other on it; empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return hashlib.sha256(f"{boot}{Path('/proc/self/ns/pid').readlink()}".encode()).hexdigest()[:6]
    except OSError:
        return ""


def _end(connection: Remote, backend: int) -> None:
    # Of another role's session this is refused: then it is waited for like anybody's.
    with suppress(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT pg_terminate_backend(%s)", (backend,))


def _holder(row: TupleRow | None) -> str:
    if row is None:
        return "somebody who has just let go"
    name = _MARK.sub("", str(row[0] or "")) or "a session without a name"
    return f"{name}, backend {row[1]}, connected since {row[2]}"


def _held_by(connection: Remote) -> TupleRow | None:
    return connection.execute(_HOLDER, {"class": LOCK_KEY >> 32, "object": LOCK_KEY & 0xFFFFFFFF}).fetchone()


_OF_OURS = re.compile(r"twinstep on .* \(process (?P<process>\d+)\) to .* \[(?P<machine>[0-9a-f]+)\]")
_MARK = re.compile(r" \[[0-9a-f]*\]$")

_HOLDER = """
SELECT a.application_name, l.pid, to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    l.pid = pg_backend_pid()
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.database = (
    SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = %(class)s::bigint::oid AND l.objid = %(object)s::bigint::oid
"""
