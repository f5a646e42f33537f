"""Rows drawn from a schema: what is drawn is admitted, whole databases are consistent, and they shrink to what matters."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from twinstep.engine.verification.checks import read_check
from twinstep.engine.verification.distinct import Distinct, comparable, stored
from twinstep.engine.verification.filling import as_sql, fill_sqlite, replicate
from twinstep.engine.verification.rows import Content, contents
from twinstep.engine.verification.shape import Shape
from twinstep.engine.verification.sqlite_shape import reflect_sqlite
from twinstep.events.errors import ConfigurationError
from twinstep.migrations import phase3
from twinstep.migrations.definition import SideName

DRAWN = settings(
    max_examples=60,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
# Where it is counted how often something is drawn: the same examples each time.
COUNTED = settings(DRAWN, derandomize=True)
SHRUNK = settings(max_examples=1_000, deadline=None, database=None)

TREE = "CREATE TABLE folder (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES folder, name TEXT NOT NULL DEFAULT 'new')"
CIRCLE = """
    CREATE TABLE team (id INTEGER PRIMARY KEY, leader INTEGER REFERENCES member);
    CREATE TABLE member (id INTEGER PRIMARY KEY, team INTEGER NOT NULL REFERENCES team);
"""
COMPOSITE = """
    CREATE TABLE person (id TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID;
    CREATE TABLE note (person TEXT NOT NULL REFERENCES person, id INTEGER NOT NULL, PRIMARY KEY (person, id));
    CREATE TABLE task (id INTEGER PRIMARY KEY, person TEXT NOT NULL REFERENCES person, note INTEGER, above INTEGER,
        UNIQUE (person, id), FOREIGN KEY (person, note) REFERENCES note (person, id),
        FOREIGN KEY (person, above) REFERENCES task (person, id));
    CREATE TABLE filed (person TEXT NOT NULL, note INTEGER NOT NULL, place INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (person, note), FOREIGN KEY (person, note) REFERENCES note (person, id));
"""
TYPES = """
    CREATE TABLE plain (a INTEGER, b TEXT, c BLOB, d REAL, e NUMERIC, f, g VARCHAR(10), h BOOLEAN NOT NULL DEFAULT 0,
        i TEXT NOT NULL UNIQUE COLLATE NOCASE, j GENERATED ALWAYS AS (a + 1), k INTEGER UNIQUE, l REAL UNIQUE, m UNIQUE,
        n NUMERIC UNIQUE, o TEXT UNIQUE COLLATE RTRIM);
    CREATE TABLE strict (id INTEGER PRIMARY KEY AUTOINCREMENT, a INT NOT NULL, b TEXT NOT NULL, c BLOB NOT NULL,
        d REAL NOT NULL, e ANY NOT NULL, f INT UNIQUE, g ANY UNIQUE, h TEXT UNIQUE, i BLOB UNIQUE) STRICT;
    CREATE TABLE checked (
        a INTEGER NOT NULL CHECK (a >= 0), b INTEGER CHECK (b BETWEEN -3 AND 3), c TEXT CHECK (c IN ('x', 'y''z')),
        d TEXT NOT NULL CHECK (length(d) >= 2 AND length(d) < 5), e REAL CHECK (e > 0 AND e <= 0.5),
        f BOOLEAN CHECK (f IN (0, 1)), g CHECK (g IS NULL OR g > 1.5), h TEXT CHECK (h IS NOT NULL),
        i UNIQUE CHECK (10 > i AND i >= 5), j CHECK (j = 4 OR j = 5), k BLOB CHECK (length(k) = 3),
        l TEXT UNIQUE CHECK (length(l) <= 2));
"""


@pytest.fixture
def made() -> Iterator[Callable[[str], tuple[sqlite3.Connection, Shape]]]:
    """A database in memory that a script makes, and its shape."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:

        def make(script: str) -> tuple[sqlite3.Connection, Shape]:
            connection.executescript(script)
            connection.execute("PRAGMA foreign_keys = ON")
            return connection, reflect_sqlite(connection)

        yield make


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[sqlite3.Connection, Shape]]:
    """The reference application's file with its keys, empty."""
    path: Path = tmp_path_factory.mktemp("reference") / "notes.db"
    phase3.build_local(path, notes=0, version=12)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection, reflect_sqlite(connection)


