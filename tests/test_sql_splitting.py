"""Text into statements: whole, in order, with their lines; and everything refused that would end or break our transaction.

Oracles: SQLite and PostgreSQL themselves, each of which takes one statement at a time here, `sqlite3.complete_statement`, and
texts that are put together from known statements.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts import NAMES, POSTGRES, SQLITE, counted, dialect_of, read

from twinstep.events.errors import DefinitionError
from twinstep.migrations.lexical import Dialect, significant
from twinstep.migrations.sql import Mark, Statement, split


def texts(text: str, dialect: Dialect) -> list[str]:
    return [statement.text for statement in split(text, dialect, "a.sql").statements]


def texts_or_code(text: str, dialect: Dialect) -> list[str] | str:
    try:
        return texts(text, dialect)
    except DefinitionError as error:
        return error.code


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_as_many_statements_as_a_person_counts(name: str) -> None:
    assert len(texts(read(name), dialect_of(name))) == counted(name)


def test_there_are_scripts_of_both_dialects_and_everything_that_is_hard_is_in_one() -> None:
    assert min(len(POSTGRES), len(SQLITE)) >= 7
    wanted = {
        "postgres": "BEGIN ATOMIC|DO \\$|CREATE POLICY|PARTITION OF|AS ENUM|CREATE DOMAIN|GENERATED ALWAYS AS|CREATE RULE|"
        "CONSTRAINT TRIGGER|/\\*[^*]*/\\*|U&'|E'|\\ufeff|\\r\\n|\\$[a-z]+\\$",
        "sqlite": "USING fts5|INSTEAD OF|WITHOUT ROWID|STRICT|GENERATED ALWAYS AS|\\[[^]]*;|`[^`]*;|\\ufeff|\\r\\n|CREATE TEMP",
    }
    for dialect, names in (("postgres", POSTGRES), ("sqlite", SQLITE)):
        whole = "".join(read(name) for name in names)
        assert [one for one in wanted[dialect].split("|") if re.search(one, whole) is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_begins_on_the_line_that_it_names(name: str) -> None:
    text = read(name).replace("\r\n", "\n")
    for statement in split(text, dialect_of(name), name).statements:
        assert statement.text.split("\n")[0] in text.split("\n")[statement.line - 1]


@pytest.mark.parametrize("name", NAMES)
def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(name: str) -> None:
    text = read(name).removeprefix("\ufeff").replace("\r\n", "\n")
    assert split("\ufeff" + text.replace("\n", "\r\n"), dialect_of(name), name) == split(text, dialect_of(name), name)


@pytest.mark.parametrize("name", NAMES)
def test_the_statements_together_are_the_whole_text_but_comments(name: str) -> None:
    dialect = dialect_of(name)
    whole = significant(read(name), dialect, between="").replace(";", "")
    ours = "".join(significant(text, dialect, between="") for text in texts(read(name), dialect)).replace(";", "")
    around = re.fullmatch(r"(BEGIN(?:IMMEDIATETRANSACTION)?)(.*)(COMMIT)", whole, re.DOTALL)
    assert whole == (f"{around[1]}{ours}{around[3]}" if around else ours)


SQLITE_QUOTES = [";", "'", '"', "`", "[", "]", "-- x\n", "/* ", " */"]
SQLITE_WORDS = [" create trigger ", " create temp ", " trigger ", "begin ", "end", "case ", "a ", "(", ")"]


@given(st.lists(st.sampled_from(SQLITE_QUOTES + SQLITE_WORDS), max_size=24).map("".join))
def test_sqlite_texts_are_cut_where_sqlite_says_that_a_statement_is_complete(text: str) -> None:
    found = texts_or_code(text, "sqlite")
    if isinstance(found, str):
        # An open bracket of a last statement is among what is refused, which SQLite tells only when it runs it.
        assert found in {"T111", "T112", "T114"}
        return
    ours = [significant(one, "sqlite").strip(";") for one in found]
    cuts, start = [], 0
    for end, character in enumerate(text, start=1):
        if character == ";" and sqlite3.complete_statement(text[start:end]):
            cuts.append(text[start : end - 1])
            start = end
    theirs = [one for one in (significant(cut, "sqlite").strip(";") for cut in (*cuts, text[start:])) if one]
    assert ours == (theirs[1:-1] if split(text, "sqlite", "a.sql").wrapped else theirs)


POSTGRES_WHOLE = (
    "SELECT ';'",
    "SELECT E'\\';', '\\'",
    'SELECT ";""" FROM t',
    "SELECT $$;'$$, $a$;$$;$a$, a$b$c",
    "INSERT INTO t VALUES (1, 'a;''b'), (2, $1)",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
    "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC END",
    "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
    "VACUUM (ANALYZE) t",
    "CREATE INDEX CONCURRENTLY i ON t (a)",
    "SELECT 1 /* ; /* ; */ ' */ - 2 -- ; '\n + 3",
)
SEPARATORS = st.lists(st.sampled_from([" ", "\n", "\r\n", ";", "-- a ; ' $$\n", "/* ; ' /* \" */ $a$ */", "\t"]), max_size=4)


