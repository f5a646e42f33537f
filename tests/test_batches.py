"""Migrations of every make, end to end on a real SQLite file and a real PostgreSQL: batches, one side only, no local file,
several groups and their downs, statements that run alone.

What is compared is the world: both catalogues and all rows, before, after, and after everything was taken back.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from targets import Crash, crash_at, sometimes

from twinstep import Coordinator, Migration, Side
from twinstep.engine.report import Report
from twinstep.migrations.catalogue import Fingerprint
from twinstep.migrations.postgres_catalogue import read_fingerprint as read_postgres
from twinstep.migrations.sqlite_catalogue import read_fingerprint as read_sqlite
from twinstep.stores.log_check import check_log
from twinstep.stores.sqlite_events import SQLiteEventStore

Rows = list[tuple[Any, ...]]


class Place:
    """A folder with a database, its migrations and a remote."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.path = folder / "app.db"
        with closing(sqlite3.connect(self.path)) as local:
            local.executescript(
                "CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO item VALUES (1, 10), (2, 20);"
            )
        with psycopg.connect(url) as remote:
            remote.execute("CREATE TABLE item (id int PRIMARY KEY, n int)")
            remote.execute("INSERT INTO item SELECT g, g * 10 FROM generate_series(1, 100) AS g")

    def write(self, name: str, **texts: str) -> None:
        """`local_up` is local.up.sql and so on, `py` is migration.py, `toml` migration.toml."""
        folder = self.folder / "migrations" / name
        folder.mkdir(parents=True, exist_ok=True)
        names = {"py": "migration.py", "toml": "migration.toml"}
        for key, text in texts.items():
            (folder / names.get(key, f"{key.replace('_', '.')}.sql")).write_text(text)

    def coordinator(self, **options: Any) -> Coordinator:
        given = {"local": self.path, "remote": self.url, "migrations": self.folder / "migrations", "retry_for_seconds": 0.4}
        return Coordinator(**{**given, **options})

    def world(self) -> tuple[Fingerprint, Fingerprint, Rows, Rows]:
        with closing(sqlite3.connect(self.path)) as local, psycopg.connect(self.url, autocommit=True) as remote:
            query = "SELECT * FROM item ORDER BY id"
            rows = local.execute(query).fetchall(), remote.execute(query).fetchall()
            return read_sqlite(local), read_postgres(remote, ("public",)), *rows

    def remote(self, query: str) -> Rows:
        with psycopg.connect(self.url, autocommit=True) as remote:
            return remote.execute(query.encode()).fetchall()

    def indexes(self) -> list[tuple[str, bool]]:
        """The remote's indexes on `item` but its key, and whether each is valid."""
        query = (
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = 'item'::regclass AND NOT indisprimary"
        )
        return [(name, valid) for name, valid in self.remote(f"{query} ORDER BY 1")]


@pytest.fixture
def place(tmp_path: Path, remote_url: str) -> Place:
    return Place(tmp_path, remote_url)


def ended(report: Report) -> tuple[str, int]:
    return report.outcome, report.exit_code


# Many


def steps(place: Place, many: int) -> None:
    """They build on each other: each adds a column, and adds to every row what the one before has made."""
    for number in range(1, many + 1):
        up = f"ALTER TABLE item ADD COLUMN c{number} INTEGER NOT NULL DEFAULT {number}; UPDATE item SET n = n * 2 - c{number};"
        down = f"UPDATE item SET n = (n + c{number}) / 2; ALTER TABLE item DROP COLUMN c{number};"
        version = f"[local]\nuser_version = {{ from = [{number - 1}], to = {number} }}\n"
        # Names of different widths: order is by number.
        texts = {"local_up": up, "local_down": down, "toml": version}
        place.write(f"{number}_step", **texts, remote_up=up.replace("n * 2", "n + 2"), remote_down=down_of(number))


def down_of(number: int) -> str:
    return f"UPDATE item SET n = n - 2 + c{number}; ALTER TABLE item DROP COLUMN c{number};"