Made = Callable[[str], tuple[sqlite3.Connection, Shape]]


def filled(connection: sqlite3.Connection, shape: Shape, content: Content) -> tuple[Content, list[object]]:
    """What was admitted and which references lead nowhere then; all is rolled back."""
    admitted = fill_sqlite(connection, shape, content)
    broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    connection.rollback()
    return admitted, broken


def depth(rows: tuple[Mapping[str, object], ...], key: str = "id", parent: str = "parent") -> int:
    """How long the longest chain of rows is that refer to each other; a row that refers to itself ends one."""
    above = {row[key]: row[parent] for row in rows}

    def steps(at: object) -> int:
        return 1 if above[at] is None or above[at] == at else 1 + steps(above[at])

    return max(map(steps, above), default=0)


@pytest.mark.parametrize("script", [TREE, CIRCLE, COMPOSITE, TYPES], ids=["tree", "circle", "composite", "types"])
def test_whatever_is_drawn_is_admitted_and_every_reference_leads_somewhere(script: str, made: Made) -> None:
    connection, shape = made(script)

    @DRAWN
    @given(contents(shape))
    def drawn(content: Content) -> None:
        assert filled(connection, shape, content) == (content, [])

    drawn()


def test_rows_of_the_reference_are_admitted_most_tables_have_some_and_any_may_be_empty(
    reference: tuple[sqlite3.Connection, Shape],
) -> None:
    connection, shape = reference
    tables, sizes, databases = Counter[str](), Counter[int](), 0

    @COUNTED
    @given(contents(shape))
    def drawn(content: Content) -> None:
        nonlocal databases
        databases += 1
        assert filled(connection, shape, content) == (content, [])
        tables.update(content.keys() & shape.by_name.keys())
        sizes[len(content.keys() & shape.by_name.keys())] += 1

    drawn()
    assert len(shape.tables) == 10
    assert set(tables) == set(shape.by_name)
    assert sum(number for size, number in sizes.items() if size > 5) > databases / 2
    assert max(tables.values()) < databases


def test_references_lead_to_nothing_only_where_that_is_asked_for(reference: tuple[sqlite3.Connection, Shape]) -> None:
    connection, shape = reference
    broken = 0

    @settings(COUNTED, max_examples=30)
    @given(contents(shape, dangling=True))
    def drawn(content: Content) -> None:
        nonlocal broken
        connection.execute("PRAGMA foreign_keys = ON")
        admitted, violations = filled(connection, shape, content)
        assert admitted == content
        broken += bool(violations)

    drawn()
    assert broken > 5


def test_trees_grow_deep(made: Made) -> None:
    _, shape = made(TREE)
    depths = Counter[int]()

    @COUNTED
    @given(contents(shape))
    def drawn(content: Content) -> None:
        depths[depth(content.get("folder", ()))] += 1

    drawn()
    assert sum(number for steps, number in depths.items() if steps >= 3) >= 6


@pytest.mark.parametrize(
    ("wanted", "least"),
    [
        (lambda content: any(row["note"] == 7 for row in content.get("task", ())), {"person": 1, "note": 1, "task": 1}),
        (lambda content: any(row["above"] is not None for row in content.get("task", ())), {"person": 1, "task": 1}),
        (lambda content: len(content.get("filed", ())) > 1, {"person": 1, "note": 2, "filed": 2}),
        (lambda content: any(len(str(row["id"])) > 2 for row in content.get("person", ())), {"person": 1}),
    ],
    ids=["a note 7", "a task above", "two that are filed", "a long name"],
)
def test_a_database_shrinks_to_the_rows_that_matter(
    wanted: Callable[[Content], bool], least: Mapping[str, int], made: Made
) -> None:
    _, shape = made(COMPOSITE)
    # Shrinking ends at a row too many about once in a hundred times: the smaller one of two.
    found = min((shrunk(contents(shape, max_rows=3), wanted, seed) for seed in range(2)), key=rows_of)
    assert {name: len(rows) for name, rows in found.items()} == least


