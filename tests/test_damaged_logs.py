"""Whatever is done to a log, it is noticed before anything is run on it, and the way out that the message names leads out.

The table (DAMAGES) says what is done to the log of a device with a due migration, and by which codes that may be noticed.
Both databases must be as before, byte for byte and row by row, whatever is called. The ways out are followed to their end: the
due migration is applied, and all are taken back.

Bits are flipped all over the file, and it is cut at every page: whoever reads the log then reads what was written, or is
refused. Most of a small log is room in its pages that nothing is in.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import psycopg
import pytest
from attrs import evolve, frozen
from damaged_logs import (
    FIRST,
    KINDS,
    LAST,
    OF_BACKUPS,
    SECOND,
    SQLiteFile,
    World,
    as_read,
    calls,
    made_world,
    pair_of,
    rehashed,
    write_migrations,
)

from twinstep.engine.cli.app import run
from twinstep.engine.conflicts import BLOCKING
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events.errors import TwinstepError
from twinstep.events.projections import ROW_TYPES
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

EVERYTHING = {FIRST.partition("_")[2], SECOND.partition("_")[2], LAST.partition("_")[2]}


@frozen(kw_only=True)
class Scene:
    """A device in good order, beside copies of it: `before` its second migration, and `kept` as it is now."""

    world: World
    postgres: EmbeddedPostgres

    def device(self, folder: Path) -> World:
        """A copy of the device, on the very remote: nothing may be changed there."""
        return self.world.copied(folder, self.world.url)

    def beside(self, name: str) -> Path:
        """The folder of a copy."""
        return self.world.folder.parent / name

    def remote(self) -> str:
        """A remote of its own, as it is now."""
        name = f"test_{token_hex(6)}"
        template = str(self.world.url).partition("?")[0].rpartition("/")[2]
        with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.postgres.url(name)


@pytest.fixture(scope="module", params=KINDS)
def scene(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """One device for all cases."""
    url = postgres.create_database(f"test_{token_hex(6)}")
    folder = tmp_path_factory.mktemp("scene")
    return Scene(world=made_world(folder / "world", url, KINDS[request.param]), postgres=postgres)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A device without a remote, whose log is a file."""
    return made_world(tmp_path_factory.mktemp("alone") / "world", None, SQLiteFile())


# What is done to the log


Act = Callable[[World, Scene], None]


def sql(*statements: str) -> Act:
    """Run SQL in which PAIR and the streams of the migrations may be named."""

    def act(world: World, scene: Scene) -> None:
        pair = pair_of(scene.world)
        names = {"{PAIR}": pair, "{FIRST}": f"{pair}/{FIRST}", "{SECOND}": f"{pair}/{SECOND}"}
        for statement in statements:
            for name, value in names.items():
                statement = statement.replace(name, value)
            world.kind.edit(world.folder, statement)

    return act


def edited(stream: str, version: int, **changes: object) -> Act:
    """Edit an event, and give it the hash that is right for it alone."""

    def act(world: World, scene: Scene) -> None:
        name = f"{pair_of(scene.world)}/{stream}" if stream else pair_of(scene.world)
        where = f"WHERE stream = '{name}' AND version = {version}"
        ((position, payload),) = world.kind.query(world.folder, f"SELECT position, payload FROM twinstep_events {where}")
        given = {key: value(payload) if callable(value) else value for key, value in changes.items()}
        world.kind.edit(world.folder, rehashed(world, position, **given))

    return act


def swapped(one: tuple[str, int], other: tuple[str, int]) -> Act:
    """Have two events change places: everything that they hold but where they lie."""

    def act(world: World, scene: Scene) -> None:
        pair = pair_of(scene.world)
        columns = "type, schema_version, recorded_at, payload"
        at = [f"stream = '{pair}/{stream}' AND version = {version}" for stream, version in (one, other)]
        world.kind.edit(
            world.folder,
            f"CREATE TABLE kept_aside AS SELECT {columns} FROM twinstep_events WHERE {at[0]}",
            f"UPDATE twinstep_events SET ({columns}) = (SELECT {columns} FROM twinstep_events WHERE {at[1]}) WHERE {at[0]}",
            f"UPDATE twinstep_events SET ({columns}) = (SELECT {columns} FROM kept_aside) WHERE {at[1]}",
            "DROP TABLE kept_aside",
        )

    return act


