"""Taking existing databases as being at a migration: compared with what the migrations really make, on all targets."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, sleep
from typing import Any, cast

import psycopg
import pytest
from attrs import evolve
from sqlalchemy import Connection, text
from targets import Place, PostgresPlace, back, order, shape, work
from test_targets import ENDING, KINDS, made, on

from twinstep.engine.coordinator import Coordinator
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events.errors import Blocked
from twinstep.migrations.catalogue import CatalogueObject
from twinstep.migrations.definition import LocalOptions, Migration, RemoteOptions, Side, Step, StepFunction
from twinstep.migrations.memory_target import Contents
from twinstep.migrations.postgres_target import PostgresTarget

# Every target


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made_here = made(request.param, tmp_path, request)
    yield made_here
    made_here.close()


def making(place: Place, definition: str = "id integer PRIMARY KEY") -> Step:
    """A step that makes the table `thing`."""
    if hasattr(place, "database"):

        def make(contents: Contents) -> None:
            contents.tables["thing"] = {}
            contents.objects["table thing"] = CatalogueObject(kind="table", name="thing", definition=definition)

        return cast("Step", make)
    return f"CREATE TABLE thing ({definition})"


def dropping(place: Place) -> Step:
    if hasattr(place, "database"):

        def drop(contents: Contents) -> None:
            del contents.tables["thing"]
            del contents.objects["table thing"]

        return cast("Step", drop)
    return "DROP TABLE thing"


def test_a_database_that_the_migrations_made_does_not_differ_and_is_not_changed_by_looking(place: Place) -> None:
    thing = work(place, making(place), dropping(place))
    place.target().apply(order(thing))
    before = place.world()
    compared = place.target().compare([thing])
    assert compared.differences == ()
    # What was there from the start is the host's, and a finding where the target knows of it as an object.
    assert all(finding.endswith("is of no migration") for finding in compared.findings)
    assert [len(compared.before[thing.migration])] == [1]
    assert place.world() == before


def test_what_is_missing_or_other_is_named(place: Place) -> None:
    thing = work(place, making(place), dropping(place))
    missing = place.target().compare([thing]).differences
    assert any(each.startswith("table ") and each.endswith("thing is missing") for each in missing)
    place.target().apply(order(work(place, making(place, "id bigint PRIMARY KEY"), dropping(place))))
    other = place.target().compare([thing]).differences
    assert any(each.startswith("table ") and each.endswith("thing differs") for each in other)


def test_what_cannot_be_made_from_nothing_is_refused_and_leaves_nothing(place: Place) -> None:
    before = place.world()
    with pytest.raises(Blocked) as refused:
        place.target().compare([work(place, (making(place), place.refused()), dropping(place))])
    assert refused.value.code == "T286"
    assert place.world() == before


def test_a_declared_change_stands_as_if_it_had_been_applied_and_is_undone_so(place: Place) -> None:
    thing = work(place, making(place), dropping(place))
    place.target().apply(order(thing, run="by hand"))
    place.target().undo(back(thing, "by hand"))
    place.target().apply(order(thing, run="again"))
    made_by_hand = place.world()
    thing = evolve(thing, migration="0002_declared")
    target = place.target()
    said = target.compare([thing]).before["0002_declared"]
    for _ in range(2):  # the second time nothing happens
        place.target().declare(order(thing), said)
    assert place.world() == made_by_hand
    ledger = place.target().ledger("0002_declared")
    assert [row.run for row in ledger.rows] == ["run-1"]
    assert ledger.whole("run-1")
    place.target().undo(back(thing, "run-1"))
    assert not place.target().ledger("0002_declared").holds(("run-1",))
    assert not any("thing" in key for key in place.world().objects)
    assert ("up", 1, "again", "", "done") in shape(place.target())


# PostgreSQL


def remote_work(place: PostgresPlace, up: str, down: str = "", **options: Any) -> Any:
    return work(place, up, down or "SELECT 1", **options)


@pytest.fixture
def postgres_place(remote_url: str) -> Iterator[PostgresPlace]:
    found = PostgresPlace(remote_url)
    found.execute("DROP TABLE item")
    yield found
    found.close()


@on("end", ENDING, ids=lambda function: function.__name__.strip("_"))
def test_no_function_can_make_anything_of_a_comparison_stay(end: StepFunction, postgres_place: PostgresPlace) -> None:
    postgres_place.execute("CREATE TABLE item (id text, n int)", "INSERT INTO item VALUES ('a', 1)")
    before, items = postgres_place.world(), postgres_place.items()
    with pytest.raises(Blocked) as refused:
        postgres_place.target().compare([work(postgres_place, ("CREATE TABLE item (id text, n int)", end), "SELECT 1")])
    assert refused.value.code == "T286"
    assert postgres_place.world() == before
    assert postgres_place.items() == items
    assert postgres_place.asked("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'twinstep%'") == []


def test_a_function_that_leaves_the_transaction_alone_is_compared(postgres_place: PostgresPlace) -> None:
    def makes(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE thing (id int)"))

    def looks(connection: Connection) -> None:
        connection.execute(text("SELECT * FROM thing"))

    works = [work(postgres_place, makes, "SELECT 1"), work(postgres_place, looks, "SELECT 1")]
    works.insert(1, remote_work(postgres_place, "SET CONSTRAINTS ALL IMMEDIATE"))
    target = postgres_place.target()
    assert target.compare(works).differences == ("table public.thing is missing",)
    target.apply(order(remote_work(postgres_place, "CREATE TABLE thing (id int)")))  # the session writes as before
    assert target.compare(works).differences == ()


WITH_EVERYTHING = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TYPE mood AS ENUM ('fine');
CREATE TABLE thing (id serial PRIMARY KEY, v vector(3), owner int REFERENCES auth.users, mood mood, name text);
CREATE INDEX CONCURRENTLY thing_name ON public.thing (name);
CREATE VIEW fine AS SELECT id FROM thing WHERE mood = 'fine';
CREATE FUNCTION things() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM thing';
ALTER TABLE thing ADD CONSTRAINT named CHECK (name <> '');
"""
WITH_DOWNS = "SELECT 1;\n-- twinstep: group\nSELECT 1"
ELSEWHERE = "CREATE SCHEMA auth; CREATE TABLE auth.users (id int PRIMARY KEY)"


