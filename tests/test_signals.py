"""Ctrl-C, SIGTERM and SIGHUP: at every crossing, from outside at any moment, and in the middle of what takes long.

Each time: exit code 130, a way to go on that fits what is in flight, nothing left running or lying about, and `resume` ends it.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import waiting
from attrs import frozen
from command_line import Answer
from interrupted_runs import LIMIT_SECONDS, QUARANTINE_FILES, QUARANTINE_SCHEMA, Interrupted

from twinstep import Coordinator, Migration, Side
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.engine.locks import coordinator_lock
from twinstep.stores import backups
from twinstep.stores.backups import BackupFolder
from twinstep.stores.copies import PAGES_A_STEP
from twinstep.stores.remote_lock import LOCK_KEY
from twinstep.stores.sqlite_events import SQLiteEventStore

NEVER = 1_000_000
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Died(BaseException):
    """Stands for the death of the process."""


def nothing(place: Interrupted) -> None:
    """The databases are as they were made."""


def migrated(place: Interrupted) -> None:
    assert place.coordinator().migrate().outcome == "verified"


def half_way(place: Interrupted) -> None:
    """A run that died once the local side was changed."""

    def probe(crossing: str) -> None:
        if crossing == "remote:open:after-commit":
            raise Died

    with pytest.raises(Died):
        place.coordinator(probe).migrate()


def with_parents(place: Interrupted) -> None:
    migrated(place)
    with closing(sqlite3.connect(place.local)) as local, local:
        local.execute("INSERT INTO parent VALUES (7), (8)")


@frozen(kw_only=True)
class Kind:
    """A command that is interrupted: what was before it, and what may be after it and after `resume`."""

    words: tuple[str, ...]
    before: Callable[[Interrupted], None] = nothing
    files: dict[str, str] | None = None
    schema: str | None = None

    def made(self, folder: Path, url: str) -> Interrupted:
        options: dict[str, Any] = {} if self.schema is None else {"files": self.files, "schema": self.schema}
        place = Interrupted.made(folder, url, **options)
        self.before(place)
        return place

    def arguments(self, place: Interrupted) -> tuple[str, ...]:
        """The words, with the id of the first backup where one is wanted."""
        return tuple(place.coordinator().backups()[0].backup_id if word == "BACKUP" else word for word in self.words)


KINDS = {
    "migrate": Kind(words=("migrate",)),
    "rollback": Kind(words=("rollback",), before=migrated),
    "resume": Kind(words=("resume",), before=half_way),
    "dry_run": Kind(words=("migrate", "--dry-run")),
    "backup_create": Kind(words=("backup", "create")),
    "backup_restore": Kind(words=("backup", "restore", "BACKUP"), before=migrated),
    "quarantine_restore": Kind(
        words=("quarantine", "restore", "--all"), before=with_parents, files=QUARANTINE_FILES, schema=QUARANTINE_SCHEMA
    ),
}


@pytest.fixture
def places(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Callable[[Kind], Interrupted]]:
    """A new place of a kind at each call; its remote is dropped with the next."""
    made: list[str] = []
    numbers = itertools.count()

    def drop() -> None:
        while made:
            postgres.drop_database(made.pop().rpartition("/")[2].partition("?")[0])

    def make(kind: Kind) -> Interrupted:
        drop()
        made.append(postgres.create_database())
        return kind.made(tmp_path / str(next(numbers)), made[-1])

    yield make
    drop()


LEGAL: dict[tuple[str, ...], list[dict[str, Any]]] = {}


def legal_worlds(kind: Kind, places: Callable[[Kind], Interrupted]) -> list[dict[str, Any]]:
    """Before the command, and after it where nobody interrupts it (and after `resume`, where it finishes a run)."""
    if kind.words not in LEGAL:
        place = places(kind)
        before = place.world()
        ended = place.signalled_at(kind.arguments(place), NEVER, signal.SIGINT)
        assert ended.code == 0, ended
        after = place.world()
        place.check_nothing_is_left()
        LEGAL[kind.words] = [after] if kind.words == ("resume",) else [before, after]
    return LEGAL[kind.words]


def sweep(kind: Kind, places: Callable[[Kind], Interrupted], crossings: Iterable[int]) -> int:
    """Signal at these crossings, as long as there are so many; how many that were."""
    legal = legal_worlds(kind, places)
    for number, at in enumerate(crossings):
        place = places(kind)
        as_json = number % 2 == 1
        words = (*kind.arguments(place), *(["--json"] if as_json else []))
        ended = place.signalled_at(words, at, SIGNALS[number % len(SIGNALS)])
        if ended.code == 0:
            return number
        assert "This command changed nothing" not in ended.err  # it has begun, and knows what is in flight
        place.check_answer(ended, as_json=as_json)
        place.check_nothing_is_left()
        place.check_it_goes_on(legal)
    return number + 1


@pytest.mark.parametrize(
    ("name", "crossings"),
    [
        ("migrate", [4, 30]),
        ("rollback", [11]),
        ("resume", [6]),
        ("dry_run", [1]),
        ("backup_create", [2]),
        ("backup_restore", [5]),
        ("quarantine_restore", [2]),
    ],
)
def test_interrupted_at_a_crossing_it_says_how_to_go_on_and_that_is_so(
    name: str, crossings: list[int], places: Callable[[Kind], Interrupted]
) -> None:
    assert sweep(KINDS[name], places, crossings) == len(crossings)


@pytest.mark.full
@pytest.mark.parametrize("name", KINDS)
def test_interrupted_at_every_crossing_it_ends_legally(name: str, places: Callable[[Kind], Interrupted]) -> None:
    crossings = sweep(KINDS[name], places, itertools.count())
    print(f"{name}: {crossings} crossings")
    assert crossings > 1


# From outside, at any moment


def started_and_signalled(kind: Kind, places: Callable[[Kind], Interrupted], chance: random.Random, number: int) -> int:
    """The process itself, signalled after a while that nobody chose; its exit code, once everything is as it must be."""
    legal = legal_worlds(kind, places)
    place = places(kind)
    as_json = number % 2 == 0
    process = place.start(*kind.arguments(place), *(["--json"] if as_json else []))
    # Python is not ready for a signal before it is there: what is sent earlier ends the process by itself.
    eventually(lambda: is_ready(process))
    time.sleep(chance.uniform(0, 1.5))
    process.send_signal(SIGNALS[number % len(SIGNALS)])
    out, err = process.communicate(timeout=LIMIT_SECONDS)
    ended = Answer(code=process.returncode, out=out, err=err)
    if ended.code != 0:
        place.check_answer(ended, as_json=as_json)
    place.check_nothing_is_left()
    place.check_it_goes_on(legal)
    return ended.code


def is_ready(process: subprocess.Popen[str]) -> bool:
    """Whether it has its own handler for SIGTERM and SIGHUP, which comes last, or has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return True
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 4000")
    return bool(int(caught.split()[1], 16) & 1 << signal.SIGHUP - 1)