@pytest.mark.parametrize("many", [12, pytest.param(50, marks=pytest.mark.full)])
def test_many_migrations_run_in_order_in_one_call_and_all_come_back(place: Place, many: int) -> None:
    steps(place, many)
    before = place.world()
    report = place.coordinator().migrate()
    assert ended(report) == ("verified", 0)
    assert [run.migration for run in report.runs] == [f"{number}_step" for number in range(1, many + 1)]
    assert {run.state for run in report.runs} == {"verified"}
    local = remote = 10
    for number in range(1, many + 1):
        local, remote = local * 2 - number, remote + 2 - number
    found = place.world()
    assert (found[2][0][1], found[3][0][1]) == (local, remote)
    assert place.coordinator().status().local.user_version == many
    back = place.coordinator().roll_back("1_step")
    assert ended(back) == ("rolled_back", 0)
    assert [run.migration for run in back.runs] == [f"{number}_step" for number in range(many, 0, -1)]
    assert place.world() == before
    with closing(SQLiteEventStore(place.folder / "app.db.twinstep" / "log.db", readonly=True)) as store:
        assert check_log(store).sound


def test_a_batch_that_was_killed_goes_on_where_it_was(place: Place) -> None:
    steps(place, 22)
    for crossing, times in (("local:group:after-commit", 3), ("remote:group:before-commit", 5), ("VERIFY:performed", 4)):
        with pytest.raises(Crash):
            place.coordinator(probe=crash_at(crossing, times=times)).migrate(to="20_step")
    assert ended(place.coordinator().migrate(to="20_step")) == ("verified", 0)
    status = place.coordinator().status()
    assert status.local.applied == status.remote.applied == tuple(f"{number}_step" for number in range(1, 21))
    assert status.pending[0] == "21_step"
    assert all(one.runs == 1 for one in status.migrations[:20])


DROPPED = "ALTER TABLE item DROP COLUMN c7;"


def test_a_batch_stops_at_the_one_that_is_refused_and_leaves_all_before_it(place: Place) -> None:
    steps(place, 22)
    place.write("7_step", remote_up="ALTER TABLE item ADD COLUMN c7 int; SELECT 1 / 0;", remote_down=DROPPED)
    place.coordinator().migrate(to="6_step")
    before = place.world()
    report = place.coordinator().migrate()
    assert ended(report) == ("rolled_back", 1)
    assert [(run.migration, run.state) for run in report.runs] == [("7_step", "rolled_back")]
    assert place.world() == before


# One side only


def test_a_migration_of_the_local_side_alone_goes_there_and_back_without_touching_the_remote(place: Place) -> None:
    place.write(
        "0001_local",
        local_up="CREATE INDEX item_n ON item (n); DELETE FROM item WHERE id = 9;",
        local_down="DROP INDEX item_n;",
    )
    before = place.world()
    coordinator = place.coordinator()
    assert ended(coordinator.migrate()) == ("verified", 0)
    (one,) = coordinator.status().migrations
    assert (one.local_status, one.remote_status) == ("completed", "not_needed")
    assert place.remote("SELECT to_regnamespace('twinstep')") == [(None,)]
    assert place.world()[1] == before[1]
    assert ended(coordinator.roll_back()) == ("rolled_back", 0)
    assert place.world() == before


def test_a_migration_of_the_local_side_alone_needs_no_remote_to_be_there(place: Place) -> None:
    place.write("0001_local", local_up="CREATE INDEX item_n ON item (n);", local_down="DROP INDEX item_n;")
    assert ended(place.coordinator(remote=None).migrate()) == ("verified", 0)
    assert ended(place.coordinator(remote=None).migrate()) == ("up_to_date", 0)


@pytest.mark.parametrize("crossing", sometimes(["remote:group:after-commit", "APPLY_REMOTE:before", "VERIFY:before"], 2))
def test_a_migration_of_the_remote_alone_makes_no_backup_and_survives_a_kill(place: Place, crossing: str) -> None:
    texts = {"remote_up": "ALTER TABLE item ADD COLUMN m int DEFAULT 5;", "remote_down": "ALTER TABLE item DROP COLUMN m;"}
    place.write("0001_remote", **texts)
    before, file = place.world(), place.path.read_bytes()
    with pytest.raises(Crash):
        place.coordinator(probe=crash_at(crossing)).migrate()
    report = place.coordinator().migrate()
    assert ended(report) == ("verified", 0)
    (one,) = place.coordinator().status().migrations
    assert (one.local_status, one.remote_status) == ("not_needed", "completed")
    assert place.coordinator().backups() == ()
    assert place.path.read_bytes() == file
    assert ended(place.coordinator().roll_back()) == ("rolled_back", 0)
    assert place.world() == before