def test_extensions_other_schemas_and_concurrent_indexes_are_part_of_the_comparison(postgres_place: PostgresPlace) -> None:
    postgres_place.execute(*ELSEWHERE.split(";"))
    everything = remote_work(postgres_place, WITH_EVERYTHING, WITH_DOWNS)
    compared = postgres_place.target().compare([everything])
    assert {"table public.thing is missing", "index public.thing_name is missing"} <= set(compared.differences)
    postgres_place.target().apply(order(everything))
    compared = postgres_place.target().compare([everything])
    assert (compared.differences, compared.findings) == ((), ())
    assert len(compared.before[everything.migration]) == 3
    postgres_place.execute("DROP INDEX thing_name", "CREATE INDEX thing_name ON thing (id)", "CREATE TABLE beside ()")
    compared = postgres_place.target().compare([everything])
    assert compared.differences == ("index public.thing_name differs",)
    assert compared.findings == ("table public.beside is of no migration",)
    # The extension is where it was, and so is everything else.
    assert postgres_place.asked("SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'") == [
        ("public",)
    ]
    assert postgres_place.asked("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'twinstep_aside%'") == [(0,)]


def test_a_declared_concurrent_index_is_dropped_by_its_own_inverse(postgres_place: PostgresPlace) -> None:
    postgres_place.execute(*ELSEWHERE.split(";"))
    everything = remote_work(postgres_place, WITH_EVERYTHING, WITH_DOWNS)
    postgres_place.target().apply(order(everything))
    declared = evolve(everything, migration="0002_declared")
    target = postgres_place.target()
    target.declare(order(declared), target.compare([declared]).before["0002_declared"])
    postgres_place.target().undo(back(declared, "run-1"))
    assert postgres_place.asked("SELECT to_regclass('thing_name')") == [(None,)]


