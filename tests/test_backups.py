"""Backups: faithful under hostile writers, proved, refused when they are not what was made, and restored without a loss."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from targets import sometimes

from twinstep.events.errors import Blocked, ConfigurationError, Defect, TwinstepError
from twinstep.stores.backup_file import Backup
from twinstep.stores.backups import BackupFolder
from twinstep.stores.copies import _content, copy_pages, same_content, sha256_of
from twinstep.stores.local_connection import begin_immediate, commit, open_local, roll_back
from twinstep.stores.soundness import unsound

MODES = ["wal", "delete"]
TOTAL = 10_000
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)

# The application: two accounts with a fixed total, a counter of its commits, and ballast over many pages that each commit
# rewrites in part, so that a copy of two states mixed cannot go unnoticed.
SCHEMA = f"""
CREATE TABLE account (name TEXT PRIMARY KEY, amount INTEGER NOT NULL);
CREATE TABLE mirror (name TEXT PRIMARY KEY, amount INTEGER NOT NULL);
CREATE TABLE ballast (id INTEGER PRIMARY KEY, written INTEGER NOT NULL, filler BLOB NOT NULL);
CREATE TABLE counter (value INTEGER NOT NULL);
INSERT INTO account VALUES ('a', {TOTAL}), ('b', 0);
INSERT INTO mirror VALUES ('a', {TOTAL}), ('b', 0);
INSERT INTO counter VALUES (0);
WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 300)
INSERT INTO ballast SELECT id, 0, randomblob(900) FROM n;
PRAGMA user_version = 11;
"""


def make(path: Path, mode: str = "delete", page_size: int = 4096) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.executescript(SCHEMA)
    return path


def read(path: Path, sql: str, how: str = "mode=ro") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)


def counter(path: Path, how: str = "mode=ro") -> int:
    [(value,)] = read(path, "SELECT value FROM counter", how)
    assert isinstance(value, int)
    return value


@pytest.fixture(params=MODES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(tmp_path / "local.db", request.param)


@pytest.fixture
def backups(tmp_path: Path) -> BackupFolder:
    return BackupFolder(tmp_path / "state" / "backups", clock=lambda: NOON)


@contextmanager
def writer_lock(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_local(path)) as holder:
        begin_immediate(holder, 30)
        yield holder
        roll_back(holder)


def take(backups: BackupFolder, database: Path) -> Backup:
    with writer_lock(database) as holder:
        return backups.back_up(database, holder=holder)


def code_of(doing: Callable[[], object]) -> tuple[type[TwinstepError], str]:
    with pytest.raises(TwinstepError) as caught:
        doing()
    return type(caught.value), caught.value.code


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def nothing(connection: sqlite3.Connection) -> None:
    """No check, or nothing to prepare."""


def importing() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


# --- making -------------------------------------------------------------------------------------------------------------


def test_a_backup_is_one_file_described_beside_it_and_readable_by_its_owner_alone(
    backups: BackupFolder, database: Path
) -> None:
    backup = take(backups, database)
    assert names(backups.folder) == [f"{backup.id}.db", f"{backup.id}.json"]
    assert backup.path.stat().st_mode & 0o777 == backup.description.stat().st_mode & 0o777 == 0o600
    assert backups.folder.stat().st_mode & 0o777 == 0o700
    assert (backup.user_version, backup.page_size, backup.created_at) == (11, 4096, NOON)
    assert (backup.bytes, backup.source) == (backup.path.stat().st_size, str(database))
    assert Backup.from_json(json.loads(backup.description.read_text()), folder=backups.folder) == backup
    assert backups.list() == (backup,)
    backups.verify(backup)


def test_a_backup_holds_every_page_of_the_last_committed_state(backups: BackupFolder, database: Path) -> None:
    with closing(open_local(database)) as other:
        other.execute("UPDATE counter SET value = 7")  # in WAL mode not yet in the main file
        backup = take(backups, database)
    assert counter(backup.path, "immutable=1") == 7
    assert _content(backup.path.read_bytes()) == _content(database.read_bytes())  # closed, so checkpointed


def test_what_the_holder_changes_next_is_not_in_the_backup(backups: BackupFolder, database: Path) -> None:
    with closing(open_local(database)) as holder:
        begin_immediate(holder, 0)
        backup = backups.back_up(database, holder=holder)
        holder.execute("UPDATE counter SET value = 1")
        commit(holder, 0)
    assert (counter(backup.path, "immutable=1"), counter(database)) == (0, 1)


def test_a_backup_without_the_writer_lock_is_a_defect(backups: BackupFolder, database: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other.db")
    with closing(open_local(database)) as holder:
        assert code_of(lambda: backups.back_up(database, holder=holder)) == (Defect, "T230")
        holder.execute("BEGIN")
        holder.execute("SELECT * FROM counter").fetchall()
        assert code_of(lambda: backups.back_up(database, holder=holder)) == (Defect, "T230")
        roll_back(holder)
    with writer_lock(other) as holder:
        assert code_of(lambda: backups.back_up(database, holder=holder)) == (Defect, "T230")
    assert not backups.folder.exists()


def test_a_missing_database_is_refused_and_not_made(backups: BackupFolder, tmp_path: Path) -> None:
    assert code_of(lambda: backups.back_up(tmp_path / "none.db", holder=None)) == (ConfigurationError, "T211")
    assert names(tmp_path) == []


def test_progress_is_told_and_the_crossings_are_called_in_order(backups: BackupFolder, database: Path) -> None:
    seen: list[object] = []
    with writer_lock(database) as holder:
        backups.back_up(database, holder=holder, progress=lambda left, total: seen.append(left), probe=seen.append)
    assert seen == [0, "backup:copied", "backup:renamed"]


@pytest.mark.parametrize("crossing", ["backup:copied", "backup:renamed"])
def test_what_stops_a_backup_leaves_none_or_a_whole_one(backups: BackupFolder, database: Path, crossing: str) -> None:
    def stop(reached: str) -> None:
        if reached == crossing:
            raise KeyboardInterrupt

    with writer_lock(database) as holder, pytest.raises(KeyboardInterrupt):
        backups.back_up(database, holder=holder, probe=stop)
    for backup in backups.list():
        backups.verify(backup)
    assert len(names(backups.folder)) == (0 if crossing == "backup:copied" else 2)


def test_a_damaged_database_is_not_kept_as_a_backup(backups: BackupFolder, tmp_path: Path) -> None:
    path = make(tmp_path / "local.db")
    image = bytearray(path.read_bytes())
    [(root,)] = read(path, "SELECT rootpage FROM sqlite_master WHERE name = 'ballast'")
    assert isinstance(root, int)
    image[(root - 1) * 4096 : (root - 1) * 4096 + 64] = os.urandom(64)
    path.write_bytes(image)
    assert code_of(lambda: backups.back_up(path, holder=None)) == (Blocked, "T234")
    assert names(backups.folder) == []


@pytest.mark.parametrize(("option", "wrong"), [("", "n TEXT NOT NULL"), (", STRICT", "b INTEGER")])
def test_a_sound_table_without_rowids_that_sqlite_itself_calls_unsound_is_backed_up(
    backups: BackupFolder, tmp_path: Path, option: str, wrong: str
) -> None:
    path = make(tmp_path / "local.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        # SQLite 3.40 says "NULL value in keyed.r" of the first: it looks at another column.
        connection.execute(f"CREATE TABLE keyed (a INTEGER, r TEXT NOT NULL, k TEXT PRIMARY KEY) WITHOUT ROWID{option}")
        connection.executemany("INSERT INTO keyed VALUES (NULL, 'r', ?)", [(str(number),) for number in range(30)])
        right = "n TEXT" if "n" in wrong[:1] else "b TEXT"
        connection.execute(f"CREATE TABLE other (k TEXT PRIMARY KEY, {right}, c REAL) WITHOUT ROWID{option}")
        connection.execute("INSERT INTO other VALUES ('k', ?, 1.5)", (None if right == "n TEXT" else "text",))
    with closing(sqlite3.connect(path)) as connection:
        assert unsound(connection, "quick_check") == []
    take(backups, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 'other'", (right, wrong))
        connection.execute("PRAGMA schema_version = 77")
    with closing(sqlite3.connect(path)) as connection:
        (found,) = unsound(connection, "quick_check")
        assert f"value in other.{wrong[0]}" in found
    assert code_of(lambda: backups.back_up(path, holder=None)) == (Blocked, "T234")


def test_a_copy_that_differs_from_its_trial_is_not_kept(backups: BackupFolder, database: Path) -> None:
    def disturb(reached: str) -> None:
        for path in backups.folder.glob("*.copying"):  # a page that belongs to nothing: no check of SQLite's looks at it
            with path.open("ab") as file:
                file.write(b"\x00" * 4096)

    with writer_lock(database) as holder:
        assert code_of(lambda: backups.back_up(database, holder=holder, probe=disturb)) == (Defect, "T235")
    assert names(backups.folder) == []


def test_a_host_that_sets_wal_mode_on_each_connection_is_served(backups: BackupFolder, database: Path) -> None:
    def host(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.create_collation("host", lambda a, b: (a > b) - (a < b))

    change(database, "PRAGMA journal_mode = WAL")
    with closing(open_local(database, on_connect=host)) as holder:
        holder.execute("CREATE TABLE word (w TEXT COLLATE host UNIQUE)")
        holder.execute("INSERT INTO word VALUES ('b'), ('a')")
        begin_immediate(holder, 0)
        backup = backups.back_up(database, holder=holder, on_connect=host)
        holder.execute("DELETE FROM word")
        commit(holder, 0)
    backups.verify(backup, on_connect=host)
    backups.restore(backup, database, check=nothing, prepare=nothing, on_connect=host)
    assert read(database, "SELECT w FROM word") == [("b",), ("a",)]
    assert names(backups.folder) == sorted(f"{one.id}{end}" for one in backups.list() for end in (".db", ".json"))


# --- hostile writers ------------------------------------------------------------------------------------------------------

WRITER = f"""
import random, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("PRAGMA synchronous = OFF")
if len(sys.argv) > 2:
    connection.execute("PRAGMA wal_autocheckpoint = " + sys.argv[2])
