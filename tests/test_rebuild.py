"""`rebuild_table` on real files: what a rebuild is known to lose (cases L1 and D1 to D10 of the reference migration, and
SQLite's own traps), one test each, and by property on generated schemas. Most run in both journal modes.
"""

from __future__ import annotations

import sqlite3
import string
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from twinstep.events.errors import DefinitionError, Refused, TwinstepError
from twinstep.migrations.create_table import CreateTable
from twinstep.migrations.rebuild import ForeignKey, rebuild_table
from twinstep.migrations.sqlite_catalogue import (
    foreign_key_violations,
    integrity_problems,
    read_catalogue,
    read_fingerprint,
)

Open = Callable[..., sqlite3.Connection]
NOTE = ForeignKey(columns="note_id", parent="notes", parent_columns="id", on_delete="CASCADE")


@pytest.fixture(params=["delete", "wal"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens one file of the given content, in each journal mode, with foreign keys off."""
    opened = []

    def connect(*statements: str) -> sqlite3.Connection:
        connection = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        opened.append(connection)
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        connection.execute("PRAGMA synchronous = OFF")
        for statement in statements:
            connection.execute(statement)
        return connection

    yield connect
    for connection in opened:
        connection.close()


@contextmanager
def change(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def rebuild(connection: sqlite3.Connection, table: str, *add: ForeignKey, drop: tuple[ForeignKey, ...] = ()) -> None:
    with change(connection):
        rebuild_table(connection, table, add_foreign_keys=add, drop_foreign_keys=drop)


def refusal(connection: sqlite3.Connection, table: str, *add: ForeignKey, drop: tuple[ForeignKey, ...] = ()) -> TwinstepError:
    """The refusal, seen to leave the open transaction with everything as it was."""
    before = everything(connection)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises((DefinitionError, Refused)) as caught:
        rebuild_table(connection, table, add_foreign_keys=add, drop_foreign_keys=drop, violations="refuse")
    assert everything(connection) == before
    connection.execute("COMMIT")
    assert everything(connection) == before
    return caught.value


def texts(connection: sqlite3.Connection, *but: str) -> dict[tuple[str, str], tuple[str, str | None]]:
    query = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
    return {(kind, name): (table, sql) for kind, name, table, sql in connection.execute(query) if name not in but}


def tables(connection: sqlite3.Connection) -> list[str]:
    query = (
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'sqlite_sequence' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    )
    return [name for (name,) in connection.execute(query)]


def everything(connection: sqlite3.Connection) -> dict[str, object]:
    """All that a rebuild may lose, told apart to the last byte; the tables' own texts by their normal form."""
    seen: dict[str, object] = {"texts": {key: value for key, value in texts(connection).items() if key[0] != "table"}}
    seen["normal forms"] = read_catalogue(connection).digests()
    for table in tables(connection):
        names = [_quoted(name) for (name,) in connection.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))]
        values = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in names)
        with_rowids = f"SELECT _rowid_, {values} FROM {_quoted(table)}"
        try:
            rows = connection.execute(with_rowids).fetchall()
        except sqlite3.OperationalError:
            rows = connection.execute(f"SELECT NULL, {values} FROM {_quoted(table)}").fetchall()
        seen[f"rows of {table}"] = sorted(rows, key=repr)
    if ("table", "sqlite_sequence") in texts(connection):
        seen["marks"] = connection.execute("SELECT rowid, name, seq FROM sqlite_sequence ORDER BY 1").fetchall()
    seen["user_version"] = connection.execute("PRAGMA user_version").fetchone()
    seen["problems"] = integrity_problems(connection)
    return seen


def keys_of(connection: sqlite3.Connection, table: str) -> set[tuple[str, str, str, str]]:
    query = f'SELECT "from", "table", "to", on_delete FROM pragma_foreign_key_list(\'{table}\')'
    return set(connection.execute(query).fetchall())


PARENT = "CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, title TEXT)"
CHILD = "CREATE TABLE tags (note_id TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (note_id, tag))"


# ---- keys


def test_a_key_is_added_and_works(database: Open) -> None:
    connection = database(PARENT, CHILD, "INSERT INTO notes VALUES ('a', 'A')", "INSERT INTO tags VALUES ('a', 'x')")
    rebuild(connection, "tags", NOTE)
    assert keys_of(connection, "tags") == {("note_id", "notes", "id", "CASCADE")}
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("DELETE FROM notes")
    assert connection.execute("SELECT count(*) FROM tags").fetchone() == (0,)


def test_a_down_after_an_up_gives_the_very_text_and_all_else_back(database: Open) -> None:
    connection = database(PARENT, CHILD, "INSERT INTO notes VALUES ('a', 'A')", "INSERT INTO tags VALUES ('a', 'x')")
    before, fingerprint = everything(connection), read_fingerprint(connection)
    rebuild(connection, "tags", NOTE)
    assert read_fingerprint(connection).differences(fingerprint) == ("table tags differs",)
    rebuild(connection, "tags", drop=(NOTE,))
    assert everything(connection) == before
    assert fingerprint.differences(read_fingerprint(connection)) == ()
    assert texts(connection)["table", "tags"][1] == CHILD.replace("tags", '"tags"')


