"""The dry run as a host application calls it: it finds what the real run would meet, tells what it would do, changes nothing.

What is looked at is the world: the hash of the local file, catalogue and rows of the remote, the log, the folders.
"""

from __future__ import annotations

import copy
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import evolve, frozen
from sqlalchemy import Connection
from targets import Crash, crash_at

from twinstep.engine.coordinator import Coordinator
from twinstep.engine.locks import coordinator_lock
from twinstep.engine.report import Report
from twinstep.migrations import phase3
from twinstep.migrations.catalogue import Fingerprint
from twinstep.migrations.definition import LocalOptions, Migration, Query, Side
from twinstep.migrations.memory_target import Contents, MemoryDatabase
from twinstep.migrations.postgres_catalogue import read_fingerprint as read_postgres
from twinstep.migrations.rehearsal.rehearsing import PartRehearsal
from twinstep.migrations.rehearsal.sqlite import SQLiteRehearser
from twinstep.stores.memory import MemoryEventStore

FIRST, SECOND = "0001_first", "0002_second"
AWAY = "postgresql://nobody@127.0.0.1:1/nowhere"
# What a reader of a WAL file leaves beside it, with nothing in it.
READERS = {"notes.db-shm", "notes.db-wal"}


@frozen(kw_only=True)
class World:
    """Everything: the bytes of the local file and of the log, the remote with its rows, and the files there are."""

    local: str
    log: str
    remote: Fingerprint
    rows: tuple[object, ...]
    files: tuple[str, ...]


