"""Queries measured before and after: in which order, what is called slower, and what must not be.

What is decided is decided on made-up times here, so that no test depends on how fast a machine is; plans, indexes and taking
back are looked at on real databases.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import connect

from twinstep import Coordinator, Migration, Query, Side
from twinstep.engine.cli.figures import bar
from twinstep.engine.slowdowns import agreed, query_findings, seen_once
from twinstep.events.errors import Refused
from twinstep.events.types import Json
from twinstep.migrations import sqlite_measuring
from twinstep.migrations.measuring import ROUNDS, Round, measured, names_index
from twinstep.migrations.memory_target import MemoryDatabase, MemoryTarget
from twinstep.migrations.target import Timing

ONE = Query(name="one", side="local", sql="SELECT 1")
TWO = Query(name="two", side="local", sql="SELECT 2")


def test_queries_are_run_in_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def quick(query: Query) -> float:
        order.append(query.name)
        return 0.5 if len(order) <= 2 else 0.001

    assert measured([ONE, TWO], quick) == {"one": [0.001] * ROUNDS, "two": [0.001] * ROUNDS}
    assert order == ["one", "two"] * (ROUNDS + 1)


def test_a_slow_query_is_run_as_long_as_its_share_lasts_and_one_that_cannot_be_run_is_left_out() -> None:
    def once(query: Query) -> float | None:
        return 0.4 if query is ONE else None

    assert measured([ONE, TWO], once) == {"one": [0.4, 0.4, 0.4]}


@pytest.mark.parametrize(
    ("plan", "index", "uses"),
    [
        ("SEARCH notes USING INDEX idx_a (id=?)", "idx_a", True),
        ("SEARCH notes USING COVERING INDEX idx_a2 (id=?)", "idx_a", False),
        ('Index Scan using "Idx a" on notes', "Idx a", True),
        ("Index Scan using idx_a on notes", "idx_a", True),
        ("Bitmap Index Scan on my_idx_a", "idx_a", False),
        ("  ->  Bitmap Index Scan on idx_a", "idx_a", True),
        ("SCAN idx_a", "idx_a", False),
        ("SEARCH notes USING INDEX IDX_A (id=?)", "idx_a", True),
        ("Seq Scan on notes\n  Filter: (kind = 'idx_a'::text)", "idx_a", False),
    ],
)
def test_an_index_is_found_in_a_plan_by_its_whole_name(plan: str, index: str, uses: bool) -> None:
    assert names_index(plan, index) is uses


def round_(before: float | None, after: float) -> Round:
    return Round(before_ms=before, after_ms=after)


def test_three_rounds_must_agree() -> None:
    slower = round_(10, 20)
    assert agreed(10, [slower, slower, slower])
    assert not agreed(10, [slower, slower])
    assert not agreed(10, [slower, round_(19, 20), slower])
    assert not agreed(1, [round_(1, 4), slower, slower]), "under 5 ms nobody waits for"
    assert agreed(10, [round_(None, 13)] * 3)
    assert not agreed(10, [round_(None, 13), round_(None, 11), round_(None, 13)])


class Again:
    """A target that measures again as it is told to."""

    measures = True

    def __init__(self, *rounds: Round) -> None:
        self.rounds = rounds
        self.asked: list[str] = []

    def measure_again(self, queries: Sequence[Query], backup: Mapping[str, Json] | None) -> Mapping[str, tuple[Round, ...]]:
        self.asked = [query.name for query in queries]
        return {query.name: self.rounds for query in queries}


class Unmeasured(Again):
    """A target that runs no queries."""

    measures = False


def findings(query: Query, before: tuple[float, str] | None, after: tuple[float, str] | None, again: Again) -> list[str]:
    was = None if before is None else {query.name: {"milliseconds": before[0], "plan": before[1]}}
    now = () if after is None else (Timing(name=query.name, side="local", milliseconds=after[0], plan=after[1]),)
    return query_findings(
        [query], was, now, indexes={"there"}, target=again, backup=None, migration="0001_m"  # type: ignore[arg-type]
    )  # fmt: skip


def test_what_is_slower_once_is_measured_again_and_told_only_if_that_agrees() -> None:
    again = Again(*[round_(10, 20)] * 3)
    (found,) = findings(ONE, (10, "a"), (20, "b"), again)
    assert found.startswith("query one (local) took 10.00 ms, takes 20.00 ms with another plan; three more measurements agree")
    assert findings(ONE, (10, "a"), (20, "b"), Again(round_(10, 20), round_(10, 11), round_(10, 20))) == []
    (found,) = findings(ONE, (10, "a"), (20, "b"), Again(round_(10, 20)))
    assert found == "query one (local) seemed slower, but could not be measured again"
    for before, after in (((10, "a"), (20, "a")), ((10, "a"), (11.9, "b")), ((1, "a"), (4.9, "b")), (None, (20, "b"))):
        again = Again()
        assert findings(ONE, before, after, again) == []
        assert again.asked == []


def test_a_query_that_must_not_become_slower_refuses() -> None:
    must = Query(name="one", side="local", sql="SELECT 1", fail_on_slowdown=True)
    with pytest.raises(Refused) as caught:
        findings(must, (10, "a"), (20, "b"), Again(*[round_(None, 20)] * 3))
    assert caught.value.code == "T372"
    assert findings(must, (10, "a"), (20, "b"), Again(*[round_(20, 20)] * 3)) == []


def test_an_index_that_is_not_used_is_told_of_and_so_is_a_query_that_was_not_measured() -> None:
    query = Query(name="one", side="local", sql="SELECT 1", uses_index="there")
    assert findings(query, None, (1, "SEARCH t USING INDEX there (a=?)"), Again()) == []
    assert findings(query, None, (1, "SCAN"), Again()) == ["query one (local) does not use there"]
    gone = Query(name="one", side="local", sql="SELECT 1", uses_index="gone")
    assert findings(gone, None, (1, "SCAN"), Again()) == ["query one (local) does not use gone, which does not exist"]
    assert findings(ONE, (1, "a"), None, Again()) == [
        "query one (local) could not be measured: it took too long, or others were in its way"
    ]
    was_not = query_findings(
        [ONE], {}, (Timing(name="one", side="local", milliseconds=1, plan="a"),), indexes=(), target=Again(), backup=None,
        migration="0001_m",  # type: ignore[arg-type]
    )  # fmt: skip
    assert was_not == ["query one (local) could not be measured before: it took too long, or others were in its way"]
    timing = Timing(name="one", side="local", milliseconds=10, plan="a")
    slow = Timing(name="one", side="local", milliseconds=20, plan="b")
    (said,) = seen_once([ONE], [timing], [slow])
    assert "the real run measures again" in said


def test_a_bar_is_as_long_as_the_time_after_beside_the_time_before() -> None:
    assert [bar(10, after, "#-") for after in (0.01, 5, 10, 10.4, 11)] == [
        "#---------", "#####-----", "##########", "##########", "#########+",
    ]  # fmt: skip
    assert bar(0, 1, "#-") == ""


# ---- on real databases

FILL = (
    "INSERT INTO notes SELECT value, 'title ' || (value * 7919 % 300000), hex(randomblob(60)) FROM"
    " (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 60000) SELECT value FROM n)"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
        connection.execute(FILL)
        connection.execute("CREATE INDEX notes_title ON notes (title)")
        connection.commit()
    return path


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan is slow on every machine: the time of a run is what its plan makes it, not what the clock says."""
    real = sqlite_measuring._once

    def once(connection: sqlite3.Connection, query: Query) -> float | None:
        if real(connection, query) is None:
            return None
        plan = sqlite_measuring._plan(connection, query) or ""
        return 0.02 if "SCAN" in plan or "AUTOMATIC" in plan else 0.001

    monkeypatch.setattr(sqlite_measuring, "_once", once)


