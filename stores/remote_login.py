"""Why the remote let nobody in: the server's own code for it, so that a wrong password is never called a server that is down.

libpq gives no SQLSTATE for a login that failed, and its text is in whatever language the server speaks. Its trace of the
conversation does hold the code. So a login that failed is tried once more with the trace on, into memory, and of that nothing
but codes and the order of messages is read. Where there is no trace (not on Linux), the general message (T221) stands, with
libpq's reason in it.

This module must never import migrations or engine. Read next: `remote_connection.py`.
"""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from ..events.errors import Unreachable

RETRACED_SECONDS: Final = 5.0

# What a server says when it does not let somebody in. Of a role that does not exist it says, on purpose, the same as of a
# wrong password, where passwords are asked for at all.
CODES: Final[Mapping[str, str]] = {
    "28P01": "T226",  # invalid_password
    "28000": "T227",  # invalid_authorization_specification: no such role, or no line for it in pg_hba.conf
    "42501": "T227",  # insufficient_privilege: no CONNECT on the database
    "3D000": "T228",  # invalid_catalog_name
}

# What a server says that is just being stopped or started: of the sessions that it had, none is left.
ENDED: Final = ("57P01", "57P02", "57P03")

_ERROR = re.compile(r'^B\t[^\t]*\tErrorResponse\t S "[^"]*" V "[^"]*" C "([0-9A-Z]{5})"', re.MULTILINE)
_ENCRYPTION_ANSWERED = re.compile(r"^B\t[^\t]*\tSSLResponse\t", re.MULTILINE)
_STARTED = re.compile(r"^F\t[^\t]*\tStartupMessage\t", re.MULTILINE)


def not_let_in(error: psycopg.Error, *, conninfo: str, shown: str, problem: str) -> Unreachable:
    """The error to raise for a connection that could not be made. `shown` is the address without its password."""
    return Unreachable(_code_of(error, conninfo), url=shown, problem=problem)


def said_no(conninfo: str) -> bool:
    """Whether a server is there that answers, and lets nobody in now: it has no room, or does not know this user."""
    said = _ERROR.findall(_traced(conninfo))
    return bool(said) and said[-1] not in ENDED


def _code_of(error: psycopg.Error, conninfo: str) -> str:
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return "T221"
    if not _is_a_known_host(conninfo):
        return "T229"
    if error.pgconn is not None and error.pgconn.needs_password:
        return "T226"
    conversation = _traced(conninfo)
    said = _ERROR.findall(conversation)
    if said:
        return CODES.get(said[-1], "T221")
    if _ENCRYPTION_ANSWERED.search(conversation) and not _STARTED.search(conversation):
        return "T263"
    return "T221"


def _is_a_known_host(conninfo: str) -> bool:
    """Whether any of the hosts can be looked up; folders of a unix socket and plain addresses need not be."""
    words = conninfo_to_dict(conninfo)
    hosts = [host for host in str(words.get("host") or "").split(",") if host and host[0] not in "/@"]
    if words.get("hostaddr") or not hosts:
        return True
    return any(_resolves(host) for host in hosts)


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except (socket.gaierror, UnicodeError):
        return False


def _traced(conninfo: str) -> str:
    """libpq's own record of one more try; empty where none can be had. It lies in memory only: a password may be in it."""
    if not hasattr(os, "memfd_create"):
        return ""
    file = os.memfd_create("conversation")
    try:
        connection = pq.PGconn.connect_start(conninfo.encode())
        try:
            connection.trace(file)
            connection.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
            _poll(connection)
        finally:
            connection.untrace()  # which also writes out what the stream still holds: its file is closed below
            connection.finish()
        return os.pread(file, 1 << 20, 0).decode(errors="replace")
    except psycopg.Error:
        return ""
    finally:
        os.close(file)


def _poll(connection: pq.abc.PGconn) -> None:
    """Go on with the login until it is decided, or the time is over."""
    deadline = time.monotonic() + RETRACED_SECONDS
    while connection.status != pq.ConnStatus.BAD and (seconds := deadline - time.monotonic()) > 0:
        match connection.connect_poll():
            case pq.PollingStatus.READING:
                select.select([connection.socket], [], [], seconds)
            case pq.PollingStatus.WRITING:
                select.select([], [connection.socket], [], seconds)
            case _:
                return
