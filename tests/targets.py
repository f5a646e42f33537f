"""The targets that the shared contract runs on, one entry each in PLACES.

A `Place` is one database of a pair with a table `item` of a few numbers. It makes targets on it (each like a process of its
own), tells what is in it without asking a target, and knows how the words that all tests use are said there: what adds to
every item, what is refused, what builds an index outside a transaction. A new target adds a class here and an entry.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, cast

import psycopg
import pytest
from attrs import evolve
from sqlalchemy import Connection, text

from twinstep.migrations.catalogue import Fingerprint
from twinstep.migrations.definition import LocalOptions, Migration, Query, RemoteOptions, Side, SideName, Step, StepFunction
from twinstep.migrations.memory_target import Contents, MemoryDatabase, MemoryTarget
from twinstep.migrations.postgres_catalogue import read_fingerprint as read_postgres
from twinstep.migrations.postgres_target import PostgresTarget
from twinstep.migrations.rehearsal.memory import MemoryRehearser
from twinstep.migrations.rehearsal.postgres import PostgresRehearser
from twinstep.migrations.rehearsal.rehearsing import Part, Rehearser
from twinstep.migrations.rehearsal.sqlite import SQLiteRehearser
from twinstep.migrations.sqlite_catalogue import read_fingerprint as read_sqlite
from twinstep.migrations.sqlite_target import SQLiteTarget
from twinstep.migrations.target import Target
from twinstep.migrations.work import Order, SideWork, work_of
from twinstep.stores.backups import BackupFolder
from twinstep.stores.patience import Patience
from twinstep.stores.seam import Probe, no_probe

ID = "0001_change"
ITEMS = {"a": 1, "b": 2, "c": 3}
INDEX = "CREATE INDEX CONCURRENTLY item_n ON item (n)"


class Crash(BaseException):
    """The process is dead. Not an Exception: nothing may catch it."""


def crash_at(crossing: str, *, times: int = 1) -> Probe:
    """A probe that kills when it comes to that crossing for the so-manieth time."""
    left = [times]

    def probe(passed: str) -> None:
        if passed == crossing:
            left[0] -= 1
            if not left[0]:
                raise Crash(crossing)

    return probe


class Place(Protocol):
    """One database of a pair, to be worked on by any number of targets."""

    side: SideName
    elsewhere: str | None

    def target(self, *, probe: Probe = no_probe, wait_seconds: float = 0.0, beside: bool = False) -> Target:
        """A target as a process of its own would have it; one that comes after all others ended, unless `beside` them."""

    def rehearser(self) -> Rehearser:
        """What rehearses here."""

    def died(self) -> None:
        """The processes of all targets so far are gone, and their locks with them."""

    def items(self) -> dict[str, int]:
        """The numbers that are committed."""

    def world(self) -> Fingerprint:
        """Everything that is committed, apart from Twinstep's own."""

    def write(self) -> None:
        """Somebody else changes an item."""

    def add(self, amount: int) -> Step:
        """A step that adds to every item: twice is seen."""

    def adding(self, amount: int) -> StepFunction:
        """The same as a function."""

    def refused(self) -> Step:
        """A step that the database refuses."""

    def close(self) -> None:
        """Close every target."""


class _Targets:
    def __init__(self) -> None:
        self.made: list[Target] = []

    def keep(self, target: Target, *, beside: bool) -> Target:
        if not beside:
            self.died()
        self.made.append(target)
        return target

    def died(self) -> None:
        self.close()

    def close(self) -> None:
        for target in self.made:
            target.close()