class Pair:
    """A device's file and its remote, with a table of items on both sides."""

    def __init__(self, folder: Path, url: str, *, mode: str = "wal") -> None:
        self.folder, self.url, self.path = folder, url, folder / "notes.db"
        self.state = folder / "notes.db.twinstep"
        folder.mkdir(exist_ok=True)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as local:
            local.execute(f"PRAGMA journal_mode = {mode}")
            local.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
            local.execute("CREATE TABLE part (id INTEGER PRIMARY KEY, item INTEGER REFERENCES item (id))")
            local.execute("CREATE TABLE pending_ops (id INTEGER PRIMARY KEY)")
            local.executemany("INSERT INTO item VALUES (?, ?)", [(1, 1), (2, 2)])
            local.execute("PRAGMA user_version = 11")

    def coordinator(self, *migrations: Migration, **options: Any) -> Coordinator:
        given = {"local": self.path, "remote": self.url, "migrations": migrations, "retry_for_seconds": 0.4}
        return Coordinator(**{**given, **options})

    def dry_run(self, *migrations: Migration, to: str | None = None, skip_remote: bool = False, **options: Any) -> Report:
        """The dry run, which leaves everything as it was."""
        before = self.world()
        report = self.coordinator(*migrations, **options).migrate(dry_run=True, to=to, skip_remote=skip_remote)
        assert self.world() == before
        return report

    def world(self) -> World:
        with psycopg.connect(self.url, autocommit=True) as remote:
            tables = [name for (name,) in remote.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
            rows = [
                (name, *remote.execute(f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {name} t".encode()).fetchall())
                for name in sorted(tables)
            ]
            schemas = remote.execute("SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1").fetchall()
            seen = read_postgres(remote, ("public",))
        files = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.name not in READERS]
        log = self.state / "log.db"
        return World(
            local=hashlib.sha256(self.path.read_bytes()).hexdigest(),
            log=hashlib.sha256(log.read_bytes()).hexdigest() if log.exists() else "",
            remote=seen,
            rows=(*rows, *schemas),
            files=tuple(sorted(name for name in files if not name.endswith(("log.db-shm", "log.db-wal")))),
        )

    def local(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as local:
            local.execute(statement)


@pytest.fixture
def remote_database(remote_url: str) -> str:
    with psycopg.connect(remote_url, autocommit=True) as remote:
        remote.execute("CREATE TABLE item (id bigint PRIMARY KEY, n bigint NOT NULL)")
        remote.execute("CREATE TABLE part (id int, item bigint REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)")
        remote.execute("INSERT INTO item VALUES (1, 1), (2, 2)")
    return remote_url


@pytest.fixture
def pair(tmp_path: Path, remote_database: str) -> Pair:
    return Pair(tmp_path / "device", remote_database)


LOCAL = Side(
    up="ALTER TABLE item ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0; CREATE INDEX item_pinned ON item (pinned)",
    down="DROP INDEX item_pinned; ALTER TABLE item DROP COLUMN pinned",
)
REMOTE = Side(
    up="ALTER TABLE item ADD COLUMN pinned boolean NOT NULL DEFAULT false; UPDATE item SET n = n + 10;\n"
    "CREATE INDEX CONCURRENTLY item_pinned ON item (pinned)",
    down="UPDATE item SET n = n - 10; ALTER TABLE item DROP COLUMN pinned",
)
GOOD = Migration(id=FIRST, local=LOCAL, remote=REMOTE, local_options=LocalOptions(user_version_from=(11,), user_version_to=12))
NEXT = Migration(
    id=SECOND,
    local=Side(up="CREATE TABLE more (id INTEGER)", down="DROP TABLE more"),
    remote=Side(up="CREATE TABLE more (id bigint)", down="DROP TABLE more"),
)


def ended(report: Report) -> tuple[str, int, str | None]:
    return report.outcome, report.exit_code, None if report.error is None else report.error.code


def sides(report: Report, number: int = 0) -> dict[str, PartRehearsal]:
    assert report.rehearsal is not None
    return dict(report.rehearsal.migrations[number].sides)


# The reference migration


@pytest.mark.parametrize("mode", ["wal", pytest.param("delete", marks=pytest.mark.full)])
def test_a_dry_run_over_the_reference_migration_changes_nothing_and_predicts_the_real_run(
    mode: phase3.JournalMode, tmp_path: Path, remote_url: str
) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    phase3.build_local(folder / "notes.db", notes=300, journal_mode=mode)
    phase3.build_remote(remote_url, users=2, notes_per_user=50)
    pair = Pair.__new__(Pair)
    pair.folder, pair.url, pair.path, pair.state = folder, remote_url, folder / "notes.db", folder / "notes.db.twinstep"
    told = pair.dry_run(migrations=phase3.FOLDER)
    assert ended(told) == ("rehearsed", 0, None)
    assert not pair.state.exists()
    assert [run.state for run in told.runs] == ["rehearsed"]
    done = pair.coordinator(migrations=phase3.FOLDER).migrate()
    assert ended(done) == ("verified", 0, None)
    (predicted,), (real,) = told.runs, done.runs
    assert (predicted.local, predicted.remote) == (real.local, real.remote)
    assert {query.name: query.plan_changed for query in predicted.queries if query.side == "local"} == {
        query.name: query.plan_changed for query in real.queries if query.side == "local"
    }
    rows = sides(told)["local"].rows
    assert rows is not None
    with closing(sqlite3.connect(pair.path)) as local:
        assert {row.table: row.after for row in rows} == {
            row.table: local.execute(f"SELECT count(*) FROM {row.table}").fetchone()[0] for row in rows
        }


# What it tells


def test_both_sides_of_a_batch_are_rehearsed_in_order_and_the_log_gets_no_event(pair: Pair) -> None:
    assert ended(pair.coordinator(GOOD).migrate(skip_remote=True)) == ("verified", 0, None)
    told = pair.dry_run(GOOD, NEXT)
    assert ended(told) == ("rehearsed", 0, None)
    assert [(run.migration, run.state, run.backup) for run in told.runs] == [
        (FIRST, "rehearsed", None),
        (SECOND, "rehearsed", None),
    ]
    assert (set(sides(told)), set(sides(told, 1))) == ({"remote"}, {"local", "remote"})
    assert told.rehearsal is not None
    assert "the local side stands already" in told.rehearsal.migrations[0].notes[0]
    done = pair.coordinator(GOOD, NEXT).migrate()
    assert [run.remote for run in done.runs] == [run.remote for run in told.runs]
    assert [run.local for run in done.runs if run.local] == [run.local for run in told.runs if run.local]
    assert ended(pair.dry_run(GOOD, NEXT)) == ("up_to_date", 0, None)


def test_rows_locks_times_and_disk_are_measured(pair: Pair) -> None:
    told = pair.dry_run(GOOD)
    assert told.rehearsal is not None
    local, remote = sides(told)["local"], sides(told)["remote"]
    assert local.rows is not None
    assert remote.rows is not None
    assert {row.table: (row.before, row.after, row.changed) for row in local.rows}["item"] == (2, 2, True)
    assert [(row.table, row.inserted, row.updated, row.deleted) for row in remote.rows] == [("public.item", 0, 2, 0)]
    altered = remote.steps[0]
    assert altered.statement.startswith("ALTER TABLE item ADD COLUMN pinned")
    assert [(lock.table, lock.blocks) for lock in altered.locks] == [("public.item", "blocks reads and writes")]
    assert 0 < told.rehearsal.held_seconds["remote"] < 2
    assert told.rehearsal.held_seconds["local"] > 0
    (need,) = told.rehearsal.disk
    assert 2 * pair.path.stat().st_size < need.needed < need.free
    assert "sequences may have moved" in told.rehearsal.traces
    assert [step.effect for step in told.runs[0].steps] == ["VALIDATE", "BACK_UP", "APPLY_LOCAL", "APPLY_REMOTE", "VERIFY"]
    assert [each.reason[:5] for each in remote.omissions if "CONCURRENTLY" in each.what] == ["tried"]


def test_queries_are_measured_before_and_after(pair: Pair) -> None:
    queries = [
        Query(name="here", side="local", sql="SELECT n FROM item", uses_index="missing_index"),
        Query(name="there", side="remote", sql="SELECT n FROM item"),
    ]
    plain = evolve(GOOD, remote=Side(up="UPDATE item SET n = 5", down=""), queries=queries)
    told = pair.dry_run(plain)
    assert ended(told) == ("rehearsed", 0, None)
    assert {(query.name, query.side) for query in told.runs[0].queries} == {("here", "local"), ("there", "remote")}
    assert told.runs[0].findings == ("query here (local) does not use missing_index",)


def test_a_host_that_writes_and_reads_meanwhile_is_not_kept_from_it(pair: Pair) -> None:
    wrote: list[int] = []

    def meanwhile(connection: Connection) -> None:
        pair.local("INSERT INTO item VALUES (3, 3)")
        wrote.append(3)

    told = pair.coordinator(evolve(GOOD, local=Side(up=[meanwhile, LOCAL.up[0]], down=LOCAL.down))).migrate(dry_run=True)
    assert (ended(told), wrote) == (("rehearsed", 0, None), [3])
    rows = sides(told)["local"].rows
    assert rows is not None
    assert {row.table: row.after for row in rows}["item"] == 2


def test_what_a_host_has_not_checkpointed_yet_is_rehearsed_and_stays_where_it_is(pair: Pair) -> None:
    wal = pair.path.with_name("notes.db-wal")
    with closing(sqlite3.connect(pair.path, isolation_level=None)) as host:
        host.execute("INSERT INTO item VALUES (3, 3)")
        before = wal.read_bytes()
        assert len(before) > 0
        told = pair.dry_run(GOOD)
        assert wal.read_bytes() == before
        rows = sides(told)["local"].rows
    assert rows is not None
    assert {row.table: row.after for row in rows}["item"] == 3


def test_what_the_host_does_to_its_connections_is_done_to_the_copy_too(pair: Pair) -> None:
    def double(connection: sqlite3.Connection) -> None:
        connection.create_function("doubled", 1, lambda value: 2 * value)

    up = Side(up="UPDATE item SET n = doubled(n)", down="UPDATE item SET n = n / 2")
    assert ended(pair.dry_run(evolve(GOOD, local=up), on_local_connect=double)) == ("rehearsed", 0, None)
    assert ended(pair.dry_run(evolve(GOOD, local=up))) == ("rehearsed", 1, "T331")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_copy_keeps_the_journal_mode(mode: str, tmp_path: Path, remote_database: str) -> None:
    seen: set[str] = set()

    def look(connection: sqlite3.Connection) -> None:
        seen.add(connection.execute("PRAGMA journal_mode").fetchone()[0])

    pair = Pair(tmp_path / "device", remote_database, mode=mode)
    pair.dry_run(GOOD, on_local_connect=lambda connection: None)

    def up(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        look(driver)

    pair.dry_run(evolve(GOOD, local=Side(up=up, down="")))
    assert seen == {mode}


# What it finds

LONELY = "INSERT INTO part VALUES (1, 99)"
FAULTS: dict[str, tuple[Migration, str, str]] = {
    "a local statement": (evolve(GOOD, local=Side(up="ALTER TABLE missing ADD COLUMN x", down="")), "T331", "missing"),
    "a remote statement": (evolve(GOOD, remote=Side(up="ALTER TABLE missing ADD COLUMN x int", down="")), "T331", "missing"),
    "a local key": (evolve(GOOD, local=Side(up=LONELY, down="DELETE FROM part")), "T333", "part(item)"),
    "a remote key, at COMMIT": (evolve(GOOD, remote=Side(up=LONELY, down="DELETE FROM part")), "T331", "'COMMIT'"),
    "a lost row": (evolve(GOOD, local=Side(up="DELETE FROM item", down="")), "T334", "item had 2 rows"),
}
BAD_DOWNS: dict[str, tuple[Migration, str, str]] = {
    "a local down": (evolve(GOOD, local=evolve(LOCAL, down="DROP TABLE missing")), "T338", "missing"),
    "a remote down": (evolve(GOOD, remote=evolve(REMOTE, down="DROP TABLE missing")), "T338", "missing"),
    "a local down that leaves something": (evolve(GOOD, local=evolve(LOCAL, down="SELECT 1")), "T335", "item_pinned is new"),
    "a remote down that leaves something": (evolve(GOOD, remote=evolve(REMOTE, down="SELECT 1")), "T335", "item differs"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_with_the_code_that_the_real_run_then_has(name: str, pair: Pair) -> None:
    migration, code, part = FAULTS[name]
    told = pair.dry_run(migration)
    assert ended(told) == ("rehearsed", 1, code)
    assert told.error is not None
    assert part in told.error.message
    assert "neither database was changed" in told.error.message
    done = pair.coordinator(migration).migrate()
    assert ended(done) == ("rolled_back", 1, code)
    assert done.error is not None
    assert done.error.message.startswith(
        told.error.message.removesuffix(" This was a rehearsal: neither database was changed.")
    )


@pytest.mark.parametrize("name", BAD_DOWNS)
def test_a_bad_down_is_found(name: str, pair: Pair) -> None:
    migration, code, part = BAD_DOWNS[name]
    told = pair.dry_run(migration)
    assert ended(told) == ("rehearsed", 1, code)
    assert told.error is not None
    assert part in told.error.message
    assert "down steps" in told.error.next_step


def test_faults_of_both_sides_are_found_at_once_and_later_migrations_are_not_tried(pair: Pair) -> None:
    both = evolve(GOOD, local=FAULTS["a local statement"][0].local, remote=FAULTS["a remote statement"][0].remote)
    told = pair.dry_run(both, NEXT)
    assert told.rehearsal is not None
    assert [(fault.effect, fault.code) for fault in told.rehearsal.faults] == [
        ("APPLY_LOCAL", "T331"),
        ("APPLY_REMOTE", "T331"),
    ]
    assert [omission.what for omission in sides(told, 1)["local"].omissions] == ["everything"]


def test_too_little_space_is_a_fault(pair: Pair) -> None:
    from twinstep.migrations.rehearsal.rehearsing import Part
    from twinstep.migrations.work import Order, work_of

    growing = "CREATE TABLE big AS WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c LIMIT 20000) "
    work = work_of(
        evolve(GOOD, local=Side(up=f"{growing}SELECT x, hex(zeroblob(99)) AS y FROM c", down="DROP TABLE big")), "local"
    )
    assert work is not None
    part = Part(order=Order(work=work, run="run", pair="pair", log="log"))
    size = pair.path.stat().st_size

    def codes(free: int) -> list[str]:
        told = SQLiteRehearser(pair.path, state_folder=pair.state, free=lambda folder: free).rehearse([part])
        return [fault.error.code for each in told.parts for fault in each.faults]

    assert codes(10**9) == []
    assert codes(2 * size + (1 << 20) + 1000) == ["T352"]  # the backup fits, what the file grows by does not
    assert codes(size + (1 << 20) + 1000) == ["T231"]
    assert not pair.state.exists()


# What cannot begin is refused as the real run refuses it

BROKEN = Migration(id=FIRST, local=Side(up="COMMIT"))
WRONG_VERSION = evolve(GOOD, local_options=LocalOptions(user_version_from=(99,)))
PENDING = evolve(GOOD, local_options=LocalOptions(pending="SELECT count(*) FROM item"))
BAD_QUERY = evolve(GOOD, queries=[Query(name="wrong", side="local", sql="SELECT x FROM missing")])
BAD_REMOTE_QUERY = evolve(GOOD, queries=[Query(name="wrong", side="remote", sql="SELECT x FROM missing")])


@pytest.mark.parametrize(
    ("migration", "options"),
    [
        (BROKEN, {}),
        (WRONG_VERSION, {}),
        (PENDING, {}),
        (BAD_QUERY, {}),
        (BAD_REMOTE_QUERY, {}),
        (GOOD, {"remote": AWAY}),
        (GOOD, {"remote_role": "require"}),
        (GOOD, {"local": "missing.db"}),
    ],
    ids=["definition", "version", "pending", "query", "remote query", "remote away", "require", "no file"],
)
def test_what_cannot_begin_is_refused_as_the_real_run_refuses_it(migration: Migration, options: Any, pair: Pair) -> None:
    told = pair.dry_run(migration, **options)
    assert told.runs == ()
    assert not pair.state.exists()
    real = pair.coordinator(migration, **options).migrate()
    assert ended(told) == ended(real)
    assert told.error == real.error
    assert told.exit_code in (2, 5)


RIGHTS = """
import os, sys, tempfile
from pathlib import Path
from twinstep import Coordinator, Migration, Side
side = Side(up="CREATE TABLE more (id INTEGER)", down="DROP TABLE more")
migrations = [Migration(id="0001_first", local=side)]
with tempfile.TemporaryDirectory() as made:  # once with all rights: what is loaded on first use may be out of reach later
    Path(made, "notes.db").touch()
    Coordinator(local=Path(made, "notes.db"), migrations=migrations).migrate(dry_run=True)
    Coordinator(local=Path(made, "missing.db"), migrations=migrations).migrate(dry_run=True)
pair = Coordinator(local=sys.argv[1], migrations=migrations, state_dir=sys.argv[2])
if os.geteuid() == 0:  # whom no rights bind
    os.setgid(65534); os.setuid(65534)
report = pair.migrate(dry_run=True)
print(report.outcome, report.exit_code, report.error.code)
"""


@pytest.mark.parametrize(("mode", "code"), [(0o444, "T213"), (0o666, "T261")])
def test_missing_rights_are_refused_as_the_real_run_refuses_them(mode: int, code: str) -> None:
    with tempfile.TemporaryDirectory() as made:  # not tmp_path, which only its owner may enter
        folder = Path(made)
        folder.chmod(0o777)
        path = folder / "notes.db"
        with closing(sqlite3.connect(path)) as local:
            local.execute("CREATE TABLE item (id INTEGER)")
        path.chmod(mode)
        (folder / "closed").mkdir(mode=0o555)
        place = folder / ("closed/state" if code == "T261" else "state")
        python = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
        words = [sys.executable, "-c", RIGHTS, str(path), str(place)]
        done = subprocess.run(words, env=python, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["blocked", "5", code]


def test_a_run_in_flight_is_finished_first(pair: Pair) -> None:
    with pytest.raises(Crash):
        pair.coordinator(GOOD, probe=crash_at("APPLY_LOCAL:performed")).migrate()
    told = pair.dry_run(GOOD)
    assert ended(told) == ("blocked", 5, "T350")
    assert told.error is not None
    assert FIRST in told.error.message


def test_taking_the_ledgers_as_the_truth_cannot_be_rehearsed(pair: Pair) -> None:
    assert ended(pair.coordinator(GOOD).migrate(dry_run=True, adopt=True)) == ("failed", 2, "T351")


def test_a_conflict_blocks_a_dry_run_too(pair: Pair) -> None:
    pair.coordinator(GOOD).migrate()
    edited = evolve(GOOD, local=evolve(LOCAL, up="SELECT 1"))
    assert ended(pair.dry_run(edited)) == ("blocked", 5, "T255")


def test_a_coordinator_at_work_is_named_and_waited_for_if_asked_to(pair: Pair) -> None:
    with coordinator_lock(pair.state, doing="migrate", wait_seconds=0):
        told = pair.coordinator(GOOD).migrate(dry_run=True)
        assert ended(told) == ("locked", 4, "T401")
        assert told.error is not None
        assert str(os.getpid()) in told.error.message
    assert ended(pair.dry_run(GOOD)) == ("rehearsed", 0, None)


# Roles


def test_a_dry_run_that_skips_the_remote_touches_no_network(pair: Pair) -> None:
    for told in (pair.dry_run(GOOD, remote=AWAY, skip_remote=True), pair.dry_run(GOOD, remote=AWAY, remote_role="skip")):
        assert (ended(told), set(sides(told))) == (("rehearsed", 0, None), {"local"})
        assert told.runs[0].remote_skipped


def test_a_remote_that_another_device_has_changed_is_left_alone(pair: Pair, tmp_path: Path) -> None:
    other = Pair(tmp_path / "other", pair.url)
    other.coordinator(GOOD).migrate()
    for role in ("apply", "require"):
        told = pair.dry_run(GOOD, remote_role=role)
        assert (ended(told), set(sides(told))) == (("rehearsed", 0, None), {"local"})
        assert told.rehearsal is not None
        assert "the remote side stands already" in told.rehearsal.migrations[0].notes[0]


def test_an_operator_without_a_local_file_rehearses_the_remote_alone(pair: Pair, tmp_path: Path) -> None:
    told = pair.dry_run(GOOD, local=None, state_dir=tmp_path / "operator")
    assert (ended(told), set(sides(told))) == (("rehearsed", 0, None), {"remote"})
    assert not (tmp_path / "operator").exists()


# Killed

KILLED = """
import os, signal, sys
from pathlib import Path
from twinstep import Coordinator, Migration, Side

def kill(crossing):
    if crossing == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

side = Side(up="CREATE TABLE more (id INTEGER)", down="DROP TABLE more")
pair = Coordinator(local=sys.argv[1], migrations=[Migration(id="0001_first", local=side)], probe=kill)
pair.migrate(dry_run=True)
"""


@pytest.mark.parametrize("crossing", ["rehearsal:copied", "backup:renamed", "local:group:after-commit"])
@pytest.mark.parametrize("then", ["dry run", "migrate"])
def test_what_a_killed_rehearsal_leaves_is_removed_by_the_next_call(crossing: str, then: str, pair: Pair) -> None:
    before = pair.world()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(pair.path), crossing], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list((pair.state / "rehearsals").glob("*/local.db"))
    assert evolve(pair.world(), files=()) == evolve(before, files=())
    if then == "dry run":
        assert ended(pair.coordinator(GOOD).migrate(dry_run=True)) == ("rehearsed", 0, None)
        assert pair.world() == before
    else:
        assert ended(pair.coordinator(GOOD).migrate()) == ("verified", 0, None)
        assert not (pair.state / "rehearsals").exists()


def test_a_rehearsal_that_lives_is_not_taken_for_a_dead_one(pair: Pair) -> None:
    seen: list[tuple[str, int, str | None]] = []

    def another(connection: Connection) -> None:
        seen.append(ended(pair.coordinator(NEXT).migrate(dry_run=True)))

    told = pair.coordinator(evolve(GOOD, local=Side(up=[another, LOCAL.up[0]], down=LOCAL.down))).migrate(dry_run=True)
    assert (ended(told), seen) == (("rehearsed", 0, None), [("rehearsed", 0, None)])
    assert not pair.state.exists()


# In memory, the same


def _adds(amount: int) -> Callable[..., object]:
    def add(contents: Contents) -> None:
        contents.tables["item"] = {key: int(str(value)) + amount for key, value in contents.tables["item"].items()}

    return add


def _refuses(contents: Contents) -> None:
    raise ValueError("refused on purpose")


CASES: dict[str, tuple[Side, Side, int]] = {
    "good": (Side(up=_adds(1), down=_adds(-1)), Side(up=[_adds(1), "CREATE INDEX CONCURRENTLY i ON item"], down=_adds(-1)), 0),
    "local": (Side(up=_refuses, down=_adds(-1)), Side(up=_adds(1), down=_adds(-1)), 1),
    "remote": (Side(up=_adds(1), down=_adds(-1)), Side(up=_refuses, down=_adds(-1)), 1),
    "check": (Side(up=_adds(1), down=_adds(-1), check=_refuses), Side(up=_adds(1), down=_adds(-1)), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_a_dry_run_in_memory_agrees_with_the_real_run(name: str, tmp_path: Path) -> None:
    local_side, remote_side, code = CASES[name]
    local, remote, log = MemoryDatabase(), MemoryDatabase(), MemoryEventStore()
    for database in (local, remote):
        database.contents.tables["item"] = {"a": 1}
    migration = Migration(id=FIRST, local=local_side, remote=remote_side)
    given = Coordinator(local=local, remote=remote, migrations=[migration], log=log, state_dir=tmp_path / "state")
    before = copy.deepcopy((local.contents, remote.contents))
    told = given.migrate(dry_run=True)
    assert (local.contents, remote.contents) == before
    assert list(log.read_all()) == []
    assert not (tmp_path / "state").exists()
    done = given.migrate()
    assert told.exit_code == done.exit_code == code
    assert (told.error and told.error.code) == (done.error and done.error.code)
    if not code:
        assert (told.runs[0].local, told.runs[0].remote) == (done.runs[0].local, done.runs[0].remote)
