"""What an undo of the local side must leave where others have written: said by `after_undo.py`, done by the SQLite target.

First the rule by itself, then real files with a host that writes between the change and its undo.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from targets import Crash, crash_at

from twinstep.engine.coordinator import Coordinator
from twinstep.engine.report import Report
from twinstep.events.codec import decode
from twinstep.events.types import LocalUndone
from twinstep.migrations.after_undo import differences_after
from twinstep.migrations.catalogue import Fingerprint
from twinstep.migrations.definition import LocalOptions, Migration, Side
from twinstep.stores.sqlite_events import SQLiteEventStore

# The rule


def look(**changes: Any) -> Fingerprint:
    """A look at a database of one table with two rows; `rows=3` and so on change it."""
    rows = changes.pop("rows", 2)
    return Fingerprint(
        objects={"table t": changes.pop("table", "old")} | changes.pop("objects", {}),
        marks={"user_version": changes.pop("version", 11), "sequence t": changes.pop("sequence", 2)},
        rows={"t": rows},
        content={"t": changes.pop("content", f"{rows} rows")},
    )


OLD = look()
NEW = look(table="new", version=12, content="2 new rows")


@pytest.mark.parametrize(
    ("changed", "found", "now", "said"),
    [
        (NEW, NEW, OLD, None),
        (NEW, NEW, NEW, "rows of t have other values"),
        (NEW, NEW, look(version=12), "user_version was 11, is 12"),
        (NEW, NEW, look(table="other"), "table t differs"),
        (NEW, NEW, look(objects={"index i": "i"}), "index i is new"),
        (NEW, NEW, look(sequence=9), "sequence t was 2, is 9"),
        (NEW, NEW, look(rows=1), "t had 2 rows, has 1"),
        # What the migration left alone is as others left it.
        (OLD, look(rows=3), look(rows=3), None),
        (OLD, look(rows=3), OLD, "t had 3 rows, has 2"),
        (OLD, look(objects={"index i": "i"}), look(objects={"index i": "i"}), None),
        (OLD, look(objects={"index i": "i"}), OLD, "index i is missing"),
        (OLD, look(version=99), look(version=99), None),
        (OLD, look(version=99), OLD, "user_version was 99, is 11"),
        # What both changed is as many rows as it can be.
        (NEW, look(rows=5, content="new"), look(rows=5), None),
        (NEW, look(rows=5, content="new"), look(rows=4), "t should have 5 rows"),
        (look(rows=5), look(rows=6), look(rows=3), None),
        (look(rows=5), look(rows=6), look(rows=6), None),
        (look(rows=5), look(rows=6), look(rows=7), "t should have 3 to 6 rows"),
        (look(rows=0), look(rows=4), look(rows=4), None),
        (look(rows=0), look(rows=4), look(rows=3), "t should have 4 to 6 rows"),
        (NEW, look(table="theirs", version=13), look(table="whatever"), None),
        (NEW, look(version=13), look(version=13), "user_version was 11, is 13"),
        (look(sequence=5), look(sequence=8), look(sequence=8), None),
        (look(sequence=5), look(sequence=8), OLD, "sequence t was 8, is 2"),
    ],
)
def test_what_must_be_after_an_undo(changed: Fingerprint, found: Fingerprint, now: Fingerprint, said: str | None) -> None:
    differences = differences_after(before=OLD, changed=changed, found=found, now=now)
    if said is None:
        assert differences == {}
    else:
        assert any(said in sentence for sentence in differences.values()), differences


# Real files

ID = "0001_change"
UP = "ALTER TABLE item ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0; CREATE TABLE made (x); UPDATE item SET n = n + 10"
DOWN = "UPDATE item SET n = n - 10; ALTER TABLE item DROP COLUMN pinned; DROP TABLE made"


class Device:
    """A file with a host, and the migration that is taken back on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "app.db"
        with closing(self.connected()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                "CREATE TABLE item (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER); INSERT INTO item VALUES (1, 1), (2, 2);"
                "CREATE TABLE other (id INTEGER PRIMARY KEY, t TEXT);"
                "INSERT INTO other VALUES (1, 'a'); PRAGMA user_version = 11;"
            )

    def connected(self, path: Path | None = None) -> sqlite3.Connection:
        return sqlite3.connect(path or self.path, isolation_level=None, timeout=2)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(self.connected()) as connection:
            return connection.execute(statement).fetchall()

    def coordinator(self, up: str = UP, down: str | None = DOWN, **options: Any) -> Coordinator:
        versions = LocalOptions(user_version_from=(11,), user_version_to=12)
        migration = Migration(id=ID, local=Side(up=up, down=down), local_options=options.pop("versions", versions))
        return Coordinator(local=self.path, migrations=[migration], **options)

    def undone(self) -> LocalUndone:
        """The last event of that kind."""
        with closing(SQLiteEventStore(self.folder / "app.db.twinstep" / "log.db", readonly=True)) as store:
            events = [decode(record) for record in store.read_all()]
        return [event for event in events if isinstance(event, LocalUndone)][-1]

    def backups(self) -> list[Path]:
        return sorted((self.folder / "app.db.twinstep" / "backups").glob("*.db"))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
