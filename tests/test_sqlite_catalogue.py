"""Reading an SQLite database: which texts count as the same, which rows, marks and references are seen, what is left out."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstep.migrations.sqlite_catalogue import (
    ForeignKeyViolation,
    foreign_key_violations,
    integrity_problems,
    read_catalogue,
    read_fingerprint,
)
from twinstep.migrations.sqlite_text import meaning, normal_form, tokens


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def connection(file: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(file, isolation_level=None)
    opened.execute("PRAGMA synchronous = OFF")
    yield opened
    opened.close()


# ---- the normal form


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CREATE TABLE t(a INT)", 'create  table "T"\n( [A] int -- why\n)'),
        ("CREATE TABLE t(a)", "CREATE TABLE IF NOT EXISTS 't' (`a`/* x */)"),
        ("CREATE INDEX i ON t(a)", "CREATE INDEX i ON 'T'(a)"),
        ("CREATE TABLE \"my t\"(a REFERENCES 'p')", "CREATE TABLE [my t](a REFERENCES p)"),
        ('CREATE TABLE "a""b"(x)', 'CREATE TABLE `a"b`(x)'),
        ("SELECT 1<=2", "SELECT 1 <= 2"),
    ],
)
def test_texts_of_the_same_tokens_have_one_normal_form(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CREATE TABLE t(a DEFAULT 'x')", "CREATE TABLE t(a DEFAULT 'X')"),
        ("CREATE TABLE t(a DEFAULT 'x y')", "CREATE TABLE t(a DEFAULT 'x  y')"),
        ('CREATE TABLE t(a DEFAULT "abc")', 'CREATE TABLE t(a DEFAULT "ABC")'),
        ("CREATE TABLE t(a DEFAULT x'00')", "CREATE TABLE t(a DEFAULT '00')"),
        ("CREATE TABLE t(a DEFAULT '--')", "CREATE TABLE t(a DEFAULT '')"),
        ("CREATE TABLE t(a DEFAULT 1.5)", "CREATE TABLE t(a DEFAULT 15)"),
        ('CREATE TABLE "a b"(x)', "CREATE TABLE a b(x)"),
        ("CREATE INDEX i ON t(a)", "CREATE INDEX i ON t(a DESC)"),
        ("CREATE INDEX i ON t(é)", "CREATE INDEX i ON t(É)"),
        ("CREATE TRIGGER g AFTER INSERT ON t WHEN NOT EXISTS (SELECT 1) BEGIN SELECT 1; END",
         "CREATE TRIGGER g AFTER INSERT ON t WHEN (SELECT 1) BEGIN SELECT 1; END"),
    ],
)  # fmt: skip
def test_texts_that_mean_something_else_have_another(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


@given(st.text("abc'\"`[]-/*(),; \n.0x\\é", max_size=40))
def test_tokens_joined_give_the_text_back(text: str) -> None:
    assert "".join(token.text for token in tokens(text)) == text


def test_names_lose_their_quotes_and_nothing_else() -> None:
    names = [token.name for token in meaning("""  "a""b" [c] `d``e` 'f''g' h""")]
    assert names == ['a"b', "c", "d`e", "f'g", "h"]


def test_renaming_a_table_there_and_back_changes_no_definition(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE Notes (id TEXT PRIMARY KEY, parent REFERENCES notes(id))")
    connection.execute("CREATE INDEX i ON Notes (parent)")
    connection.execute("CREATE TRIGGER g AFTER INSERT ON Notes BEGIN DELETE FROM Notes WHERE 0; END")
    before = read_fingerprint(connection)
    connection.execute("ALTER TABLE Notes RENAME TO other")
    assert "table Notes is missing" in before.differences(read_fingerprint(connection))
    connection.execute("ALTER TABLE other RENAME TO Notes")
    assert before.differences(read_fingerprint(connection)) == ()


# ---- objects


def test_every_object_is_there_once_and_none_that_is_not_the_hosts(connection: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, word TEXT UNIQUE)",
        "CREATE TABLE c (a REFERENCES p, b REFERENCES p(word), x, y, FOREIGN KEY (x, y) REFERENCES d(x, y))",
        "CREATE TABLE twinstep_ledger (a)",
        "CREATE VIRTUAL TABLE found USING fts5(body)",
        "CREATE INDEX i ON c(a DESC)",
        "CREATE VIEW v AS SELECT * FROM c",
        "CREATE TRIGGER g AFTER INSERT ON c BEGIN SELECT 1; END",
        "INSERT INTO c (a) VALUES (1), (2)",
        "INSERT INTO found VALUES ('x')",
        "ANALYZE",
    ):
        connection.execute(statement)
    catalogue = read_catalogue(connection)
    assert sorted(catalogue.objects) == ["index i", "table c", "table found", "table p", "trigger g", "view v"]
    assert (catalogue.objects["index i"].table, catalogue.objects["table c"].foreign_keys) == ("c", 3)
    assert catalogue.rows == {"p": 0, "c": 2, "found": 1}
    assert read_catalogue(connection, count_rows=False).rows == {}


def test_a_table_made_anew_counts_as_rebuilt(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (a)")
    connection.execute("CREATE TABLE kept (a)")
    before = read_catalogue(connection)
    for statement in ("CREATE TABLE n (a, b REFERENCES t)", "DROP TABLE t", "ALTER TABLE n RENAME TO t"):
        connection.execute(statement)
    changes = before.changes_to(read_catalogue(connection))
    assert (changes.tables_rebuilt, changes.foreign_keys_added, changes.objects_changed) == (1, 1, ("table t",))


def test_root_pages_that_auto_vacuum_moves_are_no_rebuild(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA auto_vacuum = FULL")
    connection.execute("CREATE TABLE gone (a)")
    connection.execute("CREATE TABLE moved (a)")
    before = read_catalogue(connection)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'moved'").fetchone()
    connection.execute("DROP TABLE gone")
    assert connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'moved'").fetchone() != (page,)
    assert before.changes_to(read_catalogue(connection)).tables_rebuilt == 0


def test_a_virtual_table_whose_module_is_missing_is_an_object_without_rows(file: Path, connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (a)")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("INSERT INTO sqlite_schema VALUES ('table', 'vv', 'vv', 0, 'CREATE VIRTUAL TABLE vv USING nowhere(a)')")
    connection.close()
    again = sqlite3.connect(file)
    fingerprint = read_fingerprint(again)
    again.close()
    assert set(fingerprint.objects) == {"table t", "table vv"}
    assert set(fingerprint.rows) == set(fingerprint.content) == {"t"}


def test_a_table_that_cannot_be_read_is_not_passed_over(connection: sqlite3.Connection) -> None:
    connection.create_function("hosts", 1, lambda value: value, deterministic=True)
    connection.execute("CREATE TABLE t (a, g AS (hosts(a)))")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.create_function("hosts", 1, None)
    with pytest.raises(sqlite3.OperationalError):
        read_fingerprint(connection)


# ---- marks and rows


def test_marks_are_versions_and_sequences(connection: sqlite3.Connection) -> None:
    for statement in (
        "PRAGMA user_version = 12",
        "PRAGMA application_id = 77",
        "CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE never (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE twinstep_x (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "INSERT INTO a VALUES (9)",
        "INSERT INTO twinstep_x VALUES (9)",
        "DELETE FROM a",
    ):
        connection.execute(statement)
    assert read_fingerprint(connection).marks == {"user_version": 12, "application_id": 77, "sequence a": 9}


def content(connection: sqlite3.Connection, *rows: object, table: str = "CREATE TABLE t (a, b DEFAULT 1)") -> str:
    connection.execute("DROP TABLE IF EXISTS t")
    connection.execute(table)
    connection.executemany("INSERT INTO t (a) VALUES (?)", [(row,) for row in rows])
    return str(read_fingerprint(connection).content["t"])


def encoded(value: object) -> bytes:
    """A value as it goes into the digest, written down a second time: marshal's format may never drift under the log."""
    match value:
        case None:
            return b"N"
        case int() if -(2**31) <= value < 2**31:
            return b"i" + struct.pack("<i", value)
        case int():
            digits = []
            rest = abs(value)
            while rest:
                digits.append(rest & 0x7FFF)
                rest >>= 15
            return b"l" + struct.pack(f"<i{len(digits)}H", len(digits) if value > 0 else -len(digits), *digits)
        case float():
            return b"g" + struct.pack("<d", value)
        case str():
            return b"u" + struct.pack("<i", len(value.encode())) + value.encode()
        case bytes():
            return b"s" + struct.pack("<i", len(value)) + value
    raise AssertionError(value)