def migration(fail: bool) -> Migration:
    query = Query(
        name="by title",
        side="local",
        sql="SELECT id FROM notes WHERE title = 'title 7919'",
        uses_index="notes_title",
        fail_on_slowdown=fail,
    )
    side = Side(up="DROP INDEX notes_title", down="CREATE INDEX notes_title ON notes (title)")
    return Migration(id="0001_worse", local=side, queries=(query,))


@pytest.mark.usefixtures("slow")
def test_a_slowdown_that_must_not_be_takes_the_migration_back(file: Path) -> None:
    report = Coordinator(local=file, migrations=[migration(True)]).migrate()
    assert report.error is not None
    assert (report.outcome, report.exit_code, report.error.code) == ("rolled_back", 1, "T372")
    assert "Three more measurements agree: 1.00 to 20.00 ms, 1.00 to 20.00 ms, 1.00 to 20.00 ms" in report.error.message
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'notes_title'").fetchall() == [(1,)]


@pytest.mark.usefixtures("slow")
def test_the_same_slowdown_is_a_finding_otherwise(file: Path) -> None:
    report = Coordinator(local=file, migrations=[migration(False)]).migrate()
    assert report.outcome == "verified"
    (run,) = report.runs
    assert [finding.partition(";")[0] for finding in run.findings] == [
        "query by title (local) does not use notes_title, which does not exist",
        "query by title (local) took 1.00 ms, takes 20.00 ms with another plan",
    ]
    (time,) = run.queries
    assert (time.before_ms, time.after_ms, time.plan_changed) == (1.0, 20.0, True)


