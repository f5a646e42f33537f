"""The reference migration's two databases at version 11, and its steps run on them, looked at through their catalogues."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import psycopg
import pytest
from sqlalchemy import create_engine, event

from twinstep.migrations import phase3
from twinstep.migrations.loader import load_folder
from twinstep.migrations.phase3.local_data import local_rows
from twinstep.migrations.phase3.remote_data import remote_rows
from twinstep.migrations.script import compile_side
from twinstep.migrations.sql import Statement
from twinstep.migrations.sqlite_catalogue import read_fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

VARIANTS: tuple[phase3.Variant, ...] = ("fresh", "grown")

COLUMNS = {
    "local_notes": 8,
    "pending_ops": 5,
    "note_tags": 2,
    "note_links": 3,
    "note_reminders": 23,
    "note_tasks": 19,
    "local_folders": 11,
    "note_folders": 3,
    "saved_searches": 12,
    "local_templates": 12,
}
KEYS = {
    ("note_tags", "note_id", "local_notes", "id", "CASCADE"),
    ("note_links", "source_id", "local_notes", "id", "CASCADE"),
    ("note_links", "target_id", "local_notes", "id", "SET NULL"),
    ("note_reminders", "note_id", "local_notes", "id", "CASCADE"),
    ("note_tasks", "note_id", "local_notes", "id", "CASCADE"),
    ("note_tasks", "parent_task_id", "note_tasks", "id", "CASCADE"),
    ("note_tasks", "reminder_id", "note_reminders", "id", "SET NULL"),
    ("note_folders", "note_id", "local_notes", "id", "CASCADE"),
    ("note_folders", "folder_id", "local_folders", "id", "CASCADE"),
    ("local_folders", "parent_id", "local_folders", "id", "CASCADE"),
}
LATER = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def single(connection: sqlite3.Connection, query: str) -> int:
    value = connection.execute(query).fetchone()[0]
    assert isinstance(value, int)
    return value


def named(connection: sqlite3.Connection, kind: str) -> dict[str, str]:
    """Objects that somebody wrote, by name."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL", (kind,)))


