"""Calls in child processes that can really be killed: forked from a process that has everything imported and holds nothing.

Importing costs most of a second, a fork a few milliseconds. So the calls are made in children of a small server: it is this
file, run as a program with the names of the modules to import; each line that it reads is one call. A child that is killed with
SIGKILL runs no handler and closes nothing; a transaction that it had open is rolled back by nobody but the databases.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any


class Forks:
    """The server's other end. One child at a time; made by `started`."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    @classmethod
    @contextmanager
    def started(cls, *modules: str, under: Sequence[str] = ()) -> Iterator[Forks]:
        """A server for as long as the block; `under` is a command that runs it."""
        command = [*under, sys.executable, __file__, *modules]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            forks = cls(server)
            try:
                assert forks._answer() == "ready"
                yield forks
            finally:
                assert server.stdin is not None
                server.stdin.close()

    def begin(self, module: str, function: str, *arguments: Any) -> int:
        """Call `module.function(*arguments)` in a child, arguments as JSON; the child's process id, at once."""
        assert self._server.stdin is not None
        print(json.dumps([module, function, arguments]), file=self._server.stdin, flush=True)
        return int(self._answer())

    def ended(self) -> tuple[bool, Any]:
        """Wait for the child: whether it was killed, and what its call returned (None where it was)."""
        killed, returned = self._answer()
        return killed, returned

    def call(self, module: str, function: str, *arguments: Any) -> tuple[bool, Any]:
        """Begin, and wait."""
        self.begin(module, function, *arguments)
        return self.ended()

    def _answer(self) -> Any:
        assert self._server.stdout is not None
        return json.loads(self._server.stdout.readline())


def kill_self() -> None:
    """The end of this process, here and now."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Answer each line with the child's id, and then with how it ended."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    answers = os.dup(1)
    os.dup2(2, 1)
    _say(answers, "ready")
    for line in sys.stdin:
        module, function, arguments = json.loads(line)
        returned, wrote = os.pipe()
        child = os.fork()
        if child == 0:
            _run(wrote, module, function, arguments)
        os.close(wrote)
        _say(answers, child)
        with os.fdopen(returned) as text:
            told = text.read()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and status != 0:
            sys.exit(f"{function}{arguments} failed")
        result, used = (None, ()) if killed else json.loads(told)
        # What a call imports when it first needs it, the next children have from the beginning.
        for name in used:
            with suppress(ImportError):
                importlib.import_module(name)
        _say(answers, [killed, result])


def _run(wrote: int, module: str, function: str, arguments: list[Any]) -> None:
    status = 1
    try:
        result = getattr(importlib.import_module(module), function)(*arguments)
        with os.fdopen(wrote, "w") as told:
            json.dump([result, [name for name in sys.modules if name != "__main__"]], told)
        status = 0
    except Exception:  # whatever it is, it is shown, and the child must not go on as if it were the server
        traceback.print_exc()
    os._exit(status)


def _say(answers: int, what: Any) -> None:
    os.write(answers, f"{json.dumps(what)}\n".encode())


if __name__ == "__main__":
    main()
