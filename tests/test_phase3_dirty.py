"""The reference migration on files that years without foreign keys have left: rows add up, and the way back is exact.

What is expected is asked of the file by SQL here, before the migration runs, never of the migration.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from shutil import copyfile

import psycopg
import pytest
from attrs import evolve

from twinstep import Coordinator
from twinstep.migrations import phase3
from twinstep.migrations.phase3.local_dirt import KEYS
from twinstep.migrations.postgres_catalogue import read_catalogue as read_remote
from twinstep.migrations.sqlite_catalogue import read_fingerprint

NOTES = 400


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dirty")
    for variant in ("fresh", "grown"):
        phase3.build_local(folder / f"{variant}.db", notes=NOTES, variant=variant, dirty_every=9)  # type: ignore[arg-type]
    return {variant: folder / f"{variant}.db" for variant in ("fresh", "grown")}


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in {key[0] for key in KEYS}}


def expected(path: Path) -> dict[str, int]:
    """How many rows each table will have to give up, chains included: worked out by deleting them from a copy, key by key."""
    copy = path.with_name(f"{path.name}.expected")
    copyfile(path, copy)
    with closing(sqlite3.connect(copy)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        before = counts(connection)
        changed = True
        while changed:
            changed = False
            for table, column, parent, optional in KEYS:
                missing = f"{column} IS NOT NULL AND {column} NOT IN (SELECT id FROM {parent})"
                statement = f"UPDATE {table} SET {column} = NULL" if optional else f"DELETE FROM {table}"
                changed |= connection.execute(f"{statement} WHERE {missing}").rowcount > 0
        after = counts(connection)
        connection.rollback()
    copy.unlink()
    return {table: before[table] - after[table] for table in before}


@pytest.mark.parametrize("variant", ["fresh", "grown"])
@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_every_row_of_a_dirty_file_is_where_it_was_or_in_quarantine(
    built: dict[str, Path], tmp_path: Path, variant: str, journal_mode: str
) -> None:
    path = tmp_path / "notes.db"
    copyfile(built[variant], path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        planted = phase3.violations(connection)
        before, look = counts(connection), read_fingerprint(connection)
    assert all(planted.values()), planted  # each key is violated
    coordinator = Coordinator(local=path, migrations=phase3.FOLDER)
    report = coordinator.migrate()
    assert (report.outcome, report.error) == ("verified", None)
    aside = coordinator.quarantine()
    moved = {table: sum(each.table == table and each.kind == "row" for each in aside) for table in before}
    with closing(sqlite3.connect(path)) as connection:
        after = counts(connection)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        folders = dict(
            connection.execute("SELECT id, parent_id FROM local_folders WHERE id IN ('own', 'cycle-a', 'deep-1', 'deep-3')")
        )
    assert {table: after[table] + moved[table] for table in after} == before
    assert moved == expected(built[variant])
    assert report.runs[0].local["rows_quarantined"] == dict(Counter(each.table for each in aside))
    assert report.runs[0].findings == ("3 folders are under themselves, and so in no list: cycle-a, cycle-b, own",)
    assert folders == {"own": "own", "cycle-a": "cycle-b", "deep-1": None, "deep-3": "deep-2"}
    # Chains: what hung on a row that had to go.
    reasons = {(each.table, each.reason.partition(" finds")[0]) for each in aside}
    assert ("note_tasks", "the key (parent_task_id) to note_tasks") in reasons
    back = coordinator.roll_back()
    assert (back.outcome, back.runs[-1].findings) == ("rolled_back", ())
    with closing(sqlite3.connect(path)) as connection:
        assert look.differences(read_fingerprint(connection)) == ()


def test_an_empty_file_has_nothing_to_set_aside(tmp_path: Path) -> None:
    phase3.build_local(tmp_path / "notes.db", notes=0, journal_mode="wal")
    coordinator = Coordinator(local=tmp_path / "notes.db", migrations=phase3.FOLDER)
    assert coordinator.migrate().outcome == "verified"
    assert coordinator.quarantine() == ()


def test_a_new_install_at_12_is_what_an_upgraded_one_is(tmp_path: Path) -> None:
    phase3.build_local(tmp_path / "new.db", notes=50, version=12)
    phase3.build_local(tmp_path / "old.db", notes=50)
    assert Coordinator(local=tmp_path / "old.db", migrations=phase3.FOLDER).migrate().outcome == "verified"
    looks = []
    for name in ("new.db", "old.db"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            looks.append(read_fingerprint(connection))
    # The planner's samples of the same rows may differ.
    new, old = (evolve(look, content={**look.content, "sqlite_stat1": ""}) for look in looks)
    assert new.differences(old) == ()
    assert new.marks["user_version"] == 12
    with pytest.raises(ValueError, match="keep it clean"):
        phase3.build_local(tmp_path / "no.db", version=12, dirty_every=3)


def test_a_new_remote_at_12_is_what_an_upgraded_one_is(remote_url: str, postgres: object, tmp_path: Path) -> None:
    with psycopg.connect(remote_url, autocommit=True) as remote:
        remote.execute("CREATE DATABASE at_12")
    new_url = psycopg.conninfo.make_conninfo(remote_url, dbname="at_12")
    try:
        phase3.build_remote(new_url, users=2, notes_per_user=5, version=12)
        phase3.build_remote(remote_url, users=2, notes_per_user=5)
        report = Coordinator(remote=remote_url, migrations=phase3.FOLDER, state_dir=tmp_path).migrate()
        assert (report.outcome, report.error) == ("verified", None)
        catalogues = []
        for url in (new_url, remote_url):
            with psycopg.connect(url) as remote:
                catalogues.append(read_remote(remote, ("public",)).digests())
        assert catalogues[0] == catalogues[1]
    finally:
        with psycopg.connect(remote_url, autocommit=True) as remote:
            remote.execute("DROP DATABASE at_12")