@pytest.mark.parametrize("name", ["migrate", "rollback", "dry_run"])
def test_the_process_interrupted_at_any_moment_says_how_to_go_on(name: str, places: Callable[[Kind], Interrupted]) -> None:
    codes = [started_and_signalled(KINDS[name], places, random.Random(name), number) for number in range(1)]
    assert set(codes) <= {0, 130}


@pytest.mark.full
@pytest.mark.parametrize("name", KINDS)
def test_the_process_interrupted_at_a_hundred_moments_ends_legally(name: str, places: Callable[[Kind], Interrupted]) -> None:
    chance = random.Random(name)
    codes = [started_and_signalled(KINDS[name], places, chance, number) for number in range(100)]
    print(f"{name}: {codes.count(130)} interrupted, {codes.count(0)} done before")
    assert set(codes) <= {0, 130}
    assert codes.count(130) > 20


# In the middle of what takes long


eventually = partial(waiting.eventually, seconds=LIMIT_SECONDS, every=0.1)


def at_work(place: Interrupted, beginning: str) -> list[Any]:
    words = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE "
    return place.remote(f"{words} '{beginning}%' AND pid <> pg_backend_pid()")


def computing(process: subprocess.Popen[str]) -> Callable[[], bool]:
    """Whether it has used some processor time since this was asked for."""
    began = cpu_ticks(process)
    return lambda: cpu_ticks(process) - began > 40


def resting(process: subprocess.Popen[str]) -> bool:
    """Whether it uses next to no processor time for a while."""
    began = cpu_ticks(process)
    time.sleep(0.5)
    return cpu_ticks(process) - began < 10


def cpu_ticks(process: subprocess.Popen[str]) -> int:
    """In hundredths of a second."""
    return int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11])


def answer_of(process: subprocess.Popen[str], how: signal.Signals, *, within_seconds: float = 15.0) -> Answer:
    """Send the signal; it must not take long."""
    process.send_signal(how)
    out, err = process.communicate(timeout=within_seconds)
    return Answer(code=process.returncode, out=out, err=err)


