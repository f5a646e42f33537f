"""The remote side of a dry run: its budget, its locks, what cannot run in a transaction, and what only a commit makes real.

Each test looks at a real PostgreSQL from another session, while the rehearsal runs and afterwards.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text
from targets import PostgresPlace, part, work

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events.errors import Blocked, Locked
from twinstep.migrations.definition import Migration, Query, RemoteOptions, Side
from twinstep.migrations.rehearsal.postgres import PostgresRehearser
from twinstep.migrations.rehearsal.postgres_left_out import names
from twinstep.migrations.rehearsal.rehearsing import Part, PartRehearsal
from twinstep.migrations.work import Order, work_of

# Machines are busy; what is looked for would take four seconds.
SLACK_SECONDS = 1.5


@pytest.fixture
def remote(remote_url: str) -> Iterator[PostgresPlace]:
    made = PostgresPlace(remote_url)
    yield made
    made.close()


def rehearsed(remote: PostgresPlace, up: object, down: object = "", **options: object) -> PartRehearsal:
    """One migration's remote side, rehearsed; the remote is as before."""
    before = remote.world()
    (told,) = PostgresRehearser(remote.url).rehearse([made(up, down, **options)]).parts
    assert remote.world() == before
    assert remote.asked("SELECT count(*) FROM pg_namespace WHERE nspname = 'twinstep'") == [(0,)]
    return told


def made(
    up: object, down: object = "", *, budget_seconds: float = 5.0, number: int = 1, probes: object = None, **more: object
) -> Part:
    side = Side(up=up, down=down, probes=probes or {})  # type: ignore[arg-type]
    migration = Migration(id=f"{number:04}_change", remote=side, remote_options=RemoteOptions(**more))  # type: ignore[arg-type]
    found = work_of(migration, "remote")
    assert found is not None
    return Part(order=Order(work=found, run=f"run-{number}", pair="pair", log="log"), budget_seconds=budget_seconds)


def codes(told: PartRehearsal) -> list[tuple[str, str]]:
    return [(fault.effect, fault.error.code) for fault in told.faults]


def reasons(told: PartRehearsal) -> str:
    return "; ".join(f"{each.what}: {each.reason}" for each in told.omissions)


# The budget


@contextmanager
def reading(url: str) -> Iterator[list[float]]:
    """Somebody who reads all the time; how long each reading took, in seconds."""
    times: list[float] = []
    stop = threading.Event()

    def read() -> None:
        with psycopg.connect(url, autocommit=True) as reader:
            while not stop.is_set():
                began = time.monotonic()
                reader.execute("SELECT count(*) FROM item")
                times.append(time.monotonic() - began)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield times
    finally:
        stop.set()
        thread.join()


def _sleeping(connection: Connection) -> None:
    time.sleep(4)


def _asking_again_and_again(connection: Connection) -> None:
    for _ in range(40):
        connection.execute(text("SELECT pg_sleep(0.1)"))


@pytest.mark.parametrize("slow", ["SELECT pg_sleep(4)", _sleeping], ids=["a statement", "a function that sleeps"])
def test_what_would_exceed_the_budget_lets_go_within_it_and_says_so(
    slow: str | Callable[..., object], remote: PostgresPlace
) -> None:
    _exceeds(remote, slow)


def test_many_short_statements_do_not_exceed_the_budget_either(each_remote_url: str) -> None:
    _exceeds(PostgresPlace(each_remote_url), _asking_again_and_again)


def _exceeds(remote: PostgresPlace, slow: str | Callable[..., object]) -> None:
    with reading(remote.url) as times:
        told = rehearsed(
            remote, ["ALTER TABLE item ADD COLUMN x int", slow], "ALTER TABLE item DROP COLUMN x", budget_seconds=1
        )
    assert 0.5 < max(times) < 1 + SLACK_SECONDS  # it did wait, and not longer
    assert told.faults == []
    assert told.changes is None
    assert "did not fit into the 1 s for which locks may be held" in reasons(told)


def test_the_smallest_budget_of_a_batch_counts(remote: PostgresPlace) -> None:
    first = made("ALTER TABLE item ADD COLUMN x int", "ALTER TABLE item DROP COLUMN x", budget_seconds=30)
    second = made("SELECT pg_sleep(4)", budget_seconds=0.5, number=2)
    began = time.monotonic()
    side = PostgresRehearser(remote.url).rehearse([first, second])
    assert time.monotonic() - began < 3
    assert side.held_seconds < 0.5 + SLACK_SECONDS
    assert "0.5 s" in reasons(side.parts[1])
    assert reasons(side.parts[0]).startswith("going back")


