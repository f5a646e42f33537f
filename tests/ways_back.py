"""Every way back: a migration that is refused, or given up, at each effect and on each side, and what is left of it.

A `Case` says where it is stopped, which downs it has, whether a host is at work on both databases meanwhile, and the journal
mode. `walk` goes there on real databases and back again, as a person would (run, correct what is named, run again), and says
how the calls ended and what differs from before. `tests/test_ways_back.py` checks it; `make ways-back` prints it.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import psycopg
from attrs import frozen
from host_at_work import FIRST_ID, host_at_work
from targets import Crash, crash_at

from twinstep.engine.coordinator import Coordinator
from twinstep.engine.report import Report
from twinstep.migrations.postgres_catalogue import read_fingerprint as read_postgres
from twinstep.migrations.sqlite_catalogue import read_fingerprint as read_sqlite

ID = "0001_change"

LOCAL_UP = """
ALTER TABLE item ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
UPDATE item SET n = n + 10;
CREATE TABLE made (x);
CREATE INDEX item_pinned ON item (pinned);
"""
LOCAL_DOWN = """
DROP INDEX item_pinned;
DROP TABLE made;
UPDATE item SET n = n - 10;
ALTER TABLE item DROP COLUMN pinned;
"""
REMOTE_UP = """
UPDATE item SET n = n + 100 WHERE id < 1000;
CREATE TABLE made (x int);
CREATE INDEX CONCURRENTLY item_n ON item (n);
ALTER TABLE item ADD pinned boolean NOT NULL DEFAULT false;
"""
REMOTE_DOWN = """
ALTER TABLE item DROP pinned;
-- twinstep: group
DROP TABLE made;
UPDATE item SET n = n - 100 WHERE id < 1000;
"""
TOML = '[local]\nuser_version = { from = [11], to = 12 }\npending = "SELECT count(*) FROM pending_ops"\n'
FILES = {
    "local.up.sql": LOCAL_UP,
    "local.down.sql": LOCAL_DOWN,
    "remote.up.sql": REMOTE_UP,
    "remote.down.sql": REMOTE_DOWN,
    "migration.toml": TOML,
}
WRONG = "INSERT INTO nowhere VALUES (1);\n"


class Device:
    """A file, a remote and a folder with one migration."""

    def __init__(self, folder: Path, url: str, journal_mode: str) -> None:
        self.path = folder / "app.db"
        self.url = url
        self.change = folder / "migrations" / ID
        self.change.mkdir(parents=True)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as local:
            local.execute(f"PRAGMA journal_mode = {journal_mode}")
            local.executescript(
                "CREATE TABLE item (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER NOT NULL); CREATE TABLE pending_ops (id);"
                "CREATE TABLE other (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO item VALUES (1, 1), (2, 2), (7, 7);"
                "INSERT INTO other VALUES (1, 1); DELETE FROM item WHERE id = 7; PRAGMA user_version = 11;"
            )
        with psycopg.connect(url, autocommit=True) as remote:
            for table in ("item", "other"):
                remote.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, n bigint NOT NULL)".encode())
                remote.execute(f"INSERT INTO {table} VALUES (1, 1), (2, 2)".encode())
        self.write(FILES)

    def write(self, files: Mapping[str, str | None]) -> None:
        """These files of the migration; None takes one away."""
        for name, text in files.items():
            if text is None:
                (self.change / name).unlink(missing_ok=True)
            else:
                (self.change / name).write_text(text, encoding="utf-8")

    def coordinator(self, **options: Any) -> Coordinator:
        given = {"local": self.path, "remote": self.url, "migrations": self.change.parent, "retry_for_seconds": 20.0}
        return Coordinator(**{**given, **options})

    def world(self) -> dict[str, object]:
        """Both schemas, and the rows that were there before; what the host wrote since is asked for by itself."""
        with closing(sqlite3.connect(self.path)) as local, psycopg.connect(self.url, autocommit=True) as remote:
            look = read_sqlite(local)
            found: dict[str, object] = {f"local {key}": value for key, value in look.schema_only().objects.items()}
            found |= {f"local {key}": value for key, value in look.schema_only().marks.items()}
            found |= {f"remote {key}": value for key, value in read_postgres(remote, ("public",)).objects.items()}
            for table in ("item", "other"):
                rows = f"SELECT * FROM {table} WHERE id < {FIRST_ID} ORDER BY id"
                found[f"local rows of {table}"] = local.execute(rows).fetchall()
                found[f"remote rows of {table}"] = remote.execute(rows.encode()).fetchall()
            return found

    def written(self) -> dict[tuple[str, str], set[int]]:
        """The ids of the host's rows, by side and table."""
        found = {}
        with closing(sqlite3.connect(self.path)) as local, psycopg.connect(self.url, autocommit=True) as remote:
            for table in ("item", "other"):
                rows = f"SELECT id FROM {table} WHERE id >= {FIRST_ID}"
                found["local", table] = {int(id) for (id,) in local.execute(rows)}
                found["remote", table] = {int(id) for (id,) in remote.execute(rows.encode())}
        return found


