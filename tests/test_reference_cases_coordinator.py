"""What went wrong between the two sides in the reference application's own attempt, case by case, on real databases.

Each test asserts a property of the databases, or of what is said of them; and sees the same assertion fail on the
application's own way, which really runs on a pair of its own:

=== ==============================================================================================
C1  asks for a checkpoint and writes a row about a backup; restores what that row stands for
C2  drops the indexes, one that was there before too, and calls it rolled back
C3  runs a constant query and reports constant counts
C4  compares the program's own version with itself
C5  checks afterwards what was true before
C6  contacts the remote, then asks whether it is to be skipped
C7  changes the local side, is killed, and takes its version for the whole
C8  finds a fault after both sides, and undoes the local one without a word
C9  writes its history, one row a version, when all went well
C10 marks old backups as deleted, and reports how many it looked at
C11 counts pending operations, then changes the file
C12 makes a table for the state of both sides and never writes to it
=== ==============================================================================================
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import evolve
from naive_steps import local, remote
from small_pair import AWAY, ID, LOCAL_UP, PIN, REMOTE_UP, SmallPair

from twinstep import Query, Side

TO_12 = "PRAGMA user_version = 12"


@pytest.fixture
def pair(tmp_path: Path, remote_url: str) -> SmallPair:
    return SmallPair.made(tmp_path / "ours", remote_url)


@pytest.fixture
def other(tmp_path: Path, postgres: Any) -> Any:
    """A second pair, with a remote of its own, for the application's way."""
    url = postgres.create_database(f"naive_{tmp_path.name[:30].lower()}_{os.getpid()}")
    yield SmallPair.made(tmp_path / "naive", url)
    postgres.drop_database(url.partition("?")[0].rpartition("/")[2])


def change_local(pair: SmallPair) -> None:
    assert local(pair.path, (*LOCAL_UP, TO_12)) is None


def change_remote(pair: SmallPair) -> None:
    assert remote(pair.url, REMOTE_UP) is None


def refuse(connection: object) -> None:
    raise ValueError("the rows are wrong")


def test_c1_a_backup_can_be_put_back(pair: SmallPair, other: SmallPair) -> None:
    def holds(pair: SmallPair, restore: Callable[[], object]) -> None:
        pair.local("DELETE FROM item")
        restore()
        assert pair.local("SELECT id, n FROM item") == [(1, 1), (2, 2)]

    coordinator = pair.coordinator(remote=None)
    made = coordinator.create_backup().backups[0].id
    assert coordinator.verify_backup(made).outcome == "verified"
    holds(pair, lambda: coordinator.restore_backup(made, discard_local_writes=True))
    noted = (
        "PRAGMA wal_checkpoint",
        "CREATE TABLE migration_backups (name TEXT)",
        "INSERT INTO migration_backups VALUES ('b.db')",
    )
    assert local(other.path, noted) is None

    def naive() -> None:
        ((name,),) = other.local("SELECT name FROM migration_backups")
        if (other.path.parent / name).exists():
            (other.path.parent / name).replace(other.path)

    with pytest.raises(AssertionError):
        holds(other, naive)


def test_c2_going_back_leaves_everything_as_it_was(pair: SmallPair, other: SmallPair) -> None:
    for each in (pair, other):
        each.remote("CREATE INDEX item_n ON item (n)")
    index = "CREATE INDEX CONCURRENTLY IF NOT EXISTS item_n ON item (n)"
    before = pair.world()

    def holds(pair: SmallPair) -> None:
        assert pair.world() == before

    assert PIN.remote is not None
    migration = evolve(PIN, remote=evolve(PIN.remote, up=f"{'; '.join(REMOTE_UP)}; {index}"))
    assert pair.coordinator(migration).migrate().outcome == "verified"
    assert pair.world() != before
    assert pair.coordinator(migration).roll_back().outcome == "rolled_back"
    holds(pair)
    change_local(other)
    change_remote(other)
    assert local(other.path, ["DROP INDEX IF EXISTS item_n"]) is None
    assert remote(other.url, ["DROP INDEX IF EXISTS item_n"]) is None
    with pytest.raises(AssertionError):
        holds(other)


def test_c3_a_dry_run_runs_the_migration_and_counts(pair: SmallPair) -> None:
    good = evolve(PIN, local=Side(up="CREATE TABLE a (x); CREATE INDEX a_x ON a (x)", down="DROP TABLE a"))
    bad = evolve(PIN, remote=Side(up="INSERT INTO missing VALUES (1)", down="SELECT 1"))
    before = pair.world()

    def holds(dry_run: Callable[[Any], tuple[bool, object]]) -> None:
        assert dry_run(good) == (True, 1)
        assert not dry_run(bad)[0]
        assert pair.world() == before

    def ours(migration: Any) -> tuple[bool, object]:
        report = pair.coordinator(migration).migrate(dry_run=True)
        return report.exit_code == 0, report.runs[0].local.get("indexes_added")

    def naive(migration: Any) -> tuple[bool, object]:
        return pair.local("SELECT 1") == [(1,)], 8

    holds(ours)
    with pytest.raises(AssertionError):
        holds(naive)