def test_a_statement_that_the_definition_allows_less_time_is_a_fault(remote: PostgresPlace) -> None:
    told = rehearsed(remote, "SELECT pg_sleep(4)", statement_timeout_seconds=0.3)
    assert codes(told) == [("APPLY_REMOTE", "T269")]


STOPPED = """
import os, signal, sys
from twinstep import Coordinator, Migration, Side

def stop(connection):
    os.kill(os.getpid(), signal.SIGSTOP)

side = Side(up=["ALTER TABLE item ADD COLUMN x int", stop], down="ALTER TABLE item DROP COLUMN x")
pair = Coordinator(remote=sys.argv[1], migrations=[Migration(id="0001_first", remote=side, rehearsal_budget_seconds=1)],
    state_dir=sys.argv[2])
report = pair.migrate(dry_run=True)
print(report.outcome, report.exit_code, report.rehearsal.migrations[0].sides['remote'].omissions)
"""


def test_a_stopped_process_lets_go_within_the_budget(remote_url: str, tmp_path: Path) -> None:
    stopped_lets_go(remote_url, tmp_path)


@pytest.mark.full
def test_a_stopped_process_lets_go_within_the_budget_on_every_version(each_remote_url: str, tmp_path: Path) -> None:
    stopped_lets_go(each_remote_url, tmp_path)


def stopped_lets_go(url: str, tmp_path: Path) -> None:
    remote = PostgresPlace(url)
    program = tmp_path / "stopped.py"
    program.write_text(STOPPED)
    with reading(url) as times:
        words = [sys.executable, str(program), url, str(tmp_path / "state")]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            time.sleep(1.5)
            assert remote.asked("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'") == [(0,)]
        finally:
            process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=30)
    assert 0.3 < max(times) < 1 + SLACK_SECONDS
    assert out.split()[:2] == ["rehearsed", "0"]
    assert "did not fit into the 1 s" in out


def test_others_in_the_way_are_no_fault_and_are_not_waited_for_long(remote: PostgresPlace) -> None:
    with psycopg.connect(remote.url) as other:
        other.execute("LOCK TABLE item IN SHARE MODE")
        began = time.monotonic()
        told = rehearsed(remote, "ALTER TABLE item ADD COLUMN x int", "ALTER TABLE item DROP COLUMN x")
        assert time.monotonic() - began < 2
    assert told.faults == []
    assert "another session was in its way" in reasons(told)


def test_a_session_that_is_ended_from_outside_is_told_as_what_it_is(remote: PostgresPlace) -> None:
    def ended(connection: Connection) -> None:
        (pid,) = connection.execute(text("SELECT pg_backend_pid()")).one()
        remote.execute(f"SELECT pg_terminate_backend({pid}, 5000)")

    with pytest.raises(Blocked, match="T353"):
        PostgresRehearser(remote.url).rehearse([made([ended, "SELECT 1"])])


def test_a_coordinator_that_begins_meanwhile_waits_and_goes_on(remote: PostgresPlace) -> None:
    real = work(remote, remote.add(10), remote.add(-10))
    begun: list[threading.Thread] = []

    def another(connection: Connection) -> None:
        def apply() -> None:
            remote.target(beside=True).apply(part(real).order)

        begun.append(threading.Thread(target=apply))
        begun[0].start()
        time.sleep(0.3)

    rehearser = PostgresRehearser(remote.url)
    (told,) = rehearser.rehearse([made(["UPDATE item SET n = n + 1", another], "UPDATE item SET n = n - 1")]).parts
    begun[0].join()
    assert told.faults == []
    assert remote.items() == {"a": 11, "b": 12, "c": 13}
    remote.target().hold()
    with pytest.raises(Locked, match="T401"):
        PostgresRehearser(remote.url, wait_seconds=0.2).rehearse([made("SELECT 1")])


# Locks, rows, objects