@pytest.mark.parametrize(
    "crossing", sometimes(["remote:group:after-commit", "APPLY_REMOTE:performed", "VALIDATE:performed"], 2)
)
def test_without_a_local_file_a_batch_of_every_make_runs_on_the_remote_and_comes_back(place: Place, crossing: str) -> None:
    texts = {"local_up": "CREATE TABLE a (x);", "local_down": "DROP TABLE a;"}
    place.write("0001_both", **texts, remote_up="CREATE TABLE a (x int);", remote_down="DROP TABLE a;")
    place.write("0002_local", local_up="CREATE TABLE b (x);", local_down="DROP TABLE b;")
    place.write("0003_remote", remote_up="CREATE TABLE c (x int);", remote_down="DROP TABLE c;")
    before, file = place.world(), place.path.read_bytes()
    alone = {"local": None, "state_dir": place.folder / "operator"}
    with pytest.raises(Crash):
        place.coordinator(**alone, probe=crash_at(crossing, times=2)).migrate()
    report = place.coordinator(**alone).migrate()
    assert ended(report) == ("verified", 0)
    status = place.coordinator(**alone).status()
    assert (status.local.reachable, status.pending) == (None, ())
    assert set(status.remote.applied) >= {"0001_both", "0003_remote"}
    assert place.path.read_bytes() == file
    back = place.coordinator(**alone).roll_back("0001_both")
    assert ended(back)[0] == "rolled_back", back.error
    assert place.world() == before


def test_a_remote_part_that_is_finished_and_refused_ends_the_call(place: Place) -> None:
    place.write("0002_later", local_up="CREATE TABLE a (x);", local_down="DROP TABLE a;", remote_up="CREATE TABLE a (x int);")
    place.write("0002_later", remote_down="DROP TABLE a;")
    place.coordinator().migrate(skip_remote=True)
    place.write("0001_late", local_up="CREATE TABLE b (x);", local_down="DROP TABLE b;")
    place.write("0002_later", py="def check_remote(connection):\n    raise ValueError('no')\n")
    with pytest.raises(Crash):
        place.coordinator(probe=crash_at("remote:group:after-commit")).migrate(to="0002_later")
    before = place.coordinator().status()
    report = place.coordinator().migrate()
    assert ended(report) == ("rolled_back", 1)
    assert [run.migration for run in report.runs] == ["0002_later"]
    assert place.coordinator().status().pending == before.pending


# Several groups, and statements that run alone


GROUPS_UP = """
ALTER TABLE item ADD COLUMN m int;
UPDATE item SET m = n + 1;
CREATE INDEX CONCURRENTLY item_m ON item (m);
UPDATE item SET n = n + 1000;
-- twinstep: group
ALTER TABLE item ADD COLUMN k text DEFAULT 'third; group';
CREATE UNIQUE INDEX CONCURRENTLY item_n ON item (n);
"""
GROUPS_DOWN = """
ALTER TABLE item DROP COLUMN k;
-- twinstep: group
UPDATE item SET n = n - 1000;
-- twinstep: group
ALTER TABLE item DROP COLUMN m;
"""
GROUP_CROSSINGS = [
    "remote:group:before-commit",
    "remote:group:after-commit",
    "remote:open:after-commit",
    "remote:single:before",
    "remote:single:after",
    "remote:done:before-commit",
    "APPLY_REMOTE:performed",
]


def grouped(place: Place) -> None:
    texts = {"local_up": "CREATE TABLE a (x);", "local_down": "DROP TABLE a;"}
    place.write("0001_groups", **texts, remote_up=GROUPS_UP, remote_down=GROUPS_DOWN)


def test_several_groups_run_in_order_and_come_back_last_first(place: Place) -> None:
    grouped(place)
    before = place.world()
    report = place.coordinator().migrate()
    assert ended(report) == ("verified", 0)
    assert place.indexes() == [("item_m", True), ("item_n", True)]
    assert place.remote("SELECT count(*) FROM item WHERE n = m - 1 + 1000 AND k = 'third; group'") == [(100,)]
    steps = place.remote("SELECT step, steps, state FROM twinstep.ledger WHERE direction = 'up' ORDER BY step")
    assert steps == [(number, 5, "done") for number in range(1, 6)]
    assert ended(place.coordinator().roll_back()) == ("rolled_back", 0)
    assert place.world() == before


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("crossing", sometimes(GROUP_CROSSINGS, 2))
def test_killed_between_any_two_groups_each_is_done_once(place: Place, crossing: str, times: int) -> None:
    grouped(place)
    with pytest.raises(Crash):
        place.coordinator(probe=crash_at(crossing, times=times if "APPLY" not in crossing else 1)).migrate()
    assert ended(place.coordinator().migrate()) == ("verified", 0)
    assert place.remote("SELECT count(*) FROM item WHERE n = m - 1 + 1000") == [(100,)]
    assert place.indexes() == [("item_m", True), ("item_n", True)]


