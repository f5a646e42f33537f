"""Each migration of the catalogue is what it says: on its own rows a wrong one goes wrong, a right one does not."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import get_args

import psycopg
import pytest
from attrs import evolve, frozen
from migration_entries import Invariant, Look, Property, Right, Rows, Wrong
from right_migrations import RIGHT
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool
from wrong_migrations import WRONG

from twinstep import Coordinator, Expectation, Migration, Query, Report, Side
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.migrations.definition import SideName
from twinstep.stores.seam import no_probe


class Crash(BaseException):
    """The process is dead. Not an Exception: nothing may catch it."""


@frozen
class World:
    """The databases of one entry, with the schema before and its rows."""

    entry: Wrong | Right
    folder: Path
    url: str | None

    @property
    def local(self) -> Path | None:
        """The file, where the entry has one."""
        return self.folder / "app.db" if "local" in self.entry.sides else None

    def coordinator(self, migration: Migration | None = None, killed_at: str = "") -> Coordinator:
        """One that knows the migration, and is killed at that crossing."""

        def probe(crossing: str) -> None:
            if crossing == killed_at:
                raise Crash(crossing)

        return Coordinator(
            local=self.local,
            remote=self.url,
            migrations=self.migrations(migration),
            state_dir=self.folder / "state",
            probe=probe if killed_at else no_probe,
        )

    def migrations(self, migration: Migration | None) -> Path | list[Migration]:
        """The one that is judged; of a folder all."""
        return self.entry.folder or [migration or self.entry.migration]

    def ask(self, look: Look) -> Rows:
        """What the side answers."""
        if look.side == "local":
            with closing(sqlite3.connect(self.folder / "app.db")) as local:
                return tuple(local.execute(look.sql).fetchall())
        assert self.url is not None
        with psycopg.connect(self.url) as remote:
            return tuple(remote.execute(look.sql.encode()).fetchall())

    def holds(self, invariants: tuple[Invariant, ...]) -> bool:
        """Whether every invariant does."""
        with ExitStack() as stack:
            local = None if self.local is None else stack.enter_context(connected(f"sqlite:///{self.local}"))
            remote = None if self.url is None else stack.enter_context(connected(self.url))
            try:
                for invariant in invariants:
                    invariant(local, remote)
            except AssertionError:
                return False
        return True


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@contextmanager
def made(entry: Wrong | Right, folder: Path, server: EmbeddedPostgres | None, *, rows: bool = True) -> Iterator[World]:
    """The schema before, and the rows of the entry."""
    folder.mkdir(parents=True)
    if "local" in entry.sides:
        (folder / "app.db").touch()
    with ExitStack() as stack:
        url = None
        if "remote" in entry.sides:
            assert server is not None
            name = f"entry_{folder.parent.name}_{folder.name}".lower()[:60]
            url = server.create_database(name)
            stack.callback(server.drop_database, name)
        world = World(entry, folder, url)
        if entry.folder is not None:
            prepared = world.coordinator().migrate(to=entry.before[-1].id)
            assert prepared.outcome == "verified", prepared.error
        else:
            execute(world, "local", [text_of(each.local) for each in entry.before])
            execute(world, "remote", [text_of(each.remote) for each in entry.before])
        if rows:
            execute(world, "local", entry.local_rows)
            execute(world, "remote", entry.remote_rows)
        yield world


def text_of(side: Side | None) -> str:
    """The SQL of a side that makes a schema."""
    return "" if side is None else "; ".join(step for step in side.up if isinstance(step, str))


def execute(world: World, side: SideName, texts: Sequence[str]) -> None:
    """Run them as the application would."""
    if side == "local" and world.local is not None:
        with closing(sqlite3.connect(world.local)) as local:
            local.executescript(";".join(texts))
    if side == "remote" and world.url is not None:
        with psycopg.connect(world.url) as remote:
            remote.execute(";".join(texts).encode())


def refuse(connection: Connection) -> None:
    raise ValueError("refused at the end")


def refused_at_the_end(migration: Migration) -> Migration:
    """The same one, with a check that refuses it."""
    if migration.remote is not None:
        return evolve(migration, remote=evolve(migration.remote, check=refuse))
    assert migration.local is not None
    return evolve(migration, local=evolve(migration.local, check=refuse))


def run(world: World, entry: Wrong) -> Report:
    """Do to it what `moment` says; the last report."""
    coordinator = world.coordinator()
    match entry.moment:
        case "up" | "new install":
            return coordinator.migrate()
        case "down":
            done = coordinator.migrate()
            assert done.outcome == "verified", done.error
            return coordinator.roll_back()
        case "dry run":
            rehearsed = coordinator.migrate(dry_run=True)
            assert (rehearsed.outcome, rehearsed.exit_code) == ("rehearsed", 0), rehearsed
            return coordinator.migrate()
        case "crash":
            killed = world.coordinator(killed_at=entry.killed_at)
            with suppress(Crash):
                killed.migrate()
                raise AssertionError("it was not killed")
            return coordinator.migrate()
        case "refusal":
            back = world.coordinator(refused_at_the_end(entry.migration)).migrate()
            assert back.outcome == "rolled_back", back
            return coordinator.migrate()


def sampled(entries: Sequence[Wrong | Right]) -> pytest.MarkDecorator:
    """Each of them; in the small form one of ten."""
    marks = [() if number % 10 == 0 else (pytest.mark.full,) for number in range(len(entries))]
    chosen = [pytest.param(entry, id=entry.name, marks=mark) for entry, mark in zip(entries, marks, strict=True)]
    return pytest.mark.parametrize("entry", chosen)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> EmbeddedPostgres | None:
    """The shared server, where the entry has a remote side."""
    entry = request.node.callspec.params["entry"]
    found: EmbeddedPostgres | None = request.getfixturevalue("postgres") if "remote" in entry.sides else None
    return found


@sampled(WRONG)
def test_a_wrong_migration_goes_wrong_on_its_rows(entry: Wrong, server: EmbeddedPostgres | None, tmp_path: Path) -> None:
    assert (entry.code is None) != (entry.look is None and not entry.invariants), "one of them shows the fault"
    with made(entry, tmp_path / "one", server, rows=entry.moment != "new install") as world:
        before = contents(world)
        report = run(world, entry)
        if entry.code is not None:
            assert report.error is not None, report.outcome
            assert report.error.code == entry.code, report.error
            return
        assert report.outcome == ("rolled_back" if entry.moment == "down" else "verified"), report.error
        assert report.error is None
        if entry.invariants:
            assert not world.holds(entry.invariants)
        if "keeps-rows" in entry.properties and "queries" not in entry.properties:
            assert undeclared_losses(before, contents(world), entry.migration.expect, ()) != []
        if entry.look is None:
            return
        answer = world.ask(entry.look)
        assert answer != entry.look.right
        assert entry.look.found in (None, answer)


@sampled(RIGHT)
def test_a_right_migration_keeps_its_rows_and_goes_back(entry: Right, server: EmbeddedPostgres | None, tmp_path: Path) -> None:
    with made(entry, tmp_path / "one", server) as world:
        before = contents(world)
        asked = {query.name: answers(world, query) for query in entry.migration.queries}
        report = world.coordinator().migrate()
        assert report.outcome == "verified", report.error
        assert world.holds(entry.invariants)
        set_aside = report.runs[0].local.get("rows_quarantined", {})
        assert isinstance(set_aside, dict)
        assert undeclared_losses(before, contents(world), entry.migration.expect, set_aside) == []
        assert {query.name: answers(world, query) for query in entry.migration.queries} == asked
        if entry.migration.irreversible or (entry.migration.local is not None and entry.migration.local.down is None):
            return
        back = world.coordinator().roll_back()
        assert (back.outcome, back.error) == ("rolled_back", None)
        assert contents(world) == before


def test_the_catalogue_is_large_and_names_are_given_once() -> None:
    names = [*(entry.name for entry in WRONG), *(entry.name for entry in RIGHT)]
    assert len(names) == len(set(names))
    sides = Counter(entry.sides for entry in WRONG)
    assert (sides["local",] >= 18, sides["remote",] >= 12, sides["local", "remote"] >= 6) == (True, True, True)
    assert len(RIGHT) >= 22
    assert {name for entry in WRONG for name in entry.properties} == set(get_args(Property)) - {"again"}  # runs nothing
    unrefused = [entry for entry in WRONG if entry.code is None]
    assert len(unrefused) > len(WRONG) / 2


# A side and a table to its rows, each a column to its value as text.
Contents = dict[tuple[str, str], list[dict[str, str]]]


def contents(world: World) -> Contents:
    """All rows of all tables, the same order each time."""
    found: Contents = {}
    if world.local is not None:
        with closing(sqlite3.connect(world.local)) as local:
            local.text_factory = bytes
            names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'twinstep%'"
            for (name,) in local.execute(names).fetchall():
                cursor = local.execute(f"SELECT * FROM {name.decode()}")
                columns = [column[0] for column in cursor.description]
                found["local", name.decode()] = [
                    dict(zip(columns, map(repr, row), strict=True)) for row in sorted(cursor.fetchall(), key=repr)
                ]
    if world.url is not None:
        with psycopg.connect(world.url) as remote:
            for (name,) in remote.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
                rows = remote.execute(f"SELECT to_jsonb(t) FROM {name} t ORDER BY to_jsonb(t)".encode()).fetchall()
                found["remote", name] = [{column: repr(value) for column, value in row.items()} for (row,) in rows]
    return found


def undeclared_losses(before: Contents, after: Contents, expect: Expectation, set_aside: Collection[str]) -> list[str]:
    """The tables that are there before and after, and of which the columns that are have other rows."""
    lost = []
    for (side, table), rows in before.items():
        if (side, table) not in after or table in {*expect.rows_removed, *set_aside} or not rows:
            continue
        now = after[side, table]
        shared = [name for name in rows[0] if now and name in now[0] and f"{table}.{name}" not in expect.columns_changed]
        if Counter(tuple(row[name] for name in shared) for row in rows) - Counter(
            tuple(row[name] for name in shared) for row in now
        ):
            lost.append(f"{side} {table}")
    return lost


def answers(world: World, query: Query) -> Rows:
    return world.ask(Look(side=query.side, sql=query.sql, right=None))