def test_locks_and_rows_are_told_per_statement_and_table(remote: PostgresPlace) -> None:
    told = rehearsed(
        remote,
        "CREATE TABLE more (id int); INSERT INTO more VALUES (1), (2); DELETE FROM item WHERE id = 'a';"
        "UPDATE item SET n = 0; ALTER TABLE item ALTER COLUMN n TYPE numeric",
        "ALTER TABLE item ALTER COLUMN n TYPE bigint; DROP TABLE more",
    )
    assert told.rows is not None
    assert [(row.table, row.inserted, row.updated, row.deleted) for row in told.rows] == [
        ("public.item", 0, 2, 1),
        ("public.more", 2, 0, 0),
    ]
    locks = [[(lock.table, lock.mode) for lock in step.locks] for step in told.steps if step.direction == "up"]
    assert locks == [[], [], [("public.item", "RowExclusiveLock")], [], [("public.item", "AccessExclusiveLock")]]
    assert told.rewritten == ("public.item",)
    assert told.changes is not None
    assert told.changes.objects_added == ("table public.more",)


def test_rights_that_are_missing_for_the_ledger_or_a_table_are_found(remote: PostgresPlace, postgres: EmbeddedPostgres) -> None:
    ((database,),) = remote.asked("SELECT current_database()")
    remote.execute(
        "CREATE ROLE reader LOGIN", f"GRANT CREATE ON DATABASE {database} TO reader", "GRANT SELECT ON item TO reader"
    )
    try:
        told = PostgresRehearser(_as(remote.url, "reader")).rehearse([made("UPDATE item SET n = 0")]).parts[0]
        assert codes(told) == [("APPLY_REMOTE", "T268")]
        assert "42501" in told.faults[0].error.condition
    finally:
        remote.execute(f"REVOKE CREATE ON DATABASE {database} FROM reader", "DROP OWNED BY reader", "DROP ROLE reader")


def _as(url: str, user: str) -> str:
    return psycopg.conninfo.make_conninfo(url, user=user)


# Constraints that are checked at COMMIT

KEYED = "CREATE TABLE child (item text REFERENCES item (id) DEFERRABLE INITIALLY {})"


def test_a_deferred_key_is_checked_where_the_real_run_commits_and_deferred_again_for_the_next_group(
    remote: PostgresPlace,
) -> None:
    remote.execute(KEYED.format("DEFERRED"))
    ordered = "INSERT INTO child VALUES ('x'); INSERT INTO item VALUES ('x', 1)"
    groups = f"SELECT 1;\n-- twinstep: group\n{ordered};\n-- twinstep: group\nINSERT INTO child VALUES ('y')"
    downs = "SELECT 1;\n-- twinstep: group\nSELECT 1;\n-- twinstep: group\nSELECT 1"
    told = rehearsed(remote, groups, downs)
    assert codes(told) == [("APPLY_REMOTE", "T331")]
    assert "It was 'COMMIT'" in told.faults[0].error.condition
    assert [step.step for step in told.steps if step.direction == "up"] == [1, 2, 2, 3]


def test_a_key_that_is_made_deferred_in_a_later_group_is_deferred_there(remote: PostgresPlace) -> None:
    made_here = f"{KEYED.format('DEFERRED')}; INSERT INTO child VALUES ('x'); INSERT INTO item VALUES ('x', 1)"
    up = f"SELECT 1;\n-- twinstep: group\n{made_here}"
    told = rehearsed(remote, up, "DROP TABLE child; DELETE FROM item WHERE id = 'x';\n-- twinstep: group\nSELECT 1")
    assert told.faults == []


def test_a_key_that_is_immediate_from_the_start_stays_so(remote: PostgresPlace) -> None:
    remote.execute(KEYED.format("IMMEDIATE"))
    groups = "SELECT 1;\n-- twinstep: group\nINSERT INTO child VALUES ('x'); INSERT INTO item VALUES ('x', 1)"
    told = rehearsed(remote, groups, "SELECT 1;\n-- twinstep: group\nSELECT 1")
    assert "INSERT INTO child" in told.faults[0].error.condition


# What only a commit makes real

ENUM = "CREATE TYPE mood AS ENUM ('sad')"
ADD_VALUE = "ALTER TYPE mood ADD VALUE 'glad'"
USE_VALUE = "INSERT INTO feeling VALUES ('glad')"


