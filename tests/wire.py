"""PostgreSQL's messages over a socket, as far as a proxy between a client and its server has to know them."""

from __future__ import annotations

import socket
import struct

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


class Stream:
    """Messages of PostgreSQL's protocol over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")

    def start(self) -> bytes:
        """The first message of a client, which has no kind; without its length."""
        (length,) = struct.unpack("!i", self._exactly(4))
        return self._exactly(length - 4)

    def start_in_the_clear(self) -> bytes:
        """The first one that asks for no encryption: of that there is none here, and the client is told so."""
        while struct.unpack("!i", (first := self.start())[:4])[0] in (SSL_REQUEST, GSS_REQUEST):
            self.send(b"N")
        return first

    def message(self) -> tuple[bytes, bytes]:
        """The next one: its kind, and all of its bytes."""
        head = self._exactly(5)
        (length,) = struct.unpack("!i", head[1:])
        return head[:1], head + self._exactly(length - 4)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise ConnectionError
        return data


def with_length(start: bytes) -> bytes:
    """A first message as it goes over the wire."""
    return struct.pack("!i", len(start) + 4) + start