def test_who_works_beside_a_comparison_is_not_disturbed(postgres_place: PostgresPlace) -> None:
    thing = remote_work(
        postgres_place, "CREATE TABLE thing (id serial PRIMARY KEY, n int); SELECT pg_sleep(1.5)", "DROP TABLE thing"
    )
    postgres_place.target().apply(order(remote_work(postgres_place, "CREATE TABLE thing (id serial PRIMARY KEY, n int)")))
    over, took, failed = Event(), list[float](), list[str]()

    def host(statement: bytes) -> None:
        with psycopg.connect(postgres_place.url, autocommit=True) as connection:
            while not over.is_set():
                began = perf_counter()
                try:
                    connection.execute(statement)
                except psycopg.Error as error:
                    failed.append(str(error))
                took.append(perf_counter() - began)
                sleep(0.005)

    statements = (b"INSERT INTO thing (n) VALUES (1)", b"SELECT count(*) FROM public.thing", b"CREATE TABLE z (); DROP TABLE z")
    hosts = [Thread(target=host, args=(statement,)) for statement in statements]
    for each in hosts:
        each.start()
    try:
        compared = postgres_place.target().compare([thing])
    finally:
        over.set()
        for each in hosts:
            each.join()
    assert compared.differences == ()
    assert (failed, len(took) > 50) == ([], True)
    assert max(took) < 1, "somebody waited for the comparison"


NEEDS_TWO_TRANSACTIONS = """
ALTER TYPE mood ADD VALUE 'well';
CREATE TABLE moody (mood mood DEFAULT 'well');
"""


def test_where_one_transaction_is_not_enough_a_scratch_database_is_used_and_dropped(postgres_place: PostgresPlace) -> None:
    first = remote_work(postgres_place, "CREATE TYPE mood AS ENUM ('fine')")
    second = evolve(remote_work(postgres_place, "ALTER TYPE mood ADD VALUE 'well'"), migration="0002_well")
    third = evolve(remote_work(postgres_place, "CREATE TABLE moody (mood mood DEFAULT 'well')"), migration="0003_moody")
    works = [first, second, third]
    for each in works:
        postgres_place.target().apply(order(each))
    assert postgres_place.target().compare(works).differences == ()
    assert postgres_place.asked("SELECT count(*) FROM pg_database WHERE datname LIKE 'twinstep_scratch%'") == [(0,)]


@on("may", ["CREATEDB", "NOCREATEDB"])
def test_a_role_that_does_not_own_the_schema_needs_a_database_of_its_own(
    postgres: EmbeddedPostgres, postgres_place: PostgresPlace, may: str
) -> None:
    role = f"device_{may.lower()}"
    postgres_place.execute(f"DROP ROLE IF EXISTS {role}", f"CREATE ROLE {role} LOGIN {may}")
    thing = remote_work(postgres_place, "CREATE TABLE thing (id int)")
    target = PostgresTarget(psycopg.conninfo.make_conninfo(postgres_place.url, user=role))
    try:
        if may == "CREATEDB":
            assert target.compare([thing]).differences == ("table public.thing is missing",)
        else:
            with pytest.raises(Blocked) as refused:
                target.compare([thing])
            assert (refused.value.code, refused.value.details["role"]) == ("T287", role)
    finally:
        target.close()
        postgres_place.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


# The whole call