@contextmanager
def in_the_way(place: Interrupted, *statements: str) -> Iterator[Callable[[], None]]:
    """A transaction of somebody else, until it is ended."""
    with psycopg.connect(place.url, application_name="somebody else") as other:
        for statement in statements:
            other.execute(statement.encode())
        yield other.rollback


OLD_SNAPSHOT = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1 FROM pg_class")
# Others may go on writing beside it, but neither a build nor a drop can end before it does.
WRITER = ("LOCK TABLE item IN ROW EXCLUSIVE MODE",)


def test_a_build_is_ended_on_the_server_and_what_it_left_is_dropped(places: Callable[[Kind], Interrupted]) -> None:
    place = places(KINDS["migrate"])
    with in_the_way(place, *OLD_SNAPSHOT) as let_go:
        process = place.start("migrate", "--json")
        eventually(lambda: at_work(place, "CREATE INDEX CONC"))
        ended = answer_of(process, signal.SIGTERM)
        place.check_answer(ended, as_json=True)
        place.check_nothing_is_left()  # also no invalid index, while the snapshot is still there
        assert place.remote("SELECT state FROM twinstep.ledger WHERE step = 2") == [("open",)]
        assert "after RemoteStarted" in ended.err
        let_go()
    report = place.coordinator().resume()
    assert (report.outcome, place.in_flight()) == ("verified", [])
    assert place.remote("SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_name'::regclass") == [(True,)]


@pytest.mark.parametrize("signals", [1, 2])
def test_an_index_that_cannot_be_dropped_in_time_is_named_and_resuming_builds_it(
    signals: int, places: Callable[[Kind], Interrupted]
) -> None:
    place = places(KINDS["migrate"])
    with in_the_way(place, *WRITER) as let_go:
        process = place.start("migrate")
        eventually(lambda: at_work(place, "CREATE INDEX CONC"))
        process.send_signal(signal.SIGINT)
        if signals == 2:
            eventually(lambda: at_work(place, "DROP INDEX CONC"))
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in err
        if signals == 1:
            assert "The index item_name is left invalid" in err
            assert "'twinstep resume' to go on" in err
        left = ["invalid indexes"]
        eventually(lambda: [kind for kind, found in place.left_behind().items() if found] == left)
        assert place.in_flight() != []
        let_go()
    assert place.coordinator().resume().outcome == "verified"
    place.check_nothing_is_left()


LONG = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 1000000000)"
LONG_FUNCTION = f"""
def local_up(connection):
    connection.exec_driver_sql("{LONG} SELECT count(*) FROM c").fetchall()

def local_down(connection):
    pass
"""


@pytest.mark.parametrize(
    ("files", "how"),
    [
        ({"local.up.sql": f"{LONG} INSERT INTO child SELECT max(x), 1 FROM c;", "local.down.sql": ""}, signal.SIGINT),
        ({"migration.py": LONG_FUNCTION}, signal.SIGHUP),
    ],
    ids=["sql", "function"],
)
def test_a_long_local_statement_is_stopped_and_not_recorded_as_refused(
    files: dict[str, str], how: signal.Signals, places: Callable[[Kind], Interrupted]
) -> None:
    place = places(Kind(words=(), files=files, schema=QUARANTINE_SCHEMA))
    before = place.world()
    process = place.start("migrate")
    eventually(lambda: "BackedUp" in events(place))
    eventually(computing(process))
    ended = answer_of(process, how)
    place.check_answer(ended, as_json=False)
    assert "after BackedUp" in ended.err
    assert "StepFailed" not in events(place)
    place.check_nothing_is_left()
    assert (place.world(), place.coordinator().roll_back().outcome, place.world()) == (before, "rolled_back", before)


def events(place: Interrupted) -> list[str]:
    if not (place.state / "log.db").exists():
        return []
    with closing(SQLiteEventStore(place.state / "log.db", readonly=True)) as store:
        return [record.type for record in store.read_all()]


def test_a_long_remote_statement_is_cancelled_on_the_server(places: Callable[[Kind], Interrupted]) -> None:
    place = places(
        Kind(words=(), files={"remote.up.sql": "SELECT pg_sleep(600)", "remote.down.sql": ""}, schema=QUARANTINE_SCHEMA)
    )
    process = place.start("migrate")
    eventually(lambda: at_work(place, "SELECT pg_sleep(600)"))
    place.check_answer(answer_of(process, signal.SIGTERM), as_json=False)
    assert "StepFailed" not in events(place)
    place.check_nothing_is_left()
    assert place.coordinator().roll_back().outcome == "rolled_back"