@given(st.lists(st.tuples(st.sampled_from(POSTGRES_WHOLE), SEPARATORS.map("".join)), max_size=6))
def test_statements_come_back_as_they_were_put_together(parts: list[tuple[str, str]]) -> None:
    text = "".join(f"{statement};{separator}" for statement, separator in parts)
    assert texts(text, "postgres") == [statement for statement, _ in parts]


@pytest.mark.parametrize(
    "text",
    [
        "COMMENT ON TABLE t IS E'a\\';'\n  'b;'",
        "SELECT E'a'\n'b', 'c' -- no part of it;\n 'd'",
        "SELECT E'a' /* b; */, 'c'",
        "SELECT E'a' -- b;\n, 'c'",
    ],
)
def test_a_string_over_several_lines_is_one_statement(text: str) -> None:
    assert texts(f"{text};\nSELECT 1", "postgres") == [text, "SELECT 1"]


@pytest.mark.parametrize("text", ["", "  \n", ";;\n;", "-- nothing\n", "/* nothing */", "\ufeff"])
@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_a_text_of_comments_only_has_no_statements(text: str, dialect: Dialect) -> None:
    assert split(text, dialect, "a.sql").items == ()


def test_words_tell_what_kind_of_statement_it_is() -> None:
    found = split('reindex (verbose, Concurrently) table "A b"; vacuum T; call p(1)', "postgres", "a.sql").statements
    assert [one.words for one in found] == [
        ("REINDEX", "VERBOSE", "CONCURRENTLY", "TABLE", '"A b"'),
        ("VACUUM", "T"),
        ("CALL", "P", "1"),
    ]


@pytest.mark.parametrize(
    ("dialect", "text", "kept"),
    [
        ("sqlite", "BEGIN; SELECT 1; COMMIT;", 1),
        ("sqlite", "begin immediate transaction; SELECT 1; SELECT 2; end transaction", 2),
        ("postgres", "-- first\nSTART TRANSACTION; SELECT 1; COMMIT WORK; -- last", 1),
        ("postgres", "BEGIN WORK; END;", 0),
    ],
)
def test_a_transaction_around_the_whole_text_is_left_out(dialect: Dialect, text: str, kept: int) -> None:
    found = split(text, dialect, "a.sql")
    assert found.wrapped
    assert len(found.statements) == kept


