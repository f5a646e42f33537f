"""Connections to the remote PostgreSQL: opened directly, in autocommit, with our own BEGIN; URLs shown without passwords.

A connection made here is the session that holds the advisory lock, and it is never silently replaced: when it is lost, the
caller must learn so. `client_connection_check_interval` has the server end what this session runs within a second of our
death (PostgreSQL 14 and later, on Linux; elsewhere the server refuses the setting, and its default stays).

Read next: `remote_lock.py` (the advisory lock), `remote_login.py` (why there is no way in), `remote_fitness.py` (poolers),
`migrations/postgres_target.py`.
"""

from __future__ import annotations

import re
import select
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..events.errors import ConfigurationError, InDoubt, Unreachable
from .remote_fitness import refuse_unfit
from .remote_lock import session_name
from .remote_login import not_let_in, said_no
from .watched_connection import NoAnswer, WatchedConnection

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    Remote: TypeAlias = psycopg.Connection[TupleRow]

# For packets that nobody acknowledges: the connection ends after about half a minute, instead of hours.
KEEPALIVES: Final = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
# How long to try to ask what the server does, and to wait for a lost session to end.
ASK_SECONDS: Final = 10
END_SECONDS: Final = 10

LOST: Final = (psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown, psycopg.errors.CannotConnectNow)


# What libpq takes and nobody may see.
SECRETS: Final = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")


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
        words = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Not chained: the driver's words may quote a part of the password.
        raise ConfigurationError("T225", url=shown(url), problem="it cannot be read") from None
    ports = str(words.get("port") or "").split(",")
    if not all(port.isdigit() or not port for port in ports) or "@" in str(words.get("host") or ""):
        # A password with an unquoted slash or @ is read as host and port, and libpq would quote it in its message.
        problem = "its host or port is none; signs such as / and @ in a password must be written as %2F and %40"
        raise ConfigurationError("T225", url=shown(url), problem=problem)
    return url


def shown(url: str) -> str:
    """The URL for people: without its password, also where it is written wrongly."""
    if "://" not in url:
        try:
            words = {name: str(value) for name, value in conninfo_to_dict(url).items() if name not in SECRETS}
        except psycopg.ProgrammingError:
            return "the given text"
        return make_conninfo("", **words)
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    user = credentials.partition(":")[0]
    host, question, query = place.partition("?")
    if not at and not _is_place(host):
        return f"{scheme}://..."
    kept = [word for word in query.split("&") if unquote(word.partition("=")[0]).strip().lower() not in SECRETS]
    return f"{scheme}://{user}{at}{host}{question if any(kept) else ''}{'&'.join(kept)}"


def _is_place(text: str) -> bool:
    """Whether it can only be hosts with numbers for ports, and a database: no user whose password lost its @."""
    hosts = text.partition("/")[0]
    return all(re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:[0-9]*)?", host) for host in hosts.split(","))


def key_of(url: str) -> str:
    """What a remote-only pair is known by in the log: host, port and database, whoever logs in."""
    words = conninfo_to_dict(libpq_url(url))
    return "remote:{}:{}/{}".format(words.get("host", ""), words.get("port", "5432"), words.get("dbname", ""))


def open_remote(url: str, *, connect_seconds: float = 10.0, doing: str = "look") -> WatchedConnection:
    """A connection in autocommit, named after this process and what it is there to do, that ends by itself where nobody
    answers any more.

    Raises Unreachable where there is no way in: T221 the server is away, T226 to T229 and T263 where the login, the database,
    the host's name or the encryption is what stands in the way.
    """
    conninfo = _kept_alive(libpq_url(url))
    try:
        connection = WatchedConnection.connect(
            conninfo,
            autocommit=True,
            connect_timeout=max(2, round(connect_seconds)),
            application_name=session_name(doing),
            client_encoding="UTF8",  # statements are sent as UTF-8, whatever the database keeps its text in
            prepare_threshold=None,  # a plan that was kept from before an ALTER would be refused after it
        )
    except psycopg.Error as error:
        raise not_let_in(error, conninfo=libpq_url(url), shown=shown(url), problem=_reason_of(error)) from error
    try:
        row = connection.execute(_BEGIN_SESSION, (connection.pgconn.backend_pid,)).fetchone()
        if row is not None:
            pid, since, is_direct = int(row[0]), str(row[1]), row[2] is not None
            connection.at_work = partial(_is_at_work, conninfo, (pid, since))
            # A pooler's session is another client's next, and not ours to end.
            connection.backend = (pid, since) if is_direct else None
        # Refused by a server that is not on Linux, and by one older than 14.
        with suppress(psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject):
            if not reads_as_standard(connection):
                connection.execute(b"SET standard_conforming_strings = on")
            connection.execute(_END_WITH_US.encode(), (connection.pgconn.backend_pid,))
    except psycopg.Error as error:
        connection.close()
        raise Unreachable("T221", url=shown(url), problem=_reason_of(error)) from error
    return connection


