"""What a migration sets sequences to is taken back with it: by a dry run, by a refusal, by a rollback that is refused."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql as compose

from twinstep import Coordinator
from twinstep.engine.report import Report

BEFORE = """
    CREATE TABLE item (id serial PRIMARY KEY, n int);
    CREATE TABLE other (id int GENERATED ALWAYS AS IDENTITY, n int);
    INSERT INTO item (n) VALUES (1), (2), (3);
    INSERT INTO other (n) VALUES (1), (2);
    CREATE FUNCTION put_back(which text) RETURNS bigint LANGUAGE sql AS 'SELECT setval(which::regclass, 1, false)';
"""
WAYS = {
    "a statement": "SELECT setval('item_id_seq', 1, false)",
    "by its table": "SELECT pg_catalog.SETVAL(pg_get_serial_sequence('item', 'id'), 1, false)",
    "a block": "DO $$ BEGIN PERFORM setval('item_id_seq', 1, false); PERFORM setval('other_id_seq', 1, false); END $$",
    "a name put together": "DO $$ BEGIN PERFORM setval(('it' || 'em_id_seq')::regclass, 1, false); END $$",
    "a function of the database": "SELECT put_back('item_id_seq')",
    "a function of its own": (
        "CREATE FUNCTION again() RETURNS bigint LANGUAGE sql AS $$ SELECT setval('other_id_seq', 1, false) $$;"
        "SELECT again(); DROP FUNCTION again()"
    ),
}


def migration(folder: Path, up: str, down: str) -> Path:
    own = folder / "migrations" / "0001_numbers"
    own.mkdir(parents=True)
    (own / "remote.up.sql").write_text(up, encoding="utf-8")
    (own / "remote.down.sql").write_text(down, encoding="utf-8")
    return folder / "migrations"


def stand(url: str) -> list[tuple[int, bool]]:
    with psycopg.connect(url) as connection:
        return [
            connection.execute(compose.SQL("SELECT last_value, is_called FROM {}").format(compose.Identifier(name))).fetchone()
            for name in ("item_id_seq", "other_id_seq")
        ]


def migrated(folder: Path, url: str, migrations: Path, *, dry_run: bool) -> Report:
    with Coordinator(remote=url, migrations=migrations, state_dir=folder / "state") as coordinator:
        return coordinator.migrate(dry_run=dry_run)


@pytest.fixture
def url(remote_url: str) -> str:
    return filled(remote_url)


def filled(url: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(BEFORE.encode())
    return url


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_dry_run_leaves_sequences_where_they_stand(url: str, way: str, tmp_path: Path) -> None:
    both = f"ALTER TABLE item ADD COLUMN x int; {way}", f"ALTER TABLE item DROP COLUMN x; {way}"
    before = stand(url)
    report = migrated(tmp_path, url, migration(tmp_path, *both), dry_run=True)
    assert (report.outcome, report.exit_code) == ("rehearsed", 0)
    assert stand(url) == before
    with psycopg.connect(url) as connection:
        assert connection.execute("INSERT INTO item (n) VALUES (4) RETURNING id").fetchone() == (4,)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_refused_leaves_sequences_where_they_stood(url: str, way: str, tmp_path: Path) -> None:
    before = stand(url)
    report = migrated(tmp_path, url, migration(tmp_path, f"{way}; SELECT 1 / 0", ""), dry_run=False)
    assert (report.outcome, report.exit_code) == ("rolled_back", 1)
    assert stand(url) == before


@pytest.mark.parametrize("way", ["a block", "a function of its own"])
def test_what_is_verified_has_set_them(url: str, way: str, tmp_path: Path) -> None:
    before = stand(url)
    report = migrated(
        tmp_path, url, migration(tmp_path, f"DELETE FROM item; DELETE FROM other; {WAYS[way]}", ""), dry_run=False
    )
    assert (report.outcome, report.exit_code) == ("verified", 0), report
    assert stand(url) != before


def test_each_version_of_the_server_keeps_them(each_remote_url: str, tmp_path: Path) -> None:
    before = stand(filled(each_remote_url))
    folder = migration(tmp_path, "SELECT 1", WAYS["a block"])
    assert migrated(tmp_path, each_remote_url, folder, dry_run=True).outcome == "rehearsed"
    assert stand(each_remote_url) == before


def test_a_function_in_python_is_heard_too(url: str, tmp_path: Path) -> None:
    folder = migration(tmp_path, "SELECT 1", "")
    (folder / "0001_numbers" / "migration.py").write_text(
        "def remote_up(connection):\n    connection.exec_driver_sql(\"SELECT setval('item_id_seq', 1, false)\")\n",
        encoding="utf-8",
    )
    before = stand(url)
    assert migrated(tmp_path, url, folder, dry_run=True).outcome == "rehearsed"
    assert stand(url) == before
    assert migrated(tmp_path, url, folder, dry_run=False).outcome == "verified"
    assert stand(url) == [(1, False), before[1]]


def test_one_of_another_role_is_not_set_by_a_dry_run(url: str, tmp_path: Path) -> None:
    database = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("CREATE ROLE setter LOGIN; GRANT UPDATE ON SEQUENCE item_id_seq TO setter; GRANT ALL ON item TO setter")
        owner.execute(compose.SQL("GRANT CREATE ON DATABASE {} TO setter").format(compose.Identifier(str(database))))
        try:
            folder = migration(tmp_path, "SELECT setval('item_id_seq', 1, false)", "")
            before = stand(url)
            report = migrated(tmp_path, psycopg.conninfo.make_conninfo(url, user="setter"), folder, dry_run=True)
            assert (report.outcome, report.exit_code) == ("rehearsed", 0), report.error
            assert report.rehearsal is not None
            (omitted, *_) = report.rehearsal.migrations[0].sides["remote"].omissions
            assert omitted.reason.endswith("item_id_seq to could not be rolled back: another role owns that sequence")
            assert stand(url) == before
        finally:
            owner.execute("DROP OWNED BY setter; DROP ROLE setter")
