"""A remote that is told apart by what it does: a server, a pooler that keeps sessions, and one that hands them around."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from pooling_proxy import FALSE_BACKEND, pooling

from twinstep.events.errors import Blocked
from twinstep.stores import remote_fitness
from twinstep.stores.remote_connection import open_remote, refuse_unfit_remote
from twinstep.stores.remote_fitness import pools_transactions


def place(remote_url: str) -> tuple[str, str]:
    """The server's socket, and the database."""
    path, _, rest = remote_url.partition("?host=")
    folder, _, port = rest.replace("%2F", "/").partition("&port=")
    return f"{folder}/.s.PGSQL.{port}", path.rpartition("/")[2]


def address(remote_url: str, port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/{place(remote_url)[1]}"


@pytest.mark.parametrize(
    ("sessions", "keeps", "in_turn", "pools"),
    [
        (2, False, False, True),
        (2, False, True, True),
        (5, False, True, True),
        (1, False, False, True),
        (2, True, False, False),
        (1, True, False, False),
    ],
    ids=["last used", "in turn", "many in turn", "a single one", "kept", "a single one, kept"],
)
def test_a_pooler_is_refused_only_where_clients_change_places(
    remote_url: str, sessions: int, keeps: bool, in_turn: bool, pools: bool
) -> None:
    with pooling(*place(remote_url), sessions=sessions, keeps=keeps, in_turn=in_turn) as port:
        url = address(remote_url, port)
        with closing(open_remote(url)) as connection:
            assert connection.pgconn.backend_pid == FALSE_BACKEND
            assert pools_transactions(connection, url) is pools
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_itself_is_no_pooler_and_is_asked_once(remote_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_remote(remote_url)) as connection:
        monkeypatch.setattr(psycopg, "connect", None)  # a second connection would fail
        assert not pools_transactions(connection, remote_url)


def test_nothing_is_set_on_a_session_that_another_client_gets_next(remote_url: str) -> None:
    setting = "SHOW client_connection_check_interval"
    with pooling(*place(remote_url), sessions=1) as port:
        url = address(remote_url, port)
        with closing(open_remote(url)), closing(psycopg.connect(url, autocommit=True)) as other:
            assert other.execute(setting).fetchone() == ("0",)
    with closing(open_remote(remote_url)) as direct:
        assert direct.execute(setting).fetchone() == ("1s",)


@pytest.mark.parametrize(("version", "said"), [(130012, "13.12"), (90624, "9.624"), (140000, None), (180004, None)])
def test_a_server_that_is_too_old_is_refused(
    remote_url: str, monkeypatch: pytest.MonkeyPatch, version: int, said: str | None
) -> None:
    monkeypatch.setattr(remote_fitness, "server_version", lambda connection: version)
    with closing(open_remote(remote_url)) as connection:
        if said is None:
            refuse_unfit_remote(connection, remote_url)
            return
        with pytest.raises(Blocked) as blocked:
            refuse_unfit_remote(connection, remote_url)
    assert (blocked.value.code, said in blocked.value.condition) == ("T265", True)
