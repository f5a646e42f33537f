"""Connections to the remote PostgreSQL: opened directly, in autocommit, with our own BEGIN; URLs shown without passwords.

A connection made here is the session that holds the advisory lock, and it is never silently replaced: when it is lost, the
caller must learn so. `client_connection_check_interval` has the server end what this session runs within a second of our
death (PostgreSQL 14 and later, on Linux; elsewhere the server refuses the setting, and its default stays).

Waiting for a lock is done by polling: a session that waits in `pg_advisory_lock` holds a snapshot, for which CREATE INDEX
CONCURRENTLY waits in turn. Read next: `migrations/postgres_target.py`.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..events.errors import ConfigurationError, InDoubt, Locked, Unreachable

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    Remote: TypeAlias = psycopg.Connection[TupleRow]

# The advisory lock of all coordinators of one database: the bytes of the name, as a bigint.
LOCK_KEY: Final = int.from_bytes(b"twinstep", "big")
POLL_SECONDS: Final = 0.1

LOST: Final = (psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown, psycopg.errors.CannotConnectNow)


def libpq_url(url: str) -> str:
    """The URL as libpq takes it: SQLAlchemy's driver suffix is dropped, `host=... dbname=...` is left as it is.

    Raises ConfigurationError (T225) for what is no PostgreSQL URL.
    """
    if "://" in url:
        scheme, _, rest = url.partition("://")
        if scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise ConfigurationError("T225", url=shown(url), problem=f"{scheme} is not PostgreSQL")
        url = f"postgresql://{rest}"
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError("T225", url=shown(url), problem="it cannot be read") from error
    return url


def shown(url: str) -> str:
    """The URL for people: without its password."""
    if "://" in url:
        parts = urlsplit(url)
        _, at, host = parts.netloc.rpartition("@")
        user = parts.netloc.rpartition("@")[0].partition(":")[0]
        query = "&".join(word for word in parts.query.split("&") if not word.startswith("password="))
        return urlunsplit((parts.scheme, f"{user}{at}{host}", parts.path, query, ""))
    try:
        words = {name: str(value) for name, value in conninfo_to_dict(url).items() if name != "password"}
    except psycopg.ProgrammingError:
        return "the given text"
    return make_conninfo("", **words)


def key_of(url: str) -> str:
    """What a remote-only pair is known by in the log: host, port and database, whoever logs in."""
    words = conninfo_to_dict(libpq_url(url))
    return "remote:{}:{}/{}".format(words.get("host", ""), words.get("port", "5432"), words.get("dbname", ""))


def open_remote(url: str, *, connect_seconds: float = 10.0) -> Remote:
    """A connection in autocommit, named after this process. Raises Unreachable (T221) where there is no way in."""
    name = f"twinstep on {socket.gethostname()} (process {os.getpid()})"
    try:
        connection = psycopg.connect(
            libpq_url(url), autocommit=True, connect_timeout=max(2, round(connect_seconds)), application_name=name
        )
    except psycopg.OperationalError as error:
        raise Unreachable("T221", url=shown(url), problem=_last_line(str(error))) from error
    with suppress(psycopg.errors.InvalidParameterValue):  # a server that is not on Linux
        connection.execute("SET client_connection_check_interval = '1s'")
    return connection


def is_lost(connection: Remote, error: psycopg.Error) -> bool:
    """Whether the error means that the connection is gone, rather than that the server said no."""
    return connection.closed or isinstance(error, LOST)


def take_lock(connection: Remote, wait_seconds: float, *, url: str) -> None:
    """Take the advisory lock, polling for it within the limit. Raises Locked (T401) naming who holds it."""
    deadline = time.monotonic() + wait_seconds
    try:
        while True:
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK_KEY,)).fetchone()
            if row is not None and row[0]:
                return
            if time.monotonic() >= deadline:
                raise Locked("T401", side="remote", holder=_holder(connection))
            time.sleep(POLL_SECONDS)
    except psycopg.OperationalError as error:
        if is_lost(connection, error):
            raise InDoubt("T391", side="remote", migration=shown(url), problem=_last_line(str(error))) from error
        raise


def _holder(connection: Remote) -> str:
    row = connection.execute(_HOLDER, {"class": LOCK_KEY >> 32, "object": LOCK_KEY & 0xFFFFFFFF}).fetchone()
    if row is None:
        return "somebody who has just let go"
    return f"{row[0] or 'a session without a name'}, backend {row[1]}, connected since {row[2]}"


_HOLDER = """
SELECT a.application_name, l.pid, to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.database = (
    SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = %(class)s::bigint::oid AND l.objid = %(object)s::bigint::oid
"""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"
