"""A network between a client and a PostgreSQL server that loses what it is told to lose.

It listens on 127.0.0.1 and passes each connection on to the server's unix socket. `lose_next` has it cut the connection at the
next message to the server, either before the message arrives or with its answer on the way back; while `down`, nobody gets
through. A message is recognised by a text that is in it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from network import end


class Network:
    """The proxy. `cut` is set once the connection was cut as ordered."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._order: tuple[bytes, Literal["request", "answer"]] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.down = self.down_after_cut = False
        self.cut = threading.Event()
        self.at_the_cut = threading.Event()
        self.at_the_cut.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_next(self, text: str, what: Literal["request", "answer"]) -> None:
        """Cut the connection at the next message with that text."""
        self.cut.clear()
        self._order = text.encode(), what

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.down:
                    client.close()
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._socket_path)
                threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
                threading.Thread(target=self._to_client, args=(server, client), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 20):
                if self._order is not None and self._order[0] in data:
                    _, what = self._order
                    self._order = None
                    if what == "answer":
                        server.sendall(data)
                    # The client learns of it at once; the server goes on with what it has.
                    self.down = self.down_after_cut
                    client.shutdown(socket.SHUT_RDWR)
                    self.cut.set()
                    if what == "answer":
                        # The session stays open on the server's side, so that what it was told to do it does.
                        self.at_the_cut.wait()
                    break
                server.sendall(data)
        end(client)
        end(server)

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 20):
                client.sendall(data)


@contextmanager
def network(socket_path: str) -> Iterator[Network]:
    """A network to the server with that socket."""
    made = Network(socket_path)
    try:
        yield made
    finally:
        made.at_the_cut.set()
        made.close()
