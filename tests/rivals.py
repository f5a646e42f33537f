"""Eight coordinators started at the same instant on one pair, in each of the forms in which people can do so.

They are processes of their own, forked from one that has imported all that they will need. Each says that it is there, and
waits for the end of a pipe that all of them read: closing it lets all go at once. The migration adds 1 to each row on both
sides and makes an index, so that it shows in the rows how often it was applied; the log tells by whom. Read next:
`engine/locks.py`; `tools/rivals.py` prints it, `test_rivals.py` is short.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, TypeAlias

import psycopg
from attrs import frozen
from command_line import clean_environment

from twinstep.events import types as e
from twinstep.events.codec import decode
from twinstep.events.types import Recorded
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

Form: TypeAlias = Literal["one_state_folder", "one_log", "many_devices", "remote_only"]

FORMS: dict[Form, str] = {
    "one_state_folder": "one local file, one state folder",
    "one_log": "one local file, a state folder each, one log",
    "many_devices": "a local file each, one remote",
    "remote_only": "one remote, a state folder each, one log",
}

ID = "0001_add"
LIMIT_SECONDS = 120.0
WAIT_SECONDS = 60

ADD = "UPDATE item SET n = n + 1;\nCREATE INDEX item_n ON item (n);"
TAKE_AWAY = "DROP INDEX item_n;\nUPDATE item SET n = n - 1;"
TABLE = "CREATE TABLE item (id integer PRIMARY KEY, n integer); INSERT INTO item VALUES (1, 0), (2, 0);"

# Forked from one that has everything imported: what is fought over is the databases, not the processor.
STARTER = """
import json, os, sys
import sqlalchemy
import twinstep.engine.cli.changing, twinstep.engine.coordinator
import twinstep.migrations.postgres_target, twinstep.migrations.sqlite_target, twinstep.stores.sqlite_events
from twinstep.__main__ import main