def test_any_number_of_keys_takes_one_copy(database: Open) -> None:
    connection = database(
        PARENT, "CREATE TABLE links (source TEXT, target TEXT REFERENCES notes, old TEXT REFERENCES notes(id))"
    )
    connection.execute("INSERT INTO notes VALUES ('a', 'A')")
    connection.executemany("INSERT INTO links VALUES ('a', 'a', ?)", [("a",)] * 50)
    before, changes = read_catalogue(connection), connection.total_changes
    source = ForeignKey(columns="source", parent="notes", parent_columns="id", on_delete="cascade")
    again = ForeignKey(columns="target", parent="notes", parent_columns="id", on_delete="SET NULL")
    old = ForeignKey(columns="old", parent="NOTES")
    rebuild(connection, "LINKS", source, again, drop=(old, ForeignKey(columns="target", parent="notes")))
    assert connection.total_changes - changes == 50
    assert keys_of(connection, "links") == {("source", "notes", "id", "CASCADE"), ("target", "notes", "id", "SET NULL")}
    found = before.changes_to(read_catalogue(connection))
    assert (found.foreign_keys_added, found.tables_rebuilt, found.rows) == (0, 1, {})


def test_a_key_of_a_table_to_itself_refers_to_itself_afterwards(database: Open) -> None:
    connection = database("CREATE TABLE tasks (id TEXT PRIMARY KEY, parent TEXT)")
    connection.execute("INSERT INTO tasks VALUES ('child', 'top'), ('top', NULL)")
    rebuild(connection, "tasks", ForeignKey(columns="parent", parent="tasks", parent_columns="id", on_delete="CASCADE"))
    assert keys_of(connection, "tasks") == {("parent", "tasks", "id", "CASCADE")}
    assert foreign_key_violations(connection).total() == 0


def test_children_of_the_rebuilt_table_go_on_referring_to_it(database: Open) -> None:
    connection = database(PARENT, "CREATE TABLE tags (note_id TEXT REFERENCES notes(id) ON DELETE CASCADE)")
    connection.execute("INSERT INTO notes VALUES ('a', 'A')")
    connection.execute("INSERT INTO tags VALUES ('a')")
    child = texts(connection)["table", "tags"]
    rebuild(connection, "notes")
    assert texts(connection)["table", "tags"] == child
    assert connection.execute("SELECT * FROM tags").fetchall() == [("a",)]
    assert foreign_key_violations(connection).total() == 0


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE TABLE t (a, FOREIGN KEY (a) REFERENCES p)", "CREATE TABLE t (a)"),
        ("CREATE TABLE t (a REFERENCES p)", "CREATE TABLE t (a)"),
        ("CREATE TABLE t (a INT CONSTRAINT k REFERENCES p ON UPDATE NO ACTION NOT NULL)", "CREATE TABLE t (a INT NOT NULL)"),
        ("CREATE TABLE t (a, CONSTRAINT k FOREIGN KEY (a) REFERENCES p NOT DEFERRABLE, UNIQUE (a))",
         "CREATE TABLE t (a, UNIQUE (a))"),
        ("CREATE TABLE t (a, FOREIGN KEY (a) REFERENCES p UNIQUE (a))", "CREATE TABLE t (a,  UNIQUE (a))"),
        ("CREATE TABLE t (a, UNIQUE (a) FOREIGN KEY (a) REFERENCES p)", "CREATE TABLE t (a, UNIQUE (a) )"),
        ("CREATE TABLE t (a, -- of p\n FOREIGN KEY (a) REFERENCES p -- here\n)", "CREATE TABLE t (a -- of p\n  -- here\n)"),
        ("CREATE TABLE t (a, FOREIGN KEY ([a]) REFERENCES `p` MATCH FULL ON DELETE NO ACTION)", "CREATE TABLE t (a)"),
        ("CREATE TABLE 't' (a DEFAULT ('references p'), 'b', FOREIGN KEY (\"A\")REFERENCES'P')",
         "CREATE TABLE 't' (a DEFAULT ('references p'), 'b')"),
    ],
)  # fmt: skip
def test_a_key_is_cut_out_of_the_text_and_nothing_else(database: Open, sql: str, expected: str) -> None:
    connection = database("CREATE TABLE p (id PRIMARY KEY)", sql, "INSERT INTO p VALUES (1)", "INSERT INTO t (a) VALUES (1)")
    declared = CreateTable(sql).foreign_keys()
    assert CreateTable(sql).without_keys(declared).sql == expected
    rebuild(connection, "t", drop=(ForeignKey(columns="a", parent="p", parent_columns="id"),))
    assert keys_of(connection, "t") == set()


def test_a_deferrable_that_stands_apart_from_its_key_is_not_left_to_another_key(database: Open) -> None:
    text = "CREATE TABLE t (a REFERENCES p, b REFERENCES p NOT NULL DEFERRABLE INITIALLY DEFERRED)"
    connection = database("CREATE TABLE p (id PRIMARY KEY)", text)
    assert refusal(connection, "t", drop=(ForeignKey(columns="b", parent="p"),)).code == "T311"


