"""What a remote down takes away is copied in the transaction in which it goes, and found again; on a real PostgreSQL.

Each case makes a database, applies a change whose down takes something away, has others write, and goes back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from targets import ID, Crash, MemoryPlace, PostgresPlace, back, crash_at, order, work

from twinstep.events.errors import Refused
from twinstep.migrations.kept import Kept

RUN = "run-9"


@pytest.fixture
def remote(remote_url: str) -> Iterator[PostgresPlace]:
    made = PostgresPlace(remote_url)
    yield made
    made.close()


def undone(remote: PostgresPlace, up: str, down: str, *written: str, before: str = "", url: str | None = None) -> list[Kept]:
    """What was kept when the change was taken back, after others wrote."""
    if before:
        remote.execute(before)
    done = work(remote, up, down)
    remote.target().apply(order(done))
    remote.died()
    remote.execute(*written)
    target = remote.target()
    target.undo(back(done, "run-1"))
    return list(target.kept(RUN))


def rows(remote: PostgresPlace, kept: Kept) -> list[tuple[Any, ...]]:
    return sorted(remote.asked(f"SELECT * FROM {kept.kept_as}"))


def copies(remote: PostgresPlace) -> list[str]:
    """The tables in the schema of Twinstep."""
    query = "SELECT relname FROM pg_class WHERE relnamespace = 'twinstep'::regnamespace AND relkind = 'r' ORDER BY 1"
    return [str(name) for (name,) in remote.asked(query)]


def test_a_dropped_table_is_kept_whole_and_can_be_put_back(remote: PostgresPlace) -> None:
    written = "INSERT INTO more VALUES (1, 'one'), (2, NULL)"
    (kept,) = undone(remote, "CREATE TABLE more (id int PRIMARY KEY, t text)", "DROP TABLE more", written)
    assert (kept.what, kept.relation, kept.rows) == ("table", "public.more", 2)
    assert rows(remote, kept) == [(1, "one"), (2, None)]
    remote.execute(f"CREATE TABLE more AS TABLE {kept.kept_as}")
    assert kept.kept_as in kept.sentence()
    (registered,) = remote.asked(
        "SELECT run, migration, step, what, relation, rows, kept_as, at IS NOT NULL FROM twinstep.kept"
    )
    assert registered == (RUN, ID, 1, "table", "public.more", 2, kept.kept_as, True)


def test_dropped_columns_are_kept_with_the_key_where_they_are_not_null(remote: PostgresPlace) -> None:
    up = "ALTER TABLE item ADD colour text, ADD size int, ADD twice bigint GENERATED ALWAYS AS (n * 2) STORED"
    down = "ALTER TABLE item DROP twice, DROP colour, DROP size"
    (kept,) = undone(remote, up, down, "UPDATE item SET colour = 'red' WHERE id = 'b'")
    assert (kept.what, kept.columns, kept.rows) == ("columns", ("colour", "size"), 1)
    assert rows(remote, kept) == [("b", "red", None)]


def test_without_a_primary_key_dropped_columns_are_kept_with_all_others(remote: PostgresPlace) -> None:
    (kept,) = undone(
        remote, "ALTER TABLE loose ADD c int", "ALTER TABLE loose DROP c", "UPDATE loose SET c = 7 WHERE a = 1",
        before="CREATE TABLE loose (a int, b int); INSERT INTO loose VALUES (1, 2), (3, 4)",
    )  # fmt: skip
    assert rows(remote, kept) == [(1, 2, 7)]


def test_what_a_default_gave_is_not_kept_and_what_was_written_is(remote: PostgresPlace) -> None:
    up = (
        "ALTER TABLE item ADD pinned boolean NOT NULL DEFAULT false, ADD t text DEFAULT 'it''s';"
        "ALTER TABLE item ADD m numeric(4,1) DEFAULT 1.5, ADD at timestamptz DEFAULT now()"
    )
    down = "ALTER TABLE item DROP pinned, DROP t, DROP m; ALTER TABLE item DROP at"
    written = (
        "UPDATE item SET pinned = true WHERE id = 'b'",
        "UPDATE item SET at = NULL",
        "UPDATE item SET t = 'x' WHERE id = 'c'",
    )
    (kept,) = undone(remote, up, down, *written)
    assert rows(remote, kept) == [("b", True, "it's", Decimal("1.5"), None), ("c", False, "x", Decimal("1.5"), None)]


def test_what_a_computed_default_gave_is_kept(remote: PostgresPlace) -> None:
    (kept,) = undone(remote, "ALTER TABLE item ADD at timestamptz DEFAULT now()", "ALTER TABLE item DROP at")
    assert kept.rows == 3


def test_a_key_that_goes_itself_takes_all_columns_along(remote: PostgresPlace) -> None:
    before = "CREATE TABLE l (a int, b int); INSERT INTO l VALUES (5, 6)"
    up = "ALTER TABLE l ADD id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    found = undone(remote, up, "ALTER TABLE l DROP id", before=before)
    (kept,) = (each for each in found if each.what == "columns")
    assert rows(remote, kept) == [(5, 6, 1)]
    assert [(each.relation, each.last_value) for each in found if each.what == "sequence"] == [("public.l_id_seq", 1)]


@pytest.mark.parametrize("key", [True, False])
def test_removed_rows_are_kept_and_those_that_stay_are_not(remote: PostgresPlace, key: bool) -> None:
    before = f"CREATE TABLE r (id int {'PRIMARY KEY' if key else ''}, t text); INSERT INTO r VALUES (1, 'stays')"
    if not key:
        before += ", (1, 'stays'), (3, 'twice')"
    (kept,) = undone(
        remote, "INSERT INTO r VALUES (2, 'new'), (3, 'twice')", "DELETE FROM r WHERE ctid IN "
        "(SELECT ctid FROM r WHERE id = 2 UNION ALL SELECT max(ctid) FROM r WHERE id = 3 UNION ALL "
        "SELECT ctid FROM r WHERE id > 3)",
        "INSERT INTO r VALUES (4, 'of others'), (0, NULL)", before=before,
    )  # fmt: skip
    assert (kept.what, kept.relation) == ("rows", "public.r")
    assert rows(remote, kept) == [(2, "new"), (3, "twice"), (4, "of others")]


def test_what_cascades_from_a_delete_is_kept_too(remote: PostgresPlace) -> None:
    child = "CREATE TABLE child (id int PRIMARY KEY, item text REFERENCES item ON DELETE CASCADE)"
    found = undone(remote, "INSERT INTO item VALUES ('z', 9)", "DELETE FROM item WHERE id = 'z'",
                   "INSERT INTO child VALUES (1, 'z'), (2, 'a')", before=child)  # fmt: skip
    assert {kept.relation: rows(remote, kept) for kept in found} == {"public.item": [("z", 9)], "public.child": [(1, "z")]}


@pytest.mark.parametrize("filled", ["", "; INSERT INTO item VALUES ('x', 0), ('y', 0), ('z', 0)"])
def test_a_truncated_table_is_kept_also_when_it_is_filled_again(remote: PostgresPlace, filled: str) -> None:
    (kept,) = undone(remote, "SELECT 1", f"TRUNCATE item{filled}")
    assert rows(remote, kept) == [("a", 1), ("b", 2), ("c", 3)]


def test_a_table_that_is_only_rewritten_or_updated_leaves_no_copy(remote: PostgresPlace) -> None:
    up = "ALTER TABLE item ALTER n TYPE numeric; CREATE INDEX item_n ON item (n); CREATE TABLE empty (n int)"
    down = "DROP TABLE empty; DROP INDEX item_n; ALTER TABLE item ALTER n TYPE bigint; UPDATE item SET n = n"
    assert undone(remote, up, down) == []
    assert copies(remote) in (["ledger"], ["kept", "ledger"])


def test_a_table_that_is_deleted_from_in_vain_leaves_no_copy(remote: PostgresPlace) -> None:
    down = "DELETE FROM item WHERE id = 'a'; INSERT INTO item VALUES ('a', 1)"
    assert undone(remote, "SELECT 1", down) == []
    assert copies(remote) == ["kept", "ledger"]


def test_an_empty_table_and_an_unfilled_column_leave_no_copy(remote: PostgresPlace) -> None:
    up = "CREATE TABLE more (id serial); ALTER TABLE item ADD c int"
    assert undone(remote, up, "DROP TABLE more; ALTER TABLE item DROP c") == []


def test_a_copy_does_not_keep_a_type_alive_that_the_down_drops(remote: PostgresPlace) -> None:
    up = "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE m (id int PRIMARY KEY, now mood, all_of mood[])"
    down = "DROP TABLE m; DROP TYPE mood"
    (kept,) = undone(remote, up, down, "INSERT INTO m VALUES (1, 'glad', '{sad,glad}')")
    assert rows(remote, kept) == [(1, "glad", "{sad,glad}")]


def test_what_a_type_takes_along_by_cascade_is_kept(remote: PostgresPlace) -> None:
    up = "CREATE TYPE mood AS ENUM ('sad', 'glad'); ALTER TABLE item ADD mood mood"
    (kept,) = undone(remote, up, "DROP TYPE mood CASCADE", "UPDATE item SET mood = 'glad' WHERE n = 2")
    assert rows(remote, kept) == [("b", "glad")]


def test_rows_whose_key_is_of_a_type_of_ones_own_are_told_apart(remote: PostgresPlace) -> None:
    before = "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE m (mood mood PRIMARY KEY)"
    (kept,) = undone(remote, "INSERT INTO m VALUES ('sad'), ('glad')", "DELETE FROM m WHERE mood = 'sad'", before=before)
    assert rows(remote, kept) == [("sad",)]


def test_a_partitioned_table_is_kept_once_with_all_its_partitions(remote: PostgresPlace) -> None:
    up = (
        "CREATE TABLE p (id int, at int) PARTITION BY RANGE (at);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)"
    )
    (kept,) = undone(remote, up, "DROP TABLE p", "INSERT INTO p VALUES (1, 1), (2, 11)")
    assert (kept.relation, rows(remote, kept)) == ("public.p", [(1, 1), (2, 11)])


def test_a_column_of_a_partitioned_table_is_kept_once(remote: PostgresPlace) -> None:
    before = (
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); INSERT INTO p VALUES (1), (2)"
    )
    (kept,) = undone(remote, "ALTER TABLE p ADD c int", "ALTER TABLE p DROP c", "UPDATE p SET c = id", before=before)
    assert (kept.relation, rows(remote, kept)) == ("public.p", [(1, 1), (2, 2)])


def test_a_child_by_inheritance_is_kept_by_itself(remote: PostgresPlace) -> None:
    up = "CREATE TABLE parent (n int); CREATE TABLE child (m int) INHERITS (parent)"
    found = undone(remote, up, "DROP TABLE parent CASCADE", "INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (2, 3)")
    assert {kept.relation: rows(remote, kept) for kept in found} == {"public.parent": [(1,)], "public.child": [(2, 3)]}


def test_a_materialized_view_and_where_a_sequence_stood_are_kept(remote: PostgresPlace) -> None:
    up = "CREATE MATERIALIZED VIEW seen AS SELECT id FROM item; CREATE SEQUENCE counter; CREATE SEQUENCE unused"
    down = "DROP MATERIALIZED VIEW seen; DROP SEQUENCE counter, unused"
    found = undone(remote, up, down, "SELECT setval('counter', 41), nextval('counter')")
    assert [(kept.what, kept.rows, kept.last_value) for kept in sorted(found, key=lambda kept: kept.what)] == [
        ("table", 3, None) if each == "table" else ("sequence", 0, 42) for each in ("sequence", "table")
    ]
    assert "42" in next(kept for kept in found if kept.what == "sequence").sentence()


def test_a_function_that_takes_back_is_looked_at_like_text(remote: PostgresPlace) -> None:
    calls = []

    def down(connection: Any) -> None:
        calls.append(1)
        connection.exec_driver_sql("DO $$ BEGIN EXECUTE 'DELETE FROM ' || 'item'; END $$")

    done = work(remote, "SELECT 1", down)
    remote.target().apply(order(done))
    remote.died()
    target = remote.target()
    target.undo(back(done, "run-1"))
    (kept,) = target.kept(RUN)
    assert (rows(remote, kept), len(calls)) == ([("a", 1), ("b", 2), ("c", 3)], 2)


def test_others_cannot_write_between_the_copy_and_the_down(remote: PostgresPlace) -> None:
    """Somebody inserts as fast as the server lets them; in the end each acknowledged row is in the table or in the copy."""
    up, down = "CREATE TABLE more (n int PRIMARY KEY)", "DELETE FROM more WHERE n >= 0; INSERT INTO more VALUES (-1)"
    done = work(remote, up, down)
    remote.target().apply(order(done))
    remote.died()
    acknowledged: list[int] = []
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(remote.url, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO more VALUES (%s)", (len(acknowledged),))
                acknowledged.append(len(acknowledged))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(acknowledged) < 50:
            pass
        target = remote.target(retry_for_seconds=20)
        target.undo(back(done, "run-1"))
    finally:
        stop.set()
        writer.join()
    (kept,) = target.kept(RUN)
    found = [n for (n,) in rows(remote, kept)] + [n for (n,) in remote.asked("SELECT n FROM more WHERE n >= 0")]
    assert sorted(found) == acknowledged


def test_what_others_write_between_the_look_and_the_down_has_it_looked_at_again(remote: PostgresPlace) -> None:
    """Nothing would go, so that nothing is locked; then there is something after all."""
    calls = []

    def down(connection: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            remote.execute("INSERT INTO item VALUES ('z', 26)")
        connection.exec_driver_sql("DELETE FROM item WHERE id = 'z'")

    done = work(remote, "SELECT 1", down)
    remote.target().apply(order(done))
    remote.died()
    target = remote.target(retry_for_seconds=10)
    target.undo(back(done, "run-1"))
    (kept,) = target.kept(RUN)
    assert (rows(remote, kept), len(calls)) == ([("z", 26)], 4)


@pytest.mark.parametrize("crossing", ["remote:undo:before-commit", "remote:undo:after-commit"])
def test_an_undo_that_is_killed_and_run_again_keeps_once(remote: PostgresPlace, crossing: str) -> None:
    done = work(remote, "CREATE TABLE more (n int)", "DROP TABLE more")
    remote.target().apply(order(done))
    remote.died()
    remote.execute("INSERT INTO more VALUES (1)")
    with pytest.raises(Crash):
        remote.target(probe=crash_at(crossing)).undo(back(done, "run-1"))
    remote.died()
    target = remote.target()
    target.undo(back(done, "run-1"))
    (kept,) = target.kept(RUN)
    assert rows(remote, kept) == [(1,)]
    assert len(copies(remote)) == 3


def test_a_down_that_is_refused_keeps_nothing(remote: PostgresPlace) -> None:
    done = work(remote, "CREATE TABLE more (n int)", "DROP TABLE more; SELECT 1 / 0")
    remote.target().apply(order(done))
    remote.died()
    remote.execute("INSERT INTO more VALUES (1)")
    target = remote.target()
    with pytest.raises(Refused, match="T338"):
        target.undo(back(done, "run-1"))
    assert (copies(remote), target.kept(RUN)) == (["ledger"], ())


def test_where_a_policy_hides_rows_from_this_role_nothing_is_dropped(remote: PostgresPlace) -> None:
    done = work(remote, "SELECT 1", "DELETE FROM item")
    remote.target().apply(order(done))
    remote.died()
    remote.execute(
        "DROP ROLE IF EXISTS keeper", "CREATE ROLE keeper LOGIN", "ALTER TABLE item OWNER TO keeper",
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY", "ALTER TABLE item FORCE ROW LEVEL SECURITY",
        "CREATE POLICY few ON item USING (n < 2)", "GRANT ALL ON SCHEMA twinstep TO keeper",
        "GRANT ALL ON twinstep.ledger TO keeper",
    )  # fmt: skip
    try:
        target = remote.target()
        target._url = psycopg.conninfo.make_conninfo(remote.url, user="keeper")  # type: ignore[attr-defined]
        with pytest.raises(Refused, match="T370") as refused:
            target.undo(back(done, "run-1"))
        assert "row-level security" in str(refused.value)
        assert len(remote.items()) == 3
        remote.execute("ALTER TABLE item NO FORCE ROW LEVEL SECURITY", "REVOKE CREATE ON SCHEMA twinstep FROM keeper")
        with pytest.raises(Refused, match="T370"):
            target.undo(back(done, "run-1"))
        remote.execute("GRANT CREATE ON SCHEMA twinstep TO keeper")
        target.undo(back(done, "run-1"))
        assert (remote.items(), [kept.rows for kept in target.kept(RUN)]) == ({}, [3])
    finally:
        remote.close()
        remote.execute("DROP OWNED BY keeper CASCADE", "DROP ROLE keeper")


def test_without_statistics_removed_rows_are_found_all_the_same(remote: PostgresPlace) -> None:
    remote.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET track_counts = off', current_database()); END $$")
    (kept,) = undone(remote, "SELECT 1", "DELETE FROM item WHERE n > 1")
    assert rows(remote, kept) == [("b", 2), ("c", 3)]


def test_the_database_in_memory_keeps_the_same(remote: PostgresPlace) -> None:
    memory = MemoryPlace("remote")

    def up(contents: Any) -> None:
        contents.tables["more"] = {"1": 1}
        contents.tables["item"] = {**contents.tables["item"], "z": 9}

    def down(contents: Any) -> None:
        del contents.tables["more"]
        contents.tables["item"] = {key: n for key, n in contents.tables["item"].items() if key != "z"}

    done = work(memory, up, down)
    memory.target().apply(order(done))
    memory.target().undo(back(done, "run-1"))
    found = undone(
        remote, "CREATE TABLE more (n int PRIMARY KEY); INSERT INTO more VALUES (1); INSERT INTO item VALUES ('z', 9)",
        "DROP TABLE more; DELETE FROM item WHERE id = 'z'",
    )  # fmt: skip

    def told(kept: list[Kept]) -> list[tuple[str, str, int]]:
        return sorted((each.what, each.relation.rpartition(".")[2], each.rows) for each in kept)

    assert told(list(memory.target().kept(RUN))) == told(found) == [("rows", "item", 1), ("table", "more", 1)]