def _kept_alive(conninfo: str) -> str:
    """The same, with the system told to find out in time that packets get lost, unless the address says otherwise."""
    given = conninfo_to_dict(conninfo)
    return make_conninfo(conninfo, **{name: value for name, value in KEEPALIVES.items() if name not in given})


def _is_at_work(conninfo: str, backend: tuple[int, str]) -> bool:
    """Whether the server is at work for that session, rather than waiting for its client. A server that answers, and lets
    nobody else in, may well be."""
    try:
        with closing(WatchedConnection.connect(conninfo, autocommit=True, connect_timeout=ASK_SECONDS)) as beside:
            row = beside.execute(_AT_WORK, backend).fetchone()
    except (psycopg.errors.ConnectionTimeout, NoAnswer):
        return False
    except psycopg.Error:
        return said_no(conninfo)
    return row is not None and bool(row[0])


def end_session(connection: Remote, url: str, backend: tuple[int, str]) -> None:
    """Return once that session of ours is gone, which was lost: what it still had on its way is then decided, its lock free.

    Raises InDoubt (T392) where it does not end in time, Unreachable (T221) where this connection is lost too.
    """
    try:
        row = connection.execute(_END, (END_SECONDS * 1000, *backend)).fetchone()
    except psycopg.Error as error:
        raise Unreachable("T221", url=shown(url), problem=_reason_of(error)) from error
    if row is not None and not row[0]:
        raise InDoubt("T392", backend=backend[0], seconds=END_SECONDS)


def reads_as_standard(connection: Remote) -> bool:
    """Whether a backslash in a string is only a backslash. Else the server finds other ends of statements than we do.

    The server reports each change of the setting by itself: nothing is asked.
    """
    return connection.info.parameter_status("standard_conforming_strings") == "on"


def refuse_unfit_remote(connection: Remote, url: str) -> None:
    """Return where locks and settings of this session hold. Raises Blocked (T264, T265), see `remote_fitness.py`."""
    refuse_unfit(connection, conninfo=libpq_url(url), shown=shown(url))


def is_lost(connection: Remote, error: BaseException | None) -> bool:
    """Whether the error means that the connection is gone, rather than that the server said no."""
    return connection.closed or isinstance(error, LOST)


def is_ended(connection: Remote) -> bool:
    """Whether the server has told us that the session is over; nothing is asked. The connection must be idle."""
    if connection.closed:
        return True
    libpq = connection.pgconn
    try:
        while select.select([libpq.socket], [], [], 0)[0]:
            libpq.consume_input()
            libpq.notifies()  # which has libpq read what has come in
            if libpq.status != psycopg.pq.ConnStatus.OK:
                return True
    except (psycopg.OperationalError, OSError, ValueError):
        return True
    return False


# The session's server process, told apart from a later one of the same number. A question of our own never needs longer than
# this limit; statements of a migration have their own.
_BEGIN_SESSION = """
SELECT pid, extract(epoch FROM backend_start)::text,
    CASE WHEN pid = %s THEN set_config('statement_timeout', '30s', false) END
FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()
"""

# Where activities are not tracked, the state is no help, and it may be at work.
_AT_WORK = """
SELECT coalesce(state, '') !~ '^idle' AND wait_event_type IS DISTINCT FROM 'Client'
FROM pg_catalog.pg_stat_activity WHERE pid = %s AND extract(epoch FROM backend_start)::text = %s
"""

_END = """
SELECT pg_catalog.pg_terminate_backend(pid, %s)
FROM pg_catalog.pg_stat_activity WHERE pid = %s AND extract(epoch FROM backend_start)::text = %s
"""

# Behind a pooler the session is another one's next: nothing is set there, for it would stay.
_END_WITH_US = "SELECT set_config('client_connection_check_interval', '1s', false) WHERE pg_catalog.pg_backend_pid() = %s"


def _reason_of(error: psycopg.Error) -> str:
    """In the server's words. libpq gives the reason first, and a hint on the lines below it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].removeprefix("connection failed: ").rstrip(".") if lines else "no reason was given"
