"""A login that fails: what it is called, where the server's code cannot be had too, and that the password stays out of it."""

from __future__ import annotations

import os
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events.errors import Unreachable
from twinstep.stores.remote_connection import open_remote

SECRET = "a-wrong-word-8246"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.started(settings={"max_connections": 10}, durable=False, tcp=True) as started:
        yield started


def refused(url: str) -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        open_remote(url, connect_seconds=2)
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value.details)
    assert SECRET not in said
    return caught.value


def address(server: EmbeddedPostgres) -> str:
    """With a password that is not the right one."""
    right = server.url(tcp=True)
    return right.replace(right.partition("@")[0].rpartition(":")[2], SECRET)


def test_a_wrong_password_is_called_so_and_never_shown(server: EmbeddedPostgres) -> None:
    assert refused(address(server)).code == "T226"


def test_without_a_trace_the_general_message_has_the_servers_reason(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    error = refused(address(server))
    assert error.code == "T221"
    assert "password authentication failed" in error.condition


def test_a_server_that_takes_nobody_any_more_is_away_for_now(server: EmbeddedPostgres) -> None:
    url = server.url().replace("postgres@", "guest@")
    with closing(open_remote(server.url())) as owner:
        owner.execute("CREATE ROLE guest LOGIN CONNECTION LIMIT 1")
        with closing(open_remote(url)):
            error = refused(url)
    assert error.code == "T221"
    assert "too many connections" in error.condition


def test_somebody_who_is_no_postgresql_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        assert refused(f"postgresql://u:{SECRET}@127.0.0.1:{listener.getsockname()[1]}/x").code == "T221"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_failed_login_leaves_no_file_open(server: EmbeddedPostgres) -> None:
    refused(address(server))
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        refused(address(server))
    assert len(list(Path("/dev/fd").iterdir())) == before
