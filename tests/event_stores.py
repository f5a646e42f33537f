"""The event stores that the shared tests run on, one entry each in LOGS.

A `Log` is one place where events are kept. `handle()` opens it (again): two handles are two writers, in this process;
`opened_elsewhere` is the Python text that opens it in another process, None where no other process can. A new
implementation adds a class here and an entry to LOGS, and every contract test runs on it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Protocol

import psycopg

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.stores.memory import MemoryEventStore
from twinstep.stores.port import EventStore
from twinstep.stores.postgres_events import PostgresEventStore
from twinstep.stores.seam import Probe, no_probe
from twinstep.stores.sqlite_events import SQLiteEventStore


class Log(Protocol):
    """One log, to be opened any number of times."""

    opened_elsewhere: str | None

    def handle(self, *, probe: Probe = no_probe) -> EventStore:
        """Another writer on this log, with its own probe."""

    def close(self) -> None:
        """Close every handle."""


class MemoryLog:
    """A log in memory."""

    opened_elsewhere: str | None = None

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._store = MemoryEventStore(clock=clock)

    def handle(self, *, probe: Probe = no_probe) -> EventStore:
        return self._store.another_handle(probe=probe)

    def close(self) -> None:
        self._store.close()


class SQLiteLog:
    """A log in a file in a folder that is not there yet. NORMAL, because no test cuts the power: it is the same otherwise."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self.path = folder / "state of the pair % ? #" / "log.db"
        self.opened_elsewhere: str | None = (
            f"from twinstep.stores.sqlite_events import SQLiteEventStore as S; store = S({str(self.path)!r})"
        )
        self._clock = clock
        self._handles: list[SQLiteEventStore] = []

    def handle(self, *, probe: Probe = no_probe) -> EventStore:
        store = SQLiteEventStore(self.path, clock=self._clock, synchronous="NORMAL", probe=probe)
        self._handles.append(store)
        return store

    def close(self) -> None:
        for store in self._handles:
            store.close()


class PostgresLog:
    """A log in a database that it has for itself, and leaves empty: making one takes longer than most tests.

    Who uses it asks for the fixture `log_server`.
    """

    server: ClassVar[EmbeddedPostgres]
    free: ClassVar[list[str]] = []

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self.url = self.free.pop() if self.free else self.server.create_database()
        self.opened_elsewhere: str | None = (
            f"from twinstep.stores.postgres_events import PostgresEventStore as S; store = S({self.url!r})"
        )
        self._clock = clock
        self._handles: list[PostgresEventStore] = []

    def handle(self, *, probe: Probe = no_probe) -> EventStore:
        store = PostgresEventStore(self.url, clock=self._clock, probe=probe)
        self._handles.append(store)
        return store

    def close(self) -> None:
        for store in self._handles:
            store.close()
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS twinstep CASCADE")
        self.free.append(self.url)


LOGS: dict[str, type[MemoryLog] | type[SQLiteLog] | type[PostgresLog]] = {
    "memory": MemoryLog,
    "sqlite": SQLiteLog,
    "postgres": PostgresLog,
}


class TickingClock:
    """A clock that is one second later each time it is asked, so that equal orders are equal times."""

    def __init__(self) -> None:
        self._asked = 0

    def __call__(self) -> datetime:
        self._asked += 1
        return datetime.fromtimestamp(1_700_000_000 + self._asked, UTC)


def append(store: EventStore, stream: str, *events: object) -> None:
    """Append at whatever the stream's end is now."""
    version, last_hash = head(store, stream)
    store.append(stream, events, expected_version=version, expected_hash=last_hash)  # type: ignore[arg-type]


def head(store: EventStore, stream: str) -> tuple[int, str]:
    """What a writer that has seen the whole stream expects."""
    records = store.read(stream)
    return (records[-1].version, records[-1].hash) if records else (0, "0" * 64)


# In SQL, the event that follows two of the stream, by column; the hash before it is its table's.
NEXT = {
    "position": 4,
    "stream": "'pair/0001_first'",
    "version": 3,
    "type": "'BackedUp'",
    "schema_version": 1,
    "recorded_at": "''",
    "payload": "'{}'",
    "previous_hash": "",
    "hash": "'h'",
}


def inserting(table: str, how: str = "INSERT", **values: object) -> str:
    """A statement that inserts the next event of the stream, apart from what `values` change."""
    before = f"(SELECT hash FROM {table} WHERE position = 2)"
    told = {**NEXT, "previous_hash": before, **values}
    return f"{how} INTO {table} ({', '.join(told)}) VALUES ({', '.join(map(str, told.values()))})"
