"""A real PostgreSQL for as long as a `with` block, for the demo and for tests; nothing of it is left behind::

    with EmbeddedPostgres.started() as server:
        url = server.create_database()

It uses nothing but PostgreSQL's own programs (`postgres_binaries.py`), and changes no permission outside its own folder,
which lies where temporary files go. Started by root, the server runs as an account without rights. However this process
ends, also by SIGKILL and also during the start, the server is stopped and the folder removed by the process that keeps it:
read `embedded_keeper.py` for how.

Not for data that matter: the folder goes with the block (see `keep`). It never reads the environment.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final
from urllib.parse import quote

from ..events.errors import ConfigurationError
from ..stores.scratch import folder_in_memory
from .postgres_binaries import PostgresBinaries, choose_binaries

if TYPE_CHECKING:
    from psycopg import Connection

Setting: TypeAlias = "str | int | float | bool"
StopMode: TypeAlias = Literal["fast", "immediate"]

KEEPER: Final = Path(__file__).resolve().with_name("embedded_keeper.py")
SUPERUSER: Final = "postgres"
# Durability stays as PostgreSQL ships it (fsync on). Memory is that of a guest, and times do not depend on the machine.
DEFAULTS: Final[Mapping[str, Setting]] = {"shared_buffers": "32MB", "timezone": "UTC", "log_timezone": "UTC"}
# Of what need not outlive the machine, and of how much memory it may take.
FLEETING: Final[Mapping[str, Setting]] = {"fsync": False, "max_wal_size": "256MB"}
ROOM_BYTES: Final = 4 << 30


@final
class EmbeddedPostgres:
    """A running server of our own. Made by `started` only; not for use by several threads at once."""

    def __init__(self, *, keeper: subprocess.Popen[str], binaries: PostgresBinaries, password: str | None) -> None:
        self._keeper = keeper
        self._owner = os.getpid()
        self._password = password
        self.binaries = binaries
        self.folder = Path()
        self._port = 0

    @classmethod
    @contextmanager
    def started(
        cls,
        *,
        binaries: Path | str | None = None,
        settings: Mapping[str, Setting] | None = None,
        keep: Path | str | None = None,
        tcp: bool = False,
        durable: bool = True,
    ) -> Iterator[EmbeddedPostgres]:
        """Make a cluster, start it, and give it away until the block ends, however it ends.

        `binaries` is a folder with `postgres` and `initdb`; without it, the extra `embedded` is used, else what Debian
        installed. `settings` go into postgresql.conf. `keep` names a folder that does not exist yet, to which the cluster
        is moved once it has been stopped. With `tcp`, a free port of 127.0.0.1 is listened on too, with a password.
        Without `durable` nothing outlives the machine: fsync is off, and the cluster lies in memory where there is room.
        Raises ConfigurationError: T131, T132 without usable binaries, T133 where the server does not start (with the end
        of its log), T134 for a `keep` that cannot be made.
        """
        chosen = choose_binaries(binaries)
        password = secrets.token_hex(16) if tcp else None
        parent = None if durable else folder_in_memory(ROOM_BYTES)
        own = DEFAULTS if durable else {**DEFAULTS, **FLEETING}
        request = {
            "binaries": str(chosen.folder),
            "settings": {name: _setting_text(value) for name, value in {**own, **(settings or {})}.items()},
            "parent": None if parent is None else str(parent),
            "keep": None if keep is None else str(_checked_keep(Path(keep))),
            "password": password,
        }
        server = cls(keeper=_start_keeper(), binaries=chosen, password=password)
        try:
            server._begin(request)
            yield server
        finally:
            server._end()
        if keep is not None and not Path(keep).exists():
            raise ConfigurationError("T134", path=keep, problem=f"moving the cluster there failed; see {server.folder}")

    @property
    def version(self) -> str:
        """Such as "18.4"."""
        return self.binaries.version

    def url(self, database: str = SUPERUSER, *, tcp: bool = False) -> str:
        """The libpq URL of a database, over the unix socket, or over TCP where the server was started with it."""
        name = quote(database, safe="")
        if not tcp:
            return f"postgresql://{SUPERUSER}@/{name}?host={quote(str(self.folder))}&port={self._port}"
        if self._password is None:
            raise ValueError("the server was started without tcp=True")
        return f"postgresql://{SUPERUSER}:{self._password}@127.0.0.1:{self._port}/{name}"

    def create_database(self, name: str | None = None) -> str:
        """Make an empty database, under a name that is used once if none is given; returns its URL."""
        chosen = name or f"twinstep_{secrets.token_hex(6)}"
        with self._connected() as connection:
            connection.execute(f"CREATE DATABASE {_identifier(chosen)} TEMPLATE template0".encode())
        return self.url(chosen)

    def drop_database(self, name: str) -> None:
        """Drop a database and end whoever is connected to it; nothing happens if it does not exist."""
        with self._connected() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)".encode())

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server: `fast` ends its sessions and writes all out, `immediate` is a crash. The data stay as they are
        until the block ends; `restart` starts it again. Stopping a stopped server changes nothing."""
        self._ask(f"stop {mode}")

    def restart(self, mode: StopMode = "immediate") -> None:
        """Stop it, if it runs, and start it on the same folder and port; returns when it accepts connections (after
        an immediate stop: when it has recovered). Raises ConfigurationError (T133) if it does not start."""
        self._ask(f"restart {mode}")

    def _connected(self) -> Connection[tuple[object, ...]]:
        # Late: importing psycopg costs more than all the rest, and `status` and `migrate` never come here.
        import psycopg

        return psycopg.connect(self.url(), autocommit=True)

    def _begin(self, request: Mapping[str, object]) -> None:
        answer = self._ask(json.dumps(request))
        self.folder = Path(str(answer["folder"]))
        self._port = int(str(answer["port"]))

    def _ask(self, order: str) -> dict[str, object]:
        """Give the keeper an order and return its answer, or raise what it failed with."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        problem = "the process that keeps it was killed"
        try:
            self._keeper.stdin.write(order + "\n")
            self._keeper.stdin.flush()
            line = self._keeper.stdout.readline()
        except BrokenPipeError as broken:
            raise self._cannot_start(problem) from broken
        if not line:
            raise self._cannot_start(problem)
        answer: dict[str, object] = json.loads(line)
        if "error" in answer:
            raise self._cannot_start(str(answer["error"]))
        return answer

    def _cannot_start(self, problem: str) -> ConfigurationError:
        return ConfigurationError("T133", version=self.version, path=self.binaries.folder, problem=problem)

    def _end(self) -> None:
        """Close the pipe and wait until the keeper has stopped the server and removed the folder."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        # Closing can flush an order that a dead keeper no longer takes.
        with suppress(BrokenPipeError):
            self._keeper.stdin.close()
        # In a fork of ours the keeper is not a child, and the server belongs to the process that started it.
        if os.getpid() == self._owner:
            self._keeper.wait()
        self._keeper.stdout.close()


def _start_keeper() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(KEEPER), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        text=True,
        # So that Ctrl-C and signals to our process group do not reach it.
        start_new_session=True,
    )


def _setting_text(value: Setting) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _checked_keep(folder: Path) -> Path:
    if folder.exists():
        raise ConfigurationError("T134", path=folder, problem="it exists already")
    if not os.access(folder.parent, os.W_OK):
        raise ConfigurationError("T134", path=folder, problem="the folder above it is missing, or may not be written to")
    return folder.absolute()


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
