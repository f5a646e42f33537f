"""A machine that does to a real pair what the world may do to it, in any order, and a model of what must stand.

The rules: write, edit, take away and put back migrations; migrate, resume, take back, verify; restore a backup, or an older
copy of the local file; crash a call at any crossing (by an exception that nobody may catch, or by SIGKILL of a child); cut its
sessions; have a second process, another device or the host at work at any crossing; move the clock.

The oracle is a model of its own and not the engine in memory, which cannot follow three of these: rows that a host writes in
SQL, sessions that are cut, and processes that die while the databases go on. It is small because of two things. Each migration
adds its own amount to every row, and row 0, which the host leaves alone, tells at any instant how much stands: the host writes
relative to it, so that each row must hold its own base and that sum. And how a run ends follows from what it is: a function of
the log's status and of the migration says as what each one must rest after a call that nothing has disturbed.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from attrs import asdict, evolve, frozen
from forked import Forks, kill_self
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from twinstep.engine.coordinator import Coordinator
from twinstep.events import types as e
from twinstep.events.codec import decode
from twinstep.events.fold import Status, fold
from twinstep.events.lifecycle import State
from twinstep.migrations import postgres_ledger, sqlite_ledger
from twinstep.migrations.definition import Migration, Side
from twinstep.migrations.ledger import SideLedger
from twinstep.stores.log_check import check_log
from twinstep.stores.port import utc_now
from twinstep.stores.sqlite_events import SQLiteEventStore

LOCK = "LOCK TABLE item IN SHARE ROW EXCLUSIVE MODE"
REFUSED = "INSERT INTO missing VALUES (1)"
SIDES = ("local", "remote")


class Crash(BaseException):
    """The process is dead. Not an Exception: nothing may catch it."""


def refuse(connection: object) -> None:
    """A check that says no."""
    raise ValueError("refused on purpose")


@frozen(kw_only=True)
class Spec:
    """A migration of the family. `refuses` is "", or where it is refused: local, remote, local check, remote check."""

    number: int
    local: bool = True
    remote: str = "add"
    refuses: str = ""
    down: bool = True
    edited: int = 0

    @property
    def id(self) -> str:
        return f"{self.number:04}_change"

    @property
    def amount(self) -> int:
        """What it adds to each row, on either side."""
        return 10 * 2**self.number + self.edited

    def migration(self) -> Migration:
        """As it is defined."""
        return Migration(
            id=self.id, local=self._local() if self.local else None, remote=self._remote() if self.remote else None
        )

    def _local(self) -> Side:
        up = f"ALTER TABLE item ADD COLUMN c{self.number} INTEGER; UPDATE item SET amount = amount + {self.amount}"
        down = f"UPDATE item SET amount = amount - {self.amount}; ALTER TABLE item DROP COLUMN c{self.number}"
        return Side(
            up=f"{up}; {REFUSED}" if self.refuses == "local" else up,
            down=down if self.down else None,
            check=refuse if self.refuses == "local check" else None,
        )

    def _remote(self) -> Side:
        # Whoever inserts while the rows are changed would be missed: as in any migration of this kind, the table is locked.
        up, down = (
            [LOCK, f"UPDATE item SET amount = amount + {self.amount}"],
            [LOCK, f"UPDATE item SET amount = amount - {self.amount}"],
        )
        if self.remote == "index":
            up.insert(0, f"CREATE INDEX CONCURRENTLY item_{self.number} ON item (amount)")
        if self.remote == "column":
            up.append(f"ALTER TABLE item ADD COLUMN c{self.number} integer")
            down.append(f"ALTER TABLE item DROP COLUMN c{self.number}")
        if self.refuses == "remote":
            up.append(REFUSED)
        return Side(up=";\n".join(up), down=";\n".join(down), check=refuse if self.refuses == "remote check" else None)


@frozen(kw_only=True)
class Device:
    """A local file with its log, and the remote that all devices share."""

    folder: Path
    url: str

    @property
    def file(self) -> Path:
        return self.folder / "app.db"

    @property
    def log(self) -> Path:
        return self.folder / "app.db.twinstep" / "log.db"

    def made(self) -> Device:
        """With the table, and row 0 in it."""
        self.folder.mkdir()
        with closing(sqlite3.connect(self.file)) as local:
            local.executescript(
                "PRAGMA journal_mode = WAL; CREATE TABLE item (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL)"
            )
            local.executescript("INSERT INTO item VALUES (0, 0)")
        return self

    def coordinator(
        self, specs: list[Spec], probe: Callable[[str], None] = str, *, hours: int = 0, wait: float = 10.0
    ) -> Coordinator:
        """A fresh process, whose clock is wrong by so many hours."""

        def clock() -> datetime:
            return utc_now() + timedelta(hours=hours)

        migrations = [spec.migration() for spec in specs]
        return Coordinator(
            local=self.file,
            remote=self.url,
            migrations=migrations,
            probe=probe,
            clock=clock,
            wait_seconds=wait,
            retry_for_seconds=10,
        )

    def statuses(self) -> dict[str, Status]:
        """What the log says, by migration."""
        with closing(SQLiteEventStore(self.log, readonly=True)) as store:
            return {name.rpartition("/")[2]: fold(store.read(name)) for name in store.streams() if "/" in name}

    def amounts(self) -> dict[str, int]:
        """What a text adds to the rows, by its checksum, from the statements that runs recorded when they began."""
        with closing(SQLiteEventStore(self.log, readonly=True)) as store:
            events = [decode(record) for record in store.read_all()]
        begun = [event for event in events if isinstance(event, e.RunStarted)]
        texts = [(event.checksums, json.dumps([event.local, event.remote])) for event in begun]
        found = [(checksums, re.search(r"amount \+ (\d+)", text)) for checksums, text in texts]
        return {checksum: int(amount[1]) for checksums, amount in found if amount for checksum in checksums.values()}


def call_in_child(folder: str, url: str, specs: list[dict[str, Any]], words: list[Any], hours: int, at: int) -> None:
    """Make the call, and be killed at the crossing of that number."""
    passed = 0

    def probe(crossing: str) -> None:
        nonlocal passed
        if passed == at:
            kill_self()
        passed += 1

    device = Device(folder=Path(folder), url=url)
    make(device.coordinator([Spec(**spec) for spec in specs], probe, hours=hours), words)


def make(coordinator: Coordinator, words: list[Any]) -> Any:
    """A call as its name and options."""
    name, options = words
    return getattr(coordinator, name)(**options)


def _possible(spec: Spec) -> Spec:
    """Refused only where it has a side."""
    where = {"l": spec.local, "r": bool(spec.remote), "": True}[spec.refuses[:1]]
    return spec if where else evolve(spec, refuses="")


SPECS = st.builds(
    Spec,
    number=st.just(0),
    local=st.sampled_from([True, True, False]),
    remote=st.sampled_from(["add", "index", "column"]),
    refuses=st.sampled_from(["", "", "", "", "local", "remote", "local check", "remote check"]),
    down=st.sampled_from([True, True, False]),
).map(_possible) | st.builds(Spec, number=st.just(0), remote=st.just(""), down=st.booleans())
CALLS = st.sampled_from(
    [["migrate", {}], ["migrate", {}], ["migrate", {"skip_remote": True}], ["resume", {}], ["roll_back", {}], ["verify", {}]]
)
CROSSINGS = st.integers(0, 45)


class Pair(RuleBasedStateMachine):
    """The machine. Nothing disturbed: what is predicted is what is found. Disturbed: run again, and it is."""

    def __init__(self, url: str, folder: Path, forks: Forks) -> None:
        super().__init__()
        self.url = url
        self.folder = folder
        self.forks = forks
        self.device = Device(folder=folder / "device", url=url).made()
        self.other = Device(folder=folder / "other", url=url).made()
        with psycopg.connect(url, autocommit=True) as remote:
            remote.execute(
                b"CREATE TABLE item (id integer PRIMARY KEY, amount integer NOT NULL); INSERT INTO item VALUES (0, 0)"
            )
        self.specs: list[Spec] = []
        self.away: dict[str, Spec] = {}
        self.bases: dict[str, dict[int, int]] = {"local": {}, "remote": {}}
        self.written = 0
        self.hours = 0
        self.older: tuple[Path, dict[int, int]] | None = None
        self.happened: list[object] = []

    # What is to be done.

    @initialize(specs=st.lists(SPECS, min_size=1, max_size=3))
    def begin(self, specs: list[Spec]) -> None:
        """There is something to do from the beginning."""
        for spec in specs:
            self.write(spec)

    @precondition(lambda self: len(self.specs) + len(self.away) < 7)
    @rule(spec=SPECS)
    def write(self, spec: Spec) -> None:
        """The next migration."""
        self.specs.append(evolve(spec, number=len(self.specs) + len(self.away) + 1))

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        """Its text is another one, or again the one that it was."""
        at = data.draw(st.integers(0, len(self.specs) - 1))
        self.specs[at] = evolve(self.specs[at], edited=1 - self.specs[at].edited)

    @precondition(lambda self: any(spec.refuses for spec in self.specs))
    @rule()
    def correct(self) -> None:
        """What is refused is put right, once nothing of it is in flight: of functions only the digest is recorded."""
        statuses = self.device.statuses() | {f"other {name}": status for name, status in self.other.statuses().items()}
        if not any(status.in_flight for status in statuses.values()):
            self.specs = [evolve(spec, refuses="") for spec in self.specs]

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def take_away(self, data: st.DataObject) -> None:
        """A migration is deleted from the folder."""
        spec = data.draw(st.sampled_from(self.specs))
        if spec.refuses.endswith("check"):
            return  # its function cannot be had from the log
        self.specs.remove(spec)
        self.away[spec.id] = spec

    @precondition(lambda self: self.away)
    @rule()
    def put_back(self) -> None:
        """All that were deleted are there again."""
        self.specs = sorted([*self.specs, *self.away.values()], key=lambda spec: spec.number)
        self.away.clear()

    @rule(hours=st.integers(-48, 48))
    def move_clock(self, hours: int) -> None:
        """The clock is wrong from now on."""
        self.hours = hours

    # Calls.

    @rule(words=CALLS)
    def call(self, words: list[Any]) -> None:
        """Undisturbed: it ends as predicted."""
        self.undisturbed(words)

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def migrate_to(self, data: st.DataObject) -> None:
        """Up to one of them."""
        self.undisturbed(["migrate", {"to": data.draw(st.sampled_from(self.specs)).id}])

    @rule(words=CALLS, at=CROSSINGS)
    def crash(self, words: list[Any], at: int) -> None:
        """An exception that nobody may catch, at that crossing."""

        def die() -> None:
            raise Crash

        with suppress(Crash):
            self.disturbed(self.useful(words), at, die)
        self.check()

    @rule(words=CALLS, at=CROSSINGS)
    def kill(self, words: list[Any], at: int) -> None:
        """The real thing."""
        words = self.useful(words)
        self.happened.append(("kill", words, at))
        self.agree(words)
        specs = [asdict(spec) for spec in self.specs]
        self.forks.call("machine", "call_in_child", str(self.device.folder), self.url, specs, words, self.hours, at)
        self.check()

    @rule(words=CALLS, at=CROSSINGS, kind=st.sampled_from(["cut", "rival", "other", "local host", "remote host"]))
    def disturb(self, words: list[Any], at: int, kind: str) -> None:
        """Somebody is at work at that crossing; then, what is left in flight can be ended."""
        does: dict[str, Callable[[], object]] = {
            "cut": self.cut,
            "rival": lambda: self.device.coordinator(self.specs, hours=self.hours, wait=0.0).migrate(),
            "other": lambda: self.other.coordinator(self.same_texts(), hours=self.hours, wait=0.0).migrate(),
            "local host": lambda: self.host("local", self.written % 3),
            "remote host": lambda: self.host("remote", self.written % 3),
        }
        self.happened.append(kind)
        self.disturbed(self.useful(words), at, does[kind])
        self.check()
        self.undisturbed(["resume", {}])

    @rule()
    def other_device(self) -> None:
        """Another device migrates the same remote."""
        self.happened.append("other device")
        self.other.coordinator(self.same_texts(), hours=self.hours).migrate()
        self.check()

    def useful(self, words: list[Any]) -> list[Any]:
        """The call, or where it would find nothing to do, another one that finds something."""
        statuses = self.device.statuses()
        if words[0] == "verify" or any(status.in_flight for status in statuses.values()):
            return words
        due = any(statuses.get(spec.id, Status()).state is not State.VERIFIED for spec in self.specs)
        if words[0] == "roll_back":
            stand = any(status.state is State.VERIFIED for status in statuses.values())
            return words if stand else ["migrate", {}]
        return words if due and words[0] == "migrate" else ["migrate", {}] if due else ["roll_back", {}]

    def same_texts(self) -> list[Spec]:
        """For another device: of what is in flight, the text that it began with. Two texts at once are nobody's to settle."""
        amounts = self.device.amounts()
        runs = {name: status.run for name, status in self.device.statuses().items() if status.in_flight and status.run}
        begun = {name: amounts[checksum] for name, run in runs.items() for checksum in run.checksums.values()}
        return [evolve(spec, edited=spec.edited + begun.get(spec.id, spec.amount) - spec.amount) for spec in self.specs]

    # The host.

    @rule(side=st.sampled_from(SIDES), what=st.integers(0, 2))
    def host_writes(self, side: str, what: int) -> None:
        """Between two calls."""
        self.host(side, what)

    def host(self, side: str, what: int) -> None:
        """Insert, update or delete, relative to row 0. Refused because somebody is in the way: then it was not written."""
        bases = self.bases[side]
        self.written += 1
        id, base = (self.written, self.written % 7) if what == 0 or not bases else (min(bases), self.written)
        insert = f"INSERT INTO item (id, amount) SELECT {id}, amount + {base} FROM item WHERE id = 0"
        update = f"UPDATE item SET amount = (SELECT amount FROM item WHERE id = 0) + {base} WHERE id = {id}"
        statement = insert if id == self.written else (update, f"DELETE FROM item WHERE id = {id}")[what - 1]
        try:
            if side == "local":
                with closing(sqlite3.connect(self.device.file, isolation_level=None, timeout=0.05)) as local:
                    local.execute(statement)
            else:
                with psycopg.connect(self.url, autocommit=True) as remote:
                    remote.execute(b"SET lock_timeout = '50ms'")
                    remote.execute(statement.encode())
        except (sqlite3.OperationalError, psycopg.errors.LockNotAvailable):
            return
        self.happened.append((side, statement))
        if statement.startswith("DELETE"):
            del bases[id]
        else:
            bases[id] = base

    # Old states of the local file.

    @rule()
    def keep_a_copy(self) -> None:
        """Of the file, as any program that backs files up does."""
        self.older = (self.folder / "older.db", dict(self.bases["local"]))
        self.older[0].unlink(missing_ok=True)
        with closing(sqlite3.connect(self.device.file)) as local, closing(sqlite3.connect(self.older[0])) as copy:
            local.backup(copy)

    @precondition(lambda self: self.older is not None and self.at_rest() and not self.blocked())
    @rule()
    def put_the_copy_back(self) -> None:
        """Older than the log, it is not run on; adopting what it holds is the way out."""
        assert self.older is not None
        for path in self.device.folder.glob("app.db*"):
            if path.is_file():
                path.unlink()
        shutil.copy(self.older[0], self.device.file)
        self.bases["local"] = dict(self.older[1])
        self.happened.append("older")
        missing = [
            name
            for name, status in self.device.statuses().items()
            if status.local_by and not self.stands("local", name, status)
        ]
        report = self.device.coordinator(self.specs, hours=self.hours).migrate()
        assert (report.exit_code == 5) >= bool(missing), report
        if blocked := self.blocked():
            self.mend(blocked)
        report = self.device.coordinator(self.specs, hours=self.hours).migrate(adopt=True)
        self.correct_the_down(report)
        assert self.at_rest(), report
        self.check()

    @precondition(lambda self: self.at_rest() and not self.blocked())
    @rule(last=st.booleans())
    def restore_a_backup(self, last: bool) -> None:
        """One of ours, and what was written since is given up."""
        coordinator = self.device.coordinator(self.specs, hours=self.hours)
        backups = coordinator.backups() if self.device.log.exists() else ()
        there = [each for each in backups if (self.device.log.parent / "backups" / f"{each.backup_id}.db").exists()]
        if not there:
            return
        backup = there[-1 if last else 0]
        with closing(sqlite3.connect(self.device.log.parent / "backups" / f"{backup.backup_id}.db")) as kept:
            rows = dict(kept.execute("SELECT id, amount FROM item"))
        self.happened.append(("restore", backup.backup_id))
        report = coordinator.restore_backup(backup.backup_id, discard_local_writes=True)
        assert report.exit_code == 0, report
        self.bases["local"] = {id: amount - rows[0] for id, amount in rows.items() if id}
        self.check()

    # How it is told what must be.

    def disturbed(self, words: list[Any], at: int, does: Callable[[], object]) -> None:
        """Make the call; something is done at the crossing of that number, if it comes so far."""
        passed = 0
        self.agree(words)

        def probe(crossing: str) -> None:
            nonlocal passed
            passed += 1
            if passed == at + 1:
                self.happened.append((words, crossing))
                does()

        make(self.device.coordinator(self.specs, probe, hours=self.hours), words)

    def undisturbed(self, words: list[Any]) -> None:
        """Make the call; everything must be as predicted."""
        self.agree(words)
        before = self.device.statuses()
        blocked, predicted = self.blocked(), self.predicted(words, before)
        report = make(self.device.coordinator(self.specs, hours=self.hours), words)
        self.happened.append((words, report.outcome))
        if words[0] == "verify":
            assert self.states() == {name: status.state for name, status in before.items()}
            return
        if blocked:
            assert report.exit_code == 5, (blocked, report)
            assert self.states() == {name: status.state for name, status in before.items()}
            self.mend(blocked)
        else:
            self.correct_the_down(report)
            found = {name: state for name, state in self.states().items() if state is not State.PENDING}
            assert found == predicted, (found, predicted, report)
            assert report.exit_code in (0, 1, 5, 6)
        self.check()

    def agree(self, words: list[Any]) -> None:
        """Who does not look at the remote does not see that another text stands there, and must not make it two."""
        if words[1].get("skip_remote") and (blocked := self.blocked()):
            self.mend(blocked)

    def mend(self, blocked: list[str]) -> None:
        """What was edited or taken away although it stands is as it was."""
        self.put_back()
        self.specs = [evolve(spec, edited=1 - spec.edited) if self.is_edited(spec) else spec for spec in self.specs]
        assert not self.blocked(), blocked

    def is_edited(self, spec: Spec) -> bool:
        """Whether another text of it stands on either side."""
        amounts = self.device.amounts() | self.other.amounts()
        standing = [ledgers.get(spec.id, SideLedger()).applied_by() for ledgers in self.ledgers(self.device)]
        return any(row is not None and amounts[row.checksum] != spec.amount for row in standing)

    def correct_the_down(self, report: Any) -> None:
        """Where a host wrote since, nothing is restored from the backup; a down that is written then is the way out."""
        if report.error is not None and report.error.code == "T336":
            self.specs = [evolve(spec, down=True) for spec in self.specs]
            self.away = {name: evolve(spec, down=True) for name, spec in self.away.items()}
            name = next(name for name, status in self.device.statuses().items() if status.in_flight)
            if name in self.away:
                self.specs = sorted([*self.specs, self.away.pop(name)], key=lambda spec: spec.number)
            report = self.device.coordinator(self.specs, hours=self.hours).resume()
            assert report.exit_code in (0, 1), report

    def predicted(self, words: list[Any], before: Mapping[str, Status]) -> dict[str, State]:
        """As what each migration must rest."""
        name, options = words
        ends = {id: status.state for id, status in before.items() if status.state is not State.PENDING}
        known = {spec.id: spec for spec in (*self.specs, *self.away.values())}
        if name == "roll_back":
            standing = [id for id in sorted(ends) if ends[id] is not State.ROLLED_BACK]
            if standing:
                last = standing[-1]
                ends[last] = self.taken_back(before[last], known[last])
            return ends
        skip = bool(options.get("skip_remote"))
        skipped = {id for id, status in before.items() if status.remote_skipped}
        for id, status in sorted(before.items()):
            if status.in_flight:
                ends[id] = self.ended(status, known[id], skip=skip)
                if ends[id] is not State.VERIFIED or self.goes_back(status, known[id], skip=skip):
                    return ends
                if self.skips(status, skip=skip):
                    skipped.add(id)
        if name == "resume":
            return ends
        for spec in self.specs:
            if spec.id > options.get("to", "9"):
                break
            verified = ends.get(spec.id) is State.VERIFIED
            if verified and (skip or spec.id not in skipped):
                continue
            remote = spec.remote and not skip and not self.remote_stands(spec.id)
            local = spec.local and not self.local_stands(spec.id)
            wrong = {
                "": False,
                "local": local,
                "local check": local,
                "remote": remote,
                "remote check": spec.remote and not skip,
            }
            if wrong[spec.refuses]:
                # What is done later goes back alone, if anything was done at first.
                ends[spec.id] = State.VERIFIED if verified and spec.local else State.ROLLED_BACK
                return ends
            ends[spec.id] = State.VERIFIED
        return ends

    def ended(self, status: Status, spec: Spec, *, skip: bool) -> State:
        """As what a run in flight must rest when it is finished."""
        assert status.run is not None
        if status.run.direction == e.BACK:
            return State.ROLLED_BACK
        if self.goes_back(status, spec, skip=skip):
            return State.VERIFIED if status.before is State.VERIFIED and spec.local else State.ROLLED_BACK
        return State.VERIFIED

    def skips(self, status: Status, *, skip: bool) -> bool:
        """Whether a run in flight leaves the remote to a later one."""
        assert status.run is not None
        # Where the remote stood already, nothing is started, and its check is asked all the same.
        reached = status.remote_started or status.state is State.REMOTE_APPLIED
        return status.remote_skipped or ((status.run.skip_remote or skip) and not reached)

    def goes_back(self, status: Status, spec: Spec, *, skip: bool) -> bool:
        """Whether a run in flight goes back, or is refused where it has still to go, by what it recorded."""
        assert status.run is not None
        if status.state is State.ROLLING_BACK or status.run.direction == e.BACK:
            return True
        side, _, check = spec.refuses.partition(" ")
        if side not in status.run.sides:
            return False
        if side == "local":
            return status.before is not State.VERIFIED
        return not self.skips(status, skip=skip) and bool(check or not self.remote_stands(spec.id))

    def taken_back(self, status: Status, spec: Spec) -> State:
        """As what the last one must rest when it is taken back."""
        if status.in_flight:
            assert status.run is not None
            later = status.before is State.VERIFIED and status.run.direction == e.APPLY
            return State.VERIFIED if later and spec.local else State.ROLLED_BACK
        # Its own backup holds the new state already: without a down, a verified one stays.
        return State.VERIFIED if spec.local and not spec.down and status.local_by is not None else State.ROLLED_BACK

    def blocked(self) -> list[str]:
        """What stands and was edited since, or is not there any more."""
        in_flight = {name for name, status in self.device.statuses().items() if status.in_flight}
        specs = {spec.id: spec for spec in self.specs}
        amounts = self.device.amounts() | self.other.amounts()
        return [
            name
            for ledgers in self.ledgers(self.device)
            for name, ledger in ledgers.items()
            if (by := ledger.applied_by()) is not None
            and name not in in_flight
            and (name not in specs or specs[name].amount != amounts[by.checksum])
        ]

    def at_rest(self) -> bool:
        """Whether nothing is in flight."""
        return not any(status.in_flight for status in self.device.statuses().values())

    def states(self) -> dict[str, State]:
        return {name: status.state for name, status in self.device.statuses().items()}

    def ledgers(self, device: Device) -> tuple[Mapping[str, SideLedger], Mapping[str, SideLedger]]:
        """Of the device's file, and of the remote."""
        with closing(sqlite3.connect(device.file)) as local, psycopg.connect(self.url, autocommit=True) as remote:
            return sqlite_ledger.read_whole(local).ledgers, postgres_ledger.read_whole(remote).ledgers

    def stands(self, side: str, name: str, status: Status) -> bool:
        ledger = self.ledgers(self.device)[SIDES.index(side)].get(name, SideLedger())
        return ledger.whole(status.local_by or "")

    def local_stands(self, name: str) -> bool:
        return self.ledgers(self.device)[0].get(name, SideLedger()).applied_by() is not None

    def remote_stands(self, name: str) -> bool:
        return self.ledgers(self.device)[1].get(name, SideLedger()).applied_by() is not None

    def check(self) -> None:
        """Everything that must hold between two calls."""
        amounts = self.device.amounts() | self.other.amounts()
        for device in (self.device, self.other):
            statuses = device.statuses()
            with closing(SQLiteEventStore(device.log, readonly=True)) as store:
                report = check_log(store)
            assert report.sound, report.problems
            ledgers = self.ledgers(device)
            in_flight = {name for name, status in statuses.items() if status.in_flight}
            for name, status in statuses.items():
                if name not in in_flight:
                    for ledger, by in zip(ledgers, (status.local_by, status.remote_by), strict=True):
                        stands = ledger.get(name, SideLedger()).applied_by() is not None
                        # On the remote others may have applied it since.
                        assert stands if by is not None else ledger is ledgers[1] or not stands, (name, by)
            with closing(sqlite3.connect(device.file)) as local:
                found = dict(local.execute("SELECT id, amount FROM item"))
                assert local.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            self.check_rows("local", found, ledgers[0], amounts, self.bases["local"] if device is self.device else {})
        self.check_remote(ledgers[1], amounts)

    def check_remote(self, ledgers: Mapping[str, SideLedger], amounts: Mapping[str, int]) -> None:
        with psycopg.connect(self.url, autocommit=True) as remote:
            ours = "SELECT oid FROM pg_database WHERE datname = current_database()"
            held = f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = ({ours})".encode()
            deadline = time.monotonic() + 10
            while remote.execute(held).fetchone() is not None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            found = dict(remote.execute(b"SELECT id, amount FROM item").fetchall())
            # A group of ours that stands although its run is still in flight counts too.
            self.check_rows("remote", found, ledgers, amounts, self.bases["remote"])
            if all(not ledger.half_applied_by() for ledger in ledgers.values()):
                invalid = b"SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid"
                assert remote.execute(invalid).fetchall() == []

    def check_rows(
        self,
        side: str,
        found: Mapping[int, int],
        ledgers: Mapping[str, SideLedger],
        amounts: Mapping[str, int],
        bases: Mapping[int, int],
    ) -> None:
        """Nothing lost, nothing twice."""
        half = any(ledger.half_applied_by() is not None for ledger in ledgers.values())
        applied = [ledger.applied_by() for ledger in ledgers.values()]
        stands = found[0] if half else sum(amounts[row.checksum] for row in applied if row is not None)
        assert found == {0: stands, **{id: base + stands for id, base in bases.items()}}, (side, found, stands, bases)

    def cut(self) -> None:
        """End the sessions of ours."""
        ours = "pid <> pg_backend_pid() AND datname = current_database() AND application_name LIKE 'twinstep on %'"
        with psycopg.connect(self.url, autocommit=True) as remote:
            remote.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {ours}".encode())

    def teardown(self) -> None:
        """Whatever is in flight at the end can be ended."""
        self.put_back()
        if blocked := self.blocked():
            self.mend(blocked)
        while not self.at_rest():
            before = self.states()
            self.undisturbed(["resume", {}])
            assert self.states() != before, self.happened