def test_a_deferred_key_is_told_from_one_that_is_not(database: Open) -> None:
    connection = database("CREATE TABLE p (id PRIMARY KEY)", "CREATE TABLE t (a)")
    deferred = ForeignKey(columns="a", parent="p", on_update="CASCADE", deferred=True)
    rebuild(connection, "t", deferred)
    assert refusal(connection, "t", drop=(ForeignKey(columns="a", parent="p", on_update="CASCADE"),)).code == "T311"
    connection.execute("PRAGMA foreign_keys = ON")
    with change(connection):
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("INSERT INTO p VALUES (1)")
    connection.execute("PRAGMA foreign_keys = OFF")
    rebuild(connection, "t", drop=(deferred,))
    assert texts(connection)["table", "t"][1] == 'CREATE TABLE "t" (a)'


# ---- L1, D1 to D10


def test_l1_a_trigger_on_another_table_that_names_this_one_does_not_stop_it(database: Open) -> None:
    connection = database(
        PARENT,
        CHILD,
        "CREATE TABLE counts (n)",
        "CREATE TRIGGER first AFTER INSERT ON notes BEGIN INSERT INTO tags VALUES (new.id, 'first'); END",
        "CREATE TRIGGER second AFTER DELETE ON notes BEGIN DELETE FROM tags WHERE tags.note_id = old.id; END",
        "CREATE VIEW tagged AS SELECT tags.tag, notes.title FROM tags JOIN notes ON notes.id = tags.note_id",
        "CREATE VIEW again AS SELECT * FROM tagged",
    )
    before = texts(connection, "tags")
    rebuild(connection, "tags", NOTE)
    assert texts(connection, "tags") == before
    connection.execute("INSERT INTO notes VALUES ('a', 'A')")
    assert connection.execute("SELECT * FROM again").fetchall() == [("first", "A")]
    connection.execute("DELETE FROM notes")
    assert connection.execute("SELECT count(*) FROM tags").fetchone() == (0,)


def test_d1_a_row_without_parent_is_neither_dropped_nor_passed_over(database: Open) -> None:
    connection = database(PARENT, CHILD, "INSERT INTO notes VALUES ('a', 'A')")
    connection.execute("INSERT INTO tags VALUES ('a', 'x'), ('gone', 'x'), ('gone', 'y')")
    refused = refusal(connection, "tags", NOTE)
    assert refused.code == "T314"
    assert refused.details["rows"] == 2
    assert "note_id='gone', tag='x'" in str(refused)
    assert "to notes" in str(refused)


def test_d1_rows_without_parent_are_named_in_a_table_without_rowids_too(database: Open) -> None:
    connection = database(PARENT, f"{CHILD} WITHOUT ROWID", "INSERT INTO notes VALUES ('a', 'A')")
    connection.execute("INSERT INTO tags VALUES ('a', 'x'), ('gone', 'x'), ('gone', 'y')")
    refused = refusal(connection, "tags", NOTE)
    assert (refused.code, refused.details["rows"]) == ("T314", 2)
    assert "note_id='gone', tag='y'" in str(refused)
    assert "note_id='a'" not in str(refused)


def test_a_row_is_named_even_if_its_key_is_not_utf8(database: Open) -> None:
    connection = database(PARENT, "CREATE TABLE tags (id TEXT PRIMARY KEY, note_id TEXT)")
    connection.execute("INSERT INTO tags VALUES (CAST(x'ff61' AS TEXT), 'gone')")
    assert "id='\N{REPLACEMENT CHARACTER}a'" in str(refusal(connection, "tags", NOTE))


def test_violations_of_an_older_key_are_not_held_against_a_new_one(database: Open) -> None:
    connection = database(PARENT, "CREATE TABLE links (source TEXT REFERENCES notes(id), target TEXT)")
    connection.execute("INSERT INTO notes VALUES ('a', 'A')")
    connection.execute("INSERT INTO links VALUES ('old orphan', 'a'), ('old orphan', NULL)")
    before = foreign_key_violations(connection)
    rebuild(connection, "links", ForeignKey(columns="target", parent="notes", parent_columns="id", on_delete="SET NULL"))
    assert foreign_key_violations(connection) == before
    assert before.total() == 2


def test_d2_folders_of_any_depth_and_in_cycles_stay(database: Open) -> None:
    connection = database("CREATE TABLE folders (id TEXT PRIMARY KEY, parent TEXT)")
    rows = [("a", None), ("b", "a"), ("c", "b"), ("d", "c"), ("x", "y"), ("y", "x"), ("own", "own")]
    connection.executemany("INSERT INTO folders VALUES (?, ?)", reversed(rows))
    rebuild(connection, "folders", ForeignKey(columns="parent", parent="folders", parent_columns="id", on_delete="CASCADE"))
    assert connection.execute("SELECT * FROM folders ORDER BY id").fetchall() == sorted(rows)


def test_d3_with_foreign_keys_on_nothing_is_touched(database: Open) -> None:
    connection = database(PARENT, "CREATE TABLE tags (note_id TEXT REFERENCES notes(id) ON DELETE CASCADE)")
    connection.execute("INSERT INTO notes VALUES ('a', 'A')")
    connection.execute("INSERT INTO tags VALUES ('a')")
    connection.execute("PRAGMA foreign_keys = ON")
    assert refusal(connection, "notes").code == "T312"
    assert connection.execute("SELECT count(*) FROM tags").fetchone() == (1,)