def column_definitions(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    return {table: connection.execute(f"PRAGMA table_xinfo({table})").fetchall() for table in COLUMNS}


def foreign_keys(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    return {
        (table, column, parent, parent_column, on_delete)
        for table in COLUMNS
        for _, _, parent, column, parent_column, _, on_delete, _ in connection.execute(f"PRAGMA foreign_key_list({table})")
    }


def statistics(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM sqlite_stat1 ORDER BY tbl, idx").fetchall()


def content(connection: sqlite3.Connection) -> dict[str, str]:
    """A digest of all rows per table of the application."""
    return {table: digest for table, digest in read_fingerprint(connection).content.items() if table != "sqlite_stat1"}


def everything(connection: sqlite3.Connection) -> dict[str, object]:
    """Schema, marks and rows, with what SQLite keeps beside them."""
    return {
        "fingerprint": read_fingerprint(connection),
        "search": connection.execute("SELECT rowid, * FROM fts_notes ORDER BY rowid").fetchall(),
        "sequence": connection.execute("SELECT * FROM sqlite_sequence ORDER BY name").fetchall(),
        "version": single(connection, "PRAGMA user_version"),
        "statistics": statistics(connection),
        "tables": set(named(connection, "table")),
        "indexes": named(connection, "index"),
        "triggers": named(connection, "trigger"),
    }


@contextmanager
def changing(path: Path) -> Iterator[Connection]:
    """A SQLAlchemy connection in one explicit transaction, without foreign keys: what the local steps are given."""
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(path, isolation_level=None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def run_local(path: Path, direction: Literal["up", "down"]) -> None:
    (migration,) = load_folder(phase3.FOLDER)
    compiled = compile_side(migration, "local")
    assert compiled is not None
    (unit,) = compiled.script.units
    with changing(path) as connection:
        for step in (unit.up if direction == "up" else unit.down) or ():
            if isinstance(step, Statement):
                connection.exec_driver_sql(step.text)
            else:
                compiled.callables[step.name](connection)
        version = migration.local_options.user_version_to if direction == "up" else migration.local_options.user_version_from[0]
        connection.exec_driver_sql(f"PRAGMA user_version = {version}")


def run_remote(connection: psycopg.Connection, direction: Literal["up", "down"]) -> None:
    (migration,) = load_folder(phase3.FOLDER)
    compiled = compile_side(migration, "remote")
    assert compiled is not None
    for unit in compiled.script.units:
        for step in (unit.up if direction == "up" else unit.down) or ():
            assert isinstance(step, Statement)
            connection.execute(step.text)


# The local file


@pytest.mark.parametrize(("variant", "indexes"), [("fresh", 17), ("grown", 22)])
def test_a_local_file_has_the_objects_of_version_11(tmp_path: Path, variant: phase3.Variant, indexes: int) -> None:
    phase3.build_local(tmp_path / "notes.db", notes=60, variant=variant)
    with opened(tmp_path / "notes.db") as connection:
        assert {table: len(columns) for table, columns in column_definitions(connection).items()} == COLUMNS
        assert len(named(connection, "index")) == indexes
        assert len(named(connection, "trigger")) == 7
        assert foreign_keys(connection) == set()
        assert single(connection, "PRAGMA user_version") == 11
        assert ("idx_note_reminders_remind_at" in named(connection, "index")) == (variant == "fresh")
        assert ("note_folders" in named(connection, "trigger")["trg_local_notes_ai"]) == (variant == "fresh")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_version_11_checks_its_values(tmp_path: Path) -> None:
    phase3.build_local(tmp_path / "notes.db", notes=0)
    with opened(tmp_path / "notes.db") as connection:
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            connection.execute("INSERT INTO local_notes (id, updated_at, deleted) VALUES ('a', 1, 7)")
        with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
            connection.execute("INSERT INTO note_tasks (id, note_id, content) VALUES ('a', 'b', 'c')")
        connection.execute("INSERT INTO pending_ops (entity_id, kind) VALUES ('a', 'b')")
        made = connection.execute("SELECT typeof(created_at), created_at > 1700000000 FROM pending_ops").fetchone()
        assert made == ("integer", 1)


def test_the_journal_mode_and_an_empty_file_are_as_asked(tmp_path: Path) -> None:
    phase3.build_local(tmp_path / "wal.db", notes=0, journal_mode="wal")
    phase3.build_local(tmp_path / "delete.db", notes=0)
    with opened(tmp_path / "wal.db") as wal, opened(tmp_path / "delete.db") as delete:
        assert wal.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert delete.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert all(single(wal, f"SELECT count(*) FROM {table}") == 0 for table in [*COLUMNS, "fts_notes"])


def test_a_file_that_has_the_tables_is_refused_and_kept(tmp_path: Path) -> None:
    phase3.build_local(tmp_path / "notes.db", notes=30)
    with opened(tmp_path / "notes.db") as connection:
        before = everything(connection)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        phase3.build_local(tmp_path / "notes.db", notes=40)
    with opened(tmp_path / "notes.db") as connection:
        assert everything(connection) == before


def test_the_local_data_has_the_stated_proportions(tmp_path: Path) -> None:
    phase3.build_local(tmp_path / "notes.db", notes=4_000)
    shares = {
        "SELECT avg(deleted) FROM local_notes": 0.10,
        "SELECT avg(is_pinned) FROM local_notes": 0.02,
        "SELECT avg(note_type) FROM local_notes": 0.02,
        "SELECT avg(length(body)) FROM local_notes": 200,
        "SELECT count(*) / 4000.0 FROM note_folders": 0.70,
        "SELECT count(*) / 4000.0 FROM note_tags": 1.5,
        "SELECT count(*) / 4000.0 FROM note_tasks": 1.2,
        "SELECT count(*) / 4000.0 FROM note_reminders": 0.15,
        "SELECT avg(status = 0) FROM note_tasks": 0.50,
        "SELECT avg(due_date IS NOT NULL) FROM note_tasks": 0.50,
        "SELECT avg(deleted) FROM note_tasks": 0.10,
        "SELECT avg(is_active) FROM note_reminders": 0.50,
        "SELECT avg(snoozed_until IS NOT NULL) FROM note_reminders": 0.10,
    }
    counts = {
        "SELECT count(*) FROM local_folders": 200,
        "SELECT count(*) FROM local_folders WHERE parent_id IS NULL": 20,
        "SELECT count(*) FROM local_folders WHERE deleted": 11,
        "SELECT count(DISTINCT tag) FROM note_tags": 300,
        "SELECT count(*) FROM saved_searches": 300,
        "SELECT count(*) FROM saved_searches WHERE is_pinned": 34,
        "SELECT count(*) FROM pending_ops": 0,
        "SELECT count(*) FROM note_tasks WHERE (status = 1) <> (completed_at IS NOT NULL)": 0,
        "SELECT max(updated_at) FROM local_notes": phase3.NOW,
    }
    with opened(tmp_path / "notes.db") as connection:
        for query, share in shares.items():
            assert connection.execute(query).fetchone()[0] == pytest.approx(share, rel=0.35), query
        assert {query: single(connection, query) for query in counts} == counts


def test_the_search_table_is_what_the_triggers_would_have_made(tmp_path: Path) -> None:
    phase3.build_local(tmp_path / "notes.db", notes=150)
    with opened(tmp_path / "notes.db") as connection:
        built = connection.execute("SELECT id, title, body, folder_path FROM fts_notes ORDER BY id").fetchall()
        notes = connection.execute("SELECT * FROM local_notes").fetchall()
        memberships = connection.execute("SELECT * FROM note_folders").fetchall()
        connection.execute("DELETE FROM note_folders")
        connection.execute("DELETE FROM local_notes")
        assert single(connection, "SELECT count(*) FROM fts_notes") == 0
        connection.executemany("INSERT INTO local_notes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", notes)
        connection.executemany("INSERT INTO note_folders VALUES (?, ?, ?)", memberships)
        triggered = connection.execute("SELECT id, title, body, folder_path FROM fts_notes ORDER BY id").fetchall()
    assert triggered == built
    assert any(path for *_, path in built)


def test_equal_seeds_make_equal_local_rows_on_every_python() -> None:
    def digest(seed: int) -> str:
        return hashlib.sha256(repr(list(local_rows(notes=50, seed=seed, now=phase3.NOW))).encode()).hexdigest()[:16]

    assert digest(1) == "5593a2e5f816633b"
    assert digest(2) != digest(1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_the_local_steps_add_ten_keys_and_lose_nothing(
    tmp_path: Path, variant: phase3.Variant, journal_mode: phase3.JournalMode
) -> None:
    path = tmp_path / "notes.db"
    phase3.build_local(path, notes=300, variant=variant, journal_mode=journal_mode)
    with opened(path) as connection:
        # A mark above the highest id: what a rebuild forgets most easily.
        connection.execute("DELETE FROM note_reminders WHERE id > 20")
        connection.execute("UPDATE note_tasks SET reminder_id = NULL WHERE reminder_id > 20")
        before = everything(connection)
        rows, definitions = content(connection), column_definitions(connection)
        mark = single(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'note_reminders'")

    run_local(path, "up")
    with opened(path) as connection:
        assert foreign_keys(connection) == KEYS
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert single(connection, "PRAGMA user_version") == 12
        assert column_definitions(connection) == definitions
        assert content(connection) == rows
        assert named(connection, "trigger") == before["triggers"]
        assert named(connection, "index").items() > before["indexes"].items()  # type: ignore[attr-defined]
        assert len(named(connection, "index")) == len(before["indexes"]) + 10  # type: ignore[arg-type]
        assert {table for table, *_ in statistics(connection)} >= {"local_notes", "note_tasks", "note_links"}
        connection.execute("INSERT INTO note_reminders (note_id, type) SELECT id, 0 FROM local_notes LIMIT 1")
        assert single(connection, "SELECT max(id) FROM note_reminders") == mark + 1 > 21
        connection.execute("DELETE FROM note_reminders WHERE id > 20")
        connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'note_reminders'", (mark,))

    run_local(path, "down")
    with opened(path) as connection:
        assert everything(connection) == before


def test_an_empty_file_goes_up_and_back(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    phase3.build_local(path, notes=0)
    with opened(path) as connection:
        before = everything(connection)
    run_local(path, "up")
    with opened(path) as connection:
        assert foreign_keys(connection) == KEYS
    run_local(path, "down")
    with opened(path) as connection:
        assert everything(connection) == before


def test_a_file_without_statistics_has_none_again_after_the_way_back(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    phase3.build_local(path, notes=30)
    with opened(path) as connection:
        connection.execute("DROP TABLE sqlite_stat1")
        before = read_fingerprint(connection), set(named(connection, "table"))
    run_local(path, "up")
    with opened(path) as connection:
        assert statistics(connection) != []
    run_local(path, "down")
    with opened(path) as connection:
        assert (read_fingerprint(connection), set(named(connection, "table"))) == before


def test_an_install_that_lacks_the_index_of_a_key_gets_one_and_loses_only_that_again(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    phase3.build_local(path, notes=30)
    with opened(path) as connection:
        for index in ("note_folders_folder_id", "local_folders_parent_id", "local_folders_sort_order", "note_tasks_note_id"):
            connection.execute(f"DROP INDEX idx_{index}")
        # Leaves out rows that the key must find.
        connection.execute("CREATE INDEX idx_note_tasks_note_id ON note_tasks (note_id) WHERE deleted = 0")
        connection.execute("ANALYZE")
        before = everything(connection)
    run_local(path, "up")
    with opened(path) as connection:
        added = {name for name in named(connection, "index") if name.startswith("idx_key_")}
        assert added == {"idx_key_note_folders_folder_id", "idx_key_local_folders_parent_id", "idx_key_note_tasks_note_id"}
    run_local(path, "down")
    with opened(path) as connection:
        assert everything(connection) == before


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_deleted_note_reads_no_table_whole_to_find_what_hangs_on_it(tmp_path: Path, variant: phase3.Variant) -> None:
    path = tmp_path / "notes.db"
    phase3.build_local(path, notes=60, variant=variant)
    run_local(path, "up")
    with opened(path) as connection:
        for table, column, *_ in KEYS:
            plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = ?", ("a",)).fetchall()
            assert all(detail.startswith("SEARCH") for *_, detail in plan), (table, column, plan)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_local_query_returns_the_same_rows_before_and_after_by_its_index(tmp_path: Path, variant: phase3.Variant) -> None:
    local = {name: query for name, query in phase3.queries().items() if query.side == "local"}
    assert list(local) == ["Q1", "Q1b", *(f"Q{number}" for number in range(2, 27))]
    path = tmp_path / "notes.db"
    phase3.build_local(path, notes=2_000, variant=variant)
    with opened(path) as connection:
        before = {name: sorted(connection.execute(query.sql).fetchall(), key=repr) for name, query in local.items()}
        assert [name for name, rows in before.items() if not rows] == []
    run_local(path, "up")
    with opened(path) as connection:
        for name, query in local.items():
            assert sorted(connection.execute(query.sql).fetchall(), key=repr) == before[name], name
            plan = " ".join(detail for *_, detail in connection.execute("EXPLAIN QUERY PLAN " + query.sql))
            assert query.uses_index is None or f"INDEX {query.uses_index}" in plan, (name, plan)
            assert name not in {"Q1", "Q2", "Q10", "Q11", "Q13", "Q14", "Q20"} or "ORDER BY" not in plan, (name, plan)


def local_indexes(connection: sqlite3.Connection) -> dict[str, tuple[object, ...]]:
    """Table, columns with their order and collation, and the condition, of every index: the keys' own too."""
    found: dict[str, tuple[object, ...]] = {}
    for table, name, sql in connection.execute(
        "SELECT t.name, l.name, s.sql FROM sqlite_schema t JOIN pragma_index_list(t.name) l "
        "JOIN sqlite_schema s ON s.name = l.name WHERE t.type = 'table'"
    ).fetchall():
        columns = connection.execute(f'SELECT name, "desc", coll FROM pragma_index_xinfo({name!r}) WHERE key').fetchall()
        found[name] = (table, tuple(columns), " ".join((sql or "").partition("WHERE")[2].split()))
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_local_index_is_no_other_again_and_serves_a_query_or_a_key(tmp_path: Path, variant: phase3.Variant) -> None:
    path = tmp_path / "notes.db"
    phase3.build_local(path, notes=60, variant=variant)
    with opened(path) as connection:
        before = local_indexes(connection)
    run_local(path, "up")
    with opened(path) as connection:
        after = local_indexes(connection)
        keys = {(table, column) for table, column, *_ in KEYS}
    new = after.keys() - before.keys()
    assert len(new) == 10
    assert len(set(after.values())) == len(after)
    served = {query.uses_index for query in phase3.queries().values()}
    leading = {name for name, (table, columns, _) in after.items() if (table, columns[0][0]) in keys}  # type: ignore[index]
    assert new - served - leading == set()


def test_title_suggestions_are_served_by_an_index(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    phase3.build_local(path, notes=60)
    run_local(path, "up")
    with opened(path) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT title FROM local_notes WHERE deleted = 0 AND note_type = 0 AND title LIKE 'gar%'"
        ).fetchall()
        assert "idx_local_notes_title (title>? AND title<?)" in plan[0][3]


# The remote database


def definitions_of_indexes(connection: psycopg.Connection) -> dict[str, str]:
    """Of those that somebody wrote: the keys' own are left out. The definition without the index's name."""
    rows = connection.execute(
        "SELECT c.relname, replace(pg_get_indexdef(c.oid), c.relname, '') "
        "FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid "
        "WHERE c.relnamespace = 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid "
        "AND k.contype IN ('p', 'u')) AND i.indisvalid"
    )
    return dict(rows)


def test_a_remote_database_has_the_tables_keys_and_indexes_of_the_application(remote_url: str) -> None:
    phase3.build_remote(remote_url, users=2, notes_per_user=20)
    with psycopg.connect(remote_url, autocommit=True) as connection:
        columns = connection.execute(
            "SELECT table_name, count(*) FROM information_schema.columns WHERE table_schema = 'public' GROUP BY 1"
        ).fetchall()
        assert dict(columns) == {
            "notes": 10, "folders": 7, "note_folders": 4, "note_tasks": 17, "notification_events": 16, "templates": 14,
            "attachments": 11,
        }  # fmt: skip
        keys = connection.execute("SELECT count(*) FROM pg_constraint WHERE contype = 'f'").fetchone()
        assert keys == (12,)
        indexes = definitions_of_indexes(connection)
        assert len(indexes) == 33
        for name in ("idx_note_tasks_labels_gin", "idx_notification_events_processing", "idx_templates_user_system"):
            assert name in indexes
        assert not any("attachments" in definition for definition in indexes.values())


def test_equal_seeds_make_equal_remote_rows_on_every_python() -> None:
    def digest(seed: int) -> str:
        found = hashlib.sha256()
        for table, columns, lines in remote_rows(users=3, notes_per_user=20, seed=seed, now=LATER):
            found.update(f"{table} {columns}\n{''.join(lines)}".encode())
        return found.hexdigest()[:16]

    assert digest(1) == "7755a9615e6f75d1"
    assert digest(2) != digest(1)


def test_the_remote_data_has_the_stated_proportions(remote_url: str) -> None:
    phase3.build_remote(remote_url, users=5, notes_per_user=300)
    shares = {
        "SELECT avg(deleted::int) FROM notes": 0.10,
        "SELECT count(*) / 1500.0 FROM attachments": 0.50,
        "SELECT count(*) / 1500.0 FROM note_folders": 0.70,
        "SELECT avg((status = 'pending')::int) FROM notification_events": 1 / 9,
        "SELECT avg((status = 'processing')::int) FROM notification_events": 1 / 9,
        "SELECT avg((status = 'pending')::int) FROM note_tasks": 0.25,
        "SELECT avg((reminder_at IS NOT NULL)::int) FROM note_tasks": 0.10,
        "SELECT avg((due_date IS NOT NULL)::int) FROM note_tasks": 0.40,
        "SELECT avg((labels <> '[]')::int) FROM note_tasks": 0.20,
        "SELECT avg(extract(epoch FROM now() - updated_at) / 86400) FROM notes": 500,
    }
    counts = {"notes": 1_500, "note_tasks": 1_500, "notification_events": 1_500, "folders": 300, "auth.users": 5}
    with psycopg.connect(remote_url, autocommit=True) as connection:
        for query, share in shares.items():
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            assert float(row[0]) == pytest.approx(share, rel=0.30), query
        for table, count in counts.items():
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (count,)
        assert connection.execute("SELECT count(*) FROM pg_stats WHERE tablename = 'notes'").fetchone() == (10,)
        strangers = "SELECT count(*) FROM note_folders m JOIN folders f ON f.id = m.folder_id WHERE f.user_id <> m.user_id"
        assert connection.execute(strangers).fetchone() == (0,)


def test_the_remote_steps_serve_the_queries_by_indexes_that_double_none(each_remote_url: str) -> None:
    remote = {name: query for name, query in phase3.queries().items() if query.side == "remote"}
    assert list(remote) == [f"P{number}" for number in range(1, 15)]
    with psycopg.connect(each_remote_url, autocommit=True) as connection:
        phase3.build_remote(connection, users=10, notes_per_user=400)
        before = definitions_of_indexes(connection)
        run_remote(connection, "up")
        after = definitions_of_indexes(connection)
        assert len(after) == len(before) + 9
        assert len({after[name] for name in after.keys() - before.keys()} | set(before.values())) == len(after)
        for name, query in remote.items():
            with connection.transaction(force_rollback=True):
                plan = "\n".join(line for (line,) in connection.execute(("EXPLAIN " + query.sql).encode()))
                assert query.uses_index is None or query.uses_index in plan, (name, plan)
                assert connection.execute(query.sql.encode()).rowcount > 0, name
        run_remote(connection, "down")
        assert definitions_of_indexes(connection) == after, "concurrent builds are undone by the engine, not by the down text"
