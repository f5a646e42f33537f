"""The command killed at random moments over the reference migration, and run again: what it leaves, held against what is legal.

Nothing is planted here and nothing is arranged: `twinstep` is a process of its own on copies of two databases that somebody's
application could have, SIGKILL comes when it comes, `resume` is typed afterwards. A third of them are killed a second time
meanwhile. Only the process itself is killed: what it has started must find out by itself.

Three kinds take turns: the migration, the migration with a check at its end that refuses, and the taking back of the verified
one. There are two legal worlds: as an unkilled run leaves it, and as before. Where the log says that a run had begun, it must
end as an unkilled one of its kind does. Read next: `whole_worlds.py`; `tools/kills.py` prints it, `test_kills.py` is short.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from attrs import define, field, frozen
from command_line import clean_environment
from whole_worlds import Databases, World, difference

from twinstep.engine.cli.app import run
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events.fold import fold
from twinstep.events.lifecycle import State
from twinstep.migrations import phase3
from twinstep.stores.sqlite_events import SQLiteEventStore

LOCAL = "notes.db"
LIMIT_SECONDS = 120.0
# A backend learns of its client's death within a second, or when the statement that it is at has ended.
GONE_SECONDS = 5.0
USERS = 20

REFUSING = """

def check_remote(connection: Connection) -> None:
    raise ValueError("refused on purpose")
"""

# What may lie beside the local file when nothing is in flight.
KEPT = re.compile(r"log\.db|lock|backups|backups/[0-9a-f-]{36}\.(db|json)")


@frozen(kw_only=True)
class Kind:
    """What is killed: the command, the state from which it starts, and how a run of it ends that nobody kills."""

    name: str
    words: tuple[str, ...]
    starts: State
    ends: State
    exit_code: int
    refuses: bool = False


KINDS = (
    Kind(name="migrate", words=("migrate",), starts=State.PENDING, ends=State.VERIFIED, exit_code=0),
    Kind(
        name="migrate, refused",
        words=("migrate",),
        starts=State.PENDING,
        ends=State.ROLLED_BACK,
        exit_code=1,
        refuses=True,
    ),
    Kind(name="rollback", words=("rollback",), starts=State.VERIFIED, ends=State.ROLLED_BACK, exit_code=0),
)


@frozen(kw_only=True)
class Place:
    """A folder with a local file and migrations, a remote of its own, and the command, typed there."""

    folder: Path
    remote: str
    compiled: Path

    @property
    def databases(self) -> Databases:
        """Both sides."""
        return Databases(local=self.folder / LOCAL, remote=self.remote)

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.folder / f"{LOCAL}.twinstep"

    @property
    def temporary(self) -> Path:
        """Where the command may put what it needs for a while."""
        return self.folder / "temporary"

    def start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """Start the command in a process group of its own; what it says goes into files of that name."""
        with (self.folder / f"{name}.out").open("wb") as out, (self.folder / f"{name}.err").open("wb") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "twinstep", "--local", LOCAL, "--remote", self.remote, *words, "--json"],
                cwd=self.folder,
                env={**environment(self.compiled), "TMPDIR": str(self.temporary)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

    def said(self, name: str) -> dict[str, Any]:
        """The answer of a command that has ended."""
        answer: dict[str, Any] = json.loads((self.folder / f"{name}.out").read_text())
        return answer

    def ask(self, *words: str) -> dict[str, Any]:
        """What the command answers that changes nothing, run in this process."""
        told = io.StringIO()
        with redirect_stdout(told):
            run(["--local", LOCAL, "--remote", self.remote, *words, "--json"], environ={}, folder=self.folder)
        answer: dict[str, Any] = json.loads(told.getvalue())
        return answer

    def left_in_the_log(self) -> State | None:
        """The migration's state by the log as a killed process left it, read from a copy; None where no run has begun."""
        aside = self.folder / "aside"
        aside.mkdir()
        try:
            # With its journal: opening the copy ends what was half written, and the log itself stays for `resume`.
            for path in self.state.glob("log.db*"):
                shutil.copyfile(path, aside / path.name)
            if not (aside / "log.db").exists():
                return None
            with closing(SQLiteEventStore(aside / "log.db")) as store:
                streams = [name for name in store.streams() if name.endswith(f"/{phase3.MIGRATION}")]
                return fold(store.read(streams[0])).state if streams else None
        finally:
            shutil.rmtree(aside)


def environment(compiled: Path) -> dict[str, str]:
    """What the command is started with: as a user's, who has it compiled; else most kills would only hit the compiler."""
    found = {"PYTHONPYCACHEPREFIX": str(compiled), **clean_environment()}
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


@frozen(kw_only=True)
class Legal:
    """A world that is allowed, and where it can be looked at."""

    place: Place
    world: World


