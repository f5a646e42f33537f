"""Rows drawn from a PostgreSQL schema: every type's values are admitted, keys hold, and later inserts find their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from twinstep.engine.verification.checks import read_check
from twinstep.engine.verification.filling import as_sql, fill_postgres, replicate
from twinstep.engine.verification.postgres_shape import reflect_postgres
from twinstep.engine.verification.rows import Content, contents
from twinstep.engine.verification.shape import Shape
from twinstep.events.errors import ConfigurationError
from twinstep.migrations import phase3

DRAWN = settings(
    max_examples=40,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
# Where it is counted how often something is drawn: the same examples each time.
COUNTED = settings(DRAWN, derandomize=True)

NAMED = """
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s');
    CREATE DOMAIN positive AS numeric(5, 2) DEFAULT 1 CHECK (VALUE > 0);
    CREATE DOMAIN small AS positive NOT NULL CHECK (VALUE < 100);
    CREATE DOMAIN code AS text CHECK (length(VALUE) BETWEEN 2 AND 4);
"""
BASE = """smallint; int; bigint; numeric; numeric(3, 1); numeric(2, 5); real; double precision; text; varchar(2); char(2); char;
    bytea; bool; date; time; timetz; timestamp; timestamp(0); timestamptz; interval; uuid; jsonb; mood; code; positive; inet;
    cidr; macaddr; macaddr8; bit(4); varbit(4); varbit; money; int4range; int[]; text[]; mood[]; code[]; name; "char"; oid"""
# Without an order or an equality, or of no use as a key.
MORE = """json; small; tstzrange; nummultirange; daterange; tsrange; int8range; numrange; json[]; timestamptz[];
    bytea[]; bool[]"""
CHECKED = """
    CREATE TABLE checked (
        a smallint NOT NULL CHECK (a >= 0), b int CHECK (b BETWEEN -3 AND 3), c text CHECK (c IN ('x', 'y''z')),
        d varchar(9) NOT NULL CHECK (length(d) >= 2 AND length(d) < 5), e numeric CHECK (e > 0 AND e <= 1.5),
        f real CHECK (f >= 0.5), g double precision CHECK (g < 0), h boolean CHECK (h), i boolean CHECK (NOT i),
        j text CHECK (j IS NOT NULL), k varchar(5) CHECK (k IN ('a', 'bb')), l int UNIQUE CHECK (l > 5 AND 12 >= l),
        m mood CHECK (m IN ('sad', 'ok')), n text CHECK (n IS NULL OR n = 'z'), o numeric(4, 2) CHECK (o >= -0.5),
        p bigint CHECK (p = 4 OR p = 5))