@pytest.mark.parametrize(
    ("dialect", "text", "line"),
    [
        ("sqlite", "BEGIN; SELECT 1;", 1),
        ("sqlite", "SELECT 1;\nCOMMIT;", 2),
        ("sqlite", "BEGIN; SELECT 1; COMMIT;\nBEGIN; SELECT 2; COMMIT;", 1),
        ("sqlite", "SELECT 1;\nSAVEPOINT a;", 2),
        ("sqlite", "SELECT 1; RELEASE a", 1),
        ("sqlite", "/* x */ end", 1),
        ("sqlite", "INSERT OR ROLLBACK INTO t VALUES (1)", 1),
        ("postgres", "BEGIN; SELECT 1; ROLLBACK;", 1),
        ("postgres", "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; COMMIT;", 1),
        ("postgres", "SELECT 1;\n\nabort", 3),
        ("postgres", "START /* x */ TRANSACTION", 1),
        ("postgres", "SELECT 1; PREPARE TRANSACTION 'a'", 1),
        ("postgres", "SELECT 1; COMMIT PREPARED 'a'", 1),
        ("postgres", "SET TRANSACTION READ ONLY; SELECT 1", 1),
        ("postgres", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", 1),
    ],
)
def test_transaction_control_is_refused_with_its_line(dialect: Dialect, text: str, line: int) -> None:
    with pytest.raises(DefinitionError) as caught:
        split(text, dialect, "a.sql")
    assert (caught.value.code, caught.value.details["line"]) == ("T112", line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("SELECT 1;\n\\set name 'it''s", 2),
        ("SELECT 1 \\gset", 1),
        ("\\i other.sql", 1),
        ("SELECT 1;\nCOPY t FROM stdin;\n1\tit's\n\\.\n", 2),
        ("COPY t (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q) FROM STDIN WITH (FORMAT csv);\n'", 1),
        ("COPY t TO STDOUT", 1),
    ],
)
def test_what_only_psql_understands_is_refused_by_name(text: str, line: int) -> None:
    with pytest.raises(DefinitionError) as caught:
        split(text, "postgres", "a.sql")
    assert (caught.value.code, caught.value.details["line"]) == ("T113", line)
    assert str(caught.value.details["statement"]).split()[0] in text


@pytest.mark.parametrize(
    ("dialect", "text", "code", "line"),
    [
        ("sqlite", "SELECT 1;\nSELECT 'a;\n", "T111", 2),
        ("sqlite", 'SELECT "a', "T111", 1),
        ("sqlite", "SELECT [a;\nb", "T111", 1),
        ("sqlite", "SELECT 1;\n\nCREATE TABLE t (\n a", "T114", 3),
        ("sqlite", "CREATE TRIGGER x AFTER INSERT ON t BEGIN\nSELECT 1;\nSELECT 2;", "T114", 1),
        ("sqlite", "SELECT\u00a01", "T111", 1),
        ("sqlite", "SELECT 1;\nSELECT '\0'", "T111", 2),
        ("postgres", "SELECT 1;\n/* a /* b */ ;", "T111", 2),
        ("postgres", "SELECT 1;\nDO $a$ BEGIN $$ END", "T111", 2),
        ("postgres", "\nSELECT E'a\\'", "T111", 2),
        ("postgres", "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN b END;", "T114", 1),
        ("postgres", "CREATE TABLE t (a int;\nSELECT 1;", "T114", 1),
    ],
)
def test_a_text_that_is_cut_off_is_refused_with_the_line(dialect: Dialect, text: str, code: str, line: int) -> None:
    with pytest.raises(DefinitionError) as caught:
        split(text, dialect, "a.sql")
    assert (caught.value.code, caught.value.details["line"]) == (code, line)