@frozen(kw_only=True)
class Point:
    """Where a run is stopped: `prepare` gets there and makes the first call; `reached` are the sides that stand by then.

    `code` is what it is refused with, None where a person asks to go back, which is no failure.
    """

    name: str
    prepare: Callable[[Device], Report]
    reached: frozenset[str] = frozenset()
    code: str | None = None


def _stopped(name: str, text: str) -> Callable[[Device], Report]:
    """By what is written in one of the files."""

    def prepare(device: Device) -> Report:
        device.write({name: text})
        return device.coordinator().migrate()

    return prepare


def _pending(device: Device) -> Report:
    with closing(sqlite3.connect(device.path, isolation_level=None)) as local:
        local.execute("INSERT INTO pending_ops VALUES (1)")
    report = device.coordinator().migrate()
    with closing(sqlite3.connect(device.path, isolation_level=None)) as local:
        local.execute("DELETE FROM pending_ops")
    return report


def _read_only_remote(device: Device) -> Report:
    url = f"{device.url}{'&' if '?' in device.url else '?'}options=-c%20default_transaction_read_only%3Don"
    return device.coordinator(remote=url).migrate()


def _no_folder_for_backups(device: Device) -> Report:
    folder = device.path.with_name("app.db.twinstep")
    folder.mkdir()
    (folder / "backups").write_text("a file where the folder should be")
    report = device.coordinator().migrate()
    (folder / "backups").unlink()
    return report


def _remote_vanishes(device: Device) -> Report:
    """The operator takes the remote back while the device, which only relies on it, is changing its own side."""
    operator = device.coordinator(local=None, state_dir=device.path.with_name("operator"))
    assert operator.migrate().exit_code == 0

    def probe(crossing: str) -> None:
        if crossing == "APPLY_LOCAL:performed":
            assert operator.roll_back().exit_code == 0

    return device.coordinator(remote_role="require", probe=probe).migrate()


def _asked_at(crossing: str) -> Callable[[Device], Report]:
    """Killed there; then a person has had enough."""

    def prepare(device: Device) -> Report:
        try:
            device.coordinator(probe=crash_at(crossing)).migrate()
        except Crash:
            pass
        else:
            raise AssertionError(f"{crossing} was not passed")
        return device.coordinator().roll_back()

    return prepare


def _taken_back(device: Device) -> Report:
    report = device.coordinator().migrate()
    assert report.exit_code == 0, report
    return device.coordinator().roll_back()


