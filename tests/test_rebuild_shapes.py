"""`rebuild_table` beyond foreign keys: columns, constraints, options, types; and what it refuses, with the rows named.

After a refusal inside an open transaction everything is as it was: that is looked at each time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from twinstep.events.errors import DefinitionError, Refused, TwinstepError
from twinstep.migrations.create_table import CreateTable
from twinstep.migrations.rebuild import ForeignKey, rebuild_table, rebuilding
from twinstep.migrations.rebuild.editing import parts

TASKS = """CREATE TABLE tasks (
  id INTEGER PRIMARY KEY AUTOINCREMENT, -- the key
  title TEXT NOT NULL CHECK (title <> ''),
  due TEXT,
  size NUMERIC DEFAULT 1 CONSTRAINT positive CHECK (size > 0) COLLATE NOCASE,
  state TEXT CONSTRAINT one_of CHECK (state IN ('open', 'done')) DEFAULT 'open',
  label TEXT AS (upper(title)) STORED,
  CONSTRAINT once UNIQUE (title, due) ON CONFLICT ABORT,
  CHECK (length(title) < 100)
)"""
BESIDE = (
    "CREATE TABLE log (what TEXT)",
    "CREATE INDEX tasks_due ON tasks (due DESC) WHERE due IS NOT NULL",
    "CREATE INDEX tasks_lower ON tasks (lower(title), size COLLATE RTRIM)",
    "CREATE TRIGGER tasks_new AFTER INSERT ON tasks BEGIN INSERT INTO log VALUES (new.title); END",
    "CREATE TRIGGER log_new AFTER INSERT ON log WHEN new.what = 'x' BEGIN UPDATE tasks SET state = 'done'; END",
    "CREATE VIEW open_tasks AS SELECT id, title, due FROM tasks WHERE state = 'open'",
    "CREATE VIEW first_open AS SELECT min(id) FROM open_tasks",
    "CREATE TRIGGER through_view INSTEAD OF INSERT ON open_tasks BEGIN INSERT INTO tasks (title) VALUES (new.title); END",
    "INSERT INTO tasks (id, title, due, size, state) VALUES (1, 'one', '100', 1, 'open'), (5, 'five', '007', 2.5, 'done'),"
    " (7, 'seven', NULL, NULL, 'open'), (20, 'gone', NULL, 1, 'open')",
    "DELETE FROM tasks WHERE id = 20",
    "DELETE FROM log",
    "ANALYZE",
)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        for statement in (TASKS, *BESIDE):
            made.execute(statement)
        yield made


def everything(connection: sqlite3.Connection) -> list[str]:
    """The whole database as text, rowids and SQLite's own tables included."""
    found = [repr(row) for row in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")]
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    for name in tables:
        found += sorted(f"{name} {row!r}" for row in connection.execute(f'SELECT rowid, * FROM "{name}"'))
    return found


def rebuild(connection: sqlite3.Connection, table: str = "tasks", **wish: Any) -> None:
    with rebuilding(connection):
        rebuild_table(connection, table, **wish)


def refused(connection: sqlite3.Connection, table: str = "tasks", **wish: Any) -> TwinstepError:
    before = everything(connection)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises((DefinitionError, Refused)) as caught:
        rebuild_table(connection, table, **wish)
    assert everything(connection) == before
    connection.execute("COMMIT")
    assert everything(connection) == before
    return caught.value


def text(connection: sqlite3.Connection, name: str = "tasks") -> str:
    (found,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    return str(found)


def beside(connection: sqlite3.Connection) -> list[object]:
    return connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL ORDER BY 1"
    ).fetchall()


def test_a_column_is_added_with_its_default_or_a_value_of_its_own(connection: sqlite3.Connection) -> None:
    before = beside(connection)
    rebuild(
        connection,
        add_columns=("weight INTEGER NOT NULL DEFAULT 3", "slug TEXT NOT NULL"),
        values={"slug": "lower(title) || id"},
    )
    assert connection.execute("SELECT id, weight, slug, label FROM tasks").fetchall() == [
        (1, 3, "one1", "ONE"), (5, 3, "five5", "FIVE"), (7, 3, "seven7", "SEVEN"),
    ]  # fmt: skip
    assert beside(connection) == before
    assert "-- the key" in text(connection)
    assert text(connection).index("slug TEXT NOT NULL") < text(connection).index("CONSTRAINT once")
    assert connection.execute("INSERT INTO tasks (title, slug) VALUES ('n', 'n') RETURNING id").fetchall() == [(21,)]


def test_a_column_is_dropped_with_what_names_it(connection: sqlite3.Connection) -> None:
    error = refused(connection, drop_columns=["state"])
    assert (error.code, "view open_tasks" in str(error), "trigger log_new" in str(error)) == ("T311", True, True)
    rebuild(connection, drop_columns=["state"], drop_objects=["log_new", "first_open", "open_tasks"])
    assert "state" not in text(connection)
    assert connection.execute("SELECT * FROM tasks WHERE id = 5").fetchall() == [(5, "five", "007", 2.5, "FIVE")]
    named = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    assert named & {"log_new", "open_tasks", "first_open", "tasks_due"} == {"tasks_due"}


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"drop_columns": ["due"]}, "no such column: due"),
        ({"drop_columns": ["nothing"]}, "there is no column nothing"),
        ({"drop_columns": ["title"]}, "no such column"),
        ({"add_columns": ["due TEXT"]}, "it already has a column due"),
        ({"add_columns": ["(x"]}, "is not the definition of a column"),
        ({"add_columns": ["a TEXT)"]}, ""),
        ({"add_columns": ["a TEXT, b TEXT"]}, ""),
        ({"change_columns": {"due": "at INTEGER"}}, "rename_columns renames"),
        ({"change_columns": {"due": "due INTEGER CHECK (nowhere > 1)"}}, "no such column: nowhere"),
        ({"drop_constraints": ["CHECK (nothing)"]}, "there is none"),
        ({"add_constraints": ["PRIMARY KEY (title)"]}, "more than one primary key"),
        ({"values": {"nothing": "1"}}, "there is no column nothing"),
        ({"values": {"due": "nowhere"}}, "no such column: nowhere"),
        ({"rename_columns": {"nothing": "x"}}, "no such column"),
        ({"drop_objects": ["nothing"]}, "there is no index, trigger or view nothing"),
        ({"drop_objects": ["sqlite_autoindex_tasks_1"]}, "there is no index"),
        ({"without_rowid": True}, "AUTOINCREMENT"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(connection: sqlite3.Connection, wish: dict[str, Any], said: str) -> None:
    error = refused(connection, **wish)
    assert error.code in ("T311", "T317"), error
    assert said in str(error)


def test_a_dropped_column_that_an_index_is_on_is_named(connection: sqlite3.Connection) -> None:
    error = refused(connection, drop_columns=["due"], drop_constraints=["once"])
    assert "index tasks_due cannot be made again" in str(error)
    assert "open_tasks" in str(refused(connection, drop_columns=["due"], drop_constraints=["once"], drop_objects=["tasks_due"]))


def test_a_renamed_column_is_followed_everywhere(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE child (task TEXT REFERENCES tasks(title), t TEXT)")
    renames = {"title": "name", "state": "condition"}
    # SQLite does not rename in a trigger on a view whose columns are other then.
    assert "trigger through_view" in str(refused(connection, rename_columns=renames))
    rebuild(
        connection,
        rename_columns=renames,
        change_columns={"due": "due TEXT DEFAULT ''"},
        drop_objects=["through_view"],
    )
    assert connection.execute("SELECT id, name, label FROM tasks WHERE id = 5").fetchall() == [(5, "five", "FIVE")]
    assert connection.execute("SELECT * FROM first_open").fetchall() == [(1,)]
    connection.execute("INSERT INTO tasks (name) VALUES ('new')")
    assert connection.execute("SELECT * FROM log").fetchall() == [("new",)]
    assert "name" in text(connection, "child")
    assert "SET condition = 'done'" in text(connection, "log_new").replace('"', "")


def test_a_type_that_would_change_values_is_refused_with_the_rows(connection: sqlite3.Connection) -> None:
    error = refused(connection, change_columns={"due": "due INTEGER"})
    assert error.code == "T313"
    assert "2 would have another due: id=1: '100' became 100, id=5: '007' became 7" in str(error)
    rebuild(connection, change_columns={"due": "due INTEGER"}, values={"due": "CAST(due AS INTEGER)"})
    assert connection.execute("SELECT id, due FROM tasks ORDER BY id").fetchall() == [(1, 100), (5, 7), (7, None)]


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({"change_columns": {"due": "due TEXT NOT NULL"}}, "NOT NULL constraint failed: twinstep_new_tasks.due): id=7"),
        ({"add_constraints": ["CHECK (size < 2)"]}, "id=5"),
        ({"add_constraints": ["UNIQUE (state)"]}, "id=7"),
        ({"strict": True, "change_columns": {"size": "size INTEGER"}}, "id=5"),
    ],
)
def test_rows_that_break_a_new_rule_are_named(connection: sqlite3.Connection, wish: dict[str, Any], named: str) -> None:
    error = refused(connection, **wish)
    assert error.code == "T313"
    assert named in str(error)