def shortened(stream: str, left: int, *, moved_up: bool = False) -> Act:
    """Cut off all events of a stream after version `left`; with `moved_up`, so that the sequence has no gap."""

    def act(world: World, scene: Scene) -> None:
        name = f"{pair_of(scene.world)}/{stream}" if stream else pair_of(scene.world)
        world.kind.edit(world.folder, f"DELETE FROM twinstep_events WHERE stream = '{name}' AND version > {left}")
        if moved_up:
            close_up(world)

    return act


def close_up(world: World) -> None:
    """Number the events from 1 on, without a gap."""
    found = world.kind.query(world.folder, "SELECT position FROM twinstep_events ORDER BY position")
    moves = [(position, number) for number, (position,) in enumerate(found, 1) if number != position]
    world.kind.edit(
        world.folder,
        *(f"UPDATE twinstep_events SET position = {number} WHERE position = {position}" for position, number in moves),
    )


def without_one(stream: str, version: int) -> Act:
    """Remove one event, and move all that follow it in the log up."""

    def act(world: World, scene: Scene) -> None:
        where = f"stream = '{pair_of(scene.world)}/{stream}' AND version = {version}"
        world.kind.edit(world.folder, f"DELETE FROM twinstep_events WHERE {where}")
        close_up(world)

    return act


def lost(world: World, scene: Scene) -> None:
    world.kind.lose(world.folder)


def state_folder_lost(world: World, scene: Scene) -> None:
    world.kind.lose(world.folder)
    shutil.rmtree(world.folder / "app.db.twinstep")


def of_yesterday(world: World, scene: Scene) -> None:
    world.kind.copy(scene.beside("before"), world.folder)


def of_another_pair(world: World, scene: Scene) -> None:
    """Another device's, on another remote."""
    other = world.folder.with_name("other")
    other.mkdir()
    made_world(other / "world", None, world.kind)
    world.kind.copy(other / "world", world.folder)


def of_another_device(world: World, scene: Scene) -> None:
    """Another device's, on the same remote: it has confirmed there what this one has applied."""
    other = world.folder.with_name("other")
    other.mkdir()
    made_world(other / "world", scene.remote(), world.kind)
    world.kind.copy(other / "world", world.folder)


def made_anew(world: World, scene: Scene) -> None:
    """The log was given up once, and another one has recorded what was done since; then the old one came back."""
    other = world.copied(world.folder.with_name("other"), scene.remote())
    old = other.folder.with_name("old")
    old.mkdir()
    world.kind.copy(other.folder, old)
    world.kind.lose(other.folder)
    assert other.coordinator().migrate(adopt=True).outcome == "verified"
    world.kind.copy(other.folder, world.folder)
    # The databases are as they were before the other log went on.


def written(data: Callable[[bytes], bytes]) -> Act:
    """Write the file anew."""

    def act(world: World, scene: Scene) -> None:
        path = SQLiteFile().path(world.folder)
        path.write_bytes(data(path.read_bytes()))

    return act


@frozen(kw_only=True)
class Damage:
    """What is done, by which codes it may be noticed, and the ways out: an old copy, `--adopt`, or `--adopt` on a new log."""

    act: Act
    codes: tuple[str, ...]
    ways_out: tuple[str, ...]
    only: str = ""


FOREIGN: Final = ("copy", "adopt", "adopt on a new log")
DAMAGED: Final = ("copy", "adopt on a new log")
MOVED_AWAY: Final = (*DAMAGED, "move it away and adopt")