def test_d3_with_foreign_keys_off_children_survive_the_drop(database: Open) -> None:
    connection = database("CREATE TABLE tasks (id TEXT PRIMARY KEY, parent TEXT REFERENCES tasks(id) ON DELETE CASCADE)")
    connection.execute("INSERT INTO tasks VALUES ('task', NULL), ('child', 'task'), ('grandchild', 'child')")
    before = everything(connection)
    rebuild(connection, "tasks")
    assert everything(connection) == before


def test_d4_a_dangling_optional_reference_is_refused_with_the_row_and_the_table_stays_whole(database: Open) -> None:
    connection = database(PARENT, "CREATE TABLE links (id INTEGER PRIMARY KEY, target TEXT)")
    connection.execute("INSERT INTO links VALUES (7, 'nowhere'), (8, NULL)")
    refused = refusal(
        connection, "links", ForeignKey(columns="target", parent="notes", parent_columns="id", on_delete="SET NULL")
    )
    assert refused.code == "T314"
    assert "id=7" in str(refused)
    assert "id=8" not in str(refused)


def test_d5_a_row_that_breaks_a_rule_of_its_table_is_never_swallowed(database: Open) -> None:
    def with_bad_row(table: str) -> sqlite3.Connection:
        connection = database("DROP TABLE IF EXISTS t", table, "PRAGMA ignore_check_constraints = ON")
        connection.execute("INSERT INTO t (id, a) VALUES (1, 1), (2, 9)")
        connection.execute("PRAGMA ignore_check_constraints = OFF")
        return connection

    moved = with_bad_row("CREATE TABLE t (id INTEGER PRIMARY KEY, a CHECK (a < 5) UNIQUE ON CONFLICT IGNORE)")
    with change(moved):
        rebuild_table(moved, "t")
    assert moved.execute("SELECT id, a FROM t").fetchall() == [(1, 1), (2, 9)]
    named = with_bad_row("CREATE TABLE t (id INTEGER PRIMARY KEY, a CHECK (a < 5) UNIQUE ON CONFLICT IGNORE, g AS (a))")
    named.execute("BEGIN IMMEDIATE")
    with pytest.raises(Refused, match="a < 5") as caught:
        rebuild_table(named, "t")
    assert caught.value.code == "T313"
    assert named.execute("SELECT id, a FROM t").fetchall() == [(1, 1), (2, 9)]
    assert tables(named) == ["t"]


def test_d6_d7_types_checks_defaults_and_collations_stay_to_the_letter(database: Open) -> None:
    text = (
        "CREATE TABLE tasks (id TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, /* due */ due INTEGER NULL,\n"
        "  deleted INTEGER NOT NULL DEFAULT 0 CHECK (\"deleted\" IN (0, 1)), -- 0 or 1, never ')'\n"
        "  made INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)), note_id TEXT DEFAULT 'it''s (\"',\n"
        "  CONSTRAINT few CHECK (length(id) < 9)\n)"
    )
    connection = database(PARENT, text, "INSERT INTO tasks (id, due) VALUES ('a', 999999999), ('b', 1758600000)")
    connection.execute("UPDATE tasks SET note_id = NULL")
    before = everything(connection)
    rebuild(connection, "tasks", NOTE)
    start = text.replace("tasks", '"tasks"')[: text.index("\n)") + 2]
    assert str(texts(connection)["table", "tasks"][1]).startswith(start)
    assert connection.execute("SELECT id FROM tasks ORDER BY due").fetchall() == [("a",), ("b",)]
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        connection.execute("INSERT INTO tasks (id, deleted) VALUES ('c', 7)")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        connection.execute("INSERT INTO tasks (id, note_id) VALUES ('A', NULL)")
    rebuild(connection, "tasks", drop=(NOTE,))
    assert everything(connection) == before
    assert texts(connection)["table", "tasks"][1] == text.replace("tasks", '"tasks"')


@pytest.mark.parametrize("rows", [6, 0])
def test_d8_the_autoincrement_mark_does_not_fall_back(database: Open, rows: int) -> None:
    connection = database(PARENT, "CREATE TABLE reminders (id INTEGER PRIMARY KEY AUTOINCREMENT, note_id TEXT)")
    connection.executemany("INSERT INTO reminders (note_id) VALUES (?)", [(None,)] * 6)
    connection.execute("DELETE FROM reminders WHERE id > 1" if rows else "DELETE FROM reminders")
    before = everything(connection)["marks"]
    rebuild(connection, "reminders", NOTE)
    assert everything(connection)["marks"] == before
    connection.execute("INSERT INTO reminders (note_id) VALUES (NULL)")
    assert connection.execute("SELECT max(id) FROM reminders").fetchone() == (7,)


def test_d8_a_table_that_never_drew_a_number_has_no_mark_afterwards(database: Open) -> None:
    connection = database(
        "CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT)", "CREATE TABLE b (id INTEGER PRIMARY KEY AUTOINCREMENT)"
    )
    connection.execute("INSERT INTO b VALUES (40)")
    rebuild(connection, "a")
    assert connection.execute("SELECT * FROM sqlite_sequence").fetchall() == [("b", 40)]


