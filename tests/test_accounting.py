"""Losses planted in migrations written by hand: each refuses the change, is named, and leaves the file as it was.

Beside each stands the honest version, which passes. The migrations run through the coordinator, on a real file.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve, frozen
from sqlalchemy import Connection

from twinstep import Coordinator, Expectation, LocalOptions, Migration, Report, Side
from twinstep.migrations.accounting.loss import Loss, declaration
from twinstep.migrations.accounting.said import Said
from twinstep.migrations.catalogue import CatalogueObject
from twinstep.migrations.memory_target import Contents, MemoryDatabase

BEFORE = """
CREATE TABLE notes (id TEXT PRIMARY KEY, title TEXT NOT NULL, body TEXT NOT NULL DEFAULT '', code TEXT, deleted INTEGER
    NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)));
CREATE TABLE tasks (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT NOT NULL, due INTEGER, name TEXT COLLATE NOCASE UNIQUE);
CREATE TABLE tags (note TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (note, tag)) WITHOUT ROWID;
CREATE TABLE plain (a, b);
CREATE INDEX tasks_due ON tasks (due);
CREATE INDEX notes_title ON notes (title);
CREATE TABLE seen (what TEXT);
CREATE TRIGGER tasks_new AFTER INSERT ON tasks BEGIN INSERT INTO seen VALUES (new.id); END;
CREATE VIEW open_tasks AS SELECT t.id, n.title FROM tasks t JOIN notes n ON n.id = t.note;
INSERT INTO notes (id, title, body, code) VALUES ('a', 'A title', 'A body', '007'), ('b', 'B title', 'B body', '1e3'),
    ('c', 'C title', 'C body', NULL);