def test_the_digest_of_a_table_is_the_same_on_every_version_of_python(connection: sqlite3.Connection) -> None:
    rows = (None, 1, -(2**63), 2**40, 1.5, "", "é\0x", b"", b"\xff", 2**31, -1, -(2**31), 2**63 - 1)
    assert content(connection) == "0" * 64
    each = (hashlib.sha256(b"(" + struct.pack("<i", 2) + encoded(row) + encoded(1)).digest() for row in rows)
    assert content(connection, *rows) == f"{sum(int.from_bytes(digest, 'big') for digest in each) % 2**256:064x}"


def test_order_and_rowids_are_no_content_but_repetition_is(connection: sqlite3.Connection) -> None:
    one = content(connection, "a", "b", "b")
    assert content(connection, "b", "a", "b") == one
    connection.execute("UPDATE t SET rowid = rowid + 70")
    assert read_fingerprint(connection).content["t"] == one
    assert (
        len({one, content(connection, "a", "b"), content(connection, "a", "a", "b"), content(connection, "a", "b", "b", "b")})
        == 4
    )


def test_storage_classes_are_told_apart(connection: sqlite3.Connection) -> None:
    values = [None, 1, 1.0, "1", b"1", "", b"", 0, "\0", "é", "é".encode()]
    assert len({content(connection, value) for value in values}) == len(values)


