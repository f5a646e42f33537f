"""The process that keeps an embedded PostgreSQL, so that none is left behind however its user ends.

`embedded.py` runs this file as a script, in a session of its own. The first line on stdin says what to start; every
further line is an order; each is answered by one line on stdout, all in JSON. The server and its initdb are children of
this process, never of the user's. When stdin closes, or the process that started us is no longer our parent, the server is
stopped (fast, then immediate, then killed) and its folder is gone, also half-way through initdb. One rule in place of
an exit handler for every way to end: SIGKILL runs no exit handler, but it closes pipes.

It must never import anything but the standard library, and nothing of Twinstep: it runs as `python -I -S`, without
site-packages. Longer than other modules for the same reason: a script that runs so cannot import its neighbour.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, TypedDict

STARTUP_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
SOCKET_PORT: Final = 5432
# The shortest limit of the platforms (macOS: 104 bytes with the final zero), for "<folder>/.s.PGSQL.<port>".
LONGEST_SOCKET_PATH: Final = 103
LOG_LINES: Final = 12
PR_SET_PDEATHSIG: Final = 1
# What to send to a postmaster, and how long it may take before the next, harder one.
STOPS: Final = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
FIRST_STOP: Final = {"fast": 0, "immediate": 1}


class Request(TypedDict):
    """What to start. `keep` is where the folder goes in the end, `password` that of TCP connections (None: no TCP),
    `parent` where it should lie meanwhile."""

    binaries: str
    settings: dict[str, str]
    keep: str | None
    password: str | None
    parent: str | None


class Failed(Exception):
    """The server cannot run; the text is for the user."""


class ParentGone(Exception):
    """Nobody is waiting for us any more."""


class Parent:
    """The process that we serve, seen through a pipe, and through our own parent's id.

    The pipe tells at once. The id is for a user that forked: its children hold the pipe open beyond its death.
    """

    def __init__(self, process_id: int) -> None:
        self._process_id = process_id
        self._received = b""

    def order(self) -> str | None:
        """The next line, or None when there will be no more."""
        while b"\n" not in self._received:
            readable = select.select([0], [], [], 1.0)[0]
            chunk = os.read(0, 65536) if readable else b""
            if os.getppid() != self._process_id or (readable and not chunk):
                return None
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()

    def pause(self) -> None:
        """Let a moment pass. Raises ParentGone at once when the parent is; it never writes while it waits for an answer."""
        if select.select([0], [], [], POLL_SECONDS)[0] or os.getppid() != self._process_id:
            raise ParentGone

    def answer(self, **values: str | int | None) -> None:
        """Say one thing. If nobody listens any more, the next `order` finds that out."""
        with suppress(BrokenPipeError):
            os.write(1, json.dumps(values).encode() + b"\n")


class Account:
    """Who runs the server: ourselves, or somebody without rights when we are root, as which PostgreSQL refuses to run."""

    def __init__(self) -> None:
        self._other = _unprivileged() if os.geteuid() == 0 else None

    def popen(self, command: list[str | Path], log: Path | None) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own that ends when we do; its output is added to the log."""
        output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                preexec_fn=_end_with_keeper if sys.platform == "linux" else None,
                user=None if self._other is None else self._other.pw_uid,
                group=None if self._other is None else self._other.pw_gid,
                extra_groups=None if self._other is None else [],
            )
        finally:
            os.close(output)

    def can_run(self, command: list[str | Path]) -> bool:
        """Whether the command can be reached and executed, and says yes."""
        try:
            return self.popen(command, None).wait() == 0
        except OSError:
            return False

    def own(self, path: Path) -> None:
        """Make over one thing of ours; nothing outside our own folder is ever given to this."""
        if self._other is not None:
            os.chown(path, self._other.pw_uid, self._other.pw_gid)