def test_d9_indexes_and_triggers_come_back_with_their_exact_texts_and_order(database: Open) -> None:
    connection = database(
        "CREATE TABLE log (word)",
        "CREATE TABLE t (a TEXT COLLATE NOCASE, b INTEGER, c)",
        "CREATE UNIQUE INDEX one ON t(lower(a), b DESC) WHERE b > 0",
        "CREATE TRIGGER z_first AFTER INSERT ON t BEGIN INSERT INTO log VALUES ('z'); END",
        "CREATE INDEX [two two]   ON T (a COLLATE RTRIM , c) -- why",
        "CREATE TRIGGER a_second AFTER INSERT ON T WHEN new.b > 0 BEGIN INSERT INTO log VALUES ('a'); SELECT 1; END",
        "CREATE TRIGGER \"m;third\" BEFORE UPDATE OF b ON t BEGIN UPDATE t SET c = ';' WHERE rowid = old.rowid; END",
        "INSERT INTO t VALUES ('a', 1, NULL)",
        "DELETE FROM log",
    )
    connection.execute("INSERT INTO t VALUES ('b', 1, 0)")
    fired = connection.execute("SELECT word FROM log ORDER BY rowid").fetchall()
    assert len(fired) == 2
    before = texts(connection, "t")
    rebuild(connection, "t")
    assert texts(connection, "t") == before
    assert connection.execute("SELECT count(*) FROM log").fetchone() == (2,), "the copy fired a trigger"
    connection.execute("INSERT INTO t VALUES ('c', 1, 0)")
    assert connection.execute("SELECT word FROM log ORDER BY rowid").fetchall() == fired * 2


def test_d10_values_stay_in_their_columns_where_a_name_swaps_their_order(database: Open) -> None:
    connection = database(
        "CREATE TABLE t (title TEXT, body TEXT, g AS (title || body))", "INSERT INTO t VALUES ('title', 'body')"
    )
    rebuild(connection, "t")
    assert connection.execute("SELECT title, body, g FROM t").fetchall() == [("title", "body", "titlebody")]


# ---- what else a rebuild loses