def test_columns_count_by_name_not_by_position(connection: sqlite3.Connection) -> None:
    one = content(connection, "x", table="CREATE TABLE t (a, b DEFAULT 'y')")
    assert content(connection, "x", table="CREATE TABLE t (b DEFAULT 'y', a)") == one
    assert content(connection, "y", table="CREATE TABLE t (a, b DEFAULT 'x')") != one


def test_generated_columns_count(connection: sqlite3.Connection) -> None:
    one = content(connection, 1, table="CREATE TABLE t (a, g AS (a + 1))")
    assert content(connection, 1, table="CREATE TABLE t (a, g AS (a + 2))") != one


def test_text_that_is_not_utf8_is_read_and_told_apart(connection: sqlite3.Connection) -> None:
    def digest(hexadecimal: str) -> str:
        connection.execute("DROP TABLE IF EXISTS t")
        connection.execute("CREATE TABLE t (a)")
        connection.execute(f"INSERT INTO t VALUES (CAST(x'{hexadecimal}' AS TEXT)), ('fine')")
        return str(read_fingerprint(connection).content["t"])

    assert len({digest("ff61"), digest("fe61"), digest("61"), digest("eda080")}) == 4
    assert connection.text_factory is str


def test_a_search_table_counts_with_its_rows(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE VIRTUAL TABLE found USING fts5(body)")
    connection.execute("INSERT INTO found VALUES ('x')")
    before = read_fingerprint(connection)
    connection.execute("UPDATE found SET body = 'y'")
    assert before.differences(read_fingerprint(connection)) == ("rows of found have other values",)


def test_statistics_are_content(connection: sqlite3.Connection) -> None:
    for statement in ("CREATE TABLE t (a)", "CREATE INDEX i ON t(a)", "INSERT INTO t VALUES (1)", "ANALYZE"):
        connection.execute(statement)
    before = read_fingerprint(connection)
    connection.execute("UPDATE sqlite_stat1 SET stat = '5 5'")
    assert before.differences(read_fingerprint(connection)) == ("rows of sqlite_stat1 have other values",)


def test_content_and_counts_are_left_out_when_not_asked_for(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (a)")
    assert read_fingerprint(connection, content=False).content == {}
    assert read_fingerprint(connection, content=False).rows == {"t": 0}
    assert read_fingerprint(connection, content=False, count_rows=False).rows == {}


def test_the_hosts_settings_of_a_connection_do_not_matter_and_stay(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (a)")
    connection.execute("INSERT INTO t VALUES ('x')")
    plain = read_fingerprint(connection)
    connection.row_factory, connection.text_factory = sqlite3.Row, bytes
    assert plain.differences(read_fingerprint(connection)) == ()
    assert (connection.row_factory, connection.text_factory) == (sqlite3.Row, bytes)


def test_reading_sees_the_open_transaction_and_changes_nothing(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (a)")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES (1)")
    changes = connection.total_changes
    assert read_fingerprint(connection).rows == {"t": 1}
    assert foreign_key_violations(connection).total() == 0
    assert connection.in_transaction
    assert connection.total_changes == changes


# ---- references and damage


def test_violations_are_named_by_columns_and_survive_a_shift_of_numbers(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE p (id PRIMARY KEY, x, y, UNIQUE (x, y))")
    connection.execute("CREATE TABLE c (a REFERENCES p, x, y, FOREIGN KEY (x, y) REFERENCES p(x, y))")
    connection.execute("INSERT INTO c (rowid, a, x, y) VALUES (7, 'gone', 1, 2), (8, NULL, 1, NULL)")
    before = foreign_key_violations(connection)
    assert dict(before) == {
        ForeignKeyViolation(table="c", rowid=7, parent="p", columns=("a",)): 1,
        ForeignKeyViolation(table="c", rowid=7, parent="p", columns=("x", "y")): 1,
    }
    connection.execute("ALTER TABLE c ADD COLUMN b REFERENCES p")
    connection.execute("UPDATE c SET b = 'lost' WHERE rowid = 8")
    assert dict(foreign_key_violations(connection) - before) == {
        ForeignKeyViolation(table="c", rowid=8, parent="p", columns=("b",)): 1
    }


def test_violations_without_rowid_are_counted(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE p (id PRIMARY KEY)")
    connection.execute("CREATE TABLE c (a PRIMARY KEY REFERENCES p) WITHOUT ROWID")
    connection.execute("INSERT INTO c VALUES (1), (2)")
    assert foreign_key_violations(connection) == {ForeignKeyViolation(table="c", parent="p", columns=("a",)): 2}


def test_a_key_that_does_not_fit_its_parent_hides_no_other_tables_violations(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE p (id PRIMARY KEY, word)")
    connection.execute("CREATE TABLE a (w REFERENCES p(word))")
    connection.execute("CREATE TABLE b (i REFERENCES p)")
    connection.execute("INSERT INTO b VALUES (1)")
    assert dict(foreign_key_violations(connection)) == {
        ForeignKeyViolation(table="a"): 1,
        ForeignKeyViolation(table="b", rowid=1, parent="p", columns=("i",)): 1,
    }
    assert set(foreign_key_violations(connection, tables=["a"])) == {ForeignKeyViolation(table="a")}


def test_damage_is_reported_and_a_sound_file_has_none(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (a CHECK (a > 0))")
    assert integrity_problems(connection) == ()
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("INSERT INTO t VALUES (-1)")
    connection.execute("PRAGMA ignore_check_constraints = OFF")
    assert integrity_problems(connection) == ("CHECK constraint failed in t",)