def shrunk(databases: SearchStrategy[Content], wanted: Callable[[Content], bool], seed: int) -> Content:
    """The smallest that is come to in twenty seconds: to make the values simpler too can take Hypothesis minutes."""
    seen: list[Content] = []
    began = time.monotonic()

    def is_found(content: Content) -> bool:
        if seen and time.monotonic() - began > 20:
            raise TooLong
        found = wanted(content)
        if found:
            seen.append(content)
        return found

    with suppress(TooLong):
        return find(databases, is_found, settings=SHRUNK, random=Random(seed))
    return min(seen, key=rows_of)


def rows_of(content: Content) -> int:
    """How many there are in all tables."""
    return sum(map(len, content.values()))


class TooLong(BaseException):
    """The search goes no further; it passes through Hypothesis, which would shrink anything else."""


def test_the_smallest_row_has_the_simplest_values(made: Made) -> None:
    _, shape = made(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER NOT NULL, b TEXT NOT NULL, c TEXT, d NOT NULL DEFAULT 5)"
    )
    found = find(contents(shape), lambda content: any(row["a"] != 0 for row in content.get("t", ())), settings=SHRUNK)
    assert found == {"t": ({"id": 1, "a": 1, "b": "", "c": None},)}


def test_a_check_that_is_understood_filters_nothing(made: Made) -> None:
    connection, shape = made(TYPES)
    assert all(read_check(check, "local")[1] for check in shape.by_name["checked"].checks)
    rows = 0

    @COUNTED
    @given(contents(shape, max_rows=3))
    def drawn(content: Content) -> None:
        nonlocal rows
        only = {"checked": content.get("checked", ())}
        rows += len(only["checked"])
        assert filled(connection, shape, only)[0].get("checked", ()) == only["checked"]

    drawn()
    assert rows > 40


@pytest.mark.parametrize(
    ("check", "understood"),
    [
        ("a IN (0, 1)", True),
        ("a = b", False),
        ("a NOT IN (1)", False),
        ("a NOT BETWEEN 1 AND 2", False),
        ("a IS NOT NULL OR a = 1", False),
        ("a IS NULL", False),
        ("a > 0 AND f(b)", False),
        ("a IN (1, NULL)", False),
        ("a IS NULL OR a BETWEEN 1 AND 2", True),
        ("NOT (a > 1)", False),
        ("length(a) = 3", True),
        ("a glob '[", False),
        ("(((", False),
        ("", False),
    ],
)
def test_what_of_a_check_is_not_understood_is_left_to_the_database(check: str, understood: bool) -> None:
    sides: tuple[SideName, ...] = ("local", "remote")
    assert [read_check(check, side)[1] for side in sides] == [understood] * 2


def test_what_a_check_that_is_not_understood_refuses_is_left_out_with_all_that_refers_to_it(made: Made) -> None:
    connection, shape = made("""
        CREATE TABLE parent (id INTEGER PRIMARY KEY, odd CHECK (id % 2 = 1));
        CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent, elder REFERENCES child);
        CREATE TRIGGER refuse BEFORE INSERT ON child WHEN NEW.id = 13 BEGIN SELECT RAISE(ABORT, 'no'); END;
        CREATE TRIGGER ignore BEFORE INSERT ON child WHEN NEW.id = 14 BEGIN SELECT RAISE(IGNORE); END;
        CREATE TRIGGER wrong AFTER INSERT ON child WHEN NEW.id = 15 BEGIN SELECT json('{'); END;
    """)
    child = [{"id": 1, "parent": 1, "elder": None}, {"id": 2, "parent": 2, "elder": None}, {"id": 3, "parent": 1, "elder": 2}]
    child += [{"id": number, "parent": None, "elder": None} for number in (13, 14, 15)]
    child += [{"id": number + 10, "parent": None, "elder": number} for number in (13, 14, 15, 1)]
    admitted = fill_sqlite(connection, shape, {"parent": ({"id": 1}, {"id": 2}), "child": tuple(child)})
    assert admitted == {"parent": ({"id": 1},), "child": (child[0], child[-1])}
    assert connection.execute("SELECT id FROM child ORDER BY id").fetchall() == [(1,), (11,)]