LOCAL, REMOTE = frozenset({"local"}), frozenset({"local", "remote"})
POINTS: Sequence[Point] = (
    Point(name="VALIDATE, local: operations are pending", prepare=_pending, code="T202"),
    Point(name="VALIDATE, remote: read-only", prepare=_read_only_remote, code="T222"),
    Point(name="BACK_UP: no folder for it", prepare=_no_folder_for_backups, code="T239"),
    Point(name="APPLY_LOCAL: a statement", prepare=_stopped("local.up.sql", f"{LOCAL_UP}{WRONG}"), code="T331"),
    Point(
        name="APPLY_LOCAL: rows lost",
        prepare=_stopped("local.up.sql", f"{LOCAL_UP}DELETE FROM other WHERE id = 1;"),
        code="T334",
    ),
    Point(name="CONFIRM_REMOTE: it vanished", prepare=_remote_vanishes, reached=LOCAL, code="T205"),
    Point(
        name="APPLY_REMOTE, first group", prepare=_stopped("remote.up.sql", f"{WRONG}{REMOTE_UP}"), reached=LOCAL, code="T331"
    ),
    Point(
        name="APPLY_REMOTE, single statement",
        prepare=_stopped(
            "remote.up.sql",
            REMOTE_UP.replace("INDEX CONCURRENTLY item_n ON item (n)", "UNIQUE INDEX CONCURRENTLY item_n ON item ((id % 1))"),
        ),
        reached=REMOTE,
        code="T320",
    ),
    Point(
        name="APPLY_REMOTE, last group", prepare=_stopped("remote.up.sql", f"{REMOTE_UP}{WRONG}"), reached=REMOTE, code="T331"
    ),
    Point(
        name="APPLY_REMOTE, at COMMIT",
        prepare=_stopped(
            "remote.up.sql",
            f"{REMOTE_UP}ALTER TABLE other ADD FOREIGN KEY (n) REFERENCES item DEFERRABLE INITIALLY DEFERRED;"
            "INSERT INTO other VALUES (999, -1);",
        ),
        reached=REMOTE,
        code="T331",
    ),
    Point(
        name="VERIFY, local",
        prepare=_stopped("migration.py", "def check_local(connection):\n    raise ValueError('wrong')\n"),
        reached=REMOTE,
        code="T332",
    ),
    Point(
        name="VERIFY, remote",
        prepare=_stopped("migration.py", "def check_remote(connection):\n    raise ValueError('wrong')\n"),
        reached=REMOTE,
        code="T332",
    ),
    Point(name="asked in validated", prepare=_asked_at("BACK_UP:before")),
    Point(name="asked in backed_up", prepare=_asked_at("APPLY_LOCAL:before")),
    Point(name="asked in local_applied", prepare=_asked_at("START_REMOTE:before"), reached=LOCAL),
    Point(name="asked with the remote half applied", prepare=_asked_at("remote:open:after-commit"), reached=REMOTE),
    Point(name="asked in remote_applied", prepare=_asked_at("VERIFY:before"), reached=REMOTE),
    Point(name="taken back when verified", prepare=_taken_back, reached=REMOTE),
)
DOWNS: Mapping[str, Mapping[str, str | None]] = {
    "both": {},
    "no local": {"local.down.sql": None},
    "wrong local": {"local.down.sql": f"{LOCAL_DOWN}{WRONG}"},
    "wrong remote": {"remote.down.sql": f"{REMOTE_DOWN}{WRONG}"},
}


@frozen(kw_only=True)
class Case:
    """One way there and back."""

    point: Point
    downs: str = "both"
    at_work: bool = False
    journal_mode: str = "WAL"

    @property
    def name(self) -> str:
        return f"{self.point.name}; {self.downs}; {'host at work' if self.at_work else 'quiet'}; {self.journal_mode}"

    def rests(self) -> str:
        """The state in which the migration must end."""
        return "pending" if self.point.name.startswith("VALIDATE") else "rolled_back"

    def wanted(self) -> tuple[str, ...]:
        """How the calls must end: exit code, and the error in which they stopped or which made them go back."""
        refused, asked = self.point.code, self.point.code is None
        untouched = not self.point.reached and refused not in ("T331", "T334")
        if self.downs == "both" or (self.downs == "no local" and not self.at_work):
            return ("0 -",) if asked else (f"5 {refused}",) if untouched else (f"1 {refused}",)
        stuck = "T336" if self.downs == "no local" else "T338"
        return (f"6 {stuck}", "0 -" if asked else "1 -")


def cases() -> Iterator[Case]:
    """All that are different from each other: a down matters only where its side stands."""
    for point, downs, at_work, mode in itertools.product(POINTS, DOWNS, (False, True), ("WAL", "DELETE")):
        matters = {"both": True, "wrong remote": "remote" in point.reached}.get(downs, "local" in point.reached)
        blocked = downs == "no local" and point.prepare is _taken_back
        if matters and not blocked:
            yield Case(point=point, downs=downs, at_work=at_work, journal_mode=mode)


@frozen(kw_only=True)
class Walked:
    """How the calls ended (exit code and error), where the migration stands, and what differs from before."""

    ends: tuple[str, ...]
    state: str
    differs: tuple[str, ...]


def walk(case: Case, folder: Path, url: str) -> Walked:
    """There and back again. What is in flight after the first call is corrected, and resumed."""
    device = Device(folder, url, case.journal_mode)
    device.write(DOWNS[case.downs])
    before = device.world()
    with host_at_work(device.path, url) if case.at_work else nullcontext({}) as acknowledged:
        reports = [case.point.prepare(device)]
        if reports[-1].exit_code == 6:
            # What the message says to do: correct the down, or write the one that is missing; then run again.
            device.write({"local.down.sql": LOCAL_DOWN, "remote.down.sql": REMOTE_DOWN})
            reports.append(device.coordinator().resume())
    after = device.world()
    differs = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    written = device.written()
    for place, ids in acknowledged.items():
        missing = ids - written[place]
        differs += [f"{len(missing)} rows of the host in {' '.join(place)}"] if missing else []
    ends = tuple(f"{report.exit_code} {report.error.code if report.error is not None else '-'}" for report in reports)
    (one,) = device.coordinator().status().migrations
    return Walked(ends=ends, state=one.state, differs=tuple(differs))