@frozen(kw_only=True)
class Killed:
    """What became of one run that was killed, once or twice, and resumed to its end."""

    number: int
    kind: Kind
    delays: tuple[float, ...]
    hit: tuple[str, ...]
    ends: str
    held: int
    held_by_the_dead: int
    rows: int
    differs: tuple[str, ...]
    seconds: float


@define(kw_only=True)
class Stage:
    """A server, the databases that everything is copied from, and the two legal worlds."""

    server: EmbeddedPostgres
    folder: Path
    seconds: dict[str, float] = field(factory=dict)
    legal: dict[State, Legal] = field(factory=dict)

    def copied(self, start: State, name: str, *, refuses: bool = False) -> Place:
        """A fresh pair of databases as they are when the command to be killed is typed."""
        origin = self.legal[start].place
        folder = self.folder / name
        shutil.copytree(origin.folder, folder)
        place = Place(folder=folder, remote=self.server.url(name), compiled=origin.compiled)
        self._sql(f'CREATE DATABASE "{name}" TEMPLATE "{origin.folder.name}"')
        place.temporary.mkdir(exist_ok=True)
        if refuses:
            script = folder / "migrations" / phase3.MIGRATION / "migration.py"
            script.write_text(script.read_text() + REFUSING)
        return place

    def dropped(self, place: Place) -> None:
        """Take a copy away again."""
        self.server.drop_database(place.folder.name)
        shutil.rmtree(place.folder)

    def _sql(self, statement: str) -> None:
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(statement.encode())