def test_an_error_that_no_row_is_to_blame_for_comes_out(made: Made) -> None:
    connection, shape = made("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    connection.execute("DROP TABLE t")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        fill_sqlite(connection, shape, {"t": ({"id": 1},)})


def test_a_strategy_of_ones_own_is_used_as_it_is(made: Made) -> None:
    _, shape = made(COMPOSITE)

    @settings(DRAWN, max_examples=20)
    @given(contents(shape, columns={"task.id": st.integers(5, 7), "person.id": st.just("me")}))
    def drawn(content: Content) -> None:
        assert {row["id"] for row in content.get("task", ())} <= {5, 6, 7}
        assert [row["id"] for row in content.get("person", ())] in ([], ["me"])

    drawn()


@pytest.mark.parametrize(("name", "told"), [("task.none", "task.id, task.person"), ("nothing.id", "person, note")])
def test_a_strategy_for_a_column_that_does_not_exist_is_refused(name: str, told: str, made: Made) -> None:
    _, shape = made(COMPOSITE)
    with pytest.raises(ConfigurationError, match=told) as refused:
        contents(shape, columns={name: st.none()})
    assert refused.value.code == "T374"


def test_marks_of_autoincrement_stand_above_the_rows(made: Made) -> None:
    connection, shape = made("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a)")
    marks = 0

    @COUNTED
    @given(contents(shape))
    def drawn(content: Content) -> None:
        nonlocal marks
        fill_sqlite(connection, shape, content)
        highest = max([0, *(row["id"] for row in content.get("t", ()) if isinstance(row["id"], int))])
        (new,) = connection.execute("INSERT INTO t (a) VALUES (0) RETURNING id").fetchone()
        connection.rollback()
        assert new > highest
        if content.get("sqlite_sequence"):
            marks += 1
            assert content["sqlite_sequence"] == ({"name": "t", "seq": new - 1},)

    drawn()
    assert marks > 10


VALUES: SearchStrategy[object] = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.sampled_from(
        ["", "a", "A", "1", "007", "1e3", " 1 ", "1.0", "12345678901234567890", "0x1", "a ", "1_0", "٣", "-", "+5", ".5", "5."]
    ),
    st.text(st.characters(codec="utf-8"), max_size=4),
    st.binary(max_size=3),
)


@pytest.mark.parametrize("column", ["k", "l", "m", "n", "o", "i"])
def test_two_values_are_the_same_wherever_sqlite_takes_them_for_one(column: str, made: Made) -> None:
    connection, shape = made(TYPES)
    table = shape.by_name["plain"]

    @settings(DRAWN, max_examples=150)
    @given(VALUES, VALUES)
    def same(one: object, other: object) -> None:
        other_name = "i" if column != "i" else "k"
        fixed = [{other_name: number} for number in (1, 2)] if column != "i" else [{}, {}]
        connection.execute("BEGIN")
        try:
            for value, rest in zip((one, other), fixed, strict=True):
                row = {column: value, **rest}
                connection.execute(
                    f"INSERT INTO plain ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()]
                )
            alike = False
        except sqlite3.IntegrityError:
            alike = True
        connection.execute("ROLLBACK")
        # Where it is not sure, two are the same.
        shape_of = table.by_name[column]
        assert not alike or comparable("local", shape_of, one) == comparable("local", shape_of, other)

    same()


def test_a_value_becomes_what_its_affinity_makes_of_it(made: Made) -> None:
    connection, shape = made(TYPES)
    columns = [shape.by_name["plain"].by_name[name] for name in "abcde"]

    @settings(DRAWN, max_examples=150)
    @given(VALUES)
    def kept(value: object) -> None:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO plain (a, b, c, d, e, i) VALUES (?, ?, ?, ?, ?, 1)", [value] * 5)
        found = connection.execute("SELECT a, b, c, d, e FROM plain").fetchone()
        connection.execute("ROLLBACK")
        assert [stored(column, value) for column in columns] == list(found)

    kept()