def test_a_string_with_a_comment_between_its_parts_is_refused_because_it_is_not_read_as_postgres_reads_it() -> None:
    with pytest.raises(DefinitionError, match="a comment stands between the parts of one string") as caught:
        split("SELECT E'a' -- and\n  -- more\n  'b'", "postgres", "a.sql")
    assert (caught.value.code, caught.value.details["line"]) == ("T111", 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_cut_off_inside_a_literal_or_body_is_never_taken_for_a_whole_one(name: str) -> None:
    dialect, text = dialect_of(name), read(name)
    whole = texts(text, dialect)
    wrapped = split(text, dialect, name).wrapped
    for end in range(0, len(text), 7):
        found = texts_or_code(text[:end], dialect)
        # All but the last, which may lack its end, are statements of the whole. A BEGIN whose COMMIT is cut off is refused.
        refusals = {"T111", "T114"} | ({"T112"} if wrapped else set())
        assert found in refusals if isinstance(found, str) else found[:-1] == whole[: max(len(found) - 1, 0)]


@settings(deadline=None)  # the tokenizer is loaded with the first example
@given(st.data())
def test_cut_anywhere_a_script_is_refused_or_what_it_has_so_far_is_unchanged(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    dialect, text = dialect_of(name), read(name)
    end = data.draw(st.integers(0, len(text)))
    found, whole = texts_or_code(text[:end], dialect), texts(text, dialect)
    if isinstance(found, str):
        assert found in {"T111", "T112", "T114"}
        assert found != "T112" or split(text, dialect, name).wrapped
    else:
        assert found[:-1] == whole[: max(len(found) - 1, 0)]
        # The last may be cut short, in front of a comment that was cut short itself.
        begun = found[-1].rstrip("-/ \r\n\t") if found and not split(text, dialect, name).wrapped else ""
        assert [*whole, ""][max(len(found) - 1, 0)].startswith(begun)


@pytest.mark.parametrize(
    "text",
    [
        "VACUUM",
        "ATTACH 'other.db' AS other",
        "DETACH other",
        "PRAGMA foreign_keys = OFF",
        'pragma main."journal_mode"=wal',
        "PRAGMA synchronous(0)",
    ],
)
def test_what_sqlite_refuses_or_ignores_in_a_transaction_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        split(f"SELECT 1;\n{text};", "sqlite", "a.sql")
    assert (caught.value.code, caught.value.details["line"]) == ("T122", 2)
    assert len(str(caught.value.details["reason"])) > 20


def test_pragmas_that_are_part_of_the_transaction_are_allowed() -> None:
    text = "PRAGMA user_version = 3; PRAGMA foreign_key_check; PRAGMA defer_foreign_keys = ON"
    assert len(texts(text, "sqlite")) == 3


def test_marks_stand_between_the_statements_that_they_divide() -> None:
    text = "SELECT 1;\n  -- twinstep: group\nSELECT 2;\n--TWINSTEP:single probe_x\n-- why\nVACUUM t;\n-- twinstep: group"
    found = split(text, "postgres", "a.sql").items
    assert [(item.kind, item.name, item.line) if isinstance(item, Mark) else item.words[0] for item in found] == [
        "SELECT",
        ("group", None, 2),
        "SELECT",
        ("single", "probe_x", 4),
        "VACUUM",
        ("group", None, 7),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "-- twinstep: sinlge\nSELECT 1",
        "-- twinstep:\nSELECT 1",
        "-- twinstep: single probe_a probe_b\nSELECT 1",
        "SELECT 1; -- twinstep: single",
        "SELECT\n-- twinstep: single\n1",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;\n-- twinstep: single\nEND;",
    ],
)
def test_a_mark_that_would_have_no_effect_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        split(text, "postgres", "a.sql")
    assert caught.value.code == "T119"


@pytest.mark.parametrize(
    "text", ["SELECT '\n-- twinstep: single\n'", "SELECT $$\n-- twinstep: nonsense\n$$", "/*\n-- twinstep: x\n*/"]
)
def test_a_mark_inside_a_literal_or_comment_is_none(text: str) -> None:
    assert all(isinstance(item, Statement) for item in split(text, "postgres", "a.sql").items)


def test_a_long_seed_is_cut_into_its_rows() -> None:
    row = "INSERT INTO notes (id, body) VALUES ({n}, 'it''s; row {n}');\n"
    found = split("".join(row.format(n=n) for n in range(2000)), "sqlite", "seed.sql").statements
    assert len(found) == 2000
    assert found[1234].text == "INSERT INTO notes (id, body) VALUES (1234, 'it''s; row 1234')"
    assert found[1234].line == 1235


def test_the_tokenizer_is_loaded_only_to_split() -> None:
    program = (
        "import sys, twinstep.migrations.loader, twinstep.migrations.script as s;"
        "assert 'sqlglot' not in sys.modules;"
        "from twinstep.migrations.sql import split; split('SELECT 1', 'sqlite', 'a'); assert 'sqlglot' in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