"""
CIRCLES = """
    CREATE TABLE team (id serial PRIMARY KEY, leader int);
    CREATE TABLE member (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, team int NOT NULL REFERENCES team);
    ALTER TABLE team ADD FOREIGN KEY (leader) REFERENCES member;
    CREATE TABLE hen (id int PRIMARY KEY, egg int NOT NULL);
    CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL REFERENCES hen DEFERRABLE);
    ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg DEFERRABLE;
    CREATE TABLE left_one (id int PRIMARY KEY, other int NOT NULL);
    CREATE TABLE right_one (id int PRIMARY KEY, other int NOT NULL REFERENCES left_one);
    ALTER TABLE left_one ADD FOREIGN KEY (other) REFERENCES right_one;
    CREATE TABLE person (id uuid PRIMARY KEY DEFAULT gen_random_uuid());
    CREATE TABLE note (person uuid NOT NULL REFERENCES person, id bigint NOT NULL, PRIMARY KEY (person, id));
    CREATE TABLE task (id bigserial PRIMARY KEY, person uuid NOT NULL REFERENCES person, note bigint, above bigint,
        at timestamptz, UNIQUE (person, id), FOREIGN KEY (person, note) REFERENCES note (person, id),
        FOREIGN KEY (person, above) REFERENCES task (person, id), rest bigint GENERATED ALWAYS AS (note % 7) STORED);
    CREATE TABLE whole (a int, b int, UNIQUE (a, b));
    CREATE TABLE part (id int, a int, b int, FOREIGN KEY (a, b) REFERENCES whole (a, b) MATCH FULL);
    CREATE TABLE measured (day date NOT NULL, id int NOT NULL, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
    CREATE TABLE measured_all PARTITION OF measured DEFAULT;
    CREATE TABLE "a 100% odd name" ("x""y" text PRIMARY KEY, "%s" text);
"""

Made = Callable[[str], Shape]


@pytest.fixture
def connection(remote_url: str) -> Iterator[psycopg.Connection[TupleRow]]:
    with psycopg.connect(remote_url, autocommit=True) as made:
        yield made


def filled(connection: psycopg.Connection[TupleRow], shape: Shape, content: Content) -> Content:
    """What was admitted; all is rolled back."""
    admitted = fill_postgres(connection, shape, content)
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    connection.rollback()
    return admitted


def table_of(name: str, types: str, constraint: str) -> str:
    columns = ", ".join(f"c{number} {kind.strip()} {constraint}" for number, kind in enumerate(types.split(";")))
    return f"{NAMED}; CREATE TABLE {name} ({columns})"


def all_admitted(connection: psycopg.Connection[TupleRow], shape: Shape, examples: int = 40) -> int:
    rows = 0

    @settings(COUNTED, max_examples=examples)
    @given(contents(shape))
    def drawn(content: Content) -> None:
        nonlocal rows
        rows += sum(map(len, content.values()))
        assert filled(connection, shape, content) == content

    drawn()
    return rows


@pytest.mark.parametrize(
    "script",
    [
        table_of("nullable", f"{BASE}; {MORE}", ""),
        table_of("needed", f"{BASE}; {MORE}", "NOT NULL"),
        table_of("keys", BASE, "UNIQUE NOT NULL"),
        NAMED + CHECKED,
    ],
    ids=["nullable", "needed", "keys", "checked"],
)
def test_values_of_every_type_are_admitted(script: str, connection: psycopg.Connection[TupleRow]) -> None:
    connection.execute(script.encode())
    shape = reflect_postgres(connection, ["public"])
    assert all(read_check(check, "remote")[1] for table in shape.tables for check in table.checks)
    assert all_admitted(connection, shape) > 20


def test_circles_composite_keys_partitions_and_odd_names_are_filled(connection: psycopg.Connection[TupleRow]) -> None:
    connection.execute(CIRCLES.encode())
    shape = reflect_postgres(connection, ["public"])
    assert "measured" in shape.by_name
    assert "measured_all" not in shape.by_name
    assert all_admitted(connection, shape, 60) > 200


def test_a_row_goes_in_on_every_version(each_remote_url: str) -> None:
    with psycopg.connect(each_remote_url, autocommit=True) as connection:
        connection.execute((NAMED + CHECKED + ";" + CIRCLES).encode())
        assert all_admitted(connection, reflect_postgres(connection, ["public"]), 15) > 30


def test_rows_of_the_reference_are_admitted_but_for_metadata_that_is_no_json(connection: psycopg.Connection[TupleRow]) -> None:
    phase3.build_remote(connection, users=0, version=12)
    shape = reflect_postgres(connection, ["public", "auth"])
    tables = Counter[str]()
    metadata = st.sampled_from([None, "{}", '{"version": 1}'])

    @settings(COUNTED, max_examples=30)
    @given(contents(shape, columns={"notes.encrypted_metadata": metadata, "note_tasks.content_hash": st.none()}))
    def drawn(content: Content) -> None:
        assert filled(connection, shape, content) == content
        tables.update(content.keys())

    drawn()
    assert set(tables) == set(shape.by_name)
    assert sum(tables.values()) > 30 * len(tables) / 3
    user, note = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
    rows = {"id": note, "user_id": user, "title_enc": "\\x", "props_enc": "\\x", "encrypted_metadata": "no json"}
    refused: Content = {
        "auth.users": ({"id": user},),
        "notes": (rows, {**rows, "id": user, "encrypted_metadata": "{}"}),
        "attachments": ({"id": "a", "user_id": user, "note_id": note, "file_name": "", "storage_path": ""},),
    }
    assert filled(connection, shape, refused) == {"auth.users": refused["auth.users"], "notes": refused["notes"][1:]}


def test_what_is_refused_takes_along_what_refers_to_it_and_a_silent_trigger_counts_too(
    connection: psycopg.Connection[TupleRow],
) -> None:
    connection.execute("""
        CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
        ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF NEW.id = 7 THEN RETURN NULL; ELSIF NEW.id = 8 THEN RAISE EXCEPTION ''no''; END IF; RETURN NEW; END';
        CREATE TRIGGER refuse BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    shape = reflect_postgres(connection, ["public"])
    content: Content = {
        "a": ({"id": "1", "b": "7"}, {"id": "2", "b": "9"}, {"id": "3", "b": None}),
        "b": tuple({"id": number, "a": parent} for number, parent in (("7", None), ("8", "2"), ("9", "3"), ("10", "1"))),
    }
    admitted = fill_postgres(connection, shape, content)
    assert admitted == {"a": content["a"][1:], "b": (content["b"][2],)}
    assert connection.execute("SELECT id, b FROM a ORDER BY id").fetchall() == [(2, 9), (3, None)]


def test_sequences_go_on_above_the_rows(connection: psycopg.Connection[TupleRow]) -> None:
    connection.execute(
        "CREATE TABLE s (id serial PRIMARY KEY); CREATE TABLE i (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)"
    )
    shape = reflect_postgres(connection, ["public"])
    fill_postgres(connection, shape, {"s": ({"id": "5"}, {"id": "-3"}), "i": ({"id": "41"},)})
    connection.commit()
    assert connection.execute("INSERT INTO s DEFAULT VALUES RETURNING id").fetchone() == (6,)
    assert connection.execute("INSERT INTO i DEFAULT VALUES RETURNING id").fetchone() == (42,)


def test_nothing_is_committed_before_the_caller_does(remote_url: str) -> None:
    with psycopg.connect(remote_url) as connection, psycopg.connect(remote_url, autocommit=True) as other:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
        connection.commit()
        fill_postgres(connection, reflect_postgres(connection, ["public"]), {"t": ({"id": "1"},)})
        assert other.execute("SELECT count(*) FROM t").fetchone() == (0,)
        connection.commit()
        assert other.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_a_key_that_is_not_enforced_may_lead_to_nothing_where_that_is_asked_for(
    connection: psycopg.Connection[TupleRow],
) -> None:
    connection.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int NOT NULL REFERENCES p)")
    shape = reflect_postgres(connection, ["public"])
    if connection.info.server_version >= 180_000:
        connection.execute("ALTER TABLE c ALTER CONSTRAINT c_p_fkey NOT ENFORCED")
        shape = reflect_postgres(connection, ["public"])
        assert not shape.by_name["c"].foreign_keys[0].enforced
    lost = 0

    @COUNTED
    @given(contents(shape, dangling=True))
    def drawn(content: Content) -> None:
        nonlocal lost
        assert filled(connection, shape, content) == content
        there = {row["id"] for row in content.get("p", ())}
        lost += any(row["p"] not in there for row in content.get("c", ()))

    drawn()
    assert (lost > 5) is (not shape.by_name["c"].foreign_keys[0].enforced)