def test_c4_the_version_is_the_file_s_own(pair: SmallPair) -> None:
    pair.local("PRAGMA user_version = 7")

    def holds(may_run: Callable[[], bool]) -> None:
        assert not may_run()
        assert pair.user_version() == 7

    holds(lambda: pair.coordinator().migrate().exit_code == 0)
    program = 12
    with pytest.raises(AssertionError):
        holds(lambda: program >= 12)


def test_c5_the_after_check_can_fail(pair: SmallPair, other: SmallPair) -> None:
    breaks = "ALTER TABLE item RENAME COLUMN n TO m"

    def holds(succeeds: Callable[[], bool], pair: SmallPair) -> None:
        assert not succeeds()
        assert pair.local("SELECT n FROM item") == [(1,), (2,)]

    migration = evolve(
        PIN,
        local=Side(up=breaks, down="ALTER TABLE item RENAME COLUMN m TO n"),
        queries=(Query(name="the list", side="local", sql="SELECT n FROM item"),),
    )
    holds(lambda: pair.coordinator(migration).migrate().exit_code == 0, pair)

    def naive() -> bool:
        check = "SELECT count(*) >= 0 FROM item"
        assert other.local(check) == [(1,)]  # already, before
        assert local(other.path, [breaks]) is None
        return other.local(check) == [(1,)]

    with pytest.raises(AssertionError):
        holds(naive, other)


def test_c6_the_local_part_runs_offline(pair: SmallPair, other: SmallPair) -> None:
    def holds(pair: SmallPair) -> None:
        assert pair.user_version() == 12
        assert pair.local("SELECT n FROM item") == [(11,), (12,)]

    assert pair.coordinator(remote=AWAY).migrate(skip_remote=True).outcome == "verified"
    holds(pair)

    def naive() -> None:
        with psycopg.connect(AWAY):
            change_local(other)

    with pytest.raises(psycopg.OperationalError):
        naive()
    with pytest.raises(AssertionError):
        holds(other)


KILLED = """
import os, signal, sys
from pathlib import Path
from naive_steps import local
from small_pair import LOCAL_UP, SmallPair
pair = SmallPair(path=Path(sys.argv[2]), url=sys.argv[3])
def die(crossing):
    if crossing == "APPLY_REMOTE:before":
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "ours":
    pair.coordinator(probe=die).migrate()
else:
    local(pair.path, (*LOCAL_UP, "PRAGMA user_version = 12"))
    die("APPLY_REMOTE:before")
"""


def kill(who: str, pair: SmallPair) -> None:
    """Begin in a process of its own, which is killed between the two sides."""
    python = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *(each for each in sys.path if each)])}
    words = [sys.executable, "-c", KILLED, who, str(pair.path), pair.url]
    assert subprocess.run(words, env=python, check=False, timeout=60).returncode == -signal.SIGKILL
    assert pair.user_version() == 12


def test_c7_what_a_crash_left_undone_is_done_at_the_next_start(pair: SmallPair, other: SmallPair) -> None:
    def holds(pair: SmallPair) -> None:
        assert pair.remote("SELECT n FROM item ORDER BY id") == [(101,), (102,)]
        assert pair.local("SELECT n FROM item") == [(11,), (12,)]

    kill("ours", pair)
    assert pair.coordinator().migrate().exit_code == 0
    holds(pair)
    kill("naive", other)
    if other.user_version() < 12:  # else "already applied"
        change_remote(other)
    with pytest.raises(AssertionError):
        holds(other)


def test_c8_a_failing_after_check_takes_both_sides_back_and_is_recorded(pair: SmallPair, other: SmallPair) -> None:
    before = pair.world()

    def holds(pair: SmallPair, recorded: object) -> None:
        assert pair.world() == before
        assert "the rows are wrong" in str(recorded)

    assert PIN.remote is not None
    coordinator = pair.coordinator(evolve(PIN, remote=evolve(PIN.remote, check=refuse)))
    assert coordinator.migrate().outcome == "rolled_back"
    holds(pair, coordinator.history()[-1].error)
    change_local(other)
    change_remote(other)
    back = ("UPDATE item SET n = n - 10", "ALTER TABLE item DROP COLUMN pinned", "PRAGMA user_version = 11")
    assert local(other.path, back) is None
    with pytest.raises(AssertionError, match="101"):
        holds(other, None)