SHAPES = {
    "no index": "CREATE TABLE t (a, b TEXT)",
    "text key": "CREATE TABLE t (a TEXT PRIMARY KEY, b)",
    "integer key": "CREATE TABLE t (a INTEGER PRIMARY KEY, b)",
    "integer key that is no rowid": "CREATE TABLE t (a INTEGER PRIMARY KEY DESC, b UNIQUE)",
    "without rowid": "CREATE TABLE t (b, a TEXT COLLATE NOCASE, PRIMARY KEY (a)) WITHOUT ROWID",
    "strict": "CREATE TABLE t (a INTEGER, b ANY) STRICT",
    "strict without rowid": "CREATE TABLE t (a INTEGER PRIMARY KEY, b ANY) STRICT, WITHOUT ROWID",
    "generated": "CREATE TABLE t (a, c TEXT AS (a || 'x') STORED UNIQUE, d AS (a + 1), b)",
    "rowid is a column": "CREATE TABLE t (rowid TEXT, oid, a INTEGER, b)",
    "names itself": "CREATE TABLE t (a CHECK (t.a > 0), b UNIQUE, CHECK (\"T\".a <> 4 AND [t] . b IS NOT 'no'))",
    "names itself and counts": "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT CHECK (t.a > 0), b REFERENCES t(a))",
    "quoted": "CREATE TABLE 't' ([a] INT, `b` \"TEXT\", \"it's (\" DEFAULT ')')",
    "conflict clauses": "CREATE TABLE t (a NOT NULL ON CONFLICT REPLACE DEFAULT 1, b UNIQUE ON CONFLICT IGNORE)",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_table_keeps_rows_and_rowids(database: Open, shape: str) -> None:
    connection = database(SHAPES[shape], "CREATE INDEX extra ON t(b DESC)", "CREATE VIEW v AS SELECT a FROM t")
    for number, value in ((5, "'x'"), (70, "x'00ff'"), (6, "NULL"), (900, "1.5"), (8, "NULL")):
        if shape not in ("names itself and counts",):
            connection.execute(f"INSERT INTO t (a, b) VALUES ({number}, {value})")
        else:
            connection.execute(f"INSERT INTO t (a) VALUES ({number})")
    connection.execute("DELETE FROM t WHERE a = 6")
    before, text = everything(connection), texts(connection)["table", "t"][1]
    rebuild(connection, "t")
    assert everything(connection) == before
    rebuild(connection, "t")
    assert everything(connection) == before
    if "names itself" in shape:
        assert texts(connection)["table", "t"][1] == text


def test_values_that_the_own_affinity_would_change_stay_or_are_named(database: Open) -> None:
    def mistyped(text: str) -> sqlite3.Connection:
        connection = database("DROP TABLE IF EXISTS t", text.replace("INTEGER", "BLOB"))
        connection.execute("INSERT INTO t (k, n) VALUES ('a', 1), ('b', '007'), ('c', '1e3'), ('d', '12345678901234567890')")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 't'", (text,))
        connection.execute("PRAGMA writable_schema = OFF")
        connection.close()
        return database()

    transferred = mistyped("CREATE TABLE t (k TEXT PRIMARY KEY, n INTEGER)")
    before = everything(transferred)
    rebuild(transferred, "t")
    assert everything(transferred) == before
    transferred.close()
    refused = refusal(mistyped("CREATE TABLE t (k TEXT PRIMARY KEY, n INTEGER, g AS (k))"), "t")
    assert refused.code == "T313"
    assert "k='b'; k='c'; k='d'" in str(refused)


def test_text_that_is_not_utf8_is_kept(database: Open) -> None:
    connection = database("CREATE TABLE t (k TEXT PRIMARY KEY, v)", "INSERT INTO t VALUES (CAST(x'ff61' AS TEXT), x'ff61')")
    before = everything(connection)
    rebuild(connection, "t")
    assert everything(connection) == before


def test_where_sqlite_declines_the_transfer_rowids_are_kept_all_the_same(database: Open) -> None:
    connection = database("CREATE TABLE t (k TEXT PRIMARY KEY)")
    connection.executemany("INSERT INTO t (rowid, k) VALUES (?, ?)", [(3, "c"), (70, "a"), (-5, "b")])
    before = everything(connection)
    connection.execute("PRAGMA count_changes = ON")
    rebuild(connection, "t")
    connection.execute("PRAGMA count_changes = OFF")
    assert everything(connection) == before


def test_a_table_of_2000_columns_keeps_rows_and_rowids(database: Open) -> None:
    columns = ", ".join(f"c{number}" for number in range(2000))
    connection = database(PARENT, f"CREATE TABLE wide ({columns})")
    connection.execute("INSERT INTO wide (rowid, c0, c1999) VALUES (3, 1, 'z'), (70, NULL, x'00')")
    rebuild(connection, "wide", ForeignKey(columns="c5", parent="notes"))
    assert connection.execute("SELECT rowid, c0, c1999 FROM wide").fetchall() == [(3, 1, "z"), (70, None, b"\0")]
    assert [key for key in texts(connection) if "twinstep" in key[1]] == []


def test_rowids_that_no_name_reads_are_refused_unless_there_are_none(database: Open) -> None:
    connection = database("CREATE TABLE t (rowid, oid, _rowid_ TEXT UNIQUE)")
    rebuild(connection, "t")
    connection.execute("INSERT INTO t VALUES (1, 2, 3)")
    assert refusal(connection, "t").code == "T316"


def test_statistics_are_the_same_and_in_use_at_once(database: Open) -> None:
    connection = database(
        "CREATE TABLE t (a, b)", "CREATE INDEX many ON t(b)", "CREATE INDEX few ON t(a)", "CREATE TABLE u (x)"
    )
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(number % 2, number) for number in range(1000)])
    query = "EXPLAIN QUERY PLAN SELECT * FROM t WHERE a = 1 AND b = 1"
    assert "few" in connection.execute(query).fetchall()[0][3], "without statistics the plan would be the same"
    connection.execute("ANALYZE")
    before = connection.execute("SELECT rowid, * FROM sqlite_stat1").fetchall(), connection.execute(query).fetchall()[0][3]
    assert "many" in before[1]
    with change(connection):
        rebuild_table(connection, "t")
        after = connection.execute("SELECT rowid, * FROM sqlite_stat1").fetchall(), connection.execute(query).fetchall()[0][3]
    assert after == before
    assert read_fingerprint(connection).content["sqlite_stat1"] == read_fingerprint(database()).content["sqlite_stat1"]


def test_an_external_search_table_still_finds_its_rows(database: Open) -> None:
    connection = database(
        "CREATE TABLE notes (id TEXT PRIMARY KEY, body TEXT)",
        "CREATE VIRTUAL TABLE found USING fts5(body, content='notes', content_rowid='rowid')",
        "CREATE TRIGGER fill AFTER INSERT ON notes BEGIN INSERT INTO found(rowid, body) VALUES (new.rowid, new.body); END",
    )
    connection.executemany("INSERT INTO notes VALUES (?, ?)", [("a", "apple"), ("b", "pear"), ("c", "plum")])
    connection.execute("INSERT INTO found(found, rowid, body) VALUES ('delete', 1, 'apple')")
    connection.execute("DELETE FROM notes WHERE id = 'a'")
    rebuild(connection, "notes")
    connection.execute("INSERT INTO notes VALUES ('d', 'quince')")
    for word, note in (("pear", "b"), ("quince", "d")):
        query = "SELECT id FROM notes WHERE rowid IN (SELECT rowid FROM found WHERE found MATCH ?)"
        assert connection.execute(query, (word,)).fetchall() == [(note,)]


def test_names_that_a_rebuild_would_use_may_be_taken(database: Open) -> None:
    connection = database(
        "CREATE TABLE t (a)",
        "CREATE TABLE TWINSTEP_new_t (x)",
        "CREATE INDEX twinstep_new_2_t ON t(a)",
        "INSERT INTO t VALUES (1)",
    )
    before = everything(connection), texts(connection, "t")
    rebuild(connection, "t")
    assert (everything(connection), texts(connection, "t")) == before