def applied(device: Device) -> Device:
    assert device.coordinator().migrate().exit_code == 0
    return device


def ended(report: Report) -> tuple[str, int]:
    return report.outcome, report.exit_code


def at(crossing: str, do: Callable[[], object]) -> Callable[[str], None]:
    """A probe that lets somebody else act when it comes to that crossing."""

    def probe(passed: str) -> None:
        if passed == crossing:
            do()

    return probe


def test_tables_that_others_left_alone_are_held_against_what_they_were(applied: Device) -> None:
    applied.sql("INSERT INTO item (n) VALUES (50)")
    report = applied.coordinator(down=f"{DOWN}; UPDATE other SET t = 'spoilt'").roll_back()
    assert report.error is not None
    assert (ended(report), report.error.code) == (("in_flight", 6), "T335")
    assert "local: rows of other have other values" in report.error.message
    assert "item" not in report.error.message
    applied.sql("UPDATE other SET t = 'a'")
    assert ended(applied.coordinator().resume()) == ("rolled_back", 0), "put right by hand, it is as before"


def test_a_down_that_loses_rows_of_others_is_found_out_and_they_are_kept(applied: Device) -> None:
    applied.sql("INSERT INTO item (n) VALUES (50)")
    report = applied.coordinator(down=f"DELETE FROM item WHERE id > 2; {DOWN}").roll_back()
    assert report.error is not None
    assert "item should have 3 rows, with those that others wrote; it has 2" in report.error.message
    (newest,) = applied.backups()[-1:]
    with closing(applied.connected(newest)) as connection:
        assert connection.execute("SELECT n FROM item WHERE id = 3").fetchall() == [(50,)]


def test_what_the_migration_left_alone_stays_as_others_left_it(applied: Device) -> None:
    applied.sql("UPDATE other SET t = 'theirs'")
    applied.sql("CREATE INDEX of_the_host ON other (t)")
    assert ended(applied.coordinator().roll_back()) == ("rolled_back", 0)
    assert applied.sql("SELECT t FROM other INDEXED BY of_the_host WHERE t > ''") == [("theirs",)]
    assert applied.sql("PRAGMA user_version") == [(11,)]


def test_a_version_of_the_hosts_own_is_not_taken_back(device: Device) -> None:
    given = {"versions": LocalOptions()}
    device.coordinator(**given).migrate()
    device.sql("PRAGMA user_version = 77")
    assert ended(device.coordinator(**given).roll_back()) == ("rolled_back", 0)
    assert device.sql("PRAGMA user_version") == [(77,)]


@pytest.mark.parametrize("others", [False, True])
def test_the_mark_of_an_autoincrement_is_put_back_and_never_below_what_others_used(device: Device, others: bool) -> None:
    up, down = "INSERT INTO item (n) VALUES (8), (9)", "DELETE FROM item WHERE n IN (8, 9)"
    device.coordinator(up, down).migrate()
    if others:
        device.sql("INSERT INTO item (n) VALUES (50)")
    assert ended(device.coordinator(up, down).roll_back()) == ("rolled_back", 0)
    assert device.sql("SELECT seq FROM sqlite_sequence WHERE name = 'item'") == [(5 if others else 2,)]


def test_a_mark_that_a_textbook_rebuild_loses_is_put_back(device: Device) -> None:
    device.sql("INSERT INTO item VALUES (9, 9)")
    device.sql("DELETE FROM item WHERE id = 9")
    down = (
        "CREATE TABLE new (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER); INSERT INTO new SELECT id, n FROM item;"
        "DROP TABLE item; ALTER TABLE new RENAME TO item"
    )
    device.coordinator("ALTER TABLE item ADD COLUMN c", down).migrate()
    assert ended(device.coordinator("ALTER TABLE item ADD COLUMN c", down).roll_back()) == ("rolled_back", 0)
    assert device.sql("SELECT seq FROM sqlite_sequence WHERE name = 'item'") == [(9,)]