class Server:
    """One cluster in its own folder: made, started, stopped, removed."""

    def __init__(self, request: Request, parent: Parent) -> None:
        self._request = request
        self._parent = parent
        self._account = Account()
        # One number serves both: it also ends the name of the unix socket.
        self.port = SOCKET_PORT if request["password"] is None else _free_port()
        self.folder = _make_folder(self._account, request["parent"])
        self._data = self.folder / "data"
        self._log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        """Make the cluster. Raises Failed with the end of initdb's output, ParentGone once initdb has ended."""
        self._program = _reachable_program(Path(self._request["binaries"]), self.folder, self._account)
        # No sync: it is for a power cut between here and the first checkpoint, which no throw-away cluster outlives.
        command: list[str | Path] = [self._program / "initdb", "-D", self._data, "-U", "postgres", "--no-sync"]
        command += ["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"]
        command += [f"--pwfile={self._password_file()}"]
        log = self.folder / "initdb.log"
        process = self._account.popen(command, log)
        try:
            while process.poll() is None:
                self._parent.pause()
        finally:
            _see_out(process)
        if process.returncode != 0:
            raise Failed(f"initdb failed and its output ends: {_end_of(log)}")
        self._configure()

    def _password_file(self) -> Path:
        path = self.folder / "password"
        path.touch(mode=0o600)
        path.write_text(self._request["password"] or os.urandom(16).hex())
        self._account.own(path)
        return path

    def _configure(self) -> None:
        settings = {
            "listen_addresses": "" if self._request["password"] is None else "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "unix_socket_permissions": "0700",
        }
        with (self._data / "postgresql.conf").open("a") as file:
            for name, value in (self._request["settings"] | settings).items():
                file.write("{} = '{}'\n".format(name, value.replace("'", "''")))

    def start(self) -> None:
        """Start, and return when connections are accepted. Raises Failed with the end of the log, and ParentGone."""
        if self._process is not None:
            return
        self._process = self._account.popen([self._program / "postgres", "-D", self._data], self._log)
        deadline = time.monotonic() + STARTUP_SECONDS
        while not self._accepts(self._process.pid):
            if self._process.poll() is not None:
                self._process = None
                raise Failed(f"it ended at once and its log ends: {_end_of(self._log)}")
            if time.monotonic() > deadline:
                self.stop("immediate")
                raise Failed(f"it was not ready after {STARTUP_SECONDS:.0f} s and its log ends: {_end_of(self._log)}")
            self._parent.pause()

    def _accepts(self, process_id: int) -> bool:
        # The postmaster writes its state to the eighth line; pg_ctl waits for the same word.
        with suppress(FileNotFoundError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[0] == str(process_id) and lines[7].strip() == "ready"
        return False

    def stop(self, mode: str) -> None:
        """Stop it, harder if it does not follow. A stopped server stays stopped."""
        if self._process is None:
            return
        for number, seconds in STOPS[FIRST_STOP[mode] :]:
            self._process.send_signal(number)
            # A suspended process would sleep through everything but SIGKILL.
            self._process.send_signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
        self._process = None

    def remove(self) -> None:
        """The end of the folder: gone, or moved to where it is kept. Raises OSError if it can be neither."""
        if self._request["keep"] is not None and self._data.exists():
            _remove(self.folder / "program")
            (self.folder / "password").unlink(missing_ok=True)
            shutil.move(self.folder, self._request["keep"])
        else:
            _remove(self.folder)


def main() -> None:
    """Serve one parent until it goes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever ends everything ends our parent too, and then it is our turn. A handler, since ignoring is inherited.
        signal.signal(number, lambda *_: None)
    parent = Parent(int(sys.argv[1]))
    first = parent.order()
    if first is None:
        return
    try:
        server = Server(json.loads(first), parent)
    except Failed as failure:
        parent.answer(error=str(failure))
        return
    try:
        server.initialise()
        server.start()
        _obey(server, parent)
    except Failed as failure:
        parent.answer(error=str(failure))
    except ParentGone:
        pass
    finally:
        server.stop("fast")
        server.remove()


def _obey(server: Server, parent: Parent) -> None:
    parent.answer(folder=str(server.folder), port=server.port)
    while (order := parent.order()) is not None:
        action, mode = order.split()
        server.stop(mode)
        try:
            if action == "restart":
                server.start()
        except Failed as failure:
            parent.answer(error=str(failure))
        else:
            parent.answer()


def _make_folder(account: Account, preferred: str | None) -> Path:
    """A folder that the account can reach, and with room for a socket's path."""
    for parent in filter(None, (preferred, tempfile.gettempdir(), "/tmp", "/var/tmp")):
        try:
            folder = Path(tempfile.mkdtemp(prefix="twinstep-postgres-", dir=parent))
        except OSError:
            continue
        account.own(folder)
        fits = len(os.fsencode(folder / ".s.PGSQL.65535")) <= LONGEST_SOCKET_PATH
        if fits and account.can_run(["/bin/sh", "-c", 'test -w "$0"', folder]):
            return folder
        folder.rmdir()
    raise Failed(f"no folder for temporary files, such as {tempfile.gettempdir()}, is of use to the server's account")


def _reachable_program(binaries: Path, folder: Path, account: Account) -> Path:
    """The binaries where the account can run them: in place, or in a copy within our folder."""
    if _can_run_all(binaries, account):
        return binaries
    # Typically a virtual environment below root's home. Opening that home to the account is not ours to do.
    copied = _copy_program(binaries.parent, folder / "program") / binaries.name
    if _can_run_all(copied, account):
        return copied
    raise Failed("its programs cannot be executed, neither there nor in a copy")


def _can_run_all(binaries: Path, account: Account) -> bool:
    return all(account.can_run([binaries / program, "--version"]) for program in ("postgres", "initdb"))


def _copy_program(tree: Path, home: Path) -> Path:
    """Copy an installation, and the libraries that its wheel keeps beside its package, with what lies between them."""
    package = tree.parent
    copied = home / package.name / tree.name
    shutil.copytree(tree, copied, ignore=shutil.ignore_patterns("include", "pkgconfig", "*.a"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name)
    for path in (home, *home.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
    return copied


def _unprivileged() -> pwd.struct_passwd:
    for name in ("nobody", "postgres"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise Failed("PostgreSQL does not run as root, and there is no account 'nobody' or 'postgres' to run it as")


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like belong to some other server.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return inherited | {"LC_ALL": "C"}


def _end_with_keeper() -> None:
    # For the one case that no pipe covers: this process itself is killed. After the change of user, which resets it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _see_out(process: subprocess.Popen[bytes]) -> None:
    """Let initdb come to its end, a second at most: ended by a signal, it leaves shared memory behind for good."""
    try:
        process.wait(STARTUP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _remove(folder: Path) -> None:
    """Remove a folder into which a dying process may still write its last."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(POLL_SECONDS)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