while True:
    amount = random.randint(0, {TOTAL})
    connection.execute("BEGIN IMMEDIATE")
    (number,) = connection.execute("SELECT value FROM counter").fetchone()
    connection.execute("UPDATE account SET amount = CASE name WHEN 'a' THEN ? ELSE {TOTAL} - ? END", (amount, amount))
    connection.execute("UPDATE ballast SET written = ?, filler = randomblob(900) WHERE id % 7 = ?", (number + 1, number % 7))
    connection.execute("UPDATE mirror SET amount = CASE name WHEN 'a' THEN ? ELSE {TOTAL} - ? END", (amount, amount))
    connection.execute("UPDATE counter SET value = value + 1")
    connection.execute("COMMIT")
    print(number + 1, flush=True)
"""


@contextmanager
def writing(path: Path, count: int, acknowledged: Path) -> Iterator[Callable[[], int]]:
    """Children that commit in a loop; the call says the highest commit that one of them has acknowledged."""
    files = [acknowledged.with_name(f"{acknowledged.name}.{number}") for number in range(count)]
    children = []
    for number, file in enumerate(files):
        with file.open("wb") as out:
            children.append(subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(7 + 90 * number)], stdout=out))

    def highest() -> int:
        lines = [file.read_text().rpartition("\n")[0].rpartition("\n")[2] for file in files]
        return max(int(line or 0) for line in lines)

    try:
        deadline = time.monotonic() + 30
        while highest() < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        yield highest
        assert all(child.poll() is None for child in children), "a writer died"
    finally:
        for child in children:
            child.kill()
            child.wait()


def assert_one_state(path: Path, how: str = "immutable=1") -> int:
    """The copy is one committed state: totals hold, both tables agree, the ballast is of the last seven commits."""
    value = counter(path, how)
    assert read(path, "SELECT sum(amount) FROM account", how) == read(path, "SELECT sum(amount) FROM mirror", how) == [(TOTAL,)]
    assert read(path, "SELECT * FROM account ORDER BY name", how) == read(path, "SELECT * FROM mirror ORDER BY name", how)
    expected = sorted(
        (part, max((n for n in range(max(0, value - 7), value) if n % 7 == part), default=-1) + 1) for part in range(7)
    )
    assert read(path, "SELECT DISTINCT id % 7, written FROM ballast ORDER BY 1", how) == expected
    return value


def test_under_hostile_writers_a_backup_is_exactly_the_state_that_was_locked(
    backups: BackupFolder, database: Path, tmp_path: Path
) -> None:
    seen = []
    with writing(database, 2, tmp_path / "acknowledged") as highest:
        for _ in range(8):
            promised = highest()
            with writer_lock(database) as holder:
                backup = backups.back_up(database, holder=holder)
                (locked,) = holder.execute("SELECT value FROM counter").fetchone()
            seen.append(assert_one_state(backup.path))
            assert seen[-1] == locked >= promised
            time.sleep(0.02)
    assert len(set(seen)) > 4, "the writers did not write"


def test_without_the_lock_a_backup_is_still_one_committed_state(backups: BackupFolder, database: Path, tmp_path: Path) -> None:
    seen = []
    # Large enough that a commit falls into the time of a copy: reading the file instead is then found out.
    change(
        database,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
        "INSERT INTO ballast SELECT 1000 + i, 0, randomblob(900) FROM n",
    )
    with writing(database, 2, tmp_path / "acknowledged") as highest:
        for _ in range(8):
            promised = highest()
            seen.append(assert_one_state(backups.back_up(database, holder=None).path))
            assert seen[-1] >= promised
            time.sleep(0.02)
    assert len(set(seen)) > 2, "the writers did not write"


def test_a_database_held_for_itself_by_another_is_given_up_after_the_deadline(backups: BackupFolder, tmp_path: Path) -> None:
    path = make(tmp_path / "local.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as other, closing(open_local(path, readonly=True)) as reader:
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        assert code_of(lambda: backups.back_up(path, holder=None, deadline_seconds=0.1)) == (Blocked, "T214")
        target = sqlite3.connect(":memory:")
        reader.execute("PRAGMA busy_timeout = 0")
        assert code_of(lambda: copy_pages(reader, target, wait_seconds=0.1)) == (Blocked, "T237")
        assert time.monotonic() - started < 10
        target.close()


HALF_DONE = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 2")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE counter SET value = 99")
connection.execute("UPDATE ballast SET filler = randomblob(900)")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_host_left_half_done_is_not_in_a_backup(backups: BackupFolder, database: Path) -> None:
    [(mode,)] = read(database, "PRAGMA journal_mode")
    subprocess.run([sys.executable, "-c", HALF_DONE, str(database)], check=False, timeout=60)
    if mode == "delete":
        assert Path(f"{database}-journal").stat().st_size > 0
        with pytest.raises(Blocked, match="crashed left a journal"):
            open_local(database, readonly=True)
    assert assert_one_state(backups.back_up(database, holder=None).path) == 0


# --- space ----------------------------------------------------------------------------------------------------------------


def test_too_little_space_is_seen_before_anything_is_written(database: Path, tmp_path: Path) -> None:
    backups = BackupFolder(tmp_path / "backups", free=lambda folder: 100_000)
    with pytest.raises(Blocked) as caught, writer_lock(database) as holder:
        backups.back_up(database, holder=holder)
    assert caught.value.code == "T231"
    assert caught.value.details["free"] == 100_000
    needed = caught.value.details["needed"]
    assert isinstance(needed, int)
    assert needed > 2 * 300_000
    assert names(backups.folder) == []


LIMITED = """
import resource, sys
from twinstep.events.errors import Blocked
from twinstep.stores.backups import BackupFolder
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    BackupFolder(sys.argv[2]).back_up(sys.argv[1], holder=None)
except Blocked as error:
    print(error.code, error.details["needed"] > error.details["free"] >= 0 or "free")