def test_a_value_of_an_enum_that_an_earlier_group_adds_is_not_rehearsed_and_no_fault(remote: PostgresPlace) -> None:
    remote.execute(ENUM, "CREATE TABLE feeling (m mood)")
    down = "DELETE FROM feeling;\n-- twinstep: group\nSELECT 1"
    told = rehearsed(remote, f"{ADD_VALUE};\n-- twinstep: group\n{USE_VALUE}", down)
    assert codes(told) == [("COMPARE", "T335")]  # and nothing takes the value away again, which is one
    assert "step 2 and everything after it: it uses a value that an earlier step adds to an enum" in reasons(told)
    same_group = rehearsed(remote, f"{ADD_VALUE};\n{USE_VALUE}")
    assert codes(same_group) == [("APPLY_REMOTE", "T331")]


@pytest.mark.parametrize(
    ("statement", "down"),
    [
        ("ALTER TABLE item ADD CONSTRAINT item_whole UNIQUE USING INDEX item_n", "ALTER TABLE item DROP CONSTRAINT item_whole"),
        ("COMMENT ON INDEX item_n IS 'why'", ""),
        ("INSERT INTO item VALUES ('d', 4) ON CONFLICT (n) DO NOTHING", "DELETE FROM item WHERE id = 'd'"),
        ("CREATE TABLE child (n bigint REFERENCES item (n))", "DROP TABLE child"),
    ],
)
def test_what_needs_an_index_that_is_built_concurrently_is_not_rehearsed_and_no_fault(
    statement: str, down: str, remote: PostgresPlace
) -> None:
    told = rehearsed(remote, f"CREATE UNIQUE INDEX CONCURRENTLY item_n ON item (n);\n{statement}", down)
    assert told.faults == []
    assert "step 2 and everything after it: it needs the index item_n" in reasons(told)


def test_a_mistake_after_an_index_that_is_built_concurrently_is_still_a_fault(remote: PostgresPlace) -> None:
    told = rehearsed(remote, "CREATE INDEX CONCURRENTLY item_n ON item (n);\nDROP TABLE missing")
    assert codes(told) == [("APPLY_REMOTE", "T331")]


def test_names_are_found_in_statements_as_they_may_be_written() -> None:
    assert names("COMMENT ON INDEX Item_N IS 'x'", "item_n")
    assert names('ALTER INDEX public."Odd name" RENAME TO x', '"Odd name"')
    assert not names("COMMENT ON INDEX item_n2 IS 'x'", "item_n")
    assert not names('ALTER INDEX "odd name" RENAME TO x', '"Odd name"')


# Statements outside a transaction


def test_an_index_is_tried_on_an_empty_copy_and_a_wrong_one_is_found(remote: PostgresPlace) -> None:
    remote.execute("INSERT INTO item VALUES ('d', 1)")
    doubled = rehearsed(remote, "CREATE UNIQUE INDEX CONCURRENTLY item_n ON item (n)")
    assert doubled.faults == []  # two rows break it, and it says that it has not looked
    assert "uniqueness" in reasons(doubled)
    assert doubled.changes is not None
    assert doubled.changes.objects_added == ("index public.item_n",)
    for wrong in ("item (missing)", "missing (n)", "item USING nothing (n)"):
        assert codes(rehearsed(remote, f"CREATE INDEX CONCURRENTLY item_n ON {wrong}")) == [("APPLY_REMOTE", "T320")]


def test_an_index_of_another_definition_under_the_name_is_found(remote: PostgresPlace) -> None:
    remote.execute("CREATE INDEX item_n ON item (n DESC)")
    assert codes(rehearsed(remote, "CREATE INDEX CONCURRENTLY IF NOT EXISTS item_n ON item (n)")) == [("APPLY_REMOTE", "T325")]
    same = rehearsed(remote, "CREATE INDEX CONCURRENTLY item_n ON item (n DESC)")
    assert (same.faults, same.omissions) == ([], [])


def test_an_index_on_a_table_that_the_same_migration_makes_is_tried(remote: PostgresPlace) -> None:
    told = rehearsed(remote, "CREATE TABLE more (id int);\nCREATE INDEX CONCURRENTLY more_id ON more (id)", "DROP TABLE more")
    assert told.faults == []
    assert told.changes is not None
    assert told.changes.objects_added == ("index public.more_id", "table public.more")


def test_an_index_to_be_dropped_is_looked_up(remote: PostgresPlace) -> None:
    remote.execute("CREATE INDEX item_n ON item (n)")
    there = rehearsed(remote, "DROP INDEX CONCURRENTLY item_n")
    assert "the index is there" in reasons(there)
    assert there.changes is not None
    assert there.changes.objects_dropped == ("index public.item_n",)
    assert codes(rehearsed(remote, "DROP INDEX CONCURRENTLY missing")) == [("APPLY_REMOTE", "T320")]
    assert rehearsed(remote, "DROP INDEX CONCURRENTLY IF EXISTS missing").faults == []


