"""Refused before touched: every bad input and every bad circumstance has its own message, and changes nothing."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from refusal_cases import CASES, Case
from refusal_play import fresh_world, play
from refusal_world import World

from twinstep.engine.embedded import EmbeddedPostgres

# One of each kind: found in the folder, under the lock, while running, by the disk, on the remote.
WITH_A_LOG_OF_WRITES = frozenset({"T125", "T106", "T201", "T333", "T231", "T226", "T264", "T268"})


@pytest.fixture(scope="session")
def server_with_passwords() -> Iterator[EmbeddedPostgres]:
    """A server that is also reached over TCP, where it asks for a password."""
    with EmbeddedPostgres.started(durable=False, tcp=True) as server:
        yield server


@pytest.fixture
def world(server_with_passwords: EmbeddedPostgres) -> Iterator[World]:
    """A fresh one."""
    with fresh_world(server_with_passwords) as made:
        yield made


def of_cases(finishes: bool) -> pytest.MarkDecorator:
    chosen = [case for case in CASES if case.finishes is finishes]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


@of_cases(finishes=False)
def test_what_is_refused_is_named_and_changes_nothing(case: Case, world: World) -> None:
    played = play(case, world)
    assert (played.exit, played.code) == (case.exit, case.code), played.printed
    assert case.says in f"{played.message} {played.next_step}"
    assert "Next: " in played.printed
    assert "Traceback" not in played.printed
    assert not any(secret and secret in played.printed for secret in world.secrets)
    assert played.changed == ()


@pytest.mark.parametrize("case", [case for case in CASES if case.code in WITH_A_LOG_OF_WRITES], ids=lambda case: case.name)
def test_rows_that_lie_in_a_write_ahead_log_stay_there(case: Case, world: World) -> None:
    world.sql("PRAGMA journal_mode = WAL")
    host = world.stack.enter_context(closing(sqlite3.connect(world.local, isolation_level=None)))
    host.execute("PRAGMA wal_autocheckpoint = 0")
    host.execute("INSERT INTO notes (title) VALUES ('not in the file yet')")
    played = play(case, world)
    assert (played.exit, played.code) == (case.exit, case.code), played.printed
    assert played.changed == ()


@of_cases(finishes=True)
def test_what_is_in_flight_is_finished_by_what_it_recorded(case: Case, world: World) -> None:
    played = play(case, world)
    assert (played.exit, played.code) == (0, ""), played.printed
    after = world.seen()
    assert "tags" in after.local
    assert "tags" in after.remote


def test_whatever_a_command_changes_is_noticed(world: World) -> None:
    def prepare(world: World) -> None:
        world.with_remote()
        world.add()

    played = play(Case(name="no refusal at all", prepare=prepare, code="T101", exit=2, says=""), world)
    assert played.exit == 0
    noticed = " ".join(played.changed)
    for each in (
        "the bytes of the local file",
        "local schema",
        "local tags",
        "remote relations",
        "app.db.twinstep/log.db",
        "the log",
    ):
        assert each in noticed


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"T\d{3}", case.code) for case in CASES if not case.finishes)