"""


@pytest.mark.parametrize("limit", [0, 5_000, 100_000, 300_000])
def test_space_that_runs_out_while_copying_leaves_no_file_behind(database: Path, tmp_path: Path, limit: int) -> None:
    # In WAL mode even a reader writes: the index of the WAL file must be there before the limit is set.
    with closing(open_local(database)) as keeper:
        keeper.execute("SELECT * FROM counter").fetchall()
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, str(database), str(tmp_path / "backups"), str(limit)],
            env=importing(), capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    assert done.stdout.split() == ["T231", "free"]
    assert names(tmp_path / "backups") == []


def test_a_folder_that_cannot_be_made_is_named(database: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert code_of(lambda: BackupFolder(tmp_path / "file" / "backups").back_up(database, holder=None)) == (Blocked, "T239")


# --- verifying ------------------------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(50_000)
        byte = file.read(1)
        file.seek(50_000)
        file.write(bytes([byte[0] ^ 1]))


def _foreign(path: Path) -> None:
    content = path.read_bytes()
    make(path.with_name("foreign.db"))
    path.write_bytes(path.with_name("foreign.db").read_bytes()[: len(content)])
    path.with_name("foreign.db").unlink()


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (_flip, "T233"),
    "truncated": (lambda path: os.truncate(path, 100_000), "T233"),
    "emptied": (lambda path: os.truncate(path, 0), "T233"),
    "grown": (lambda path: os.truncate(path, path.stat().st_size + 4096), "T233"),
    "edited by SQLite": (lambda path: change(path, "UPDATE counter SET value = 9"), "T233"),
    "foreign": (_foreign, "T233"),
    "missing": (Path.unlink, "T232"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_backup_that_is_not_what_was_made_is_never_used(backups: BackupFolder, database: Path, how: str) -> None:
    spoil, code = SPOILED[how]
    backup = take(backups, database)
    change(database, "UPDATE counter SET value = 5")
    spoil(backup.path)
    assert code_of(lambda: backups.verify(backup)) == (Blocked, code)
    assert code_of(lambda: backups.restore(backup, database, check=nothing, prepare=nothing)) == (Blocked, code)
    assert counter(database) == 5


def test_a_sound_hash_of_an_unsound_database_is_refused_too(backups: BackupFolder, database: Path) -> None:
    backup = take(backups, database)
    [(root,)] = read(backup.path, "SELECT rootpage FROM sqlite_master WHERE name = 'ballast'", "immutable=1")
    assert isinstance(root, int)
    with backup.path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 64)
    lying = attrs.evolve(backup, sha256=sha256_of(backup.path))
    assert code_of(lambda: backups.verify(lying)) == (Blocked, "T233")


def test_a_description_that_is_damaged_or_of_another_backup_is_refused(backups: BackupFolder, database: Path) -> None:
    first, second = take(backups, database), take(backups, database)
    description = second.description.read_bytes()
    for wrong in (b"{", b"[]", b'{"id": "../x"}', first.description.read_bytes(), description.replace(b'"bytes"', b'"b"')):
        second.description.write_bytes(wrong)
        assert code_of(backups.list) == (Blocked, "T233")
    said = {**first.to_json(), "id": "../../outside"}
    assert code_of(lambda: Backup.from_json(said, folder=backups.folder)) == (Blocked, "T233")


def test_a_wal_file_beside_a_backup_is_not_looked_at(backups: BackupFolder, tmp_path: Path) -> None:
    path = make(tmp_path / "local.db", "wal")
    backup = take(backups, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE counter SET value = 99")
        shutil.copy(f"{path}-wal", f"{backup.path}-wal")
        assert Path(f"{backup.path}-wal").stat().st_size > 0
    backups.verify(backup)
    backups.restore(backup, path, check=nothing, prepare=nothing)
    assert counter(path) == 0


# --- restoring ------------------------------------------------------------------------------------------------------------


def test_a_restore_brings_back_every_page_and_keeps_what_it_replaced(backups: BackupFolder, database: Path) -> None:
    mode = read(database, "PRAGMA journal_mode")
    backup = take(backups, database)
    change(database, "UPDATE counter SET value = 5")
    change(database, "DROP TABLE mirror")
    change(database, "PRAGMA user_version = 12")
    replaced = backups.restore(backup, database, check=nothing, prepare=nothing)
    assert read(database, "PRAGMA user_version") == [(11,)]
    assert assert_one_state(database, "mode=ro") == 0
    assert read(database, "PRAGMA journal_mode") == mode
    assert read(replaced.path, "SELECT value, (SELECT count(*) FROM sqlite_master) FROM counter", "immutable=1") == [(5, 4)]
    assert replaced.user_version == 12
    assert backups.list() == (backup, replaced)
    assert names(backups.folder) == sorted(f"{one.id}{end}" for one in (backup, replaced) for end in (".db", ".json"))
    change(database, "UPDATE counter SET value = 6")  # nobody is shut out any more
    backups.verify(backup)


def test_what_is_prepared_on_the_image_is_restored_along_and_the_backup_stays_as_it_was(
    backups: BackupFolder, database: Path
) -> None:
    backup = take(backups, database)

    def prepare(image: sqlite3.Connection) -> None:
        assert image.in_transaction
        image.execute("CREATE TABLE undone (run TEXT)")
        image.execute("INSERT INTO undone VALUES ('r1')")

    backups.restore(backup, database, check=nothing, prepare=prepare)
    assert read(database, "SELECT run FROM undone") == [("r1",)]
    backups.verify(backup)


def test_the_check_sees_the_last_state_when_nobody_can_write_and_can_stop_the_restore(
    backups: BackupFolder, database: Path
) -> None:
    backup = take(backups, database)
    change(database, "UPDATE counter SET value = 5")
    seen: list[object] = []

    def check(connection: sqlite3.Connection) -> None:
        seen.append(connection.execute("SELECT value FROM counter").fetchone())
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as rival:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                rival.execute("UPDATE counter SET value = 6")
            seen.append("shut out")
        raise Blocked("T232", backup="somebody", path="wrote")

    assert code_of(lambda: backups.restore(backup, database, check=check, prepare=nothing)) == (Blocked, "T232")
    assert seen == [(5,), "shut out"]
    assert counter(database) == 5
    assert backups.list() == (backup,)
    change(database, "UPDATE counter SET value = 7")
    assert names(backups.folder) == [f"{backup.id}.db", f"{backup.id}.json"]


@pytest.mark.parametrize("crossing", ["restore:before", "restore:after"])
def test_what_stops_a_restore_leaves_the_old_state_or_the_new_one(backups: BackupFolder, database: Path, crossing: str) -> None:
    backup = take(backups, database)
    change(database, "UPDATE counter SET value = 5")

    def stop(reached: str) -> None:
        if reached == crossing:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backups.restore(backup, database, check=nothing, prepare=nothing, probe=stop)
    assert counter(database) == (5 if crossing == "restore:before" else 0)
    change(database, "UPDATE counter SET value = 6")


def test_a_restore_from_wal_into_a_rollback_journal_keeps_the_live_mode_and_the_other_way_round(
    backups: BackupFolder, database: Path
) -> None:
    [(mode,)] = read(database, "PRAGMA journal_mode")
    backup = take(backups, database)
    other = "delete" if mode == "wal" else "wal"
    change(database, f"PRAGMA journal_mode = {other}")
    change(database, "UPDATE counter SET value = 5")
    backups.restore(backup, database, check=nothing, prepare=nothing)
    assert read(database, "PRAGMA journal_mode") == [(other,)]
    assert counter(database) == 0
    assert same_content(backup.path, database, on_connect=None)


def test_in_wal_mode_a_reader_keeps_its_snapshot_and_open_connections_do_no_harm(backups: BackupFolder, tmp_path: Path) -> None:
    path = make(tmp_path / "local.db", "wal")
    backup = take(backups, path)
    change(path, "UPDATE counter SET value = 5")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader, closing(sqlite3.connect(path)) as idle:
        reader.execute("BEGIN")
        assert reader.execute("SELECT value FROM counter").fetchone() == (5,)
        backups.restore(backup, path, check=nothing, prepare=nothing)
        assert reader.execute("SELECT value FROM counter").fetchone() == (5,)
        reader.execute("COMMIT")
        assert reader.execute("SELECT value FROM counter").fetchone() == (0,)
        assert idle.execute("SELECT value FROM counter").fetchone() == (0,)


@pytest.mark.parametrize("mode", MODES)
def test_a_restore_waits_for_others_within_its_limit_and_changes_nothing(
    backups: BackupFolder, tmp_path: Path, mode: str
) -> None:
    path = make(tmp_path / "local.db", mode)
    backup = take(backups, path)
    change(path, "UPDATE counter SET value = 5")
    with writer_lock(path):
        kind, code = code_of(lambda: backups.restore(backup, path, check=nothing, prepare=nothing, deadline_seconds=0.2))
    assert (kind, code) in ((Blocked, "T214"), (Blocked, "T237"))
    assert counter(path) == 5
    assert backups.list() == (backup,)


@pytest.mark.parametrize("mode", MODES)
def test_another_page_size_is_restored_or_clearly_refused(backups: BackupFolder, tmp_path: Path, mode: str) -> None:
    path = make(tmp_path / "local.db", mode, page_size=1024)
    backup = take(backups, path)
    path.unlink()
    make(path, mode, page_size=8192)
    change(path, "UPDATE counter SET value = 5")
    if mode == "wal":
        assert code_of(lambda: backups.restore(backup, path, check=nothing, prepare=nothing)) == (Blocked, "T236")
        assert counter(path) == 5
    else:
        backups.restore(backup, path, check=nothing, prepare=nothing)
        assert assert_one_state(path, "mode=ro") == 0


def test_a_lost_file_is_restored_into_an_empty_one_and_a_stale_wal_does_not_come_back(
    backups: BackupFolder, tmp_path: Path
) -> None:
    path = make(tmp_path / "local.db", "wal")
    backup = take(backups, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE counter SET value = 99")
        stale = Path(f"{path}-wal").read_bytes()
    path.write_bytes(b"")
    Path(f"{path}-wal").write_bytes(stale)
    backups.restore(backup, path, check=nothing, prepare=nothing)
    assert assert_one_state(path, "mode=ro") == 0


def test_a_database_of_one_page_is_backed_up_and_restored(backups: BackupFolder, tmp_path: Path) -> None:
    path = tmp_path / "local.db"
    change(path, "PRAGMA user_version = 3")
    change(path, "PRAGMA journal_mode = WAL")
    backup = take(backups, path)
    change(path, "CREATE TABLE later (x)")
    backups.restore(backup, path, check=nothing, prepare=nothing)
    assert read(path, "SELECT count(*) FROM sqlite_master") == [(0,)]
    assert read(path, "PRAGMA user_version") == [(3,)]


def test_a_restore_that_does_not_read_back_equal_is_a_defect_that_names_the_replaced_state(
    backups: BackupFolder, database: Path
) -> None:
    path = database
    backup = take(backups, path)
    change(path, "UPDATE counter SET value = 5")

    def disturb(reached: str) -> None:
        if reached == "restore:after":  # the image stands for what the live file should be: change it, and they differ
            [image] = backups.folder.glob("*.image")
            change(image, "UPDATE counter SET value = 42")

    with pytest.raises(Defect) as caught:
        backups.restore(backup, path, check=nothing, prepare=nothing, probe=disturb)
    assert caught.value.code == "T238"
    [replaced] = [one for one in backups.list() if one.id == caught.value.details["replaced"]]
    assert counter(replaced.path, "immutable=1") == 5


def test_in_wal_mode_a_write_that_follows_the_restore_at_once_is_no_fault(backups: BackupFolder, tmp_path: Path) -> None:
    path = make(tmp_path / "local.db", "wal")
    backup = take(backups, path)

    def write(reached: str) -> None:
        if reached == "restore:after":
            change(path, "UPDATE counter SET value = 6")

    backups.restore(backup, path, check=nothing, prepare=nothing, probe=write)
    assert counter(path) == 6


def test_hostile_writers_lose_nothing_that_the_replaced_state_does_not_hold(
    backups: BackupFolder, database: Path, tmp_path: Path
) -> None:
    backup = take(backups, database)
    with writing(database, 1, tmp_path / "acknowledged") as highest:
        promised = highest()
        replaced = backups.restore(backup, database, check=nothing, prepare=nothing)
        deadline = time.monotonic() + 20
        while counter(database) == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert assert_one_state(replaced.path) >= promised
    # The writer went on from the restored state, or was about to; either way the file is one of its states.
    assert_one_state(database, "mode=rw")  # the writer was killed, and may have left a journal to roll back


RESTORER = """
import json, sys
from pathlib import Path
from twinstep.stores.backup_file import read_description
from twinstep.stores.backups import BackupFolder
folder, database, description = map(Path, sys.argv[1:])
def prepare(image):
    image.execute("CREATE TABLE undone (run TEXT)")
