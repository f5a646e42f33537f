"""What a remote group takes away without naming it refuses it, and is named; what it names, or declares, passes."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection

from twinstep import Coordinator, Expectation, Migration, Report, Side
from twinstep.migrations.catalogue import Catalogue, CatalogueObject
from twinstep.migrations.postgres_accounting import losses

SETUP = """
CREATE TABLE people (id int PRIMARY KEY, name text, team int, "Odd ""name" text);
CREATE TABLE teams (id int PRIMARY KEY, title text);
ALTER TABLE people ADD CONSTRAINT people_team FOREIGN KEY (team) REFERENCES teams (id);
CREATE INDEX people_name ON people (name);
CREATE INDEX people_both ON people (name, team);
CREATE VIEW named AS SELECT id, name FROM people;
CREATE VIEW long_named AS SELECT id FROM named WHERE length(name) > 5;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER touched BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TYPE mood AS ENUM ('good');
INSERT INTO teams VALUES (1, 'one'), (2, 'two');
INSERT INTO people VALUES (1, 'a', 1), (2, 'b', 2);
"""

LOST = {
    "a view and the one on it": (
        "ALTER TABLE people DROP COLUMN name CASCADE",
        ("view public.named", "view public.long_named"),
    ),
    "a key of another table": ("DROP TABLE teams CASCADE", ("constraint public.people.people_team",)),
    "a trigger": ("DROP FUNCTION touch() CASCADE", ("touched",)),
    "a view that a loop drops": (
        "DO $$ DECLARE v text; BEGIN FOR v IN SELECT viewname FROM pg_views WHERE schemaname = 'public' ORDER BY 1 LIMIT 1"
        " LOOP EXECUTE 'DROP VIEW public.' || v; END LOOP; END $$",
        ("view public.long_named",),
    ),
}

NAMED = (
    "DROP TABLE people CASCADE; DROP VIEW IF EXISTS named, long_named",
    "DROP VIEW long_named; DROP VIEW named; ALTER TABLE people DROP COLUMN name",
    "DROP INDEX people_both; ALTER TABLE people RENAME COLUMN team TO crew; ALTER TABLE people RENAME TO persons",
    'ALTER TABLE people DROP COLUMN "Odd ""name"',
    "ALTER INDEX people_name RENAME TO by_name; DROP TRIGGER touched ON people; DROP TYPE mood",
    "DROP SCHEMA public CASCADE; CREATE SCHEMA public",
    "CREATE TABLE more (id int); INSERT INTO more VALUES (1); DELETE FROM people WHERE id = 2",
)


@pytest.fixture
def url(remote_url: str) -> str:
    with psycopg.connect(remote_url) as remote:
        remote.execute(SETUP.encode())
    return remote_url


def migrated(url: str, folder: Path, up: object, expect: Expectation | None = None) -> Report:
    side = Side(up=up, down="SELECT 1")  # type: ignore[arg-type]
    migration = Migration(id="0001_r", remote=side, irreversible=False, expect=expect or Expectation())
    return Coordinator(remote=url, migrations=[migration], state_dir=folder / "state").migrate()


def names(url: str) -> set[str]:
    query = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace UNION SELECT tgname FROM pg_trigger"
    with psycopg.connect(url) as remote:
        return {name for (name,) in remote.execute(f"{query} WHERE tgrelid = 'people'::regclass".encode()).fetchall()}


@pytest.mark.parametrize("name", LOST)
def test_what_goes_without_being_named_refuses_the_group(url: str, tmp_path: Path, name: str) -> None:
    up, gone = LOST[name]
    before = names(url)
    report = migrated(url, tmp_path, up)
    assert report.error is not None
    assert (report.outcome, report.exit_code, report.error.code) == ("rolled_back", 1, "T347")
    assert all(each in report.error.message for each in gone), report.error.message
    assert names(url) == before
    declared = tuple(report.error.next_step.partition("objects_removed = [")[2].rstrip("]").replace('"', "").split(", "))
    assert migrated(url, tmp_path, up, Expectation(objects_removed=declared)).outcome == "verified"


@pytest.mark.parametrize("up", NAMED)
def test_what_is_named_passes(url: str, tmp_path: Path, up: str) -> None:
    report = migrated(url, tmp_path, up)
    assert (report.outcome, report.error) == ("verified", None)


def test_functions_are_heard_too(url: str, tmp_path: Path) -> None:
    def drops(connection: Connection) -> None:
        connection.exec_driver_sql("DROP VIEW long_named")
        connection.exec_driver_sql("DROP VIEW named")

    def cascades(connection: Connection) -> None:
        connection.exec_driver_sql("DROP VIEW named CASCADE")

    report = migrated(url, tmp_path, cascades)
    assert report.error is not None
    assert "view public.long_named is gone" in report.error.message
    assert migrated(url, tmp_path, drops).outcome == "verified"


def test_rows_are_counted_before_and_after_and_told_of(url: str, tmp_path: Path) -> None:
    report = migrated(
        url, tmp_path, "DELETE FROM people WHERE id = 2; INSERT INTO teams SELECT g, 'x' FROM generate_series(3, 9) g"
    )
    assert report.outcome == "verified"
    assert report.runs[0].remote["rows"] == {"public.people": -1, "public.teams": 7}
    assert any("public.people on the remote has 1 rows fewer than the 2" in finding for finding in report.runs[0].findings)


def test_what_others_dropped_meanwhile_is_not_ours() -> None:
    view = CatalogueObject(kind="view", name="public.v")
    index = CatalogueObject(kind="index", name="public.i", table="public.t")
    before = Catalogue(objects={each.key: each for each in (view, index)})
    after = Catalogue(objects={})
    assert losses(before, after, ["SELECT 1"], declared=(), outside=frozenset) == []
    (lost,) = losses(before, after, ["SELECT 1"], declared=(), outside=lambda: frozenset({"i"}))
    assert lost.sentence == "index public.i is gone"
    invalid = CatalogueObject(kind="index", name="public.i", table="public.t", valid=False)
    (broken,) = losses(before, Catalogue(objects={view.key: view, invalid.key: invalid}), [], declared=(), outside=frozenset)
    assert broken.sentence == "index public.i is not valid any more"