def staged(server: EmbeddedPostgres, folder: Path, *, notes: int) -> Stage:
    """Build both databases with about so many notes each, run each kind once without a kill, and take its time.

    Raises AssertionError where an unkilled run does not end as it must: nothing could be held against it then.
    """
    stage = Stage(server=server, folder=folder)
    before = Place(folder=folder / "before", remote=server.create_database("before"), compiled=folder / "compiled")
    before.temporary.mkdir(parents=True)
    shutil.copytree(phase3.FOLDER, before.folder / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    phase3.build_local(before.folder / LOCAL, notes=notes)
    phase3.build_remote(before.remote, users=USERS, notes_per_user=-(-notes // USERS))
    as_before = Legal(place=before, world=before.databases.world())
    stage.legal |= dict.fromkeys((State.PENDING, State.ROLLED_BACK), as_before)
    # The first process of all compiles what it imports, and is not the one whose time is taken.
    assert before.start("first", "plan").wait(LIMIT_SECONDS) == 0
    for kind in KINDS:
        place = stage.copied(kind.starts, f"unkilled_{KINDS.index(kind)}", refuses=kind.refuses)
        began = time.monotonic()
        code = place.start("unkilled", *kind.words).wait(LIMIT_SECONDS)
        stage.seconds[kind.name] = time.monotonic() - began
        assert code == kind.exit_code, place.said("unkilled")
        if kind.ends not in stage.legal:
            stage.legal[kind.ends] = Legal(place=place, world=place.databases.world())
        _, differs = _differs(place, stage.legal[kind.ends])
        assert not differs, differs
        if stage.legal[kind.ends].place is not place:
            stage.dropped(place)
    return stage


def kills(stage: Stage, *, count: int, seed: int, failed: Callable[[Killed, Place], None]) -> Iterator[Killed]:
    """Kill so many times, the kinds in turn, each followed by `resume`. What ended before it could be killed is given too, and
    does not count. `failed` is called with what differs, while everything is still there to be looked at."""
    number, done = 0, 0
    while done < count:
        found, place = killed(stage, number=number, seed=seed)
        if found.differs:
            failed(found, place)
        stage.dropped(place)
        yield found
        number += 1
        done += found.hit[0] != ENDED


ENDED = "ended before"


def delays(number: int, seed: int, seconds: float) -> tuple[float, ...]:
    """When to kill: at any moment of the time that an unkilled run takes, or, every sixth, around its end and after; and for a
    third of them, when to kill the `resume` that follows."""
    rng = Random(f"{seed} {number}")
    first = rng.uniform(0.7, 1.5) if rng.random() < 1 / 6 else rng.random()
    second = rng.random()
    return (first * seconds, second * seconds) if (number // len(KINDS)) % 3 == 1 else (first * seconds,)


def killed(stage: Stage, *, number: int, seed: int) -> tuple[Killed, Place]:
    """Kill one run, resume it to its end, and look at everything that it left."""
    began = time.monotonic()
    kind = KINDS[number % len(KINDS)]
    place = stage.copied(kind.starts, f"killed_{number}", refuses=kind.refuses)
    when = delays(number, seed, stage.seconds[kind.name])
    differs: list[str] = []
    groups: list[int] = []
    hit: list[str] = []
    for turn, after in enumerate(when):
        words = kind.words if not turn else ("resume", "--wait", "10")
        process = place.start(f"{turn + 1}-{words[0]}", *words)
        groups.append(process.pid)
        hit.append(_hit(process, after, place, kind))
    held, by_the_dead, process = _resumed(place, groups)
    groups.append(process.pid)
    ended = place.said("last")["outcome"] if process.returncode in (0, 1) else (place.folder / "last.out").read_text()
    left = tuple(left_behind(place, groups))  # before anything else is asked: who only reads leaves files of SQLite's own
    status = place.ask("status")
    state = State(next(each["state"] for each in status["migrations"]))
    differs += _wrong_end(kind, hit, state, status, ended, process.returncode)
    rows, different = _differs(place, stage.legal.get(state, stage.legal[kind.ends]))
    differs += (*different, *left)
    found = Killed(
        number=number,
        kind=kind,
        delays=when,
        hit=tuple(hit),
        ends="not begun" if state is kind.starts else state.value,
        held=held,
        held_by_the_dead=by_the_dead,
        rows=rows,
        differs=tuple(differs),
        seconds=time.monotonic() - began,
    )
    return found, place


def _hit(process: subprocess.Popen[bytes], after: float, place: Place, kind: Kind) -> str:
    """Kill it when its time has come; where it was, by the log that it left."""
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.returncode >= 0:
        return ENDED
    state = place.left_in_the_log()
    return "not begun" if state is None or state is kind.starts else state.value


def _resumed(place: Place, groups: list[int]) -> tuple[int, int, subprocess.Popen[bytes]]:
    """Type `resume` at once, and with --wait where the lock is held still: how often it was, how often by one that is dead."""
    process = place.start("last", "resume")
    process.wait(LIMIT_SECONDS)
    if process.returncode != 4:
        return 0, 0, process
    said = place.said("last")["error"]["message"]
    groups.append(process.pid)
    process = place.start("last", "resume", "--wait", "10")
    process.wait(LIMIT_SECONDS)
    return 1, int(any(f"process {dead})" in said for dead in groups)), process


def _wrong_end(
    kind: Kind, hit: list[str], state: State, status: Mapping[str, Any], outcome: str, exit_code: int
) -> Iterator[str]:
    """What the log and the last answer say that may not be."""
    begun = any(each not in ("not begun", ENDED) for each in hit)
    legal = {kind.ends} if begun else {kind.ends, kind.starts}
    if state not in legal:
        yield f"the state is {state.value}, after {hit}"
    codes = {"up_to_date": 0, kind.ends.value: kind.exit_code}
    if codes.get(outcome) != exit_code:
        yield f"resume answered {outcome!r} with exit code {exit_code}"
    if status["in_flight"] or status["conflicts"]:
        yield f"in flight: {status['in_flight']}, conflicts: {status['conflicts']}"


def _differs(place: Place, legal: Legal) -> tuple[int, tuple[str, ...]]:
    """Both databases against the legal ones; the number of rows, and all of it in words."""
    found = difference(place.databases, legal.place.databases, legal.world)
    return found.rows, found.told


def left_behind(place: Place, groups: list[int]) -> Iterator[str]:
    """What should be gone: processes, sessions and locks on the server, files; and a log that is not sound."""
    if not _soon(lambda: not any(_lives(group) for group in groups)):
        yield "a process of the command is still there"
    with psycopg.connect(place.remote, autocommit=True) as connection:
        for name, query in _ON_THE_SERVER.items():
            if not _soon(lambda query=query: not connection.execute(query).fetchall()):  # type: ignore[misc]
                yield f"{name}: {connection.execute(query).fetchall()}"
    files = sorted(str(path.relative_to(place.state)) for path in place.state.rglob("*"))
    yield from (f"{name} is left in the state folder" for name in files if not KEPT.fullmatch(name))
    backups = sorted({name.removesuffix(".db").removesuffix(".json") for name in files if KEPT.fullmatch(name) and "/" in name})
    yield from (f"{name} is half a backup" for name in backups if not {f"{name}.db", f"{name}.json"} <= set(files))
    yield from (f"{path} is left" for path in place.temporary.iterdir())
    yield from (f"{path.name} is left" for path in place.folder.glob(f"{LOCAL}-*"))
    if not place.ask("log", "check")["sound"]:
        yield "the log is not sound"


_ON_THE_SERVER = {
    "sessions": b"SELECT pid, application_name, state, query FROM pg_stat_activity WHERE datname = current_database()"
    b" AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    "advisory locks": b"SELECT l.* FROM pg_locks l WHERE locktype = 'advisory'"
    b" AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
}


def _lives(group: int) -> bool:
    """Whether a process of the group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _soon(holds: Callable[[], bool]) -> bool:
    """Whether it comes true within the time that a server may take to see that its client has died."""
    deadline = time.monotonic() + GONE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