def test_what_cannot_be_tried_at_all_is_named_with_the_reason(remote: PostgresPlace) -> None:
    remote.execute(
        "CREATE TABLE whole (n int) PARTITION BY RANGE (n)", "CREATE TABLE half PARTITION OF whole FOR VALUES FROM (0) TO (9)"
    )

    def probe(connection: Connection) -> bool:
        return bool(connection.execute(text("SELECT count(*) > 99 FROM item")).scalar())

    vacuum = rehearsed(remote, "VACUUM item")
    assert reasons(vacuum) == "step 1: VACUUM item: it cannot run in a transaction"
    assert "cannot run in a transaction" in reasons(rehearsed(remote, "REINDEX TABLE CONCURRENTLY item"))
    assert "the partition is attached now" in reasons(rehearsed(remote, "ALTER TABLE whole DETACH PARTITION half CONCURRENTLY"))
    marked = rehearsed(
        remote, "-- twinstep: single probe_it\nCALL fill();\nDROP TABLE filled", "SELECT 1", probes={"probe_it": probe}
    )
    assert "its probe says that it is not done yet" in reasons(marked)
    assert "it comes after a statement that could only be looked up" in reasons(marked)
    assert marked.faults == []


# Functions


def _commits(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    driver.execute("COMMIT")


def _rolls_back_and_writes(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    driver.execute("ROLLBACK")
    driver.execute("INSERT INTO item VALUES ('z', 26)")


@pytest.mark.parametrize("function", [_commits, _rolls_back_and_writes])
@pytest.mark.parametrize("where", ["up", "second group", "down", "check"])
def test_no_function_can_make_anything_of_a_rehearsal_stay(
    function: Callable[..., object], where: str, remote: PostgresPlace
) -> None:
    add = "UPDATE item SET n = n + 10"
    back = "UPDATE item SET n = n - 10"
    ups: object = {"up": [add, function], "second group": [f"{add};\n-- twinstep: group", function]}.get(where, add)
    downs: object = {"down": [back, function], "second group": f"{back};\n-- twinstep: group"}.get(where, back)
    side = Side(up=ups, down=downs, check=function if where == "check" else None)  # type: ignore[arg-type]
    found = work_of(Migration(id="0001_change", remote=side), "remote")
    assert found is not None
    before = remote.world()
    try:
        told = PostgresRehearser(remote.url).rehearse([Part(order=Order(work=found, run="r", pair="p", log="l"))]).parts[0]
        assert told.faults
    finally:
        assert remote.world() == before
        assert remote.asked("SELECT count(*) FROM pg_namespace WHERE nspname = 'twinstep'") == [(0,)]


def test_a_check_that_looks_for_what_was_left_out_is_no_fault(remote: PostgresPlace) -> None:
    def check(connection: Connection) -> None:
        assert connection.execute(text("SELECT to_regclass('item_n')")).scalar() is not None, "no index"

    for up, expected in (("CREATE INDEX CONCURRENTLY item_n ON item (n)", []), ("SELECT 1", [("VERIFY", "T332")])):
        found = work_of(Migration(id="0001_change", remote=Side(up=up, down="", check=check)), "remote")
        assert found is not None
        (told,) = PostgresRehearser(remote.url).rehearse([Part(order=Order(work=found, run="r", pair="p", log="l"))]).parts
        assert codes(told) == expected
        assert ("the check" in reasons(told)) != bool(expected)


def test_queries_of_later_migrations_are_measured_inside_and_leave_nothing(remote: PostgresPlace) -> None:
    query = Query(name="one", side="remote", sql="UPDATE item SET n = n * 2 RETURNING n")
    parts = [made("SELECT 1"), made("ALTER TABLE item ADD COLUMN x int", "ALTER TABLE item DROP COLUMN x", number=2)]
    parts[1] = Part(order=parts[1].order, queries=(query,), budget_seconds=5)
    before = remote.world()
    first, second = PostgresRehearser(remote.url).rehearse(parts).parts
    assert remote.world() == before
    assert ([each.name for each in second.before], [each.name for each in second.after]) == (["one"], ["one"])
    assert second.rows == ()
    assert first.faults == second.faults == []