class MemoryPlace(_Targets):
    """A database in memory."""

    elsewhere: str | None = None

    def __init__(self, side: SideName) -> None:
        super().__init__()
        self.side: SideName = side
        self.database = MemoryDatabase()
        self.database.contents.tables["item"] = dict(ITEMS)
        self.database.contents.user_version = 11

    def target(self, *, probe: Probe = no_probe, wait_seconds: float = 0.0, beside: bool = False) -> Target:
        return self.keep(MemoryTarget(self.side, self.database, probe=probe), beside=beside)

    def rehearser(self) -> Rehearser:
        return MemoryRehearser(self.side, self.database)

    def died(self) -> None:
        self.database.crashed()

    def items(self) -> dict[str, int]:
        return cast("dict[str, int]", dict(self.database.contents.tables["item"]))

    def world(self) -> Fingerprint:
        contents = self.database.contents
        return Fingerprint(
            objects={key: f"{found.definition} {found.valid}" for key, found in contents.objects.items()},
            marks={"user_version": contents.user_version},
            content={table: contents.digest_of(table) for table in contents.tables},
        )

    def write(self) -> None:
        self.database.contents.tables["item"]["a"] = 1000

    def add(self, amount: int) -> Step:
        return self.adding(amount)

    def adding(self, amount: int) -> StepFunction:
        def add(contents: Contents) -> None:
            items = cast("Mapping[str, int]", contents.tables["item"])
            contents.tables["item"] = {key: value + amount for key, value in items.items()}

        return cast("StepFunction", add)

    def refused(self) -> Step:
        def refuse(contents: Contents) -> None:
            raise ValueError("refused on purpose")

        return cast("StepFunction", refuse)


class _SQLPlace(_Targets):
    """What the two real databases share."""

    def add(self, amount: int) -> Step:
        return f"UPDATE item SET n = n + {amount}"

    def adding(self, amount: int) -> StepFunction:
        def add(connection: Connection) -> None:
            connection.execute(text("UPDATE item SET n = n + :amount"), {"amount": amount})

        return add

    def refused(self) -> Step:
        return "INSERT INTO item (id, n) VALUES ('a', 7)"


class SQLitePlace(_SQLPlace):
    """A file of SQLite in one of its two journal modes."""

    side: SideName = "local"

    def __init__(self, folder: Path, journal_mode: str) -> None:
        super().__init__()
        self.path = folder / "local of the pair % ? #.db"
        self.backups = BackupFolder(folder / "backups")
        with closing(self.connected()) as connection:
            connection.execute(f"PRAGMA journal_mode = {journal_mode}")
            connection.execute("CREATE TABLE item (id TEXT PRIMARY KEY, n INTEGER NOT NULL)")
            connection.execute("CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT REFERENCES item (id))")
            connection.executemany("INSERT INTO item VALUES (?, ?)", ITEMS.items())
            connection.execute("INSERT INTO counted (id, item) VALUES (5, 'a')")
            connection.execute("PRAGMA user_version = 11")
        self.elsewhere: str | None = (
            "from pathlib import Path\n"
            "from twinstep.migrations.sqlite_target import SQLiteTarget as T\n"
            "from twinstep.stores.backups import BackupFolder as B\n"
            f"target = T(Path({str(self.path)!r}), backups=B(Path({str(folder / 'backups')!r})))"
        )

    def connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None, timeout=1)

    def target(self, *, probe: Probe = no_probe, wait_seconds: float = 0.0, beside: bool = False) -> Target:
        made = SQLiteTarget(self.path, backups=self.backups, wait_seconds=wait_seconds, probe=probe, busy_seconds=0.2)
        return self.keep(made, beside=beside)

    def rehearser(self) -> Rehearser:
        return SQLiteRehearser(self.path, state_folder=self.path.parent / "state")

    def items(self) -> dict[str, int]:
        with closing(self.connected()) as connection:
            return dict(connection.execute("SELECT id, n FROM item"))

    def world(self) -> Fingerprint:
        with closing(self.connected()) as connection:
            return read_sqlite(connection)

    def write(self) -> None:
        self.execute("UPDATE item SET n = 1000 WHERE id = 'a'")

    def execute(self, statement: str) -> None:
        with closing(self.connected()) as connection:
            connection.execute(statement)