def test_odd_names_are_quoted_everywhere(database: Open) -> None:
    connection = database(
        'CREATE TABLE "my ""table"";" ("select" TEXT PRIMARY KEY, "a""b" INT)', 'CREATE TABLE "p"(id PRIMARY KEY)'
    )
    connection.execute('CREATE INDEX "in""dex" ON "my ""table"";" ("a""b")')
    connection.execute('INSERT INTO "my ""table"";" VALUES (\'x\', NULL)')
    before = everything(connection)
    key = ForeignKey(columns='a"b', parent="p", parent_columns="ID")
    rebuild(connection, 'MY "TABLE";', key)
    rebuild(connection, 'my "table";', drop=(key,))
    assert everything(connection) == before


def test_the_connection_is_left_as_it_was_set(database: Open) -> None:
    connection = database("CREATE TABLE t (a CHECK (t.a > 0))", "CREATE TABLE u (a)", "INSERT INTO u VALUES ('x')")
    connection.row_factory, connection.text_factory = sqlite3.Row, bytes
    names = ("legacy_alter_table", "writable_schema", "foreign_keys", "ignore_check_constraints", "secure_delete")
    before = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    rebuild(connection, "t")
    rebuild(connection, "u")
    assert [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names] == before
    assert connection.execute("SELECT a FROM u").fetchone()["a"] == b"x"


def test_it_works_through_a_connection_of_sqlalchemy(database: Open, tmp_path: Path) -> None:
    connection = database(PARENT, CHILD)
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}", poolclass=NullPool, connect_args={"isolation_level": None})
    with engine.connect() as through:
        through.exec_driver_sql("BEGIN IMMEDIATE")
        rebuild_table(through, "tags", add_foreign_keys=[NOTE])
        through.exec_driver_sql("COMMIT")
    assert keys_of(connection, "tags") == {("note_id", "notes", "id", "CASCADE")}


def test_a_rollback_takes_the_whole_rebuild_back(database: Open) -> None:
    connection = database(
        PARENT, "CREATE TABLE tags (id INTEGER PRIMARY KEY AUTOINCREMENT, note_id TEXT CHECK (tags.note_id > ''))"
    )
    connection.execute("INSERT INTO tags VALUES (9, NULL)")
    before, text = everything(connection), texts(connection)
    connection.execute("BEGIN IMMEDIATE")
    rebuild_table(connection, "tags", add_foreign_keys=[NOTE])
    rebuild_table(connection, "notes")
    connection.execute("ROLLBACK")
    assert (everything(connection), texts(connection)) == (before, text)


# ---- refusals


def test_without_a_transaction_nothing_is_begun(database: Open) -> None:
    connection = database("CREATE TABLE t (a)")
    with pytest.raises(DefinitionError, match="T312"):
        rebuild_table(connection, "t")
    assert not connection.in_transaction