def test_a_type_of_which_no_value_is_known_is_named_where_one_is_needed(connection: psycopg.Connection[TupleRow]) -> None:
    connection.execute("CREATE TABLE t (a xml, b point NOT NULL DEFAULT '(0,0)', c tsvector NOT NULL)")
    shape = reflect_postgres(connection, ["public"])
    with pytest.raises(ConfigurationError, match=r"tsvector.*t\.c") as refused:
        contents(shape)
    assert refused.value.code == "T373"

    @settings(DRAWN, max_examples=10)
    @given(contents(shape, columns={"t.c": st.just("a b")}))
    def drawn(content: Content) -> None:
        assert filled(connection, shape, content) == content

    drawn()


def test_the_text_makes_the_same_database(remote_url: str, connection: psycopg.Connection[TupleRow]) -> None:
    connection.execute((table_of("types", f"{BASE}; {MORE}", "") + ";" + CIRCLES).encode())
    shape = reflect_postgres(connection, ["public"])

    def read() -> list[object]:
        queries = (f"SELECT t::text FROM {table.sql_name} t ORDER BY 1".encode() for table in shape.tables)
        return [connection.execute(query).fetchall() for query in queries]

    @settings(DRAWN, max_examples=15)
    @given(contents(shape))
    def written(content: Content) -> None:
        fill_postgres(connection, shape, content)
        filled_in = read()
        connection.rollback()
        connection.execute(as_sql(shape, content).encode())
        made = read()
        connection.execute(f"TRUNCATE {', '.join(table.sql_name for table in shape.tables)}".encode())
        assert made == filled_in

    written()


def test_five_hundred_rows_of_every_table_are_copies_that_hold_together(connection: psycopg.Connection[TupleRow]) -> None:
    connection.execute((NAMED + CIRCLES).encode())
    shape = reflect_postgres(connection, ["public"])

    @settings(DRAWN, max_examples=6)
    @given(contents(shape))
    def copied(content: Content) -> None:
        many = replicate(shape, content, rows=500, seed=1)
        assert {name for name, rows in many.items() if len(rows) >= 100} >= content.keys() - {"whole"}
        assert filled(connection, shape, many) == many

    copied()