@pytest.mark.parametrize("crossing", sometimes(GROUP_CROSSINGS, 2))
def test_killed_between_any_two_groups_and_asked_to_go_back_all_is_as_before(place: Place, crossing: str) -> None:
    grouped(place)
    before = place.world()
    with pytest.raises(Crash):
        place.coordinator(probe=crash_at(crossing)).migrate()
    assert ended(place.coordinator().roll_back())[0] == "rolled_back"
    assert place.world() == before


@pytest.mark.parametrize(
    "refused",
    [
        GROUPS_UP.replace("UPDATE item SET n = n + 1000;", "UPDATE item SET n = 1 / 0;"),
        GROUPS_UP.replace("'third; group'", "'third; group' CHECK (k = 'other')"),
        # Only the very last statement finds that the rows are not what they must be.
        GROUPS_UP.replace("UPDATE item SET n = n + 1000;", "UPDATE item SET n = n / 100;"),
    ],
)
def test_a_group_that_is_refused_takes_back_all_groups_before_it_and_the_local_side(place: Place, refused: str) -> None:
    grouped(place)
    # The way back adds what was taken away by the group itself; where that group was refused, nothing is to be added.
    down = GROUPS_DOWN.replace("UPDATE item SET n = n - 1000;", "UPDATE item SET n = m - 1;")
    place.write("0001_groups", remote_up=refused, remote_down=down)
    before = place.world()
    report = place.coordinator().migrate()
    assert ended(report) == ("rolled_back", 1)
    assert place.world() == before
    assert place.indexes() == []


PROBES = """
def probe_set(connection):
    return connection.exec_driver_sql(
        "SELECT reloptions::text LIKE '%%fillfactor=70%%' FROM pg_class WHERE relname = 'item'"
    ).scalar() is True
"""


@pytest.mark.parametrize(
    "crossing", [None, *sometimes(["remote:single:before", "remote:single:after", "remote:done:before-commit"], 2)]
)
def test_a_statement_marked_single_runs_alone_and_once_by_its_own_probe(place: Place, crossing: str | None) -> None:
    marked = "-- twinstep: single probe_set\nALTER TABLE item SET (fillfactor = 70);\n"
    down = "ALTER TABLE item RESET (fillfactor); ALTER TABLE item DROP COLUMN m;"
    place.write("0001_single", remote_up=f"ALTER TABLE item ADD COLUMN m int;\n{marked}", remote_down=down, py=PROBES)
    if crossing is not None:
        with pytest.raises(Crash):
            place.coordinator(probe=crash_at(crossing)).migrate()
    report = place.coordinator().migrate()
    assert ended(report) == ("verified", 0), report.error
    assert place.remote("SELECT reloptions FROM pg_class WHERE relname = 'item'") == [(["fillfactor=70"],)]
    planned = place.coordinator(local=None, state_dir=place.folder / "other").plan()
    kinds = [step.kind for one in planned for step in one.steps]
    assert kinds == ["group", "single"]


def test_an_operators_run_is_finished_though_a_device_was_first_to_change_the_remote(tmp_path: Path, remote_url: str) -> None:
    """The ledger that the device has made is nobody's pair: the operator's stays the one that its log drew."""
    with psycopg.connect(remote_url, autocommit=True) as remote:
        remote.execute("CREATE TABLE item (n int)")
    change = Migration(
        id="0001_first", remote=Side(up="ALTER TABLE item ADD COLUMN m int", down="ALTER TABLE item DROP COLUMN m")
    )

    def operator(**options: Any) -> Coordinator:
        return Coordinator(remote=remote_url, migrations=[change], state_dir=tmp_path / "operator", **options)

    with pytest.raises(Crash):
        operator(probe=crash_at("BACK_UP:before")).migrate()
    with closing(sqlite3.connect(tmp_path / "app.db")) as local:
        local.execute("CREATE TABLE item (n int)")
    device = Coordinator(local=tmp_path / "app.db", remote=remote_url, migrations=[change])
    assert device.migrate().outcome == "verified"
    pair = operator().status().pair
    report = operator().resume()
    assert (report.outcome, report.exit_code) == ("verified", 0), report
    status = operator().status()
    assert (status.pair, status.in_flight, status.conflicts) == (pair, None, ())
    assert operator().roll_back().exit_code == 0
    assert device.status().conflicts == ()