def test_waiting_for_the_remote_lock_is_ended_and_a_hangup_that_is_ignored_is_none(
    places: Callable[[Kind], Interrupted],
) -> None:
    place = places(KINDS["migrate"])
    with in_the_way(place, f"SELECT pg_advisory_lock({LOCK_KEY})"):
        process = place.start("migrate", "--wait", "600", ignoring=signal.SIGHUP)
        eventually(lambda: "LocalApplied" in events(place))
        process.send_signal(signal.SIGHUP)  # as under nohup
        eventually(lambda: resting(process))
        assert process.poll() is None
        ended = answer_of(process, signal.SIGTERM)
        place.check_answer(ended, as_json=False)
        assert "after LocalApplied" in ended.err
    place.check_nothing_is_left()
    assert place.coordinator().resume().outcome == "verified"


def test_waiting_for_the_local_lock_is_ended_with_nothing_in_flight(places: Callable[[Kind], Interrupted]) -> None:
    place = places(KINDS["migrate"])
    before = place.world()
    with coordinator_lock(place.state, doing="wait", wait_seconds=0):
        process = place.start("migrate", "--wait", "600")
        eventually(lambda: is_ready(process) and resting(process))
        ended = answer_of(process, signal.SIGINT)
    assert "Nothing is in flight" in ended.err
    place.check_answer(ended, as_json=False)
    place.check_nothing_is_left()
    assert place.world() == before


def test_a_pause_between_two_tries_is_ended(places: Callable[[Kind], Interrupted]) -> None:
    cut = "def remote_up(connection):\n    connection.exec_driver_sql('SELECT pg_terminate_backend(pg_backend_pid())')\n"
    files = {"migration.py": f"{cut}def remote_down(connection):\n    pass\n"}
    place = places(Kind(words=(), files=files, schema=QUARANTINE_SCHEMA))
    process = place.start("migrate", "--retry-for", "600")
    eventually(lambda: "RemoteStarted" in events(place))
    eventually(lambda: resting(process))
    place.check_answer(answer_of(process, signal.SIGINT), as_json=False)
    place.check_nothing_is_left()
    assert place.coordinator().roll_back().outcome == "rolled_back"


def large_file(folder: Path) -> Path:
    """A database of several steps of a copy."""
    path = folder / "large.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(?))", (3 * PAGES_A_STEP * 4096,))
    return path


def test_a_copy_is_ended_between_two_steps_and_leaves_no_file(tmp_path: Path) -> None:
    path, folder = large_file(tmp_path), tmp_path / "backups"
    steps: list[int] = []

    def progress(remaining: int, total: int) -> None:
        steps.append(remaining)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        BackupFolder(folder).back_up(path, holder=None, progress=progress)
    assert len(steps) == 2
    assert steps[1] > 0
    assert list(folder.iterdir()) == []
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")  # nobody holds it any more


def test_a_copy_in_steps_is_one_state_although_others_write(tmp_path: Path) -> None:
    path = large_file(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE counted AS SELECT 0 AS n")
        writes = 0

        def progress(remaining: int, total: int) -> None:
            nonlocal writes
            writes += 1
            assert writes < 10, "it begins anew with each write"
            writer.execute("UPDATE counted SET n = n + 1")
            writer.execute("UPDATE t SET x = zeroblob(length(x))")

        backup = BackupFolder(tmp_path / "backups").back_up(path, holder=None, progress=progress)
    assert writes >= 3
    with closing(sqlite3.connect(backup.path)) as copy:
        assert copy.execute("SELECT n FROM counted").fetchone() == (0,)


@pytest.mark.parametrize("where", ["same_content", "sha256_of", "problems_of", "write_description"])
def test_a_backup_interrupted_while_it_is_proved_leaves_no_file(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)  # the signal ends it

    monkeypatch.setattr(backups, where, interrupt)
    path, folder = large_file(tmp_path), tmp_path / "backups"
    with pytest.raises(KeyboardInterrupt):
        BackupFolder(folder).back_up(path, holder=None)
    assert list(folder.iterdir()) == []


def test_a_coordinator_in_a_thread_of_a_host_leaves_its_signal_handlers_alone(tmp_path: Path) -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in signal.valid_signals()]

    with closing(sqlite3.connect(tmp_path / "app.db")) as local:
        local.execute("CREATE TABLE t (x)")
    migration = Migration(id="0001_a", local=Side(up="CREATE TABLE u (x)", down="DROP TABLE u"))
    before, during = handlers(), list[object]()

    def on_event(record: object) -> None:
        during[:] = handlers()

    coordinator = Coordinator(local=tmp_path / "app.db", migrations=[migration], on_event=on_event)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(coordinator.migrate).result().outcome == "verified"
    assert during == before == handlers()