@pytest.mark.parametrize(
    ("table", "add", "drop", "word"),
    [
        ("nothing", [], [], "no table"),
        ("v", [], [], "no table"),
        ("f", [], [], "virtual"),
        ("f_data", [], [], "virtual"),
        ("sqlite_sequence", [], [], "SQLite"),
        ("hidden", [], [], "temporary"),
        ("t", [ForeignKey(columns="nope", parent="p")], [], "no column t.nope"),
        ("t", [ForeignKey(columns="a", parent="nope")], [], "does not exist"),
        ("t", [ForeignKey(columns="a", parent="p", parent_columns="nope")], [], "no column p.nope"),
        ("t", [ForeignKey(columns="b", parent="p")], [], "already has"),
        (
            "t",
            [ForeignKey(columns="a", parent="p"), ForeignKey(columns="A", parent="P", parent_columns="id")],
            [],
            "already has",
        ),
        ("t", [], [ForeignKey(columns="a", parent="p")], "no key"),
        ("t", [], [ForeignKey(columns="b", parent="p", on_delete="CASCADE")], "no key"),
        ("t", [], [ForeignKey(columns="b", parent="p"), ForeignKey(columns="b", parent="p")], "no key"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    database: Open, table: str, add: list[ForeignKey], drop: list[ForeignKey], word: str
) -> None:
    connection = database(
        "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE t (a, b REFERENCES p(id))",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "CREATE TABLE hidden (a)",
        "CREATE TEMP TRIGGER watch AFTER INSERT ON hidden BEGIN SELECT 1; END",
    )
    refused = refusal(connection, table, *add, drop=tuple(drop))
    assert refused.code == "T311"
    assert word in str(refused)


def test_a_key_to_columns_that_are_no_key_is_refused(database: Open) -> None:
    connection = database(PARENT, CHILD)
    assert refusal(connection, "tags", ForeignKey(columns="tag", parent="notes", parent_columns="title")).code == "T315"
    connection.execute("CREATE UNIQUE INDEX titles ON notes(title)")
    rebuild(connection, "tags", ForeignKey(columns="tag", parent="notes", parent_columns="title"))


@pytest.mark.parametrize("wrong", [{"on_delete": "EXPLODE"}, {"columns": ()}, {"parent_columns": ("a", "b")}])
def test_a_key_that_makes_no_sense_cannot_be_written_down(wrong: dict[str, object]) -> None:
    with pytest.raises(DefinitionError, match="T310"):
        ForeignKey(**({"columns": "a", "parent": "p"} | wrong))


# ---- by property

NAMES = st.sampled_from(["a", "B", "note id", 'qu"ote', "it's", "select", "é", "rowid", "x)"])
TYPES = st.sampled_from(["", "TEXT", "INTEGER", "REAL", "BLOB", "NUMERIC", "VARCHAR(10)", "date"])
EXTRAS = ["", "NOT NULL", "DEFAULT 'x)'", "COLLATE NOCASE", "CHECK (1 /* ) */)", "UNIQUE", "REFERENCES other(id)", "-- ,(\n"]
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=4),
    st.text(string.printable + "é\0", max_size=5),
    st.sampled_from(["007", "1e3", "12345678901234567890", "1.0", " 1", "0x10"]),
)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@st.composite
def schemas(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """A CREATE TABLE for t, its columns, and further statements: indexes, triggers and views of many kinds."""
    names = draw(st.lists(NAMES, min_size=2, max_size=5, unique_by=str.lower))
    columns = [f"{_quoted(name)} {draw(TYPES)} {draw(st.sampled_from(EXTRAS))}" for name in names]
    key = draw(st.sampled_from(["none", "one", "two", "rowid", "counted"]))
    constraints = []
    without_rowid = False
    if key in ("rowid", "counted"):
        columns[0] = f"{_quoted(names[0])} INTEGER PRIMARY KEY {'AUTOINCREMENT' if key == 'counted' else ''}"
    elif key != "none":
        constraints.append(f"PRIMARY KEY ({', '.join(map(_quoted, names[: 1 if key == 'one' else 2]))})")
        without_rowid = draw(st.booleans())
    if draw(st.booleans()):
        stored = draw(st.sampled_from(["STORED", "VIRTUAL"]))
        columns.append(f"gen AS ({_quoted(names[-1])} || 'g') {stored}")
    if draw(st.booleans()):
        constraints.append(f"CONSTRAINT k FOREIGN KEY ({_quoted(names[1])}) REFERENCES other ON DELETE SET NULL")
    table = f"CREATE TABLE t ({', '.join(columns + constraints)}){' WITHOUT ROWID' if without_rowid else ''}"
    first, last = _quoted(names[0]), _quoted(names[-1])
    more = [
        f"CREATE INDEX i1 ON t ({last} DESC)",
        f"CREATE INDEX i2 ON t (lower({first}), {last} COLLATE RTRIM) WHERE {first} IS NOT NULL",
        f"CREATE TRIGGER g1 AFTER DELETE ON t BEGIN INSERT INTO other VALUES (old.{first}); END",
        "CREATE TRIGGER g2 AFTER INSERT ON other BEGIN DELETE FROM t WHERE 0; END",
        f"CREATE VIEW v AS SELECT {last} FROM t",
    ]
    return table, names, [statement for statement in more if draw(st.booleans())]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(schema=schemas(), data=st.data(), mode=st.sampled_from(["delete", "wal"]))
def test_nothing_is_lost_from_any_schema_there_and_back(
    tmp_path_factory: pytest.TempPathFactory, schema: tuple[str, list[str], list[str]], data: st.DataObject, mode: str
) -> None:
    table, names, more = schema
    rows = data.draw(st.lists(st.tuples(*[VALUES] * len(names)), max_size=6))
    with closing(sqlite3.connect(tmp_path_factory.mktemp("property") / "app.db", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("PRAGMA synchronous = OFF")
        for statement in ("CREATE TABLE other (id PRIMARY KEY)", "CREATE TABLE p (id PRIMARY KEY)", table, *more):
            connection.execute(statement)
        columns, marks = ", ".join(map(_quoted, names)), ", ".join("?" * len(names))
        for row in rows:
            with suppress(sqlite3.Error):  # an INTEGER PRIMARY KEY takes integers only
                connection.execute(f"INSERT OR IGNORE INTO t ({columns}) VALUES ({marks})", row)
        (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
        if data.draw(st.booleans()) and count:
            connection.execute("ANALYZE")
        connection.execute(f"INSERT OR IGNORE INTO p SELECT {_quoted(names[-1])} FROM t")
        before, fingerprint, violations = (
            everything(connection),
            read_fingerprint(connection),
            foreign_key_violations(connection),
        )
        key = ForeignKey(columns=names[-1], parent="p", parent_columns="id", on_delete="CASCADE")
        if _comparable(connection, names[-1]):
            rebuild(connection, "t", key)
            assert foreign_key_violations(connection) == violations
            assert read_fingerprint(connection).differences(fingerprint) == ("table t differs",)
            rebuild(connection, "t", drop=(key,))
        else:
            rebuild(connection, "t")
        assert everything(connection) == before
        assert fingerprint.differences(read_fingerprint(connection)) == ()


def _comparable(connection: sqlite3.Connection, name: str) -> bool:
    """Whether SQLite finds every value of the column in p again: some collations and affinities do not."""
    column = f"t.{_quoted(name)}"
    query = f"SELECT count(*) FROM t WHERE {column} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM p WHERE p.id = +{column})"
    return bool(connection.execute(query).fetchone() == (0,))