def test_what_must_be_unique_is_changed_and_not_thrown_away(made: Made) -> None:
    _, shape = made("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE CHECK (a IN ('x', 'y')), b, UNIQUE (b, id))")
    distinct = Distinct("local", shape.by_name["t"], {})
    rows: list[dict[str, object]] = [{"id": 1, "a": None, "b": 1} for _ in range(4)]
    assert all(distinct.let_in(row) for row in rows)
    assert len({str(row["id"]) for row in rows}) == 4


@pytest.mark.parametrize("rows", [500, pytest.param(5_000, marks=pytest.mark.full)])
def test_so_many_rows_of_every_table_are_copies_that_hold_together(
    rows: int, reference: tuple[sqlite3.Connection, Shape]
) -> None:
    connection, shape = reference

    @settings(DRAWN, max_examples=5)
    @given(contents(shape))
    def copied(content: Content) -> None:
        many = replicate(shape, content, rows=rows, seed=3)
        assert many == replicate(shape, content, rows=rows, seed=3)
        tables = {name: drawn for name, drawn in content.items() if name in shape.by_name}
        assert {name: len(many[name]) for name in tables} == dict.fromkeys(tables, rows)
        assert all(many[name][: len(drawn)] == drawn for name, drawn in tables.items())
        connection.execute("PRAGMA foreign_keys = ON")
        assert filled(connection, shape, many) == (many, [])

    copied()


def test_five_thousand_rows_are_made_of_a_few(made: Made) -> None:
    connection, shape = made(COMPOSITE)
    content: Content = {
        "person": ({"id": "me"}, {"id": "you"}),
        "note": ({"person": "me", "id": 1}, {"person": "you", "id": 1}),
        "task": (
            {"id": 1, "person": "me", "note": 1, "above": None},
            {"id": 2, "person": "me", "note": None, "above": 1},
            {"id": 3, "person": "you", "note": 1, "above": None},
        ),
    }
    many = replicate(shape, content, rows=5_000, seed=1)
    assert {name: len(rows) for name, rows in many.items()} == {"person": 5_000, "note": 5_000, "task": 5_000}
    assert many == replicate(shape, content, rows=5_000, seed=1)
    assert filled(connection, shape, many) == (many, [])


def test_text_that_no_file_can_hold_is_filled_in_and_written_down(made: Made) -> None:
    connection, shape = made("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
    texts = ["a\0b", "\0", "half \ud83d", "\r\n", "it's", "\n.quit\n"]
    values = [*texts, b"\xff", 5e-324, 1.7976931348623157e308, -0.1, 2.0**53 + 2, 3e-8]
    content: Content = {"t": tuple({"id": number, "a": value} for number, value in enumerate(values))}
    assert fill_sqlite(connection, shape, content) == content
    connection.commit()
    query = "SELECT typeof(a), CASE typeof(a) WHEN 'real' THEN a ELSE hex(a) END FROM t ORDER BY id"
    filled_in = connection.execute(query).fetchall()
    assert filled_in[0] == ("text", "610062")
    assert filled_in[2] == ("text", "68616C6620EDA0BD")
    connection.execute("DELETE FROM t")
    connection.executescript(as_sql(shape, content).encode().decode())
    assert connection.execute(query).fetchall() == filled_in


@pytest.mark.parametrize("script", [TREE, CIRCLE, COMPOSITE, TYPES], ids=["tree", "circle", "composite", "types"])
def test_the_text_makes_the_same_database(script: str, made: Made) -> None:
    connection, shape = made(script)
    tables = [table.name for table in shape.tables]

    def read(from_: sqlite3.Connection) -> list[object]:
        marks = from_.execute("SELECT name FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchall()
        return [_typed(from_, name) for name in (*tables, *(name for (name,) in marks))]

    @settings(DRAWN, max_examples=30)
    @given(contents(shape, dangling=True))
    def written(content: Content) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as other:
            other.executescript(script)
            other.executescript(as_sql(shape, content))
            fill_sqlite(connection, shape, content)
            filled_in = read(connection)
            connection.rollback()
            assert read(other) == filled_in

    written()


def _typed(connection: sqlite3.Connection, table: str) -> list[object]:
    columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))]
    listed = ", ".join(f"typeof({name}), {name}" for name in columns)
    return connection.execute(f"SELECT {listed} FROM {table} ORDER BY 1, 2").fetchall()
