"""What is renamed, dropped and made anew in one change is still accounted for, under whatever name; and honest changes pass.

Each migration runs through the coordinator on a real file. Beside `test_accounting.py`, which plants one loss at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from twinstep import Coordinator, Expectation, ForeignKey, Migration, Report, Side, rebuild_table
from twinstep.migrations.catalogue import Fingerprint
from twinstep.migrations.sqlite_catalogue import read_fingerprint

TABLE = """CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, n INTEGER DEFAULT 5 CHECK (n > 0));
    INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2); CREATE INDEX ti ON t (a);"""
PAIR = """CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1);
    CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER NOT NULL, q INTEGER, v INTEGER);
    INSERT INTO c VALUES (1, 1, 1, 5), (2, 99, NULL, 6), (3, 1, 77, 7);"""
BROKEN = """CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1);
    CREATE TABLE c (id INTEGER PRIMARY KEY, p NOT NULL REFERENCES p, q); INSERT INTO c VALUES (1, 99, 1), (2, 1, 77);"""
KEY = ForeignKey(columns="p", parent="p")
OPTIONAL = ForeignKey(columns="q", parent="p")
NEW = "CREATE TABLE new ({}); INSERT INTO new SELECT * FROM t; DROP TABLE t; ALTER TABLE new RENAME TO t;"

Step = str | tuple[str, dict[str, Any]]


def steps(*each: Step) -> Callable[[Connection], None]:
    """A function that runs SQL texts, and calls of rebuild_table given as (table, arguments)."""

    def run(connection: Connection) -> None:
        for step in each:
            if isinstance(step, str):
                connection.exec_driver_sql(step)
            else:
                rebuild_table(connection, step[0], **step[1])

    return run


def made(path: Path, before: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(before)


def migrated(path: Path, up: Any, down: Any = "SELECT 1") -> tuple[Coordinator, Report]:
    coordinator = Coordinator(local=path, migrations=[Migration(id="0001_m", local=Side(up=up, down=down))])
    return coordinator, coordinator.migrate()


def read(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


LOST: dict[str, tuple[str, Any, str, str]] = {
    "rules and index, the old table renamed first": (
        TABLE,
        "ALTER TABLE t RENAME TO o; CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, n INTEGER);"
        "INSERT INTO t SELECT * FROM o; DROP TABLE o; CREATE INDEX ti ON t (n) WHERE n > 100;",
        "T347",
        "index ti has another definition; t has lost NOT NULL of a; t has lost DEFAULT 5 of n; t has lost CHECK ( n > 0 )",
    ),
    "rules, while another table's column is renamed": (
        TABLE + "CREATE TABLE u (b);",
        "ALTER TABLE u RENAME COLUMN b TO c;" + NEW.format("id INTEGER, a, n") + "CREATE INDEX ti ON t (a)",
        "T347", "t has lost PRIMARY KEY (id)",
    ),
    "rules, after a column was dropped": (
        TABLE,
        "ALTER TABLE t DROP COLUMN n;" + NEW.format("id INTEGER, a") + "CREATE INDEX ti ON t (a)",
        "T347", "t has lost NOT NULL of a",
    ),
    "a key that points at a table that is gone": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE TABLE c (id INTEGER PRIMARY KEY, t REFERENCES t (id));",
        "ALTER TABLE t RENAME TO o; CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); INSERT INTO t (id, a) SELECT * FROM o;"
        "DROP TABLE o",
        "T347", "c has lost the foreign key (t) to t (id)",
    ),
    "what a rebuild was asked for explains nothing that is done by hand afterwards": (
        TABLE,
        steps(
            ("t", {"add_columns": ["z"]}), "DROP INDEX ti", "CREATE TABLE new (id INTEGER, a, n, z)",
            "INSERT INTO new SELECT * FROM t", "DROP TABLE t", "ALTER TABLE new RENAME TO t",
        ),
        "T347", "index ti, which was on t, made anew is gone",
    ),
    "the only copy in a search table": (
        "CREATE VIRTUAL TABLE f USING fts5 (x); INSERT INTO f VALUES ('only'), ('copy');", "DELETE FROM f",
        "T334", "f had 2 rows, would have 0",
    ),
    "a row, while another that the step itself added is set aside": (
        PAIR,
        steps("INSERT INTO c VALUES (50, 98, NULL, 0)", ("c", {"add_foreign_keys": [KEY]}), "DELETE FROM c WHERE id = 1"),
        "T334", "id=1",
    ),
    "a reference, while another that the step itself added is cleared": (
        PAIR,
        steps(
            "INSERT INTO c VALUES (50, 1, 98, 0)", ("c", {"add_foreign_keys": [OPTIONAL]}),
            "INSERT OR REPLACE INTO c VALUES (1, 1, NULL, 5)",
        ),
        "T347", "id=1: 1 became NULL",
    ),
    "rows without a key whose every column was updated": (
        "CREATE TABLE w (a TEXT); INSERT INTO w VALUES ('x'), ('y'), ('y');",
        "UPDATE w SET a = trim(a); CREATE TABLE n (a TEXT); INSERT INTO n SELECT a FROM w LIMIT 1; DROP TABLE w;"
        "ALTER TABLE n RENAME TO w",
        "T334", "w had 3 rows, would have 1",
    ),
    "the case of values without a key, under a collation": (
        "CREATE TABLE w (a TEXT COLLATE NOCASE, b); INSERT INTO w VALUES ('Ab', 1), ('CD', 2);",
        "CREATE TABLE n (a TEXT COLLATE NOCASE, b); INSERT INTO n SELECT lower(a), b FROM w; DROP TABLE w;"
        "ALTER TABLE n RENAME TO w",
        "T334", "a='Ab'",
    ),
    "one of two rows whose key is NULL": (
        "CREATE TABLE k (id TEXT PRIMARY KEY, v); INSERT INTO k VALUES (NULL, 1), (NULL, 1), ('a', 2);",
        "DELETE FROM k WHERE rowid = 1", "T334", "rowid=1",
    ),
    "values, while a temporary table of the same name is updated": (
        TABLE,
        steps(
            "CREATE TEMP TABLE t AS SELECT * FROM main.t", "UPDATE t SET a = '!', n = 9",
            "INSERT OR REPLACE INTO main.t SELECT * FROM temp.t", "DROP TABLE temp.t",
        ),
        "T347", "id=1: 'x' became '!'",
    ),
}  # fmt: skip


def test_losses_beside_renames_are_found(tmp_path: Path) -> None:
    for name, (before, up, code, said) in LOST.items():
        path = tmp_path / f"{len(name)}-{code}.db"
        made(path, before)
        _, report = migrated(path, up)
        assert report.error is not None, name
        assert (report.outcome, report.error.code) == ("rolled_back", code), (name, report.error)
        assert said in report.error.message, (name, report.error)
        path.unlink()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("id INTEGER PRIMARY KEY, a REFERENCES t DEFERRABLE INITIALLY DEFERRED", "id INTEGER PRIMARY KEY, a REFERENCES t",
         "DEFERRABLE"),
        ("id INTEGER PRIMARY KEY, a, UNIQUE (a COLLATE NOCASE)", "id INTEGER PRIMARY KEY, a, UNIQUE (a)", "COLLATE nocase"),
        ("id INTEGER PRIMARY KEY, a", "id INT PRIMARY KEY, a", "id is the rowid"),
        ("id INTEGER PRIMARY KEY, a UNIQUE ON CONFLICT IGNORE", "id INTEGER PRIMARY KEY, a UNIQUE", "ON CONFLICT IGNORE of a"),
        ("id INTEGER PRIMARY KEY, a, g AS (a * 2)", "id INTEGER PRIMARY KEY, a, g AS (NULL)",
         "the generated column g, ( a * 2 )"),
    ],
)  # fmt: skip
def test_rules_that_only_the_text_tells_are_rules(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "app.db"
    made(path, f"CREATE TABLE t ({old}); INSERT INTO t (id, a) VALUES (1, 1);")
    rebuilt = NEW.format(new).replace("INTO new SELECT *", "INTO new (id, a) SELECT id, a")
    _, report = migrated(path, rebuilt)
    assert report.error is not None
    assert report.error.code == "T347"
    assert said in report.error.message


HONEST: dict[str, tuple[str, Any]] = {
    "a DROP behind blank space": (TABLE, steps("\n        DROP INDEX ti")),
    "a DROP behind a comment": (TABLE, steps("-- not used any more\n/* really */ DROP INDEX ti")),
    "a rename behind blank space": (TABLE, steps("\n        ALTER TABLE t RENAME COLUMN n TO m")),
    "rebuilt, then renamed": (TABLE, steps(("t", {"strict": True}), "ALTER TABLE t RENAME TO tt")),
    "a column renamed and computed": (TABLE, steps(("t", {"rename_columns": {"n": "m"}, "values": {"m": "m * 10"}}))),
    "a renamed column loses a reference": (
        PAIR,
        steps(
            ("c", {"rename_columns": {"q": "qq"}, "add_foreign_keys": [ForeignKey(columns="qq", parent="p")]})
        ),
    ),
    "renamed, then dropped": (TABLE, "ALTER TABLE t RENAME COLUMN n TO m; ALTER TABLE t DROP COLUMN m"),
    "the same by two rebuilds": (
        TABLE, steps(("t", {"rename_columns": {"n": "m"}}), ("t", {"drop_columns": ["m"]}))
    ),
    "the table renamed, the column dropped": (TABLE, steps("ALTER TABLE t RENAME TO tt", ("tt", {"drop_columns": ["n"]}))),
    "renamed twice": (
        TABLE, steps(("t", {"rename_columns": {"n": "m"}}), ("t", {"rename_columns": {"m": "k"}}))
    ),
    "a row beside those whose key is NULL": (
        "CREATE TABLE k (id TEXT PRIMARY KEY, v); INSERT INTO k VALUES (NULL, 1), (NULL, 2);", "INSERT INTO k VALUES ('n', 3)"
    ),
    "a view with its trigger": (
        TABLE + "CREATE VIEW v AS SELECT * FROM t; CREATE TRIGGER vt INSTEAD OF INSERT ON v BEGIN SELECT 1; END;", "DROP VIEW v"
    ),
    "another table takes the name of an empty one": (
        "CREATE TABLE e (x); CREATE TABLE t (id INTEGER PRIMARY KEY);", "DROP TABLE e; ALTER TABLE t RENAME TO e"
    ),
    "the key of a parent is named": (
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY, p REFERENCES p);",
        NEW.format("id INTEGER PRIMARY KEY, p REFERENCES p (id)"),
    ),
    "a rename that was undone": (
        TABLE, steps("SAVEPOINT s", "ALTER TABLE t RENAME COLUMN n TO m", "ROLLBACK TO s", "RELEASE SAVEPOINT s")
    ),
    "the same with semicolons": (
        TABLE, steps("SAVEPOINT s;", "ALTER TABLE t RENAME COLUMN n TO m;", "ROLLBACK TO SAVEPOINT s;", "RELEASE s;")
    ),
    "a column dropped before the table takes its name": (
        TABLE,
        "CREATE TABLE new (id INTEGER PRIMARY KEY, a TEXT NOT NULL, n INTEGER DEFAULT 5 CHECK (n > 0));"
        "INSERT INTO new SELECT * FROM t; DROP TABLE t; ALTER TABLE new DROP COLUMN n; ALTER TABLE new RENAME TO t;"
        "CREATE INDEX ti ON t (a)",
    ),
    "two tables swap their names": (
        "CREATE TABLE a (id INTEGER PRIMARY KEY, x); INSERT INTO a VALUES (1, 2);"
        "CREATE TABLE b (y); INSERT INTO b VALUES (3);",
        "ALTER TABLE a RENAME TO tmp; ALTER TABLE b RENAME TO a; ALTER TABLE tmp RENAME TO b",
    ),
    "an old broken reference, its column renamed": (BROKEN, "ALTER TABLE c RENAME COLUMN p TO pp"),
    "an old broken reference, its table renamed": (BROKEN, "ALTER TABLE c RENAME TO cc"),
    "an old broken reference, its parent renamed": (BROKEN, "ALTER TABLE p RENAME TO par"),
    "an old broken reference whose row has another rowid": (
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p, q); INSERT INTO c VALUES (NULL, 0), (99, 1);"
        "DELETE FROM c WHERE q = 0",
        "CREATE TABLE n (p REFERENCES p, q, z); INSERT INTO n (p, q) SELECT p, q FROM c; DROP TABLE c;"
        "ALTER TABLE n RENAME TO c",
    ),
    "a comma in a comment before what is dropped": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, -- one, two\n b INT);", steps(("t", {"drop_columns": "b"}))
    ),
    "a thousand columns without a key": (
        f"CREATE TABLE t ({', '.join(f'c{number} INT' for number in range(1010))}); INSERT INTO t (c0) VALUES (1), (2);"
        "DELETE FROM t WHERE c0 = 1",
        "CREATE TABLE n AS SELECT * FROM t; INSERT INTO n (c0) VALUES (8); DROP TABLE t; ALTER TABLE n RENAME TO t",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_change_under_new_names_passes(tmp_path: Path, name: str) -> None:
    before, up = HONEST[name]
    path = tmp_path / "app.db"
    made(path, before)
    _, report = migrated(path, up)
    assert report.outcome == "verified", report.error


def test_what_was_broken_before_stays_where_it_is_when_its_column_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    made(path, BROKEN)
    _, report = migrated(path, steps(("c", {"rename_columns": {"p": "pp"}, "add_foreign_keys": [OPTIONAL]})))
    assert report.outcome == "verified"
    assert read(path, "SELECT * FROM c") == [(1, 99, 1), (2, 1, None)]


BACK: dict[str, tuple[Any, Any]] = {
    "with a column": (
        steps(("c", {"add_foreign_keys": [KEY], "add_columns": ["x INT NOT NULL DEFAULT 1"]})),
        steps(("c", {"drop_foreign_keys": [KEY], "drop_columns": ["x"]})),
    ),
    "with values": (
        steps("UPDATE c SET v = v * 1000", ("c", {"add_foreign_keys": [KEY]})),
        steps(("c", {"drop_foreign_keys": [KEY]}), "UPDATE c SET v = v / 1000"),
    ),
    "with values in the same rebuild": (
        steps(("c", {"add_foreign_keys": [KEY], "values": {"v": "v * 1000"}})),
        steps(("c", {"drop_foreign_keys": [KEY], "values": {"v": "v / 1000"}})),
    ),
    "with a renamed column": (
        steps(("c", {"rename_columns": {"p": "pp"}, "add_foreign_keys": [ForeignKey(columns="pp", parent="p")]})),
        steps(
            ("c", {"drop_foreign_keys": [ForeignKey(columns="pp", parent="p")]}), ("c", {"rename_columns": {"pp": "p"}})
        ),
    ),
    "with a renamed table": (
        steps("ALTER TABLE c RENAME TO cc", ("cc", {"add_foreign_keys": [KEY]})),
        steps(("cc", {"drop_foreign_keys": [KEY]}), "ALTER TABLE cc RENAME TO c"),
    ),
    "both keys": (
        steps(("c", {"add_foreign_keys": [KEY, OPTIONAL], "strict": True})),
        steps(("c", {"drop_foreign_keys": [KEY, OPTIONAL], "strict": False})),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BACK)
def test_what_was_set_aside_goes_back_through_what_else_is_taken_back(tmp_path: Path, name: str) -> None:
    up, down = BACK[name]
    path = tmp_path / "app.db"
    made(path, PAIR)
    before = read(path, "SELECT * FROM c")
    coordinator, report = migrated(path, up, down)
    assert report.outcome == "verified", report.error
    assert coordinator.quarantine() != ()
    back = coordinator.roll_back()
    assert back.outcome == "rolled_back", back.error
    assert back.runs[0].findings == ()
    assert read(path, "SELECT * FROM c") == before
    assert {each.put_back_by for each in coordinator.quarantine()} == {back.runs[0].run}


def test_a_down_that_adds_a_key_tells_what_it_sets_aside(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    made(path, "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p NOT NULL REFERENCES p);")
    coordinator, report = migrated(path, steps(("c", {"drop_foreign_keys": [KEY]})), steps(("c", {"add_foreign_keys": [KEY]})))
    assert report.outcome == "verified", report.error
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO c VALUES (1, 77)")
    back = coordinator.roll_back()
    assert "going back set 1 rows of c aside: they refer to nothing" in back.runs[0].findings, back.error
    (row,) = coordinator.quarantine()
    assert (row.run, row.table) == (back.runs[0].run, "c")


def test_rows_of_a_table_that_is_a_virtual_one_by_now_stay_in_quarantine(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    made(path, PAIR)
    coordinator, report = migrated(path, steps(("c", {"add_foreign_keys": [KEY]})))
    assert report.outcome == "verified", report.error
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE c")
        connection.execute("CREATE VIRTUAL TABLE c USING fts5 (id, p, q, v)")
    (row,) = coordinator.quarantine()
    answer = coordinator.restore_quarantined([row.id])
    assert answer.outcome == "refused"
    assert "there is no table c any more" in str(answer.refused)


UNCHANGED = {
    "rows": "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b REAL, c TEXT COLLATE NOCASE); INSERT INTO t VALUES"
    " (1, 1, 0.5, 'x'), (2, '1', NULL, 'X'), (3, x'00', 1e300, CAST(x'ff' AS TEXT));",
    "no rowids": "CREATE TABLE t (a INT, k TEXT COLLATE NOCASE PRIMARY KEY DEFAULT 'z') WITHOUT ROWID;"
    " INSERT INTO t VALUES (1, 'x'), (2, 'y');",
    "generated": "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, g AS (a * 2) STORED); INSERT INTO t (a) VALUES (1), (2);",
    "hidden rowids": "CREATE TABLE t (rowid, oid, _rowid_, a); INSERT INTO t VALUES (1, 2, 3, 4), (1, 2, 3, 4);",
    "nothing": "CREATE TABLE t (a);",
}


@pytest.mark.parametrize("name", UNCHANGED)
@pytest.mark.parametrize("change", [
    "CREATE TABLE other (x)", "DELETE FROM t WHERE a = 1", "UPDATE t SET a = a + 1", "UPDATE t SET a = CAST(a AS TEXT)",
    "ALTER TABLE t ADD COLUMN more DEFAULT 1", "INSERT INTO t DEFAULT VALUES", "CREATE INDEX t_i ON t (1)",
])  # fmt: skip
def test_the_digest_that_is_recorded_is_the_one_that_would_be_made(tmp_path: Path, name: str, change: str) -> None:
    path = tmp_path / "app.db"
    made(path, UNCHANGED[name])
    everything = Expectation(rows_removed=("t",), columns_changed=("t.a", "t.g"))
    migration = Migration(id="0001_m", local=Side(up=change, down="SELECT 1"), expect=everything)
    report = Coordinator(local=path, migrations=[migration]).migrate()
    assert report.outcome == "verified", report.error
    with closing(sqlite3.connect(path)) as connection:
        (recorded,) = connection.execute("SELECT content FROM twinstep_ledger WHERE direction = 'up'").fetchone()
        assert Fingerprint.from_text(recorded).content == read_fingerprint(connection).content  # type: ignore[union-attr]