class PostgresPlace(_SQLPlace):
    """A database of a real PostgreSQL."""

    side: SideName = "remote"

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.execute(
            "CREATE TABLE item (id text PRIMARY KEY, n bigint NOT NULL)",
            *(f"INSERT INTO item VALUES ('{key}', {value})" for key, value in ITEMS.items()),
        )
        self.elsewhere: str | None = f"from twinstep.migrations.postgres_target import PostgresTarget as T; target = T({url!r})"

    def target(
        self, *, probe: Probe = no_probe, wait_seconds: float = 0.0, beside: bool = False, retry_for_seconds: float = 0.5
    ) -> Target:
        made = PostgresTarget(self.url, wait_seconds=wait_seconds, patience=Patience(retry_for_seconds), probe=probe)
        return self.keep(made, beside=beside)

    def died(self) -> None:
        """A server under load ends a session some time after its client has gone, and the lock with it."""
        super().died()
        deadline = time.monotonic() + 10
        while self.backends() and time.monotonic() < deadline:
            time.sleep(0.01)

    def rehearser(self) -> Rehearser:
        return PostgresRehearser(self.url)

    def items(self) -> dict[str, int]:
        return {str(key): int(value) for key, value in self.asked("SELECT id, n FROM item")}

    def world(self) -> Fingerprint:
        rows = "\n".join(str(row) for row in sorted(self.asked("SELECT id, n FROM item")))
        with psycopg.connect(self.url, autocommit=True) as connection:
            seen = read_postgres(connection, ("public",))
        return Fingerprint(objects=seen.objects, marks=seen.marks, content={"item": rows})

    def write(self) -> None:
        self.execute("UPDATE item SET n = 1000 WHERE id = 'a'")

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def backends(self) -> list[int]:
        """The sessions of targets."""
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'twinstep on %'"
        return [int(pid) for (pid,) in self.asked(query)]

    def cut(self) -> None:
        """End every session of a target, as a server or a network does, and wait until it is gone."""
        for pid in self.backends():
            self.execute(f"SELECT pg_terminate_backend({pid}, 5000)")


def sometimes(cases: Iterable[Any], every: int) -> list[Any]:
    """Each so-manieth case always, the others in the full run. A tuple has a value for each of several arguments."""
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*each, marks=[] if at % every == 0 else pytest.mark.full) for at, each in enumerate(values)]


def work(
    place: Place,
    up: Step | Iterable[Step],
    down: Step | Iterable[Step] | None = None,
    *,
    check: Callable[..., object] | None = None,
    irreversible: bool = False,
    **limits: Any,
) -> SideWork:
    """One side of a migration, compiled; limits are those of LocalOptions or RemoteOptions."""
    side = Side(
        up=up if isinstance(up, str) or callable(up) else tuple(up),
        down=down if down is None or isinstance(down, str) or callable(down) else tuple(down),
        check=check,
    )
    options: dict[str, Any] = (
        {"local": side, "local_options": LocalOptions(**limits)}
        if place.side == "local"
        else {"remote": side, "remote_options": RemoteOptions(**limits)}
    )
    compiled = work_of(Migration(id=ID, irreversible=irreversible, **options), place.side)
    assert compiled is not None
    return compiled


def order(work: SideWork, run: str = "run-1", **changes: Any) -> Order:
    """The work for that run of a pair."""
    return Order(work=work, run=run, **{"pair": "pair-1", "log": "log-1", **changes})


def part(work: SideWork, *, migration: str = ID, budget_seconds: float = 2.0, queries: Iterable[Query] = ()) -> Part:
    """The work as a rehearsal is given it."""
    changed = evolve(work, migration=migration)
    return Part(order=order(changed, f"run-{migration}"), budget_seconds=budget_seconds, queries=tuple(queries))


def back(work: SideWork, *undoes: str, run: str = "run-9", **changes: Any) -> Order:
    """The undoing of those runs."""
    return order(work, run, undoes=undoes, **changes)


def shape(target: Target) -> list[tuple[str, int, str, str, str]]:
    """The ledger of the migration without times, tokens and digests."""
    found = target.whole().ledgers.get(ID)
    rows = () if found is None else found.rows
    return sorted((row.direction, row.step, row.run, row.undoes, row.state) for row in rows)