def test_the_state_before_is_measured_on_the_backup_and_changed_by_nothing(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(file.read_bytes())
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("DROP INDEX notes_title")
        query = Query(name="w", side="local", sql="SELECT id FROM notes WHERE title = 'title 7919'")
        rounds = sqlite_measuring.measure_again(connection, [query], copy, on_connect=None)
    assert [each.before_ms is not None and each.after_ms > 0 for each in rounds["w"]] == [True] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.db", "copy.db"]


def test_where_the_backup_is_gone_the_state_now_is_measured_alone(file: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        query = Query(name="w", side="local", sql="SELECT id FROM notes WHERE title = 'title 7919'")
        for gone in (None, tmp_path / "gone.db"):
            rounds = sqlite_measuring.measure_again(connection, [query], gone, on_connect=None)
            assert [each.before_ms for each in rounds["w"]] == [None] * 3


def test_a_first_run_in_a_cold_cache_uses_up_nobodys_share() -> None:
    times = iter([3.0, *[0.1] * ROUNDS])
    assert measured([ONE], lambda _: next(times)) == {"one": [0.1] * ROUNDS}
    assert measured([ONE], lambda _: 6.0) == {"one": [6.0]}, "nobody waits for that twice"


def test_a_run_in_memory_says_nothing_of_queries_that_it_cannot_run() -> None:
    assert not MemoryTarget("local", MemoryDatabase()).measures
    assert findings(ONE, None, None, Unmeasured()) == []


def test_a_query_that_writes_is_taken_back_each_time(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        query = Query(name="w", side="local", sql="DELETE FROM notes WHERE id < 5")
        (timing,) = sqlite_measuring.measure(connection, [query])
        assert timing.repetitions == ROUNDS
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (60000,)


def test_a_remote_slowdown_is_measured_again_three_times(file: Path, remote_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from twinstep.migrations import postgres_measuring

    with connect(remote_url) as remote:
        remote.execute("CREATE TABLE notes AS SELECT g AS id, 'title ' || g AS title FROM generate_series(1, 20000) g")
        remote.execute("CREATE INDEX notes_title ON notes (title)")
        remote.commit()
        remote.autocommit = True
        remote.execute("ANALYZE notes")
    real = postgres_measuring._once

    def once(query: Query, ask: postgres_measuring.Ask) -> float | None:
        real(query, ask)
        plan = str(ask(query, lambda each: postgres_measuring._plan(query, each)))
        return 0.02 if "Seq Scan" in plan else 0.001

    monkeypatch.setattr(postgres_measuring, "_once", once)
    query = Query(name="by title", side="remote", sql="SELECT id FROM notes WHERE title = 'title 9'", fail_on_slowdown=True)
    worse = Migration(
        id="0001_worse",
        remote=Side(up="DROP INDEX notes_title", down="CREATE INDEX notes_title ON notes (title)"),
        queries=(query,),
    )
    report = Coordinator(remote=remote_url, migrations=[worse], state_dir=file.parent / "state").migrate()
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("rolled_back", "T372")
    assert "20.00 ms, 20.00 ms, 20.00 ms" in report.error.message
    with connect(remote_url) as remote:
        assert remote.execute("SELECT count(*) FROM pg_indexes WHERE indexname = 'notes_title'").fetchone() == (1,)
