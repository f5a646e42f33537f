"""What a side is once compiled: its units and what takes each back, the same again after a trip through the log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import psycopg
import pytest

from twinstep.events.errors import DefinitionError
from twinstep.migrations.definition import Migration, Side
from twinstep.migrations.postgres_statements import is_beyond_us, single_kind
from twinstep.migrations.script import CallableStep, CompiledStep, Script, Unit, compile_side
from twinstep.migrations.sql import Statement, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from twinstep.events.types import Json
    from twinstep.migrations.definition import SideName, Step

IN_PROGRESS = "25001"  # active_sql_transaction: "... cannot run inside a transaction block"


def fill(connection: Connection) -> None:
    """A step."""


def empty(connection: Connection) -> str:
    """Another one."""
    return "empty"


def probe_done(connection: Connection) -> bool:
    """A probe."""
    return True


def remote(up: Step | Sequence[Step], down: Step | Sequence[Step] | None = None, *, irreversible: bool = False) -> Migration:
    side = Side(up=up, down=down, probes={"probe_done": probe_done})
    return Migration(id="0012_x", remote=side, irreversible=irreversible)


def units(migration: Migration, side: SideName = "remote") -> tuple[Unit, ...]:
    compiled = compile_side(migration, side)
    assert compiled is not None
    return compiled.script.units


def named(steps: tuple[CompiledStep, ...] | None) -> list[str] | None:
    if steps is None:
        return None
    return [step.text if isinstance(step, Statement) else f"{step.name}()" for step in steps]


def shape(migration: Migration, side: SideName = "remote") -> list[tuple[str, list[str] | None, list[str] | None]]:
    return [(unit.kind, named(unit.up), named(unit.down)) for unit in units(migration, side)]


def code_of(migration: Migration, side: SideName = "remote") -> str:
    with pytest.raises(DefinitionError) as caught:
        compile_side(migration, side)
    return caught.value.code


# The local side


def test_the_local_side_is_one_group_in_the_order_of_its_steps() -> None:
    side = Side(up=("CREATE TABLE a (x); CREATE TABLE b (x)", fill, "CREATE TABLE c (x)", empty), down=("DROP TABLE c", empty))
    assert shape(Migration(id="1_a", local=side), "local") == [
        (
            "group",
            ["CREATE TABLE a (x)", "CREATE TABLE b (x)", "local_up()", "CREATE TABLE c (x)", "local_up_2()"],
            ["DROP TABLE c", "local_down()"],
        )
    ]


def test_a_local_side_needs_no_down_because_the_backup_is_the_way_back() -> None:
    assert shape(Migration(id="1_a", local=Side(up="SELECT 1")), "local") == [("group", ["SELECT 1"], None)]


def test_a_side_that_is_not_touched_has_no_script() -> None:
    assert compile_side(Migration(id="1_a", local=Side(up="SELECT 1")), "remote") is None
    assert compile_side(Migration(id="1_a", local=Side(up="-- nothing yet\n")), "local") is None


def test_a_local_text_cannot_be_divided() -> None:
    assert code_of(Migration(id="1_a", local=Side(up="SELECT 1;\n-- twinstep: group\nSELECT 2")), "local") == "T119"
    assert code_of(Migration(id="1_a", local=Side(up="SELECT 1", down="-- twinstep: single\nSELECT 2")), "local") == "T119"


def test_sides_are_read_by_the_rules_of_their_own_database() -> None:
    text = "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END;"
    assert len(units(Migration(id="1_a", local=Side(up=text)), "local")[0].up) == 1
    assert code_of(remote(text, "")) == "T112"


# The remote side: units


def test_statements_that_cannot_run_in_a_transaction_cut_the_text_into_units() -> None:
    up = """
        CREATE TABLE a (x int);
        CREATE TABLE b (x int);
        CREATE INDEX CONCURRENTLY i ON a (x);
        VACUUM a;
        ALTER TABLE a ADD y int;
    """
    down = "ALTER TABLE a DROP y;\n-- twinstep: group\nDROP TABLE b; DROP TABLE a;"
    assert shape(remote(up, down)) == [
        ("group", ["CREATE TABLE a (x int)", "CREATE TABLE b (x int)"], ["DROP TABLE b", "DROP TABLE a"]),
        ("single", ["CREATE INDEX CONCURRENTLY i ON a (x)"], None),
        ("single", ["VACUUM a"], None),
        ("group", ["ALTER TABLE a ADD y int"], ["ALTER TABLE a DROP y"]),
    ]


def test_a_marked_statement_runs_alone_and_names_its_probe() -> None:
    up = "SELECT 1;\n-- twinstep: single probe_done\nCALL batches();\n-- twinstep: single\nREINDEX TABLE t"
    found = units(remote(up, ""))
    assert [(unit.kind, unit.probe) for unit in found] == [("group", None), ("single", "probe_done"), ("single", None)]


def test_a_dividing_line_makes_two_groups_of_one() -> None:
    up = "ALTER TYPE mood ADD VALUE 'calm';\n-- twinstep: group\nUPDATE t SET mood = 'calm';"
    down = "UPDATE t SET mood = NULL;\n-- twinstep: group\n-- a value of an enum stays\n"
    assert shape(remote(up, down)) == [
        ("group", ["ALTER TYPE mood ADD VALUE 'calm'"], []),
        ("group", ["UPDATE t SET mood = 'calm'"], ["UPDATE t SET mood = NULL"]),
    ]


def test_a_function_is_part_of_the_group_that_it_stands_in() -> None:
    assert shape(remote(("SELECT 1; VACUUM t;", fill, "SELECT 2"), (empty, "-- twinstep: group", "SELECT 3"))) == [
        ("group", ["SELECT 1"], ["SELECT 3"]),
        ("single", ["VACUUM t"], None),
        ("group", ["remote_up()", "SELECT 2"], ["remote_down()"]),
    ]


def test_a_probe_must_be_defined() -> None:
    assert code_of(remote("-- twinstep: single probe_other\nCALL p()", "")) == "T121"


@pytest.mark.parametrize("up", ["SELECT 1;\n-- twinstep: single", "-- twinstep: single\n-- twinstep: group\nSELECT 1"])
def test_a_mark_without_a_statement_is_refused(up: str) -> None:
    assert code_of(remote(up, "")) == "T119"


def test_an_index_that_is_built_concurrently_must_have_a_name() -> None:
    assert code_of(remote("CREATE INDEX CONCURRENTLY ON t (a)")) == "T124"


def test_a_text_wrapped_in_a_transaction_cannot_hold_what_cannot_run_in_one() -> None:
    assert code_of(remote("BEGIN; CREATE INDEX CONCURRENTLY i ON t (a); COMMIT")) == "T120"


# The remote side: the way back


def test_a_remote_group_needs_a_down() -> None:
    assert code_of(remote("SELECT 1")) == "T117"
    assert shape(remote("SELECT 1", irreversible=True)) == [("group", ["SELECT 1"], None)]


@pytest.mark.parametrize("down", ["", "-- nothing to do\n", ()])
def test_an_empty_down_says_that_nothing_needs_to_be_undone(down: Step | Sequence[Step]) -> None:
    assert shape(remote("SELECT 1", down)) == [("group", ["SELECT 1"], [])]
    assert shape(remote("SELECT 1; VACUUM t; SELECT 2", down)) == [
        ("group", ["SELECT 1"], []),
        ("single", ["VACUUM t"], None),
        ("group", ["SELECT 2"], []),
    ]


def test_concurrent_indexes_alone_need_no_down() -> None:
    assert shape(remote("CREATE INDEX CONCURRENTLY i ON t (a); DROP INDEX CONCURRENTLY j")) == [
        ("single", ["CREATE INDEX CONCURRENTLY i ON t (a)"], None),
        ("single", ["DROP INDEX CONCURRENTLY j"], None),
    ]


def test_a_marked_statement_alone_may_have_a_down_of_its_own() -> None:
    assert shape(remote("-- twinstep: single\nCALL fill()", "CALL empty()")) == [("single", ["CALL fill()"], ["CALL empty()"])]
    assert shape(remote("-- twinstep: single\nCALL fill()")) == [("single", ["CALL fill()"], None)]


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("SELECT 1; VACUUM t; SELECT 2", "SELECT 3"),
        ("SELECT 1", "SELECT 2;\n-- twinstep: group\nSELECT 3"),
        ("SELECT 1", "-- twinstep: group\n"),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "SELECT 1"),
        ("VACUUM t; VACUUM s", "SELECT 1"),
    ],
)
def test_a_down_must_have_as_many_groups_as_the_up(up: str, down: str) -> None:
    assert code_of(remote(up, down)) == "T116"


@pytest.mark.parametrize("down", ["DROP INDEX CONCURRENTLY i", "VACUUM t", "DROP DATABASE d"])
def test_a_down_runs_in_transactions(down: str) -> None:
    assert code_of(remote("SELECT 1", down)) == "T120"


def test_a_down_cannot_be_marked_single() -> None:
    assert code_of(remote("SELECT 1", "-- twinstep: single\nSELECT 2")) == "T119"


def test_an_irreversible_migration_has_one_remote_step() -> None:
    assert code_of(remote("SELECT 1; VACUUM t", irreversible=True)) == "T118"
    assert code_of(remote("SELECT 1;\n-- twinstep: group\nSELECT 2", irreversible=True)) == "T118"
    assert shape(remote("VACUUM t", irreversible=True)) == [("single", ["VACUUM t"], None)]


# What PostgreSQL itself says of transactions

SINGLE = {
    "CREATE INDEX CONCURRENTLY j ON t (a)": "create_index",
    "create unique index concurrently if not exists k ON t (a)": "create_index",
    "DROP INDEX CONCURRENTLY i": "drop_index",
    "DROP INDEX CONCURRENTLY IF EXISTS public.i": "drop_index",
    "REINDEX INDEX CONCURRENTLY i": "reindex",
    "REINDEX (VERBOSE, CONCURRENTLY) TABLE t": "reindex",
    "REINDEX SCHEMA s": "reindex",
    "REINDEX (VERBOSE) DATABASE {database}": "reindex",
    "REINDEX SYSTEM {database}": "reindex",
    "VACUUM t": "vacuum",
    "VACUUM (ANALYZE) t": "vacuum",
    "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY": "detach_partition",
    'ALTER TABLE IF EXISTS ONLY public.p DETACH PARTITION "p1" CONCURRENTLY': "detach_partition",
}
BEYOND = [
    "CREATE DATABASE other",
    "DROP DATABASE IF EXISTS other",
    "CREATE TABLESPACE other LOCATION '/nowhere'",
    "DROP TABLESPACE other",
    "ALTER SYSTEM SET work_mem = '8MB'",
    "ALTER DATABASE {database} SET TABLESPACE pg_default",
    "CREATE SUBSCRIPTION s CONNECTION 'dbname=nowhere' PUBLICATION p",
    "DISCARD ALL",
    "CLUSTER",
    "CLUSTER VERBOSE",
]
TRANSACTIONAL = [
    "CREATE INDEX j ON t (a)",
    "DROP INDEX i",
    "REINDEX INDEX i",
    "REINDEX TABLE t",
    "REINDEX (CONCURRENTLY off) TABLE t",
    "ALTER TABLE p DETACH PARTITION p1",
    "ANALYZE t",
    "CLUSTER t USING i",
    "DISCARD PLANS",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
    "ALTER DATABASE {database} SET work_mem = '8MB'",
    "CREATE SCHEMA other",
    "DROP SCHEMA s",
]


def words(text: str) -> tuple[str, ...]:
    (statement,) = split(text, "postgres", "a.sql").statements
    return statement.words


@pytest.fixture
def tables(each_remote_url: str) -> str:
    with psycopg.connect(each_remote_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA s; CREATE TABLE t (a int); CREATE INDEX i ON t (a)")
        connection.execute("CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
    return each_remote_url


def refusal_in_a_transaction(url: str, text: str) -> str | None:
    """The code that PostgreSQL gives for the statement inside a transaction, or None if it runs."""
    with psycopg.connect(url) as connection:
        database = connection.info.dbname
        try:
            connection.execute(text.format(database=f'"{database}"').encode())
        except psycopg.Error as error:
            return error.sqlstate
        finally:
            connection.rollback()
        return None


def test_each_statement_that_is_taken_out_of_the_transaction_is_one_that_postgres_refuses_there(tables: str) -> None:
    assert {text: refusal_in_a_transaction(tables, text) for text in (*SINGLE, *BEYOND)} == dict.fromkeys(
        (*SINGLE, *BEYOND), IN_PROGRESS
    )
    assert {text: single_kind(words(text.format(database="d"))) for text in SINGLE} == SINGLE
    assert [text for text in BEYOND if not is_beyond_us(words(text.format(database="d")))] == []


def test_each_statement_that_stays_in_the_transaction_runs_there(tables: str) -> None:
    assert {text: refusal_in_a_transaction(tables, text) for text in TRANSACTIONAL} == dict.fromkeys(TRANSACTIONAL)
    found = {text: words(text.format(database="d")) for text in TRANSACTIONAL}
    assert [text for text, one in found.items() if single_kind(one) or is_beyond_us(one)] == []


@pytest.mark.parametrize("text", BEYOND)
def test_what_can_neither_be_probed_nor_undone_is_refused(text: str) -> None:
    assert code_of(remote(f"SELECT 1; {text.format(database='d')}", "")) == "T115"


def test_what_has_a_probe_of_its_own_is_allowed_where_it_is_marked() -> None:
    assert shape(remote("-- twinstep: single probe_done\nCREATE DATABASE d")) == [("single", ["CREATE DATABASE d"], None)]


# In the log


EVERYTHING = remote(
    ("SELECT ';', 'é'; VACUUM t;", fill, "-- twinstep: single probe_done\nCALL p();"),
    (empty, "-- twinstep: group", "SELECT 2"),
)


def test_a_script_is_the_same_after_a_trip_through_the_log() -> None:
    compiled = compile_side(EVERYTHING, "remote")
    assert compiled is not None
    through = cast("Json", json.loads(json.dumps(compiled.script.to_json())))
    assert Script.from_json(through) == compiled.script


def test_a_script_names_the_functions_without_which_it_cannot_run() -> None:
    compiled = compile_side(EVERYTHING, "remote")
    assert compiled is not None
    assert [step.name for step in compiled.script.callables()] == ["remote_up", "remote_down", "probe_done"]
    assert {name: compiled.callables[name] for name in ("remote_up", "remote_down", "probe_done")} == {
        "remote_up": fill,
        "remote_down": empty,
        "probe_done": probe_done,
    }


def test_a_function_is_recorded_with_a_digest_of_its_source() -> None:
    def digest(function: Step) -> str:
        (step,) = units(remote(function, ""))[0].up
        assert isinstance(step, CallableStep)
        return step.digest

    assert digest(fill) == digest(fill) != digest(empty)
    assert len(digest(fill)) == 64


@pytest.mark.parametrize("data", [None, [], {"side": "both", "units": []}, {"side": "local", "units": {}}, {"side": "local"}])
def test_what_is_no_script_is_not_read_as_one(data: Json) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Script.from_json(data)