FIRST = Migration(
    id="0011_all",
    local=Side(up="CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)", down="DROP TABLE note"),
    remote=Side(up="CREATE TABLE note (id int PRIMARY KEY, text text)", down="DROP TABLE note"),
    local_options=LocalOptions(user_version_to=11),
)
SECOND = Migration(
    id="0012_index",
    local=Side(up="CREATE INDEX note_text ON note (text)", down="DROP INDEX note_text"),
    remote=Side(up="CREATE INDEX CONCURRENTLY note_text ON note (text)", down=""),
    local_options=LocalOptions(user_version_from=(11,), user_version_to=12),
)
THIRD = Migration(
    id="0013_pin",
    local=Side(up="ALTER TABLE note ADD COLUMN pinned", down="ALTER TABLE note DROP COLUMN pinned"),
    remote=Side(up="ALTER TABLE note ADD COLUMN pinned int", down="ALTER TABLE note DROP COLUMN pinned"),
    local_options=LocalOptions(user_version_from=(12,), user_version_to=13),
)


class Pair:
    """A pair at version 12 that no log knows."""

    def __init__(self, folder: Path, url: str) -> None:
        self.local, self.url = folder / "app.db", url
        with closing(sqlite3.connect(self.local)) as local:
            local.executescript(
                "CREATE TABLE note(id INTEGER PRIMARY KEY,text TEXT); CREATE INDEX note_text ON note(text);"
                "INSERT INTO note (text) VALUES ('kept'); PRAGMA user_version = 12"
            )
        self.remote(
            "CREATE TABLE note (id int PRIMARY KEY, text text); CREATE INDEX note_text ON note (text);"
            "INSERT INTO note VALUES (1, 'kept')"
        )

    def coordinator(self, **options: Any) -> Coordinator:
        return Coordinator(local=self.local, remote=self.url, migrations=[FIRST, SECOND, THIRD], **options)

    def remote(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as remote:
            remote.execute(statement.encode())

    def version(self) -> int:
        with closing(sqlite3.connect(self.local)) as local:
            return int(local.execute("PRAGMA user_version").fetchone()[0])

    def states(self) -> dict[str, str]:
        return {each.id: each.state for each in self.coordinator().status().migrations}


@pytest.fixture
def pair(tmp_path: Path, remote_url: str) -> Pair:
    return Pair(tmp_path, remote_url)


def test_a_baselined_pair_is_migrated_further_and_taken_back_to_nothing(pair: Pair) -> None:
    report = pair.coordinator().baseline("0012_index")
    assert (report.outcome, report.exit_code, report.error) == ("verified", 0, None)
    assert [(run.migration, run.state) for run in report.runs] == [("0011_all", "verified"), ("0012_index", "verified")]
    assert pair.states() == {"0011_all": "verified", "0012_index": "verified", "0013_pin": "pending"}
    assert pair.coordinator().status().conflicts == ()
    assert pair.coordinator().baseline("0012_index").outcome == "up_to_date"
    assert pair.coordinator().migrate().outcome == "verified"
    assert pair.version() == 13
    for version in (12, 11, 0):
        assert pair.coordinator().roll_back().exit_code == 0
        assert pair.version() == version
    with closing(sqlite3.connect(pair.local)) as local:
        assert local.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'note%'").fetchall() == []


def different_schema(pair: Pair) -> None:
    pair.remote("ALTER TABLE note ALTER COLUMN text SET NOT NULL")


def missing_index(pair: Pair) -> None:
    with closing(sqlite3.connect(pair.local)) as local:
        local.execute("DROP INDEX note_text")


def other_version(pair: Pair) -> None:
    with closing(sqlite3.connect(pair.local)) as local:
        local.execute("PRAGMA user_version = 5")


@on(
    ("spoilt", "named"),
    [
        (different_schema, "table public.note differs"),
        (missing_index, "index note_text is missing"),
        (other_version, "user_version is 5, not 12"),
    ],
)
def test_a_pair_that_is_not_there_is_refused_by_name_and_nothing_is_recorded(
    pair: Pair, spoilt: Callable[[Pair], None], named: str
) -> None:
    spoilt(pair)
    before = pair.local.read_bytes()
    report = pair.coordinator().baseline("0012_index")
    assert report.error is not None
    assert (report.exit_code, report.error.code, report.runs) == (5, "T285", ())
    assert named in report.error.message
    assert pair.local.read_bytes() == before
    assert pair.coordinator().events() == ()
    with psycopg.connect(pair.url) as remote:
        assert remote.execute("SELECT to_regnamespace('twinstep')").fetchone() == (None,)


def test_what_is_there_beside_it_is_a_finding(pair: Pair) -> None:
    pair.remote("CREATE TABLE theirs (id int)")
    report = pair.coordinator().baseline("0012_index")
    assert report.exit_code == 0
    assert report.runs[-1].findings == ("remote: table public.theirs is of no migration",)


def test_a_user_version_that_no_migration_sets_is_the_hosts(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as local:
        local.executescript("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT); PRAGMA user_version = 77")
    plain = Migration(id="0001_note", local=FIRST.local)
    coordinator = Coordinator(local=tmp_path / "app.db", migrations=[plain])
    assert coordinator.baseline("0001_note").exit_code == 0
    assert coordinator.roll_back().exit_code == 0
    with closing(sqlite3.connect(tmp_path / "app.db")) as local:
        assert local.execute("PRAGMA user_version").fetchone() == (77,)


class Killed(BaseException):
    """The process is dead: nothing may catch it."""


def killing(crossing: str) -> Callable[[str], None]:
    def probe(passed: str) -> None:
        if passed == crossing:
            raise Killed(crossing)

    return probe


@on("crossing", ["local:declare:after-commit", "remote:declare:after-commit", "BASELINE:performed"])
def test_killed_between_the_ledgers_and_the_log_it_is_recorded_by_the_same_call(pair: Pair, crossing: str) -> None:
    with pytest.raises(Killed):
        pair.coordinator(probe=killing(crossing)).baseline("0012_index")
    blocked = pair.coordinator().migrate()
    assert blocked.error is not None
    assert (blocked.exit_code, blocked.error.code) == (5, "T288")
    assert pair.coordinator().baseline("0012_index").exit_code == 0
    assert pair.states() == {"0011_all": "verified", "0012_index": "verified", "0013_pin": "pending"}
    with closing(sqlite3.connect(pair.local)) as local, psycopg.connect(pair.url) as remote:
        query = "SELECT migration, run FROM {} WHERE direction = 'up'"
        ours = set(local.execute(query.format("twinstep_ledger")).fetchall())
        theirs = set(remote.execute(query.format("twinstep.ledger").encode()).fetchall())
    assert len(ours | theirs) == 2, "what was begun by one run was finished by another"
    assert pair.coordinator().migrate().outcome == "verified"


def test_a_device_without_rights_must_find_it_in_the_remote_ledger(pair: Pair, tmp_path: Path) -> None:
    refused = pair.coordinator(remote_role="require").baseline("0012_index")
    assert refused.error is not None
    assert (refused.exit_code, refused.error.code) == (5, "T205")
    (tmp_path / "operator").mkdir()
    operator = Coordinator(remote=pair.url, migrations=[FIRST, SECOND, THIRD], state_dir=tmp_path / "operator")
    assert operator.baseline("0012_index").exit_code == 0
    assert pair.coordinator(remote_role="require").baseline("0012_index").exit_code == 0
    assert pair.coordinator(remote_role="require").status().conflicts == ()


def test_a_remote_that_another_device_declared_is_confirmed_and_stays_when_it_is_taken_back(pair: Pair, tmp_path: Path) -> None:
    assert pair.coordinator().baseline("0012_index").exit_code == 0
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(pair.local)) as local, closing(sqlite3.connect(other)) as copy:
        copy.executescript("\n".join(local.iterdump()).replace("twinstep_ledger", "not_ours"))
        copy.executescript("DROP TABLE not_ours; PRAGMA user_version = 12")
    # First without the remote, so that the confirmation is of a later run than the local rows.
    assert Coordinator(local=other, migrations=[FIRST, SECOND, THIRD]).baseline("0012_index").exit_code == 0
    device = Coordinator(local=other, remote=pair.url, migrations=[FIRST, SECOND, THIRD])
    assert device.baseline("0012_index").exit_code == 0
    assert pair.coordinator().roll_back("0012_index").exit_code == 0
    with psycopg.connect(pair.url) as remote:
        assert remote.execute("SELECT to_regclass('note_text') IS NULL").fetchone() == (False,)
    assert device.roll_back("0012_index").exit_code == 0
    with closing(PostgresTarget(pair.url)) as target:
        rows = target.ledger("0012_index")
    assert rows.confirming([row.run for row in rows.rows]) == (), "nobody relies on it any more"


def test_a_skipped_remote_is_left_and_declared_later(pair: Pair) -> None:
    skipping = Coordinator(
        local=pair.local, remote="postgresql://nobody@127.0.0.1:1/none", migrations=[FIRST], remote_role="skip"
    )
    assert skipping.baseline("0011_all").error is not None  # it is at 12: the index is of no migration, the version another
    with closing(sqlite3.connect(pair.local)) as local:
        local.execute("PRAGMA user_version = 11")
    assert skipping.baseline("0011_all").exit_code == 0
    assert skipping.sync_status()[0].remote_status == "skipped"
    whole = Coordinator(local=pair.local, remote=pair.url, migrations=[FIRST])
    assert whole.baseline("0011_all").exit_code == 0
    assert whole.migrate().outcome == "up_to_date"


def test_a_remote_that_was_not_named_is_left_and_declared_later(pair: Pair) -> None:
    with closing(sqlite3.connect(pair.local)) as local:
        local.execute("PRAGMA user_version = 11")
    assert Coordinator(local=pair.local, migrations=[FIRST]).baseline("0011_all").exit_code == 0
    whole = Coordinator(local=pair.local, remote=pair.url, migrations=[FIRST])
    assert whole.sync_status()[0].remote_status == "skipped"
    assert [conflict.kind for conflict in whole.status().conflicts] == ["local_ahead"]
    assert whole.baseline("0011_all").exit_code == 0
    assert whole.status().conflicts == ()


def test_a_baseline_of_what_is_in_flight_is_refused(pair: Pair) -> None:
    assert pair.coordinator().baseline("0012_index").exit_code == 0
    with pytest.raises(Killed):
        pair.coordinator(probe=killing("local:group:after-commit")).migrate()
    report = pair.coordinator().baseline("0013_pin")
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (5, "T289")
    assert pair.coordinator().resume().outcome == "verified"


def test_an_unknown_migration_and_one_that_needs_more_than_nothing_are_refused(pair: Pair) -> None:
    unknown = pair.coordinator().baseline("0099_none")
    assert unknown.error is not None
    assert (unknown.exit_code, unknown.error.code) == (2, "T145")
    lacks = Coordinator(local=pair.local, migrations=[evolve(SECOND, remote=None)]).baseline("0012_index")
    assert lacks.error is not None
    assert (lacks.exit_code, lacks.error.code) == (5, "T286")


def test_a_schema_of_its_own_is_put_aside_like_public(postgres_place: PostgresPlace) -> None:
    postgres_place.execute("CREATE SCHEMA app", "CREATE TABLE app.thing (id int)")
    compiled = work(
        postgres_place, "CREATE SCHEMA app; CREATE TABLE app.thing (id int)", "DROP TABLE app.thing", schemas=("public", "app")
    )
    assert postgres_place.target().compare([compiled]).differences == ()
    assert RemoteOptions().schemas == ("public",)