INSERT INTO tasks (id, note, due, name) VALUES (1, 'a', 1758600000, 'one'), (2, 'b', 999999999, 'Two'), (9, 'gone', NULL, 'x');
DELETE FROM tasks WHERE id = 9;
INSERT INTO tags VALUES ('a', 'red'), ('b', 'red'), ('nowhere', 'blue');
INSERT INTO plain VALUES (1, 'x'), (1, 'x'), (2, NULL);
DELETE FROM seen;
"""

TASKS = (
    "CREATE TABLE new (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT NOT NULL, due INTEGER, name TEXT COLLATE NOCASE UNIQUE);"
)
TASKS_BACK = """CREATE INDEX tasks_due ON tasks (due);
    CREATE TRIGGER tasks_new AFTER INSERT ON tasks BEGIN INSERT INTO seen VALUES (new.id); END;"""
# DROP TABLE is refused while a view names it, unless legacy_alter_table says otherwise: by hand one drops the view first.
IN_PLACE = "PRAGMA legacy_alter_table = ON; DROP TABLE tasks; ALTER TABLE new RENAME TO tasks; PRAGMA legacy_alter_table = OFF;"
MARK = "UPDATE sqlite_sequence SET seq = 9 WHERE name = 'tasks';"
COPY = "INSERT INTO new SELECT * FROM tasks;"
GOOD = f"{TASKS} {COPY} {IN_PLACE} {MARK} {TASKS_BACK}"
NOTES = """CREATE TABLE new (id TEXT PRIMARY KEY, title TEXT NOT NULL, body TEXT NOT NULL DEFAULT '', code TEXT,
    deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)));"""
SWAPPED = NOTES.replace("title TEXT NOT NULL, ", "").replace("DEFAULT '',", "DEFAULT '', title TEXT NOT NULL,")
NOTES_IN_PLACE = IN_PLACE.replace("tasks", "notes") + "CREATE INDEX notes_title ON notes (title);"


@frozen(kw_only=True)
class Planted:
    """A migration that loses something, what is said of it, and how it is declared or done right."""

    up: str
    said: tuple[str, ...]
    expect: Expectation | None = None
    honest: str | None = None
    code: str = "T347"


PLANTED = {
    "a row deleted": Planted(
        up="DELETE FROM notes WHERE title LIKE 'A%'",
        said=("notes had 3 rows, would have 2", "id='a'", 'rows_removed = ["notes"]'),
        expect=Expectation(rows_removed=("notes",)),
        code="T334",
    ),
    "a value coerced": Planted(
        up=f"{NOTES.replace('code TEXT', 'code INTEGER')} INSERT INTO new SELECT * FROM notes; {NOTES_IN_PLACE}",
        said=("2 rows of notes have another code", "id='a': '007' became 7", 'columns_changed = ["notes.code"]'),
        expect=Expectation(columns_changed=("notes.code",)),
        honest=f"{NOTES} INSERT INTO new SELECT * FROM notes; {NOTES_IN_PLACE}",
    ),
    "an index dropped": Planted(
        up=GOOD.replace("CREATE INDEX tasks_due ON tasks (due);", ""),
        said=("index tasks_due, which was on tasks, made anew is gone", 'objects_removed = ["index tasks_due"]'),
        expect=Expectation(objects_removed=("index tasks_due",)),
        honest=GOOD,
    ),
    "a trigger lost": Planted(
        up=f"DROP TRIGGER tasks_new; {TASKS} {COPY} {IN_PLACE} {MARK} CREATE INDEX tasks_due ON tasks (due);",
        said=("trigger tasks_new, which was on tasks, made anew is gone",),
        expect=Expectation(objects_removed=("trigger tasks_new",)),
        honest=f"DROP TRIGGER tasks_new; {GOOD}",
    ),
    "a mark reset": Planted(
        up=GOOD.replace(MARK, ""),
        said=("the AUTOINCREMENT of tasks falls from 9 to 2",),
        expect=Expectation(columns_changed=("sqlite_sequence.seq",)),
        honest=GOOD,
    ),
    "a CASCADE fired": Planted(
        # As a trigger does it: foreign keys themselves are off while a step runs.
        up="CREATE TRIGGER gone AFTER DELETE ON notes BEGIN DELETE FROM tags WHERE note = old.id; END;"
        "INSERT OR REPLACE INTO notes (id, title) SELECT 'z', 'new'; DELETE FROM notes WHERE id = 'a'; "
        "INSERT INTO notes (id, title, body, code) VALUES ('a', 'A title', 'A body', '007')",
        said=("tags had 3 rows, would have 2", "note='a', tag='red'"),
        expect=Expectation(rows_removed=("tags",)),
        code="T334",
    ),
    "insert or ignore": Planted(
        up="CREATE TABLE new (note TEXT NOT NULL, tag TEXT NOT NULL UNIQUE, PRIMARY KEY (note, tag)) WITHOUT ROWID;"
        "INSERT OR IGNORE INTO new SELECT * FROM tags; DROP TABLE tags; ALTER TABLE new RENAME TO tags",
        said=("tags had 3 rows, would have 2", "note='b', tag='red'"),
        expect=Expectation(rows_removed=("tags",)),
        code="T334",
    ),
    "a filtered copy": Planted(
        up="CREATE TABLE new (note TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (note, tag)) WITHOUT ROWID;"
        "INSERT INTO new SELECT t.* FROM tags t JOIN notes n ON n.id = t.note; DROP TABLE tags; ALTER TABLE new RENAME TO tags",
        said=("tags had 3 rows, would have 2", "note='nowhere', tag='blue'"),
        expect=Expectation(rows_removed=("tags",)),
        code="T334",
    ),
    "swapped columns": Planted(
        up=f"{SWAPPED} INSERT INTO new SELECT * FROM notes; {NOTES_IN_PLACE}",
        said=("3 rows of notes have another title: id='a': 'A title' became 'A body'", "3 rows of notes have another body"),
        expect=Expectation(columns_changed=("notes.title", "notes.body")),
        honest=f"{NOTES} INSERT INTO new SELECT * FROM notes; {NOTES_IN_PLACE}",
    ),
    "a re-typed date": Planted(
        up=GOOD.replace("due INTEGER", "due TEXT"),
        said=("2 rows of tasks have another due", "id=1: 1758600000 became '1758600000'"),
        expect=Expectation(columns_changed=("tasks.due",)),
        honest=GOOD,
    ),
    "a date re-typed in place": Planted(
        up="UPDATE plain SET a = datetime(a, 'unixepoch')",
        said=("3 rows of plain have another a: rowid=1: 1 became '1970-01-01 00:00:01'",),
        expect=Expectation(columns_changed=("plain.a",)),
        honest="UPDATE plain SET a = a * 1000",
    ),
    "a value taken away": Planted(
        up="UPDATE notes SET code = NULL",
        said=("2 rows of notes have another code: id='a': '007' became NULL",),
        expect=Expectation(columns_changed=("notes.code",)),
        honest="UPDATE notes SET code = 'c' || code",
    ),
    "a value replaced without being named": Planted(
        up="INSERT OR REPLACE INTO notes (id, title) VALUES ('a', 'another')",
        said=("1 rows of notes have another title: id='a': 'A title' became 'another'", "body", "code"),
        expect=Expectation(columns_changed=("notes.title", "notes.body", "notes.code")),
        honest="INSERT INTO notes (id, title) VALUES ('a', 'x') ON CONFLICT DO UPDATE SET title = 'another'",
    ),
    "a value changed by a trigger": Planted(
        up="CREATE TRIGGER t AFTER UPDATE ON notes BEGIN UPDATE tasks SET due = due + 1; END; UPDATE notes SET title = 'x'",
        said=("2 rows of tasks have another due",),
        expect=Expectation(columns_changed=("tasks.due",)),
    ),
    "letters in another case": Planted(
        up="CREATE TABLE copied AS SELECT * FROM tasks; DELETE FROM tasks;"
        "INSERT INTO tasks SELECT id, note, due, lower(name) FROM copied",
        said=("1 rows of tasks have another name: id=2: 'Two' became 'two'",),
        expect=Expectation(columns_changed=("tasks.name",)),
    ),
    "a CHECK, a NOT NULL and a default forgotten": Planted(
        up=f"CREATE TABLE new (id TEXT PRIMARY KEY, title TEXT, body TEXT, code TEXT, deleted INTEGER NOT NULL DEFAULT 0);"
        f"INSERT INTO new SELECT * FROM notes; {NOTES_IN_PLACE}",
        said=(
            "notes has lost CHECK ( deleted in ( 0 , 1 ) )",
            "notes has lost NOT NULL of title",
            "notes has lost DEFAULT '' of body",
            'definitions_changed = ["notes"]',
        ),
        expect=Expectation(definitions_changed=("notes",)),
    ),
    "what only the text tells": Planted(
        up=GOOD.replace("AUTOINCREMENT", "").replace("COLLATE NOCASE UNIQUE", "").replace(MARK, "DELETE FROM sqlite_sequence;"),
        said=("AUTOINCREMENT of id", "COLLATE nocase of name", "UNIQUE (name)", "the AUTOINCREMENT of tasks falls from 9 to 0"),
        expect=Expectation(definitions_changed=("tasks",), columns_changed=("sqlite_sequence.seq",)),
    ),
    "a table without rowids that has some": Planted(
        up="CREATE TABLE new (note TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (note, tag));"
        "INSERT INTO new SELECT * FROM tags; DROP TABLE tags; ALTER TABLE new RENAME TO tags",
        said=("tags has lost WITHOUT ROWID",),
        expect=Expectation(definitions_changed=("tags",)),
    ),
    "a column forgotten": Planted(
        up=f"{TASKS.replace(' due INTEGER,', '')} INSERT INTO new SELECT id, note, name FROM tasks; {IN_PLACE} {MARK}"
        + TASKS_BACK.replace("CREATE INDEX tasks_due ON tasks (due);", ""),
        said=("the column tasks.due is gone", "index tasks_due"),
        expect=Expectation(columns_changed=("tasks.due",), objects_removed=("tasks_due",)),
        honest="DROP INDEX tasks_due; ALTER TABLE tasks DROP COLUMN due",
    ),
    "a table dropped with its rows": Planted(
        up="DROP TABLE plain",
        said=("plain had 3 rows, and is gone",),
        expect=Expectation(rows_removed=("plain",)),
        honest="DROP TRIGGER tasks_new; DROP TABLE seen",
        code="T334",
    ),
    "one of two equal rows": Planted(
        up="DELETE FROM plain WHERE rowid = 1",
        said=("plain had 3 rows, would have 2",),
        expect=Expectation(rows_removed=("plain",)),
        code="T334",
    ),
    "a view that a renaming leads astray": Planted(
        up="ALTER TABLE notes RENAME TO old; "
        + NOTES.replace("TABLE new", "TABLE notes")
        + " INSERT INTO notes SELECT * FROM old; DROP TABLE old; CREATE INDEX notes_title ON notes (title)",
        said=("view open_tasks does not work any more",),
        expect=Expectation(objects_removed=("open_tasks",)),
        honest="ALTER TABLE notes RENAME TO papers",
    ),
    "a view that names what is gone": Planted(
        up="PRAGMA legacy_alter_table = ON; ALTER TABLE notes RENAME TO papers",
        said=("view open_tasks does not work any more",),
        expect=Expectation(objects_removed=("view open_tasks",)),
    ),
    "an index made otherwise": Planted(
        up=GOOD.replace("ON tasks (due)", "ON tasks (note)"),
        said=("index tasks_due has another definition",),
        expect=Expectation(objects_removed=("index tasks_due",)),
        honest="DROP INDEX tasks_due; CREATE INDEX tasks_due ON tasks (note)",
    ),
    "a version set in two ways": Planted(
        up="PRAGMA user_version = 77",
        said=("a step sets user_version to 77, and [local] says 8", "Correct the migration."),
        honest="",
        code="T348",
    ),
}
HONEST = {name: planted for name, planted in PLANTED.items() if planted.honest}
DECLARED = {name: planted for name, planted in PLANTED.items() if planted.expect is not None}


@pytest.fixture(params=["delete", "wal"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        connection.executescript(BEFORE)
    return path


def world(path: Path) -> dict[str, object]:
    with closing(sqlite3.connect(path)) as connection:
        schema = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'twinstep%'").fetchall()
        tables = [name for kind, name, _ in schema if kind == "table"]
        version = connection.execute("PRAGMA user_version").fetchone()
        return {name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for name in tables} | {
            "schema": sorted(map(repr, schema)),
            "version": version,
        }


def migrated(path: Path, up: str, expect: Expectation | None = None) -> Report:
    options = LocalOptions(user_version_to=8)
    migration = Migration(id="0001_hand", local=Side(up=up), local_options=options, expect=expect or Expectation())
    return Coordinator(local=path, migrations=[migration]).migrate()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_loss_is_refused_and_named_and_the_file_is_as_before(file: Path, name: str) -> None:
    planted, before = PLANTED[name], world(file)
    report = migrated(file, planted.up)
    assert report.error is not None
    assert (report.outcome, report.exit_code, report.error.code) == ("rolled_back", 1, planted.code), report.error
    for said in planted.said:
        assert said in f"{report.error.message} {report.error.next_step}"
    assert world(file) == before


@pytest.mark.parametrize("name", DECLARED)
def test_what_is_declared_passes(file: Path, name: str) -> None:
    report = migrated(file, DECLARED[name].up, DECLARED[name].expect)
    assert (report.outcome, report.error) == ("verified", None)


@pytest.mark.parametrize("name", HONEST)
def test_the_honest_version_passes_without_a_word(file: Path, name: str) -> None:
    report = migrated(file, HONEST[name].honest or "")
    assert (report.outcome, report.error) == ("verified", None)


@pytest.mark.parametrize(
    "up",
    [
        "ALTER TABLE notes ADD COLUMN slug TEXT; UPDATE notes SET slug = lower(title)",
        "ALTER TABLE notes RENAME COLUMN title TO name",
        "ALTER TABLE tasks RENAME TO jobs; ALTER TABLE jobs RENAME COLUMN due TO at; UPDATE jobs SET at = at + 1",
        "INSERT INTO notes (id, title) VALUES ('d', 'D'); INSERT INTO plain VALUES (7, 7)",
        "DROP INDEX tasks_due; DROP TRIGGER tasks_new; DROP VIEW open_tasks",
        "PRAGMA legacy_alter_table = ON; ALTER TABLE notes RENAME TO old; " + NOTES.replace("TABLE new", "TABLE notes")
        + " INSERT INTO notes SELECT * FROM old; DROP TABLE old; CREATE INDEX notes_title ON notes (title)",
        "CREATE TABLE new AS SELECT * FROM plain; DROP TABLE plain; ALTER TABLE new RENAME TO plain",
        "ANALYZE",
        "VALUES (1)",
    ],
)  # fmt: skip
def test_what_takes_nothing_away_passes(file: Path, up: str) -> None:
    report = migrated(file, up)
    assert (report.outcome, report.error) == ("verified", None)


def test_functions_are_accounted_for_like_sql(file: Path) -> None:
    def forgets(connection: Connection) -> None:
        for statement in (*f"{TASKS} {COPY} {IN_PLACE} {MARK}".split(";"), TASKS_BACK.partition(";")[2]):
            connection.exec_driver_sql(statement)

    before = world(file)
    report = Coordinator(local=file, migrations=[Migration(id="0001_f", local=Side(up=forgets))]).migrate()
    assert report.error is not None
    assert "index tasks_due" in report.error.message
    assert world(file) == before


def test_statistics_that_went_with_a_table_are_a_finding(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("ANALYZE")
    report = migrated(file, GOOD)
    assert report.outcome == "verified"
    assert any("the statistics of tasks are gone" in finding for finding in report.runs[0].findings)
    assert not migrated(file, "ANALYZE").runs


def test_all_losses_are_named_at_once(file: Path) -> None:
    report = migrated(file, "DELETE FROM tags; UPDATE notes SET code = NULL; DROP TABLE plain")
    assert report.error is not None
    assert all(word in report.error.message for word in ("tags", "notes have another code", "plain"))
    assert report.error.next_step.endswith('[expect] columns_changed = ["notes.code"], rows_removed = ["tags", "plain"]')


def test_a_table_of_many_columns_and_rows_is_compared_in_passes(file: Path) -> None:
    columns = [f"c{number}" for number in range(700)]
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"CREATE TABLE wide (id INTEGER PRIMARY KEY, {', '.join(columns)})")
        connection.execute("INSERT INTO wide (id, c0, c699) VALUES (1, 'first', 'last'), (2, 'x', 'y')")
        connection.commit()
    up = "CREATE TRIGGER t AFTER INSERT ON seen BEGIN UPDATE wide SET c650 = 1; END; INSERT INTO seen VALUES (1)"
    report = migrated(file, up)
    assert report.error is not None
    assert "2 rows of wide have another c650: id=1: NULL became 1, id=2: NULL became 1" in report.error.message


def test_what_statements_name_is_read_from_tokens() -> None:
    said = Said()
    for statement in (
        'DROP TABLE IF EXISTS main."Old Table"',
        "drop /* x */ index [i]",
        "ALTER TABLE a RENAME TO b",
        "ALTER TABLE main.b RENAME x TO y",
        "ALTER TABLE b RENAME COLUMN y TO z",
        "ALTER TABLE b DROP COLUMN w",
        "ALTER TABLE b DROP v",
        "ALTER TABLE b RENAME TO c",
        "-- DROP TABLE of_a_trigger",
        "PRAGMA main.user_version = 3",
        "DELETE FROM notes",
    ):
        said.hear(statement)
    assert said.dropped == {("table", "old table"), ("index", "i")}
    assert (said.now("a"), said.column_now("a", "x")) == ("c", "z")
    assert said.columns_dropped == {("b", "w"), ("b", "v")}
    assert said.marks_set == {"user_version"}


def test_a_declaration_is_toml() -> None:
    losses = [Loss(sentence="", key="rows_removed", value='a "b"'), Loss(sentence="", key="rows_removed", value="c\\d")]
    assert declaration(losses) == 'rows_removed = ["a \\"b\\"", "c\\\\d"]'
    assert declaration([Loss(sentence="never")]) == ""
    assert evolve(losses[0], rows=True).rows


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE notes SET id = id + 10", None),
        ("UPDATE notes SET id = -id; UPDATE notes SET id = 3 + id", None),
        ("UPDATE notes SET id = id + 10; DELETE FROM notes WHERE id = 12", "T334"),
        ("UPDATE notes SET id = id + 10; INSERT OR REPLACE INTO notes VALUES (12, 'other')", "T334"),
    ],
)
def test_rows_that_an_update_gave_new_keys_are_found_again_by_what_else_they_hold(
    tmp_path: Path, statement: str, code: str | None
) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, title); INSERT INTO notes VALUES (1, 'one'), (2, 'two')"
        )
    migration = Migration(id="0001_m", local=Side(up=statement, down="SELECT 1"))
    report = Coordinator(local=path, migrations=[migration]).migrate()
    assert (report.error and report.error.code) == code, report.error


# The database in memory accounts too: a host's tests see the refusals that its users would.


def put_back(_: Contents) -> None:
    """Never run: nothing is taken back here once it is applied."""


def gone(contents: Contents) -> None:
    del contents.tables["notes"]["2"]


def another_kind(contents: Contents) -> None:
    contents.tables["notes"]["2"] = {"id": 2, "title": 2}


def another_value(contents: Contents) -> None:
    contents.tables["notes"]["2"] = {"id": 2, "title": "other"}


def index_gone(contents: Contents) -> None:
    del contents.objects["index notes_title"]


DELETED = "DELETE FROM notes WHERE id = 2"
BLOB = "UPDATE notes SET title = x'02' WHERE id = 2"
MADE_ANEW = """CREATE TABLE new (id INTEGER PRIMARY KEY, title); INSERT INTO new SELECT * FROM notes; DROP TABLE notes;
    ALTER TABLE new RENAME TO notes;"""
AGREED = {
    "a row deleted": (DELETED, gone, Expectation(), "T334"),
    "a row deleted, declared": (DELETED, gone, Expectation(rows_removed=("Notes",)), None),
    "another kind of value": (BLOB, another_kind, Expectation(), "T347"),
    "another kind, declared": (BLOB, another_kind, Expectation(columns_changed=("notes.title",)), None),
    "another value of the same kind": ("UPDATE notes SET title = 'other' WHERE id = 2", another_value, Expectation(), None),
    "an index dropped by name": ("DROP INDEX notes_title", "DROP INDEX notes_title", Expectation(), None),
    "an index gone with its table": (MADE_ANEW, index_gone, Expectation(), "T347"),
    "the same, declared": (MADE_ANEW, index_gone, Expectation(objects_removed=("index notes_title",)), None),
}


@pytest.mark.parametrize("name", AGREED)
def test_the_database_in_memory_refuses_what_sqlite_refuses(tmp_path: Path, name: str) -> None:
    statement, change, expect, code = AGREED[name]
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, title); CREATE INDEX notes_title ON notes (title);"
            "INSERT INTO notes VALUES (1, 'one'), (2, 'two')"
        )
    real = Migration(id="0001_m", local=Side(up=statement, down="SELECT 1"), expect=expect)
    report = Coordinator(local=path, migrations=[real]).migrate()
    assert (report.error and report.error.code) == code, report.error
    database = MemoryDatabase()
    database.contents.tables["notes"] = {"1": {"id": 1, "title": "one"}, "2": {"id": 2, "title": "two"}}
    database.contents.objects["index notes_title"] = CatalogueObject(kind="index", name="notes_title", table="notes")
    before = database.contents.digest()
    simulated = Migration(id="0001_m", local=Side(up=change, down=put_back), expect=expect)
    memory = Coordinator(local=database, migrations=[simulated], state_dir=tmp_path / "state").migrate()
    assert (memory.error and memory.error.code) == code, memory.error
    assert memory.outcome == report.outcome
    assert (database.contents.digest() == before) is (code is not None)