DAMAGES: Final[Mapping[str, Damage]] = {
    # Edited
    **{
        f"{column} of event {version} edited": Damage(
            act=sql(f"UPDATE twinstep_events SET {column} = {value} WHERE stream = '{{SECOND}}' AND version = {version}"),
            codes=codes,
            ways_out=DAMAGED,
        )
        for column, value, codes in (
            ("recorded_at", "'2001-01-01T00:00:00+00:00'", ("T501",)),
            ("type", "'Verified'", ("T501",)),
            ("schema_version", "7", ("T501",)),
            ("payload", "'{}'", ("T501",)),
            ("previous_hash", "hash", ("T501",)),
            ("hash", "previous_hash", ("T501",)),
            ("version", "version + 100", ("T501",)),
            ("position", "position + 100", ("T293",)),
            ("stream", "'elsewhere'", ("T501", "T252", "T258")),
        )
        for version in (1, 4)
    },
    "a payload edited, with the right hash for that event alone": Damage(
        act=edited(SECOND, 2, payload=lambda text: text.replace('"recovered":false', '"recovered":true') + " "),
        codes=("T501",),
        ways_out=DAMAGED,
    ),
    "a time edited in the pair's own stream, with the right hash for that event alone": Damage(
        act=edited("", 1, recorded_at="2001-01-01T00:00:00.000000+00:00"), codes=("T501",), ways_out=DAMAGED
    ),
    "the id of the log edited": Damage(act=sql("UPDATE twinstep_log SET log_id = 'other'"), codes=("T294",), ways_out=FOREIGN),
    "the id of the pair edited": Damage(act=sql("UPDATE twinstep_pairs SET pair = 'other'"), codes=("T251",), ways_out=FOREIGN),
    # Reordered
    "two events of a stream swapped": Damage(act=swapped((SECOND, 2), (SECOND, 4)), codes=("T501",), ways_out=DAMAGED),
    "two events of different streams swapped": Damage(act=swapped((FIRST, 4), (SECOND, 4)), codes=("T501",), ways_out=DAMAGED),
    "two streams given each other's names": Damage(
        act=sql(
            "UPDATE twinstep_events SET stream = 'aside' WHERE stream = '{FIRST}'",
            "UPDATE twinstep_events SET stream = '{FIRST}' WHERE stream = '{SECOND}'",
            "UPDATE twinstep_events SET stream = '{SECOND}' WHERE stream = 'aside'",
        ),
        codes=("T501",),
        ways_out=DAMAGED,
    ),
    # Shortened
    **{
        f"the second migration's stream cut after {left}, leaving a gap": Damage(
            act=shortened(SECOND, left), codes=("T293",), ways_out=DAMAGED
        )
        for left in (0, 3, 6)
    },
    **{
        f"the second migration's stream cut after {left}, the rest moved up": Damage(
            act=shortened(SECOND, left, moved_up=True), codes=("T252", "T258"), ways_out=FOREIGN
        )
        for left in range(3)
    },
    "an event removed from the middle, the rest moved up": Damage(
        act=without_one(SECOND, 3),
        codes=("T501",),
        ways_out=DAMAGED,
    ),
    # Lost, or another one
    "the log lost": Damage(act=lost, codes=("T251",), ways_out=FOREIGN),
    "the whole folder lost": Damage(act=state_folder_lost, codes=("T251",), ways_out=FOREIGN),
    "the log of yesterday": Damage(act=of_yesterday, codes=("T252",), ways_out=FOREIGN),
    "the log of another pair": Damage(act=of_another_pair, codes=("T251",), ways_out=FOREIGN),
    "the log of another device": Damage(act=of_another_device, codes=("T251",), ways_out=FOREIGN),
    "a log of the pair that was made anew and went on": Damage(act=made_anew, codes=("T253",), ways_out=FOREIGN),
    # Torn
    "a file of nothing": Damage(act=written(lambda data: b""), codes=("T251",), ways_out=FOREIGN, only="sqlite"),
    "a file of zeros": Damage(act=written(lambda data: bytes(len(data))), codes=("T507",), ways_out=MOVED_AWAY, only="sqlite"),
    "a header of garbage": Damage(
        act=written(lambda data: os.urandom(100) + data[100:]), codes=("T507",), ways_out=MOVED_AWAY, only="sqlite"
    ),
    "a file that is cut in the middle": Damage(
        act=written(lambda data: data[: len(data) // 2]), codes=("T507",), ways_out=MOVED_AWAY, only="sqlite"
    ),
    # From a newer program
    "a log of a newer version": Damage(
        act=sql("UPDATE twinstep_log SET schema_version = 2"), codes=("T508",), ways_out=("copy",)
    ),
    "an event of an unknown type": Damage(act=edited(SECOND, 7, type="Paused"), codes=("T502",), ways_out=("copy",)),
    "an event of a higher version": Damage(act=edited(SECOND, 7, schema_version=9), codes=("T502",), ways_out=("copy",)),
    "an event of the pair of a higher version": Damage(
        act=edited("", 4, schema_version=9), codes=("T502",), ways_out=("copy",)
    ),
}


# One for each code that a damage is noticed by: these are asked every call, and led out of, in `make test` too.
REPRESENTATIVES: Final = {
    "payload of event 4 edited": "T501",
    "the second migration's stream cut after 3, leaving a gap": "T293",
    "the second migration's stream cut after 2, the rest moved up": "T258",
    "the log lost": "T251",
    "the log of yesterday": "T252",
    "the id of the log edited": "T294",
    "a log of the pair that was made anew and went on": "T253",
    "a file of zeros": "T507",
    "an event of an unknown type": "T502",
    "a log of a newer version": "T508",
}
WAYS_OUT: Final = [
    pytest.param(name, way, id=f"{name}: {way}", marks=[] if name in REPRESENTATIVES and number == 0 else pytest.mark.full)
    for name, damage in DAMAGES.items()
    for number, way in enumerate(reversed(damage.ways_out))
]


def noticed(call: Callable[[], Any]) -> tuple[str, int]:
    """By which code a call has noticed something, and with which exit code; the code is empty where it has not."""
    try:
        answer = call()
    except TwinstepError as error:
        return error.code, error.exit_code
    return ("" if answer.error is None else answer.error.code), answer.exit_code


def told(world: World) -> set[str]:
    """By which kinds of conflict, or by which code, `status` tells of it; each with a way out."""
    try:
        status = world.coordinator().status()
    except TwinstepError as error:
        return {error.code} if error.next_step and error.exit_code == 5 else set()
    return {one.kind for one in status.conflicts if one.next_step and one.kind in BLOCKING}


@pytest.mark.parametrize("name", DAMAGES)
def test_nothing_is_run_on_a_log_that_is_not_what_was_written(name: str, scene: Scene, tmp_path: Path) -> None:
    damage = DAMAGES[name]
    world = scene.device(tmp_path / "device")
    damage.act(world, scene)
    before = world.databases()
    assert told(world) & {*damage.codes, "foreign_log", "behind_log"}
    assert world.bootstrap().decision == "stop"
    assert noticed(world.coordinator().migrate) in {(code, 5) for code in damage.codes}
    assert world.databases() == before


@pytest.mark.parametrize(
    "name", [name if name in REPRESENTATIVES else pytest.param(name, marks=pytest.mark.full) for name in DAMAGES]
)
def test_no_call_does_anything_on_it(name: str, scene: Scene, tmp_path: Path) -> None:
    damage = DAMAGES[name]
    world = scene.device(tmp_path / "device")
    damage.act(world, scene)
    before = world.databases()
    for what, call in calls(world):
        if damage.codes != ("T253",) or what not in OF_BACKUPS:
            assert noticed(call) in {(code, 5) for code in damage.codes}, what
            assert world.databases() == before, what


@pytest.mark.parametrize(("name", "way"), WAYS_OUT)
def test_the_way_out_of_a_damaged_log_leads_out(name: str, way: str, scene: Scene, tmp_path: Path) -> None:
    world = scene.world.copied(tmp_path / "device", scene.remote())
    DAMAGES[name].act(world, scene)
    assert world.coordinator().migrate().exit_code == 5
    if way == "copy":
        world.kind.copy(scene.beside("kept"), world.folder)
    elif way == "adopt on a new log":
        world = world.with_another_log()
    elif way == "move it away and adopt":
        world.kind.lose(world.folder)
    report = world.coordinator().migrate(adopt=way != "copy")
    assert (report.outcome, report.exit_code) == ("verified", 0), report.error
    assert world.tables() == EVERYTHING
    status = world.coordinator().status()
    assert (status.conflicts, status.needs_migration) == ((), False)
    # Also what is known of the past by the ledgers alone can be taken back.
    assert world.coordinator().roll_back(FIRST).outcome == "rolled_back"
    assert world.tables() == set()


@pytest.mark.parametrize("name", [name for name, code in REPRESENTATIVES.items() if code not in ("T502", "T508", "T253")])
def test_the_command_exits_5_and_names_the_way_out(
    name: str, scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = scene.device(tmp_path / "device")
    DAMAGES[name].act(world, scene)
    write_migrations(world.folder / "migrations")
    environ = {
        "TWINSTEP_LOCAL": str(world.local),
        "TWINSTEP_REMOTE": str(world.url),
        "TWINSTEP_LOG": world.kind.log(world.folder),
    }
    before = world.databases()
    for words in (["resume"], ["verify"], ["backup", "restore", world.backup]):
        assert run(words, environ=environ, folder=world.folder) == 5, words
        said = " ".join(capsys.readouterr().err.split())
        assert REPRESENTATIVES[name] in said, words
        assert "'twinstep migrate --adopt'" in said
    assert world.databases() == before


# Byte by byte, of a log that is a file


def read_or_refused(world: World, whole: object) -> str:
    """`refused`, or `same` where everything is read as it was written. Raises AssertionError for anything else."""
    if told(world):
        assert world.coordinator().resume().exit_code == 5
        return "refused"
    assert as_read(SQLiteFile().path(world.folder)) == whole
    return "same"


def test_a_file_that_is_cut_anywhere_is_refused(alone: World, tmp_path: Path) -> None:
    world = alone.copied(tmp_path / "device", None)
    path, before = SQLiteFile().path(world.folder), world.databases()
    data, whole = path.read_bytes(), as_read(path)
    cuts = [*range(0, len(data), 4096), *random.Random(5).sample(range(1, len(data)), 10)]
    assert len(cuts) > 25
    for cut in cuts:
        path.write_bytes(data[:cut])
        assert read_or_refused(world, whole) == "refused", cut
    assert world.databases() == before


# Flipped one by one: (in `make test`, in `make test-full`)
@pytest.mark.parametrize("flips", [50, pytest.param(1500, marks=pytest.mark.full)])
def test_a_flipped_bit_is_refused_or_nothing_reads_otherwise(
    flips: int, alone: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    world = alone.copied(tmp_path / "device", None)
    path, before = SQLiteFile().path(world.folder), world.databases()
    data, whole = path.read_bytes(), as_read(path)
    seen = Counter[str]()
    for offset in random.Random(7).sample(range(len(data)), flips):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << (offset % 8)
        path.write_bytes(flipped)
        seen[read_or_refused(world, whole)] += 1
        for beside in path.parent.glob("log.db-*"):
            beside.unlink()
    assert world.databases() == before
    assert set(seen) == {"refused", "same"}
    record_property("seen", dict(seen))


@pytest.fixture(scope="module")
def with_wal(alone: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A device that was killed: what the second migration and a check have written to the log lies in its write-ahead log."""
    folder = tmp_path_factory.mktemp("wal")
    earlier = alone.folder.parent / "before"
    shutil.copytree(earlier, folder / "world")
    world = evolve(alone, folder=folder / "world")
    path = SQLiteFile().path(world.folder)
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT count(*) FROM twinstep_events").fetchone()
        assert world.coordinator().migrate(to=SECOND).outcome == "verified"
        shutil.copytree(world.folder, folder / "killed")
    killed = evolve(alone, folder=folder / "killed")
    for beside in SQLiteFile().path(killed.folder).parent.glob("log.db-shm"):
        beside.unlink()
    assert wal_of(killed).stat().st_size > 20_000
    return killed


def wal_of(world: World) -> Path:
    """The write-ahead log of its log."""
    return SQLiteFile().path(world.folder).with_name("log.db-wal")


def blocked_or_recovered(world: World) -> str:
    """`blocked`, or what was lost looks like a crash, from which the very state is reached that was lost."""
    before = world.databases()
    if told(world):
        assert world.coordinator().resume().exit_code == 5
        assert world.databases() == before
        return "blocked"
    report = world.coordinator().resume()
    assert report.outcome in ("verified", "up_to_date"), report.error
    status = world.coordinator().status()
    assert (status.local.applied, status.conflicts, status.in_flight) == ((FIRST, SECOND), (), None)
    assert world.databases() == before
    assert is_sound(world)
    return "recovered"


def is_sound(world: World) -> bool:
    """What `twinstep log check` says."""
    with closing(SQLiteEventStore(SQLiteFile().path(world.folder), readonly=True)) as store:
        return check_log(store).sound


def damaged_wals(wal: bytes, database: bytes, stale: bytes, foreign: bytes, sampled: int) -> Iterator[tuple[str, bytes | None]]:
    yield "lost", None
    yield "empty", b""
    yield "zeros", bytes(len(wal))
    yield "foreign", foreign
    yield "stale", stale
    yield "the database itself", database
    frame = 24 + 4096
    for cut in range(32, len(wal), frame * (1 if sampled > 100 else 4)):
        yield f"cut at {cut}", wal[:cut]
    for offset in random.Random(11).sample(range(len(wal)), sampled):
        yield f"bit flipped at {offset}", wal[:offset] + bytes([wal[offset] ^ 1 << offset % 8]) + wal[offset + 1 :]


@pytest.mark.parametrize("sampled", [20, pytest.param(400, marks=pytest.mark.full)])
def test_a_damaged_write_ahead_log_is_refused_or_is_a_crash(
    sampled: int, with_wal: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    foreign = made_world(other / "world", None, SQLiteFile())
    with closing(sqlite3.connect(SQLiteFile().path(foreign.folder))) as reader:
        reader.execute("SELECT count(*) FROM twinstep_events").fetchone()
        assert foreign.coordinator().migrate().outcome == "verified"
        of_another = wal_of(foreign).read_bytes()
    stale_world = with_wal.copied(tmp_path / "stale", None)
    stale = wal_of(stale_world).read_bytes()
    # Written back, and gone on from: the old write-ahead log is put beside the newer file.
    assert stale_world.coordinator().create_backup().exit_code == 0
    wal, database = wal_of(with_wal).read_bytes(), SQLiteFile().path(with_wal.folder).read_bytes()
    seen = Counter[str]()
    for number, (name, data) in enumerate(damaged_wals(wal, database, stale, of_another, sampled)):
        world = (stale_world if name == "stale" else with_wal).copied(tmp_path / str(number), None)
        if data is None:
            wal_of(world).unlink()
        else:
            wal_of(world).write_bytes(data)
        seen[blocked_or_recovered(world)] += 1
    record_property("seen", dict(seen))
    assert seen["blocked"] > 5


# The pair's own stream, which no ledger holds


@pytest.mark.parametrize("tables_too", [False, True])
@pytest.mark.parametrize("left", range(4))
def test_without_the_end_of_the_pairs_own_stream_nothing_is_run_that_would_not_be_otherwise(
    left: int, tables_too: bool, alone: World, tmp_path: Path
) -> None:
    world = alone.copied(tmp_path / "device", None)
    pair = pair_of(world)
    world.kind.edit(world.folder, f"DELETE FROM twinstep_events WHERE stream = '{pair}' AND version > {left}")
    gap = world.kind.query(world.folder, "SELECT count(*) <> max(position) FROM twinstep_events") == [(1,)]
    assert told(world) == ({"T293"} if gap else set())
    close_up(world)
    if tables_too:
        world.kind.edit(world.folder, *(f"DROP TABLE {table}" for table in ROW_TYPES))
    report = world.coordinator().migrate()
    assert (report.outcome, [run.migration for run in report.runs]) == ("verified", [LAST])
    # The tables tell of what is gone, for as long as they are there.
    assert any("read tables" in finding for finding in report.findings) != tables_too


# The read tables


@pytest.mark.parametrize("table", ROW_TYPES)
@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE {table}",
        "DELETE FROM {table}",
        "UPDATE {table} SET metadata = 'nonsense'",
        "UPDATE {table} SET id = id || 'x'",
        "ALTER TABLE {table} RENAME COLUMN metadata TO other",
        "UPDATE {table} SET metadata = replace(metadata, '20', '10')",
    ],
)
def test_nothing_is_decided_by_the_read_tables_and_they_are_made_again(
    table: str, statement: str, alone: World, tmp_path: Path
) -> None:
    world = alone.copied(tmp_path / "device", None)
    sound = alone.coordinator().status(), alone.coordinator().backups()
    world.kind.edit(world.folder, statement.format(table=table))
    edited = not is_sound(world)
    # The pair is the same, wherever it lies.
    assert (world.coordinator().status(), world.coordinator().backups()) == sound
    report = world.coordinator().resume()
    assert (report.outcome, report.exit_code) == ("up_to_date", 0)
    assert ("read tables" in "".join(report.findings)) == edited
    assert is_sound(world)
    assert len(list((world.folder / "app.db.twinstep" / "backups").iterdir())) >= 3