ready, processes = int(sys.argv[1]), []
for number, words in enumerate(json.loads(sys.argv[2])):
    process = os.fork()
    if not process:
        for descriptor, name in enumerate((f"{number}.out", f"{number}.err"), start=1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.write(ready, b".")
        os.read(0, 1)
        sys.argv[1:] = words
        sys.exit(main())
    processes.append(process)
print(json.dumps([[process, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])] for process in processes]))
"""


@frozen(kw_only=True)
class Answer:
    """What one of them ended with."""

    process: int
    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """The one object on its standard output; empty where there is none."""
        try:
            found: dict[str, Any] = json.loads(self.out)
        except ValueError:
            return {}
        return found

    @property
    def outcome(self) -> str:
        """In a word; a code of ours where there is one."""
        error = self.data.get("error") or {}
        return " ".join(filter(None, (self.data.get("outcome", "?"), error.get("code"))))

    @property
    def changed(self) -> bool:
        """Whether a run of it has begun, by its own report."""
        return bool(self.data.get("runs"))

    @property
    def message(self) -> str:
        """What it says went wrong."""
        return str((self.data.get("error") or {}).get("message", ""))


@frozen(kw_only=True)
class Round:
    """How one round ended, and what was wrong with it."""

    form: Form
    waits: bool
    answers: tuple[Answer, ...]
    wrong: tuple[str, ...]
    unnamed: tuple[str, ...]


@frozen(kw_only=True)
class Ground:
    """A folder and a remote, made for one round."""

    form: Form
    folder: Path
    remote: str
    rivals: int
    compiled: Path

    def made(self) -> Ground:
        """Both databases and the migration, as they are before anybody comes."""
        migration = self.folder / "migrations" / ID
        migration.mkdir(parents=True)
        for side in ("local", "remote") if self.form != "remote_only" else ("remote",):
            (migration / f"{side}.up.sql").write_text(ADD)
            (migration / f"{side}.down.sql").write_text(TAKE_AWAY)
        for path in self.files():
            path.parent.mkdir(exist_ok=True)
            with closing(sqlite3.connect(path)) as local:
                local.executescript(TABLE)
        with psycopg.connect(self.remote, autocommit=True) as remote:
            remote.execute(TABLE.encode())
        return self

    def files(self) -> tuple[Path, ...]:
        """The local files."""
        if self.form == "remote_only":
            return ()
        devices = self.rivals if self.form == "many_devices" else 1
        return tuple(self.folder / f"device_{number}" / "app.db" for number in range(devices))

    def logs(self) -> tuple[Path, ...]:
        """The logs."""
        if self.form in ("one_log", "remote_only"):
            return (self.folder / "log.db",)
        return tuple(path.with_name(f"{path.name}.twinstep") / "log.db" for path in self.files())

    def words(self, number: int) -> tuple[str, ...]:
        """What the one of that number types."""
        words = ["--remote", self.remote, "--migrations", str(self.folder / "migrations")]
        if files := self.files():
            words += ["--local", str(files[number if len(files) > 1 else 0])]
        if self.form in ("one_log", "remote_only"):
            words += ["--state-dir", str(self.folder / f"state_{number}"), "--log", f"sqlite:///{self.folder / 'log.db'}"]
        return tuple(words)

    def at_once(self, words: Sequence[str]) -> tuple[Answer, ...]:
        """Start them all, let them go at the same instant, and wait for their answers."""
        gun, trigger = os.pipe()
        ready, say_ready = os.pipe()
        typed = [[*self.words(number), *words, "--json"] for number in range(self.rivals)]
        starter = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(say_ready), json.dumps(typed)],
            cwd=self.folder,
            env=_environment(self.compiled),
            stdin=gun,
            stdout=subprocess.PIPE,
            pass_fds=(say_ready,),
            text=True,
        )
        os.close(gun)
        os.close(say_ready)
        waiting = 0
        while waiting < self.rivals:
            said = os.read(ready, self.rivals)
            assert said, "they have ended before they began"
            waiting += len(said)
        os.close(trigger)
        os.close(ready)
        ended, _ = starter.communicate(timeout=LIMIT_SECONDS)
        return tuple(self._answer(number, *each) for number, each in enumerate(json.loads(ended)))

    def _answer(self, number: int, process: int, code: int) -> Answer:
        out, err = ((self.folder / f"{number}.{name}").read_text() for name in ("out", "err"))
        return Answer(process=process, code=code, out=out, err=err)


def _environment(compiled: Path) -> dict[str, str]:
    found = {"PYTHONPYCACHEPREFIX": str(compiled), **clean_environment()}
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


def fought(ground: Ground, *, waits: bool) -> Round:
    """One round; and for devices that were told to wait, what they find when they come again."""
    answers = ground.at_once(("migrate", "--wait", str(WAIT_SECONDS)) if waits else ("migrate",))
    wrong = list(_wrong_answers(ground, answers, waits=waits))
    if ground.form == "many_devices" and not waits:
        again = ground.at_once(("migrate", "--wait", str(WAIT_SECONDS)))
        wrong += [f"come again: {answer.outcome}, exit {answer.code}: {answer.message}" for answer in again if answer.code]
    wrong += _wrong_ends(ground)
    unnamed = tuple(answer.message for answer in answers if answer.code == 4 and not _names(answer.message, answers))
    return Round(form=ground.form, waits=waits, answers=answers, wrong=tuple(wrong), unnamed=unnamed)


def _wrong_answers(ground: Ground, answers: Sequence[Answer], *, waits: bool) -> Iterator[str]:
    legal = {(0, "verified"), (0, "up_to_date")}
    if not waits:
        legal.add((4, "locked T401"))
    for answer in answers:
        if (answer.code, answer.outcome) not in legal:
            yield f"exit {answer.code}, {answer.outcome}: {answer.message or answer.err[-400:]}"
        if answer.changed and "Nothing was changed" in answer.message:
            yield f"says that nothing was changed, and left a run at {answer.data['runs'][-1]['state']}"
        if "Traceback" in answer.err:
            yield f"a traceback: {answer.err[-400:]}"
    verified = sum(answer.outcome == "verified" for answer in answers)
    if ground.form != "many_devices" and verified != 1:
        yield f"{verified} of them say that they have migrated"
    if ground.form == "many_devices" and waits and verified != ground.rivals:
        yield f"only {verified} of {ground.rivals} devices have migrated"


def _wrong_ends(ground: Ground) -> Iterator[str]:
    """Rows and indexes of every database, who applied by the logs, and whether the logs are sound."""
    for path in ground.files():
        with closing(sqlite3.connect(path)) as local:
            if (rows := local.execute("SELECT n FROM item ORDER BY id").fetchall()) != [(1,), (1,)]:
                yield f"{path.parent.name}: the rows are {rows}"
            if not local.execute("SELECT 1 FROM sqlite_schema WHERE name = 'item_n'").fetchall():
                yield f"{path.parent.name}: the index is missing"
    with psycopg.connect(ground.remote, autocommit=True) as remote:
        if (rows := remote.execute("SELECT n FROM item ORDER BY id").fetchall()) != [(1,), (1,)]:
            yield f"remote: the rows are {rows}"
        if remote.execute(b"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('item_n')").fetchall() != [(True,)]:
            yield "remote: the index is missing or not valid"
        if locks := remote.execute("SELECT * FROM pg_locks WHERE locktype = 'advisory'").fetchall():
            yield f"remote: advisory locks are left: {locks}"
    remotely = 0
    for log in ground.logs():
        with closing(SQLiteEventStore(log, readonly=True)) as store:
            records = list(store.read_all())
            if not check_log(store).sound:
                yield f"{log}: not sound"
        remotely += _applied(records, e.RemoteApplied)
        locally = _applied(records, e.LocalApplied)
        if locally != int(ground.form != "remote_only"):
            yield f"{log}: the local side was applied {locally} times"
    if remotely != 1:
        yield f"the remote was applied {remotely} times"


def _applied(records: Sequence[Recorded], kind: type[e.LocalApplied | e.RemoteApplied]) -> int:
    """How many runs say that they changed that side themselves."""
    found = [event for record in records if isinstance(event := decode(record), kind)]
    return sum(not event.nothing and event.by == event.run for event in found)


def _names(message: str, answers: Sequence[Answer]) -> bool:
    """Whether it says who holds the lock: host, process, since when, and what it does."""
    process = re.search(r"process (\d+)", message)
    rivals = {answer.process for answer in answers}
    known = process is not None and int(process[1]) in rivals
    return known and socket.gethostname() in message and "since " in message and "to migrate" in message
