"""The real databases that the tests run on: one embedded PostgreSQL a process, a fresh database a test.

`postgres` and `remote_url` are what most tests want. `each_postgres` and `each_remote_url` run a test once for every major
version found on this machine (those of the extra `embedded` at least, and Debian's), for what differs between versions.
A test that stops or breaks its server starts one of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING

import pytest
from event_stores import PostgresLog
from power import can_trace

from twinstep.engine.embedded import ROOM_BYTES, EmbeddedPostgres
from twinstep.engine.postgres_binaries import PostgresBinaries, choose_binaries, found_binaries
from twinstep.stores.scratch import folder_in_memory

if TYPE_CHECKING:
    from pathlib import Path

# Files of tests need not outlive the machine either.
if (memory := folder_in_memory(ROOM_BYTES)) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))

# What is not synced is known only of a process that can be looked at.
collect_ignore = [] if can_trace() else ["test_power_loss.py"]


def one_of_each_version() -> list[PostgresBinaries]:
    """What is found, the default first, without the second of two installations of one major version."""
    return list({binaries.major_version: binaries for binaries in reversed(found_binaries())}.values())[::-1]


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running server that all tests of this process share."""
    with EmbeddedPostgres.started(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def log_server(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """The server on which the logs of `event_stores.PostgresLog` lie."""
    PostgresLog.server = postgres
    return postgres


@pytest.fixture
def remote_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of an empty database, which is dropped after the test."""
    with _fresh_database(postgres) as url:
        yield url


@pytest.fixture(scope="session", params=one_of_each_version(), ids=lambda one: f"postgres_{one.major_version}")
def each_postgres(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    """A shared server of each version that this machine has."""
    folder: Path = request.param.folder
    if folder == choose_binaries().folder:
        yield request.getfixturevalue("postgres")
        return
    with EmbeddedPostgres.started(binaries=folder, durable=False) as server:
        yield server


@pytest.fixture
def each_remote_url(each_postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of an empty database on each version, dropped after the test."""
    with _fresh_database(each_postgres) as url:
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The numbers that tests have recorded as `schedules`, as a table; also where they ran in workers."""
    passed = terminalreporter.getreports("passed")
    rows = [value for report in passed for name, value in report.user_properties if name == "schedules"]
    if rows:
        terminalreporter.section("schedules")
        for row in rows:
            terminalreporter.write_line(str(row))


@contextmanager
def _fresh_database(server: EmbeddedPostgres) -> Iterator[str]:
    name = f"test_{token_hex(6)}"
    yield server.create_database(name)
    server.drop_database(name)
