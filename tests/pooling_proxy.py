"""A pooler of the kind that hands each transaction to whichever server session is free, as PgBouncer does in that mode.

It answers the start of a session itself, with a backend id of its own making, and keeps a few sessions of the real server
(over its unix socket, without a password). What a client sends is passed on to the session that was used last, until the
server says that no transaction is open any more. With `keeps`, each client has its session until it goes, as in session mode.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import LifoQueue, Queue

from wire import Stream, with_length

FALSE_BACKEND = 424242


class Pooler:
    """The sessions, and the clients that take turns on them."""

    def __init__(self, socket_path: str, database: str, *, sessions: int, keeps: bool, in_turn: bool) -> None:
        self._sessions: Queue[Stream] = Queue() if in_turn else LifoQueue()
        self._keeps = keeps
        self.greeting = b""
        self._opened = [self._session(socket_path, database) for _ in range(sessions)]
        for session in self._opened:
            self._sessions.put(session)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for session in self._opened:
            session.socket.close()

    def _session(self, socket_path: str, database: str) -> Stream:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(socket_path)
        words = f"user\0postgres\0database\0{database}\0\0".encode()
        connection.sendall(with_length(struct.pack("!i", 196608) + words))
        stream, greeting = Stream(connection), b""
        while (message := stream.message())[0] != b"Z":
            # What the server says of its settings is what the pooler says to its clients.
            greeting += message[1] if message[0] == b"S" else b""
        self.greeting = greeting
        return stream

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(Stream(client),), daemon=True).start()

    def _serve(self, client: Stream) -> None:
        with suppress(OSError), client.socket:
            client.start_in_the_clear()
            key = struct.pack("!ciii", b"K", 12, FALSE_BACKEND, 1)
            client.send(struct.pack("!cii", b"R", 8, 0) + self.greeting + key + struct.pack("!cic", b"Z", 5, b"I"))
            self._take_turns(client)

    def _take_turns(self, client: Stream) -> None:
        session = None
        try:
            session = self._pass_on(client)
        finally:
            if session is not None:
                self._sessions.put(session)

    def _pass_on(self, client: Stream) -> Stream | None:
        session: Stream | None = None
        while (message := client.message())[0] != b"X":
            session = session or self._sessions.get()
            session.send(message[1])
            if message[0] in (b"Q", b"S"):
                while True:
                    kind, data = session.message()
                    client.send(data)
                    if kind == b"Z":
                        break
                if data[5:] == b"I" and not self._keeps:
                    self._sessions.put(session)
                    session = None
        return session


@contextmanager
def pooling(socket_path: str, database: str, *, sessions: int = 2, keeps: bool = False, in_turn: bool = False) -> Iterator[int]:
    """A pooler in front of a server's unix socket; gives the port on 127.0.0.1. `in_turn`: the one that rested longest."""
    pooler = Pooler(socket_path, database, sessions=sessions, keeps=keeps, in_turn=in_turn)
    try:
        yield pooler.port
    finally:
        pooler.close()
