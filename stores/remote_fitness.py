"""Whether a remote can be worked on at all: a PostgreSQL that is new enough, on a session that stays the same.

Behind a pooler that hands each transaction to whichever server session is free, an advisory lock belongs to nobody, and a
setting that was made is another client's. Such a pooler gives itself away: it answers the start of a session itself, so that
libpq's backend id is not the server's, and a second client is given the very session that the first one has just used.
A pooler that keeps a session for each client is as good as none.

This module must never import migrations or engine. Read next: `remote_connection.py`.
"""

from __future__ import annotations

import select
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeAlias

import psycopg

from ..events.errors import Blocked

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    Remote: TypeAlias = psycopg.Connection[TupleRow]

OLDEST_VERSION: Final = 140000
ANSWER_SECONDS: Final = 2.0
ASK: Final = b"SELECT pg_catalog.pg_backend_pid()"


def refuse_unfit(connection: Remote, *, conninfo: str, shown: str) -> None:
    """Return where locks and settings of this session hold. Raises Blocked: T265 too old, T264 a transaction pooler.

    Costs one question on a direct connection, a second connection where a pooler stands in between.
    """
    version = server_version(connection)
    if version < OLDEST_VERSION:
        raise Blocked("T265", url=shown, version=f"{version // 10000}.{version % 10000}", oldest=OLDEST_VERSION // 10000)
    if pools_transactions(connection, conninfo):
        raise Blocked("T264", url=shown)


def server_version(connection: Remote) -> int:
    """As libpq has it: 140005 for 14.5. Raises what `refuse_lost` does."""
    refuse_lost(connection)
    return connection.info.server_version


def refuse_lost(connection: Remote) -> None:
    """Return where the session stands. Of a lost one libpq says that its server has the version 0 and no settings.

    Raises the driver's OperationalError, as a statement would.
    """
    if connection.closed:
        raise psycopg.OperationalError("the connection is lost")


def pools_transactions(connection: Remote, conninfo: str) -> bool:
    """Whether another client is given this session's server session while it idles. The connection must be idle."""
    first = _session_of(connection)
    if first == connection.pgconn.backend_pid:
        return False
    try:
        other = psycopg.connect(conninfo, autocommit=True, connect_timeout=round(ANSWER_SECONDS))
    except psycopg.Error:
        return False  # no room for a second one: whatever stands there keeps this session for this client
    with closing(other):
        return _session_in_time(other) == first or {_session_of(connection), _session_of(connection)} != {first}


def _session_of(connection: Remote) -> int | None:
    """The server's own id of the session that answers."""
    row = connection.execute(ASK).fetchone()
    return None if row is None else int(row[0])


def _session_in_time(connection: Remote) -> int | None:
    """The same; None where nobody answers in time: a pooler whose sessions are all kept for others lets one more wait."""
    libpq = connection.pgconn
    libpq.send_query(ASK)
    libpq.flush()
    deadline = time.monotonic() + ANSWER_SECONDS
    libpq.consume_input()
    while libpq.is_busy():
        if not select.select([libpq.socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        libpq.consume_input()
    result = libpq.get_result()
    value = result.get_value(0, 0) if result is not None and result.ntuples else None
    return None if value is None else int(value)
