"""A network that fails where it is told to: a proxy on 127.0.0.1 that reads what goes by, in front of a real server.

Every message of every client is shown to `rule`, which says what becomes of it: passed on; the connection cut before it, or
after it and before its answer (of a COMMIT: it is done, and nobody is told so); or the connection goes deaf, in both
directions or only on the way back, and stays open all the while, as it does where a router has forgotten it. Connections can
also be refused for a while, left without an answer, and each answer delayed. Encryption is not offered.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

from attrs import frozen
from wire import CANCEL_REQUEST, Stream, with_length

ANSWER_SECONDS = 60.0


class Act(Enum):
    """What becomes of a message."""

    PASS = "passed on"
    CUT = "the connection cut before it is passed on"
    SWALLOW = "passed on, and the connection cut before its answer"
    DEAF = "neither passed on nor answered, on a connection that stays open"
    MUTE = "passed on and never answered, on a connection that stays open"


@frozen(kw_only=True)
class Message:
    """What a client sends: the first of a session has the kind "start". `text` is the statement that it belongs to."""

    number: int
    session: int
    kind: str
    text: str

    @property
    def is_sent_to_be_answered(self) -> bool:
        """Whether the server answers it by itself, rather than with those that follow."""
        return self.kind in ("start", "Q", "S")


Rule: TypeAlias = Callable[[Message], Act]


def pass_on(message: Message) -> Act:
    """Nothing happens."""
    return Act.PASS


def at(number: int, act: Act) -> Rule:
    """That, to the message of this number, counted over all sessions."""
    return lambda message: act if message.number == number else Act.PASS


def first(matches: Callable[[Message], bool], act: Act, *, times: int = 1) -> Rule:
    """That, to the first so many messages that match."""
    left = [times]

    def rule(message: Message) -> Act:
        if left[0] and matches(message):
            left[0] -= 1
            return act
        return Act.PASS

    return rule


def is_commit(message: Message) -> bool:
    return message.kind == "Q" and message.text.strip() == "COMMIT"


class Network:
    """Between clients and one server. `url` is where clients go; `server` where the proxy does."""

    def __init__(self, server: str) -> None:
        self.rule: Rule = pass_on
        self.delay_seconds = 0.0
        self.answers = True
        self.seen: list[Message] = []
        self.closed = threading.Event()
        self._server = server
        self._lock = threading.Lock()
        self._sessions: list[_Session] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._listener.getsockname()[1]
        self._listen()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}{urlsplit(self._server).path}"

    def refuse(self) -> None:
        """From now on nobody is let in; who is in stays."""
        end(self._listener)

    def accept(self) -> None:
        """The way is open again."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._listen()

    def cut(self) -> None:
        """End all connections, on both ends."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.cut()

    def close(self) -> None:
        self.closed.set()
        end(self._listener)
        self.cut()

    def judge(self, session: int, kind: str, text: str) -> tuple[Act, Message]:
        """What becomes of the next message: one at a time, so that the numbers mean something."""
        with self._lock:
            message = Message(number=len(self.seen), session=session, kind=kind, text=text)
            self.seen.append(message)
            return self.rule(message), message

    def to_server(self) -> Stream:
        parts = urlsplit(self._server)
        words = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if "host" in words:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(f"{words['host']}/.s.PGSQL.{words['port']}")
        else:
            connection = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 5432))
        return Stream(connection)

    def _listen(self) -> None:
        threading.Thread(target=self._accept_all, args=(self._listener,), daemon=True).start()

    def _accept_all(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    session = _Session(self, len(self._sessions), Stream(client))
                    self._sessions.append(session)
                threading.Thread(target=session.forward, daemon=True).start()


class _Session:
    """One client and its session with the server: one thread for each direction."""

    def __init__(self, network: Network, number: int, client: Stream) -> None:
        self._network = network
        self._number = number
        self._client = client
        self._server: Stream | None = None
        self._keeps_back = False
        self._stays_open = False
        self._answered = threading.Event()

    def forward(self) -> None:
        try:
            self._forward()
        except OSError:
            pass  # one of the two is gone
        finally:
            if not self._stays_open:
                self.cut()

    def cut(self) -> None:
        for stream in (self._client, self._server):
            if stream is not None:
                end(stream.socket)

    def _forward(self) -> None:
        self._stays_open = not self._network.answers
        if self._stays_open:
            return
        start = self._client.start_in_the_clear()
        self._server = self._network.to_server()
        if struct.unpack("!i", start[:4])[0] == CANCEL_REQUEST:
            self._server.send(with_length(start))
            self._server.socket.recv(1)
            return
        threading.Thread(target=self._backward, args=(self._server,), daemon=True).start()
        kind, data, text = "start", with_length(start), ""
        while self._goes_on(self._server, kind, data, text):
            letter, data = self._client.message()
            kind = letter.decode()
            text = _statement_of(kind, data, text)

    def _goes_on(self, server: Stream, kind: str, data: bytes, text: str) -> bool:
        act, message = self._network.judge(self._number, kind, text)
        self._keeps_back = act in (Act.SWALLOW, Act.MUTE, Act.DEAF)
        self._stays_open = act in (Act.MUTE, Act.DEAF)
        if act in (Act.PASS, Act.SWALLOW, Act.MUTE):
            server.send(data)
        if act is Act.SWALLOW and message.is_sent_to_be_answered:
            self._answered.wait(ANSWER_SECONDS)
        return act is Act.PASS

    def _backward(self, server: Stream) -> None:
        with suppress(OSError):
            while True:
                kind, data = server.message()
                if not self._keeps_back:
                    if self._network.delay_seconds:
                        time.sleep(self._network.delay_seconds)
                    self._client.send(data)
                elif kind == b"Z":
                    self._answered.set()
        self._answered.set()
        if not self._stays_open:
            self.cut()


def _statement_of(kind: str, data: bytes, before: str) -> str:
    """The text of a Query or Parse; of what follows a Parse, that one's."""
    if kind == "Q":
        return data[5:-1].decode(errors="replace")
    if kind == "P":
        return data[5:].split(b"\0", 2)[1].decode(errors="replace")
    return before


def end(connection: socket.socket) -> None:
    """End it for the thread that waits on it too, which closing alone does not."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def network_to(server: str) -> Iterator[Network]:
    """A network in front of the server at this URL, over a unix socket or TCP, which lets everything pass at first."""
    network = Network(server)
    try:
        yield network
    finally:
        network.close()