def test_constraints_go_by_name_or_by_text(connection: sqlite3.Connection) -> None:
    rebuild(connection, drop_constraints=["positive", "CHECK(LENGTH(title)<100)", "once", "CHECK (title <> '')"])
    assert "CHECK" not in text(connection).replace("CHECK (state", "")
    assert "COLLATE NOCASE" in text(connection)
    assert "DEFAULT 1" in text(connection)
    connection.execute("INSERT INTO tasks (title, due, size) VALUES ('', NULL, -1), ('', 'x', 1), ('', 'x', 1)")
    assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (6,)


def test_options_and_keys_change(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE words (word TEXT, number INTEGER, n ANY)")
    connection.execute("INSERT INTO words (rowid, word, number) VALUES (9, 'b', 5), (3, 'a', 7)")
    rebuild(connection, "words", add_constraints=["PRIMARY KEY (word)"], without_rowid=True, strict=True)
    assert text(connection, "words").endswith(") STRICT, WITHOUT ROWID")
    assert connection.execute("SELECT * FROM words").fetchall() == [("a", 7, None), ("b", 5, None)]
    rebuild(connection, "words", without_rowid=False, strict=False)
    assert text(connection, "words").endswith(")")
    rebuild(
        connection, "words", drop_constraints=["PRIMARY KEY (word)"], change_columns={"number": "number INTEGER PRIMARY KEY"}
    )
    assert connection.execute("SELECT rowid, word FROM words ORDER BY 1").fetchall() == [(5, "b"), (7, "a")]
    connection.execute("INSERT INTO words (word) VALUES ('c')")
    assert connection.execute("SELECT number FROM words WHERE word = 'c'").fetchall() == [(8,)]


def test_a_key_that_holds_null_or_text_cannot_become_the_rowid(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE words (word TEXT, number)")
    connection.execute("INSERT INTO words VALUES ('a', NULL), ('b', 2)")
    error = refused(connection, "words", change_columns={"number": "number INTEGER PRIMARY KEY"})
    assert (error.code, "word='a'" in str(error) or "rowid=1" in str(error)) == ("T313", True), error


def test_a_table_begins_to_count_and_stops(connection: sqlite3.Connection) -> None:
    marks = "SELECT name, seq FROM sqlite_sequence ORDER BY 1"
    connection.execute("CREATE TABLE counted (id INTEGER PRIMARY KEY, x)")
    connection.execute("INSERT INTO counted VALUES (4, 'x')")
    rebuild(connection, "counted", change_columns={"id": "id INTEGER PRIMARY KEY AUTOINCREMENT"})
    assert connection.execute(marks).fetchall() == [("counted", 4), ("tasks", 20)]
    rebuild(connection, change_columns={"id": "id INTEGER PRIMARY KEY"})
    assert connection.execute(marks).fetchall() == [("counted", 4)]


def test_statistics_stay_with_what_stays(connection: sqlite3.Connection) -> None:
    query = "SELECT * FROM sqlite_stat1 ORDER BY 1, 2"
    before = connection.execute(query).fetchall()
    rebuild(connection, add_columns=["x"])
    assert connection.execute(query).fetchall() == before
    rebuild(connection, drop_objects=["tasks_due"])
    assert connection.execute(query).fetchall() == [row for row in before if row[1] != "tasks_due"]


def test_a_generated_column_may_be_stored_and_back(connection: sqlite3.Connection) -> None:
    rebuild(connection, change_columns={"label": "label TEXT"})
    assert connection.execute("SELECT label FROM tasks ORDER BY id").fetchall() == [("ONE",), ("FIVE",), ("SEVEN",)]
    connection.execute("UPDATE tasks SET label = 'other' WHERE id = 5")
    error = refused(connection, change_columns={"label": "label TEXT AS (upper(title)) VIRTUAL"})
    assert "1 would have another label: id=5: 'other' became 'FIVE'" in str(error)


def test_everything_at_once(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO people VALUES (1)")
    rebuild(
        connection,
        rename_columns={"due": "at"},
        add_columns=["owner INTEGER", "seen INTEGER NOT NULL DEFAULT 0"],
        drop_columns=["label"],
        change_columns={"at": "at INTEGER"},
        add_constraints=["CHECK (seen IN (0, 1))"],
        drop_constraints=["one_of"],
        add_foreign_keys=[ForeignKey(columns="owner", parent="people", parent_columns="id")],
        values={"at": "CAST(at AS INTEGER)", "owner": "CASE id WHEN 1 THEN 1 WHEN 5 THEN 99 END"},
    )
    assert connection.execute("SELECT id, at, owner, seen FROM tasks").fetchall() == [
        (1, 100, 1, 0), (5, 7, None, 0), (7, None, None, 0),
    ]  # fmt: skip
    assert connection.execute("SELECT table_name, content FROM twinstep_quarantine").fetchall() == [("tasks", '{"owner": 99}')]


def test_rowids_stay_through_every_change(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE loose (a, b TEXT)")
    connection.executemany("INSERT INTO loose (rowid, a, b) VALUES (?, ?, ?)", [(3, 1, "x"), (-5, 1, "x"), (70, None, None)])
    rebuild(connection, "loose", add_columns=["c DEFAULT 7"], change_columns={"b": "b"})
    assert connection.execute("SELECT rowid, a, b, c FROM loose ORDER BY 1").fetchall() == [
        (-5, 1, "x", 7), (3, 1, "x", 7), (70, None, None, 7),
    ]  # fmt: skip
    assert refused(connection, "loose", add_columns=["rowid", "oid", "_rowid_"]).code in ("T311", "T313", "T316")


def test_a_table_of_2000_columns_is_changed(connection: sqlite3.Connection) -> None:
    columns = ", ".join(f"c{number}" for number in range(1999))
    connection.execute(f"CREATE TABLE wide ({columns})")
    connection.execute("INSERT INTO wide (rowid, c0, c1998) VALUES (3, 1, 'z')")
    rebuild(connection, "wide", change_columns={"c5": "c5 TEXT DEFAULT 'five'"})
    connection.execute("INSERT INTO wide DEFAULT VALUES")
    found = connection.execute("SELECT rowid, c0, c5, c1998 FROM wide").fetchall()
    assert found == [(3, 1, None, "z"), (4, None, "five", None)]


def test_a_transaction_of_its_own_leaves_the_connection_as_it_was(connection: sqlite3.Connection) -> None:
    connection.isolation_level = "DEFERRED"
    connection.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(DefinitionError), rebuilding(connection):
        rebuild_table(connection, "tasks", add_columns=["x", "x"])
    assert "x" not in {row[1] for row in connection.execute("PRAGMA table_info(tasks)")}
    rebuild(connection, add_columns=["x"])
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert (connection.isolation_level, connection.in_transaction) == ("DEFERRED", False)
    connection.execute("BEGIN")
    with pytest.raises(DefinitionError) as caught, rebuilding(connection):
        pass
    assert caught.value.code == "T312"


def test_constraints_are_told_apart_in_a_text() -> None:
    table = CreateTable(
        "CREATE TABLE t (a INT DEFAULT NULL NOT NULL REFERENCES p (x) ON DELETE SET NULL ON UPDATE SET DEFAULT NOT DEFERRABLE"
        " CONSTRAINT n CHECK (a IS NOT NULL) GENERATED ALWAYS AS (1) STORED, b, UNIQUE (b) CHECK (b) CONSTRAINT f"
        " FOREIGN KEY (b) REFERENCES p (x) DEFERRABLE INITIALLY DEFERRED)"
    )
    found = [[" ".join(token.text for token in part) for part in parts(item)] for item in table.items()]
    assert found == [
        [
            "DEFAULT NULL",
            "NOT NULL",
            "REFERENCES p ( x ) ON DELETE SET NULL ON UPDATE SET DEFAULT NOT DEFERRABLE",
            "CONSTRAINT n CHECK ( a IS NOT NULL )",
            "GENERATED ALWAYS AS ( 1 ) STORED",
        ],
        [],
        [
            "UNIQUE ( b )",
            "CHECK ( b )",
            "CONSTRAINT f FOREIGN KEY ( b ) REFERENCES p ( x ) DEFERRABLE INITIALLY DEFERRED",
        ],
    ]