def probe(crossing):
    print(crossing, flush=True)
print("started", flush=True)
BackupFolder(folder).restore(read_description(description), database, check=lambda c: None, prepare=prepare, probe=probe)
print("done", flush=True)
"""


@pytest.mark.parametrize("mode", sometimes(MODES, 2))
def test_a_restore_killed_at_any_instant_leaves_the_old_state_or_the_new_one(
    backups: BackupFolder, tmp_path: Path, mode: str
) -> None:
    path = make(tmp_path / "local.db", mode)
    change(path, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 4000) "
           "INSERT INTO ballast SELECT 1000 + i, 0, randomblob(900) FROM n")  # fmt: skip
    backup = take(backups, path)
    change(path, "DELETE FROM ballast WHERE id > 1000")
    change(path, "UPDATE counter SET value = 5")
    old, new = [(5, 300, 0)], [(0, 4300, 1)]
    chance = random.Random(11)
    outcomes = []
    for _ in range(8):
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            if mode == "wal":
                reader.execute("BEGIN")
                reader.execute("SELECT * FROM counter").fetchall()
            child = subprocess.Popen(
                [sys.executable, "-c", RESTORER, str(backups.folder), str(path), str(backup.description)],
                env=importing(), stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert child.stdout is not None
            while "restore:before" not in (line := child.stdout.readline()):
                assert line
            time.sleep(chance.uniform(0, 0.06))
            child.send_signal(signal.SIGKILL)
            child.wait()
            child.stdout.close()
        state = read(path, "SELECT value, (SELECT count(*) FROM ballast), "
                     "(SELECT count(*) FROM sqlite_master WHERE name = 'undone') FROM counter", "mode=rw")  # fmt: skip
        assert state in (old, new)
        assert read(path, "PRAGMA integrity_check") == [("ok",)]
        outcomes.append(state == new)
        if state == new:
            change(path, "DELETE FROM ballast WHERE id > 1000")
            change(path, "UPDATE counter SET value = 5")
            change(path, "DROP TABLE undone")
    backups.restore(backup, path, check=nothing, prepare=nothing)
    assert counter(path) == 0
    stale = backups.prune(datetime.now(UTC) + timedelta(days=1), keep={one.id for one in backups.list()})
    assert stale.deleted == ()
    assert stale.bytes > 0, "kills left scratch files, and pruning removes them"
    assert all(name.endswith((".db", ".json")) for name in names(backups.folder))


# --- keeping ----------------------------------------------------------------------------------------------------------------


def test_pruning_deletes_what_is_old_and_not_kept_and_says_what_it_freed(database: Path, tmp_path: Path) -> None:
    now = [NOON - timedelta(days=40)]
    backups = BackupFolder(tmp_path / "backups", clock=lambda: now[0])
    old, kept = take(backups, database), take(backups, database)
    now[0] = NOON
    young = take(backups, database)
    lost = take(backups, database)
    lost.path.unlink()
    size = old.path.stat().st_size + old.description.stat().st_size
    pruned = backups.prune(NOON - timedelta(days=30), keep={kept.id})
    assert (pruned.deleted, pruned.bytes) == ((old,), size)
    assert backups.list() == (kept, young)
    assert not old.path.exists()
    assert backups.prune(NOON - timedelta(days=30), keep={kept.id}).bytes == 0
    assert backups.delete(kept) > 0
    assert backups.delete(kept) == 0
    assert backups.list() == (young,)


def test_a_folder_that_was_never_made_holds_no_backup(tmp_path: Path) -> None:
    backups = BackupFolder(tmp_path / "none")
    assert backups.list() == ()
    assert backups.prune(NOON).deleted == ()
    assert not (tmp_path / "none").exists()


def test_two_copies_compare_alike_by_their_bytes_and_by_what_sqlite_reads_of_them(tmp_path: Path) -> None:
    first = make(tmp_path / "first.db")
    second = Path(shutil.copy(first, tmp_path / "second.db"))
    change(second, "PRAGMA user_version = 12")
    change(second, "PRAGMA user_version = 11")  # other bookkeeping, the same content
    assert first.read_bytes() != second.read_bytes()
    third = Path(shutil.copy(first, tmp_path / "third.db"))
    change(third, "UPDATE counter SET value = 1")
    for one, same in ((second, True), (third, False)):
        assert same_content(first, one, on_connect=None) is same
        with closing(sqlite3.connect(first)) as left, closing(sqlite3.connect(one)) as right:
            assert (_content(left.serialize()) == _content(right.serialize())) is same
