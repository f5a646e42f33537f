"""What an older program has written is read for ever, as a whole log beside its database; what a newer one wrote is refused.

`data/stored_log_*` hold logs and local databases as SQL text, one folder for each version of the log, as the program of that
time left them: two migrations verified, one of them after it had been taken back, and a third in flight. They are never made
anew.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from secrets import token_hex

import psycopg
import pytest
from damaged_logs import FIRST, LAST, SECOND, SQLiteFile, World, is_newer_told, made_world

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore
from twinstep.stores.sqlite_schema import LOG_VERSION

STORED = sorted((Path(__file__).parent / "data").glob("stored_log_*"))


def made_again(stored: Path, folder: Path) -> World:
    """The device as it was stored."""
    world = World(folder=folder, url=None, kind=SQLiteFile())
    SQLiteFile().path(folder).parent.mkdir(parents=True)
    for name, path in (("app.sql", world.local), ("log.sql", SQLiteFile().path(folder))):
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript((stored / name).read_text(encoding="utf-8"))
    return world


def test_there_is_a_stored_log_of_every_version() -> None:
    assert [path.name for path in STORED] == [f"stored_log_{version}" for version in range(1, LOG_VERSION + 1)]


@pytest.mark.parametrize("stored", STORED, ids=lambda path: path.name)
def test_a_log_that_was_written_once_is_read_checked_and_gone_on_from(stored: Path, tmp_path: Path) -> None:
    world = made_again(stored, tmp_path / "device")
    with closing(SQLiteEventStore(SQLiteFile().path(world.folder), readonly=True)) as store:
        assert check_log(store).problems == ()
    status = world.coordinator().status()
    assert status.in_flight is not None
    assert (status.in_flight.migration, status.in_flight.state, status.conflicts) == (LAST, "remote_applied", ())
    assert [(run.migration, run.direction, run.state) for run in world.coordinator().history()] == [
        (FIRST, "apply", "verified"),
        (SECOND, "apply", "verified"),
        (SECOND, "back", "rolled_back"),
        (SECOND, "apply", "verified"),
        (LAST, "apply", "remote_applied"),
    ]
    assert world.coordinator().resume().outcome == "verified"
    assert world.coordinator().verify().exit_code == 0
    assert world.coordinator().roll_back(FIRST).outcome == "rolled_back"
    assert world.tables() == set()
    with closing(SQLiteEventStore(SQLiteFile().path(world.folder), readonly=True)) as store:
        assert check_log(store).sound


@pytest.mark.parametrize("edit", ["direction = 'sideways'", "state = 'half'"])
@pytest.mark.parametrize("side", ["local", "remote"])
def test_a_ledger_row_of_a_newer_program_is_refused_and_nothing_is_run(
    side: str, edit: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    url = postgres.create_database(f"test_{token_hex(6)}") if side == "remote" else None
    world = made_world(tmp_path / "world", url, SQLiteFile())
    if url is None:
        with closing(sqlite3.connect(world.local, isolation_level=None)) as local:
            local.execute(f"UPDATE twinstep_ledger SET {edit} WHERE migration = '{SECOND}'")
    else:
        with psycopg.connect(url, autocommit=True) as remote:
            remote.execute("ALTER TABLE twinstep.ledger DISABLE TRIGGER ALL")
            remote.execute(f"UPDATE twinstep.ledger SET {edit} WHERE migration = '{SECOND}'".encode())
    is_newer_told(world, "T295")