def test_c9_the_history_keeps_failures_times_and_errors(pair: SmallPair, other: SmallPair) -> None:
    def holds(history: list[tuple[str, bool, float, bool]]) -> None:
        assert [(state, failed, ended) for state, failed, _, ended in history] == [
            ("rolled_back", True, True),
            ("verified", False, True),
        ]
        assert all(seconds > 0 for _, _, seconds, _ in history)

    bad = evolve(PIN, remote=Side(up="SELECT 1 / 0", down="SELECT 1"))
    assert [pair.coordinator(each).migrate().exit_code for each in (bad, PIN)] == [1, 0]
    runs = pair.coordinator().history()
    holds([(run.state, run.error is not None, run.seconds, run.ended_at is not None) for run in runs])

    other.local(
        "CREATE TABLE history (version INTEGER PRIMARY KEY, state TEXT, error TEXT, seconds REAL NOT NULL DEFAULT 0, at TEXT)"
    )
    for statements in (["SELECT 1 / 0"], REMOTE_UP):
        if remote(other.url, statements) is None:
            other.local("INSERT OR REPLACE INTO history (version, state) VALUES (12, 'verified')")
    with pytest.raises(AssertionError):
        holds(other.local("SELECT state, error IS NOT NULL, seconds, at IS NOT NULL FROM history"))


def test_c10_old_backups_are_deleted_and_counted(pair: SmallPair, tmp_path: Path) -> None:
    def holds(folder: Path, prune: Callable[[], int]) -> None:
        def files() -> set[Path]:
            return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"}

        before = files()
        number = prune()
        assert number == len(before - files()) > 0

    now = datetime.now(UTC)
    for days in (0, 1):
        pair.coordinator(clock=lambda: now + timedelta(days=days)).create_backup()  # noqa: B023
    later = pair.coordinator(clock=lambda: now + timedelta(days=31))
    holds(pair.path.parent / "app.db.twinstep" / "backups", lambda: len(later.prune_backups().backups))

    old = tmp_path / "old"
    old.mkdir()
    (old / "b.db").write_bytes(b"backup")
    assert local(pair.path, ["CREATE TABLE migration_backups (name TEXT, status TEXT)"]) is None

    def naive() -> int:
        pair.local("INSERT INTO migration_backups VALUES ('b.db', 'created')")
        pair.local("UPDATE migration_backups SET status = 'deleted'")
        return len(pair.local("SELECT * FROM migration_backups"))

    with pytest.raises(AssertionError):
        holds(old, naive)


def test_c11_what_comes_in_after_the_count_still_counts(pair: SmallPair, other: SmallPair) -> None:
    def holds(pair: SmallPair) -> None:
        pending = pair.local("SELECT count(*) FROM pending") != [(0,)]
        assert not (pending and pair.user_version() == 12), "the file was changed under a pending operation"

    refused: list[str] = []

    def comes_in(crossing: str) -> None:
        if crossing in ("VALIDATE:performed", "BACK_UP:performed", "APPLY_LOCAL:before"):
            try:
                pair.local("INSERT INTO pending (id) VALUES (NULL)")
            except sqlite3.OperationalError:
                refused.append(crossing)

    migration = evolve(PIN, local_options=evolve(PIN.local_options, pending="SELECT count(*) FROM pending"))
    pair.local("INSERT INTO pending VALUES (1)")
    assert pair.coordinator(migration).migrate().exit_code == 5
    holds(pair)
    pair.local("DELETE FROM pending")
    assert pair.coordinator(migration, probe=comes_in).migrate().outcome == "verified"
    holds(pair)
    assert refused == ["VALIDATE:performed", "BACK_UP:performed", "APPLY_LOCAL:before"]  # others are kept out since the count

    assert other.local("SELECT count(*) FROM pending") == [(0,)]
    other.local("INSERT INTO pending VALUES (1)")
    change_local(other)
    with pytest.raises(AssertionError, match="pending"):
        holds(other)


def test_c11_two_instances_do_not_interleave(pair: SmallPair, other: SmallPair) -> None:
    second: list[str] = []

    def holds(pair: SmallPair) -> None:
        assert pair.local("SELECT n FROM item") == [(11,), (12,)]
        assert pair.remote("SELECT n FROM item ORDER BY id") == [(101,), (102,)]

    def at_the_same_time(crossing: str) -> None:
        if crossing == "APPLY_REMOTE:before":
            second.append(pair.coordinator().migrate().outcome)

    assert pair.coordinator(probe=at_the_same_time).migrate().outcome == "verified"
    assert second == ["locked"]
    holds(pair)
    both_see_11 = [other.user_version() == 11 for _ in range(2)]
    for due in both_see_11:
        if due:
            local(other.path, LOCAL_UP[1:])
            remote(other.url, REMOTE_UP[1:])
    with pytest.raises(AssertionError):
        holds(other)


def test_c12_the_state_of_both_sides_is_written_and_a_difference_is_named(pair: SmallPair, other: SmallPair) -> None:
    def holds(rows: list[tuple[str, str, str]], conflicts: set[str]) -> None:
        assert rows == [(ID, "completed", "skipped")]
        assert conflicts == {"local_ahead"}

    assert pair.coordinator().migrate(skip_remote=True).outcome == "verified"
    coordinator = pair.coordinator()
    rows = [(row.migration_version, row.local_status, row.remote_status) for row in coordinator.sync_status()]
    holds(rows, {conflict.kind for conflict in coordinator.status().conflicts})
    other.local("CREATE TABLE migration_sync_status (version TEXT, local TEXT, remote TEXT)")
    change_local(other)
    with pytest.raises(AssertionError):
        holds(other.local("SELECT * FROM migration_sync_status"), set())