@pytest.mark.parametrize("analysed", [False, True])
def test_statistics_come_back_as_they_were(device: Device, analysed: bool) -> None:
    device.sql("CREATE INDEX other_t ON other (t)")
    if analysed:
        device.sql("ANALYZE")
    before = device.sql("SELECT * FROM sqlite_stat1 ORDER BY 1, 2") if analysed else None
    up, down = "DROP INDEX other_t; ANALYZE", "CREATE INDEX other_t ON other (t)"
    device.coordinator(up, down).migrate()
    assert ended(device.coordinator(up, down).roll_back()) == ("rolled_back", 0)
    if analysed:
        assert device.sql("SELECT * FROM sqlite_stat1 ORDER BY 1, 2") == before
    else:
        assert device.sql("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'") == [(0,)]


def test_what_others_wrote_into_what_goes_is_kept_in_a_backup_that_is_named(device: Device) -> None:
    """The own run's undo: the backup before the change cannot hold what was written after it."""

    def refuse(connection: object) -> None:
        raise ValueError("refused on purpose")

    def write() -> None:
        device.sql("UPDATE item SET pinned = 1 WHERE id = 2")
        device.sql("INSERT INTO made VALUES ('theirs')")

    migration = Migration(id=ID, local=Side(up=UP, down=DOWN, check=refuse))
    report = Coordinator(local=device.path, migrations=[migration], probe=at("VERIFY:before", write)).migrate()
    assert ended(report) == ("rolled_back", 1)
    assert device.sql("SELECT * FROM item") == [(1, 1), (2, 2)]
    kept = device.undone().replaced
    assert kept is not None
    assert any(str(kept["id"]) in finding for finding in report.runs[0].findings)
    row = next(row for row in device.coordinator().backups() if row.backup_id == kept["id"])
    assert (row.status, row.restoration_verified) == ("verified", 1)
    with closing(device.connected(device.folder / "app.db.twinstep" / "backups" / f"{kept['id']}.db")) as connection:
        assert connection.execute("SELECT x, (SELECT sum(pinned) FROM item) FROM made").fetchall() == [("theirs", 1)]


def test_a_take_back_makes_one_backup_of_what_others_wrote_and_not_two(applied: Device) -> None:
    applied.sql("INSERT INTO made VALUES ('theirs')")
    report = applied.coordinator().roll_back()
    assert ended(report) == ("rolled_back", 0)
    assert len(applied.backups()) == 2
    assert report.runs[0].backup is not None
    with closing(applied.connected(applied.backups()[-1])) as connection:
        assert connection.execute("SELECT x FROM made").fetchall() == [("theirs",)]


def test_a_take_back_that_lost_its_lock_backs_up_what_was_written_since(applied: Device) -> None:
    with pytest.raises(Crash):
        applied.coordinator(probe=crash_at("UNDO_LOCAL:before")).roll_back()
    applied.sql("INSERT INTO made VALUES ('theirs')")
    assert ended(applied.coordinator().resume()) == ("rolled_back", 0)
    assert len(applied.backups()) == 3
    with closing(applied.connected(applied.backups()[-1])) as connection:
        assert connection.execute("SELECT x FROM made").fetchall() == [("theirs",)]


@pytest.mark.parametrize("down", [DOWN, None])
def test_a_crash_between_the_undo_and_the_log_loses_nothing_of_what_is_recorded(device: Device, down: str | None) -> None:
    migration = Migration(id=ID, local=Side(up=UP, down=down, check=lambda connection: 1 / 0))
    crossing = "local:undo:after-commit" if down else "restore:after"
    probes = [at("VERIFY:before", lambda: device.sql("UPDATE other SET t = 'theirs'") if down else None), crash_at(crossing)]
    given = {"local": device.path, "migrations": [migration]}
    with pytest.raises(Crash):
        Coordinator(**given, probe=lambda passed: [probe(passed) for probe in probes] and None).migrate()  # type: ignore[arg-type]
    assert ended(Coordinator(**given).resume()) == ("rolled_back", 1)  # type: ignore[arg-type]
    undone = device.undone()
    assert (undone.recovered, undone.how) == (True, "down" if down else "restore")
    assert undone.after is not None
    assert (undone.others_wrote, undone.found is not None, undone.replaced is not None) == (
        (True, True, True) if down else (None, False, False)
    )


def test_a_down_that_leaves_something_behind_is_noticed_after_a_crash_too(device: Device) -> None:
    migration = Migration(id=ID, local=Side(up=UP, down="DROP TABLE made", check=lambda connection: 1 / 0))
    given: dict[str, Any] = {"local": device.path, "migrations": [migration]}
    with pytest.raises(Crash):
        Coordinator(**given, probe=crash_at("local:undo:after-commit")).migrate()
    report = Coordinator(**given).resume()
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (6, "T335")
    assert "table item differs" in report.error.message
