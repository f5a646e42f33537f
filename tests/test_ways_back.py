"""Whatever stops a run, wherever it stands by then and whoever else is at work: both databases are as before.

The ways are those of `ways_back.py`, on real databases; a few of them always, all of them in the full run (`make ways-back`
prints them). Below are the ways that need more than one device, or something that is away.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from targets import Crash, crash_at, sometimes
from ways_back import (
    FILES,
    ID,
    LOCAL_DOWN,
    LOCAL_UP,
    POINTS,
    REMOTE_DOWN,
    REMOTE_UP,
    WRONG,
    Case,
    Device,
    cases,
    walk,
)

from twinstep.engine.report import Report
from twinstep.events.codec import decode
from twinstep.events.types import DownReplaced, RunStarted
from twinstep.migrations.definition import Migration, Side
from twinstep.stores.sqlite_events import SQLiteEventStore

AWAY = "postgresql://nobody@127.0.0.1:1/nowhere"


@pytest.mark.parametrize("case", sometimes(cases(), 13), ids=lambda case: case.name)
def test_every_way_back_leads_to_where_it_began(case: Case, tmp_path: Path, remote_url: str) -> None:
    walked = walk(case, tmp_path, remote_url)
    assert walked.differs == ()
    assert (walked.ends, walked.state) == (case.wanted(), case.rests())


def test_the_ways_cover_each_effect_on_each_side_with_each_kind_of_down() -> None:
    every = {(case.point.name, case.downs, case.at_work, case.journal_mode) for case in cases()}
    assert len(every) == len(list(cases())) == 188
    assert {point.name.split(",")[0].split(":")[0].split()[0] for point in POINTS} >= {
        "VALIDATE", "BACK_UP", "APPLY_LOCAL", "CONFIRM_REMOTE", "APPLY_REMOTE", "VERIFY", "asked", "taken",
    }  # fmt: skip


# More than one thing at a time


@pytest.fixture
def device(tmp_path: Path, remote_url: str) -> Device:
    return Device(tmp_path, remote_url, "WAL")


def another(device: Device, tmp_path: Path, **files: str | None) -> Device:
    """A second device on the same remote, with the same migrations."""
    folder = tmp_path / "another"
    folder.mkdir()
    made = Device.__new__(Device)
    made.path, made.url, made.change = folder / "app.db", device.url, device.change
    with closing(sqlite3.connect(made.path, isolation_level=None)) as local:
        local.executescript(
            "CREATE TABLE item (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER NOT NULL); CREATE TABLE pending_ops (id);"
            "CREATE TABLE other (id INTEGER PRIMARY KEY, n INTEGER); PRAGMA user_version = 11;"
        )
    return made


def ended(report: Report) -> tuple[str, int, str]:
    return report.outcome, report.exit_code, report.error.code if report.error is not None else ""


def events(device: Device) -> list[Any]:
    with closing(SQLiteEventStore(device.path.with_name("app.db.twinstep") / "log.db", readonly=True)) as store:
        return [decode(record) for record in store.read_all()]


def local(device: Device, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(device.path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def remote(device: Device, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(device.url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def killed(device: Device, crossing: str, **options: Any) -> None:
    with pytest.raises(Crash):
        device.coordinator(probe=crash_at(crossing), **options).migrate()


# While one side is away


def test_while_the_remote_is_away_a_local_change_that_never_reached_it_is_taken_back(device: Device) -> None:
    before = device.world()
    killed(device, "START_REMOTE:before")
    assert ended(device.coordinator(remote=AWAY, retry_for_seconds=0.2).roll_back()) == ("rolled_back", 0, "")
    assert device.world() == before


def test_the_local_side_waits_while_the_remote_may_have_been_changed(device: Device) -> None:
    before = device.world()
    killed(device, "remote:group:after-commit")
    for _ in range(2):
        away = device.coordinator(remote=AWAY, retry_for_seconds=0.2).roll_back()
        assert ended(away) == ("in_flight", 6, "T221")
        assert local(device, "PRAGMA user_version") == [(12,)]
    assert ended(device.coordinator().resume()) == ("rolled_back", 0, "")
    assert device.world() == before


def test_what_was_undone_on_the_remote_is_not_undone_again_when_the_local_file_was_locked(device: Device) -> None:
    before = device.world()
    assert device.coordinator().migrate().exit_code == 0
    with closing(sqlite3.connect(device.path, isolation_level=None)) as host:

        def lock(crossing: str) -> None:
            if crossing == "UNDO_REMOTE:performed":
                raise Crash(crossing)

        with pytest.raises(Crash):
            device.coordinator(probe=lock).roll_back()
        host.execute("BEGIN IMMEDIATE")
        report = device.coordinator().resume()
        assert (report.outcome, report.exit_code) == ("in_flight", 6)
        assert remote(device, "SELECT n FROM item ORDER BY id") == [(1,), (2,)]
        host.execute("ROLLBACK")
    assert ended(device.coordinator().resume()) == ("rolled_back", 0, "")
    assert device.world() == before


def test_a_local_file_that_is_away_is_waited_for(device: Device) -> None:
    before = device.world()
    killed(device, "VERIFY:before")
    aside = device.path.with_name("aside.db")
    device.path.rename(aside)
    report = device.coordinator().roll_back()
    assert report.exit_code in (2, 5, 6)
    assert remote(device, "SELECT n FROM item ORDER BY id") == [(101,), (102,)]
    aside.rename(device.path)
    assert ended(device.coordinator().roll_back()) == ("rolled_back", 0, "")
    assert device.world() == before


# Half-applied remotes


def test_what_a_half_applied_remote_had_is_undone_in_reverse_with_the_inverse_of_a_dropped_index(device: Device) -> None:
    remote(device, "CREATE INDEX old_index ON item (n)")
    before = device.world()
    device.write({
        "remote.up.sql": "CREATE TABLE made (x int);\nDROP INDEX CONCURRENTLY old_index;\nSELECT 1 / 0;",
        "remote.down.sql": "-- twinstep: group\nDROP TABLE made;",
    })  # fmt: skip
    assert ended(device.coordinator().migrate()) == ("rolled_back", 1, "T331")
    assert device.world() == before


def test_a_remote_that_another_device_left_half_applied_blocks_and_names_its_run(device: Device, tmp_path: Path) -> None:
    killed(device, "remote:open:after-commit")
    (run,) = [event.run for event in events(device) if isinstance(event, RunStarted)]
    other = another(device, tmp_path)
    report = other.coordinator().migrate()
    assert ended(report) == ("blocked", 5, "T203")
    assert report.error is not None
    assert run in report.error.message
    assert local(other, "PRAGMA user_version") == [(11,)]
    assert ended(device.coordinator().roll_back()) == ("rolled_back", 0, "")
    assert other.coordinator().migrate().exit_code == 0


@pytest.mark.parametrize("crossing", ["APPLY_LOCAL:before", "remote:group:before-commit", "remote:single:after"])
def test_what_others_change_in_the_remotes_schema_meanwhile_is_theirs(device: Device, crossing: str) -> None:
    device.write({"remote.up.sql": f"{REMOTE_UP}{WRONG}"})
    before = device.world()

    def probe(passed: str) -> None:
        if passed == crossing and not remote(device, "SELECT 1 FROM pg_class WHERE relname = 'theirs'"):
            remote(device, "CREATE TABLE theirs (x int)")

    assert ended(device.coordinator(probe=probe).migrate()) == ("rolled_back", 1, "T331")
    assert {key for key in device.world().keys() ^ before.keys() if "theirs" not in key} == set()


def test_what_a_down_forgets_on_the_remote_is_named_whatever_others_did(device: Device) -> None:
    device.write({"remote.up.sql": f"{REMOTE_UP}{WRONG}", "remote.down.sql": REMOTE_DOWN.replace("DROP TABLE made;", "")})

    def probe(passed: str) -> None:
        if passed == "APPLY_LOCAL:before":
            remote(device, "CREATE TABLE theirs (x int)")

    report = device.coordinator(probe=probe).migrate()
    assert ended(report) == ("in_flight", 6, "T335")
    assert report.error is not None
    assert "table public.made is new" in report.error.message
    assert "theirs" not in report.error.message
    remote(device, "DROP TABLE made")
    assert ended(device.coordinator().resume()) == ("rolled_back", 1, "")


# Several, skipped and confirmed ones


def test_several_migrations_are_taken_back_last_first_to_where_they_began(device: Device) -> None:
    before = device.world()
    for number in (2, 3):
        later = device.change.with_name(f"000{number}_later")
        later.mkdir()
        (later / "local.up.sql").write_text(f"UPDATE item SET n = n * {number}; CREATE TABLE later{number} (x)")
        (later / "local.down.sql").write_text(f"UPDATE item SET n = n / {number}; DROP TABLE later{number}")
        (later / "remote.up.sql").write_text(f"UPDATE item SET n = n * {number}")
        (later / "remote.down.sql").write_text(f"UPDATE item SET n = n / {number}")
    assert device.coordinator().migrate().exit_code == 0
    local(device, "INSERT INTO other VALUES (1000, 5)")
    report = device.coordinator().roll_back(ID)
    assert ended(report) == ("rolled_back", 0, "")
    assert [run.migration for run in report.runs] == ["0003_later", "0002_later", ID]
    assert device.world() == before
    assert local(device, "SELECT n FROM other WHERE id = 1000") == [(5,)]


def test_a_skipped_remote_is_not_touched_by_a_take_back(device: Device) -> None:
    before = device.world()
    assert device.coordinator(remote=AWAY).migrate(skip_remote=True).exit_code == 0
    assert ended(device.coordinator().roll_back()) == ("rolled_back", 0, "")
    assert device.world() == before


def test_a_confirmed_remote_stays_and_its_confirmation_goes(device: Device, tmp_path: Path) -> None:
    other = another(device, tmp_path)
    assert device.coordinator().migrate().exit_code == 0
    applied = device.world()
    assert other.coordinator().migrate().exit_code == 0
    assert ended(other.coordinator().roll_back()) == ("rolled_back", 0, "")
    assert {key: value for key, value in device.world().items() if key.startswith("remote")} == {
        key: value for key, value in applied.items() if key.startswith("remote")
    }
    assert ended(device.coordinator().roll_back()) == ("rolled_back", 0, "")


def test_a_remote_on_which_others_rely_stands_and_is_named(device: Device, tmp_path: Path) -> None:
    before = device.world()
    other = another(device, tmp_path)
    assert device.coordinator().migrate().exit_code == 0
    assert other.coordinator().migrate().exit_code == 0
    report = device.coordinator().roll_back()
    assert ended(report) == ("rolled_back", 0, "")
    assert set(report.runs[0].stands) == {"remote"}
    assert {key: value for key, value in device.world().items() if key.startswith("local")} == {
        key: value for key, value in before.items() if key.startswith("local")
    }
    assert remote(device, "SELECT n FROM item ORDER BY id") == [(101,), (102,)]


# What cannot be taken back


def test_an_irreversible_remote_whose_verification_fails_stays_until_it_verifies(device: Device) -> None:
    check = "def check_remote(connection):\n    assert connection.exec_driver_sql('SELECT count(*) FROM other').scalar() == 3\n"
    device.write({"migration.toml": f"irreversible = true\n{FILES['migration.toml']}", "remote.down.sql": None,
                  "remote.up.sql": "CREATE TABLE made (x int)", "migration.py": check})  # fmt: skip
    for call in ("migrate", "resume"):
        report = getattr(device.coordinator(), call)()
        assert ended(report) == ("in_flight", 6, "T339")
        # Nothing is said to be taken back, and both ways out are named.
        assert "Nothing was taken back" in report.error.message
        assert "taken back to where they were" not in report.error.message
        assert "'twinstep resume'" in report.error.next_step
        assert "'twinstep verify --accept'" in report.error.next_step
    assert ended(device.coordinator().roll_back()) == ("in_flight", 6, "T207")
    assert local(device, "PRAGMA user_version") == [(12,)]
    remote(device, "INSERT INTO other VALUES (3, 3)")
    assert ended(device.coordinator().resume()) == ("verified", 0, "")
    assert ended(device.coordinator().roll_back()) == ("blocked", 5, "T207")


def test_an_irreversible_remote_that_was_skipped_can_be_taken_back_on_the_local_side(device: Device) -> None:
    before = device.world()
    device.write({"migration.toml": f"irreversible = true\n{FILES['migration.toml']}", "remote.down.sql": None,
                  "remote.up.sql": "CREATE TABLE made (x int)"})  # fmt: skip
    assert device.coordinator().migrate(skip_remote=True).exit_code == 0
    assert ended(device.coordinator().roll_back()) == ("rolled_back", 0, "")
    assert device.world() == before


def test_an_irreversible_remote_that_refuses_is_no_obstacle(device: Device) -> None:
    before = device.world()
    device.write({"migration.toml": f"irreversible = true\n{FILES['migration.toml']}", "remote.down.sql": None,
                  "remote.up.sql": f"CREATE TABLE made (x int); {WRONG}"})  # fmt: skip
    assert ended(device.coordinator().migrate()) == ("rolled_back", 1, "T331")
    assert device.world() == before


def test_the_time_of_a_step_that_was_refused_is_measured(device: Device) -> None:
    device.write({"remote.up.sql": f"CREATE TABLE made (x int); SELECT pg_sleep(0.3); {WRONG}",
                  "remote.down.sql": "DROP TABLE made"})  # fmt: skip
    (run,) = device.coordinator().migrate().runs
    (refused,) = [step for step in run.steps if step.effect == "APPLY_REMOTE"]
    assert refused.seconds >= 0.3


def test_an_operator_takes_a_remote_back_though_the_local_side_of_devices_has_no_down(device: Device) -> None:
    device.write({"local.down.sql": None})
    before = device.world()
    operator = {"local": None, "state_dir": device.path.with_name("operator")}
    assert device.coordinator(**operator).migrate().exit_code == 0
    assert ended(device.coordinator(**operator).roll_back()) == ("rolled_back", 0, "")
    assert device.world() == before


# Corrected downs


def _refuse_after(device: Device, up: str = REMOTE_UP) -> None:
    device.write({"remote.up.sql": f"{up}{WRONG}"})


@pytest.mark.parametrize("side", ["local", "remote"])
def test_a_down_that_was_refused_is_corrected_and_recorded(device: Device, side: str) -> None:
    before = device.world()
    down = LOCAL_DOWN if side == "local" else REMOTE_DOWN
    device.write({f"{side}.down.sql": f"{down}{WRONG}", "remote.up.sql": f"{REMOTE_UP}{WRONG}"})
    assert ended(device.coordinator().migrate()) == ("in_flight", 6, "T338")
    device.write({f"{side}.down.sql": f"{down}INSERT INTO elsewhere VALUES (1);"})
    assert ended(device.coordinator().resume()) == ("in_flight", 6, "T338"), "the correction was wrong too"
    device.write({f"{side}.down.sql": down})
    assert ended(device.coordinator().resume()) == ("rolled_back", 1, "")
    assert [event.side for event in events(device) if isinstance(event, DownReplaced)] == [side]
    assert device.world() == before


def test_a_correction_is_taken_only_while_the_up_is_what_was_run(device: Device) -> None:
    device.write({"local.down.sql": f"{LOCAL_DOWN}{WRONG}"})
    _refuse_after(device)
    assert ended(device.coordinator().migrate()) == ("in_flight", 6, "T338")
    device.write({"local.down.sql": LOCAL_DOWN, "local.up.sql": "CREATE TABLE something_else (x);"})
    assert ended(device.coordinator().resume()) == ("in_flight", 6, "T338")
    device.write({"local.up.sql": f"-- a remark changes nothing\n{LOCAL_UP}"})
    assert ended(device.coordinator().resume()) == ("rolled_back", 1, "")


def test_a_local_down_that_was_missing_is_written_after_the_refusal(device: Device) -> None:
    device.write({"local.down.sql": None})
    _refuse_after(device)

    def write(crossing: str) -> None:
        if crossing == "APPLY_REMOTE:before":
            local(device, "INSERT INTO item (id, n) VALUES (1000, 5)")

    before = device.world()
    assert ended(device.coordinator(probe=write).migrate()) == ("in_flight", 6, "T336")
    device.write({"local.down.sql": LOCAL_DOWN})
    assert ended(device.coordinator().resume()) == ("rolled_back", 1, "")
    assert device.world() == before
    assert local(device, "SELECT id FROM item WHERE id >= 1000") == [(1000,)]


def test_a_crash_right_after_a_corrected_undo_is_recorded_as_what_it_was(device: Device) -> None:
    test_before = device.world()
    device.write({"local.down.sql": None})
    _refuse_after(device)

    def write(crossing: str) -> None:
        if crossing == "APPLY_REMOTE:before":
            local(device, "INSERT INTO item (id, n) VALUES (1000, 5)")

    device.coordinator(probe=write).migrate()
    device.write({"local.down.sql": LOCAL_DOWN})
    with pytest.raises(Crash):
        device.coordinator(probe=crash_at("local:undo:after-commit")).resume()
    assert ended(device.coordinator().resume()) == ("rolled_back", 1, "")
    (undone,) = [event for event in events(device) if type(event).__name__ == "LocalUndone"]
    assert (undone.recovered, undone.how) == (True, "down")
    assert device.world() == test_before


def test_functions_that_take_back_are_corrected_by_their_digest(device: Device) -> None:
    def changing(amount: int) -> Callable[[Any], None]:
        def change(connection: Any) -> None:
            connection.exec_driver_sql(f"UPDATE item SET n = n + ({amount})")

        return change

    def wrong(connection: Any) -> None:
        raise ValueError("mispelt")

    def right(connection: Any) -> None:
        connection.exec_driver_sql("UPDATE item SET n = n - 100")

    before = device.world()

    def given(down: Any) -> list[Migration]:
        return [Migration(id=ID, remote=Side(up="UPDATE item SET n = n + 100", down=down, check=wrong))]

    assert ended(device.coordinator(migrations=given(wrong)).migrate()) == ("in_flight", 6, "T338")
    assert ended(device.coordinator(migrations=given(right)).resume()) == ("rolled_back", 1, "")
    assert device.world() == before


def test_a_correction_that_cannot_be_read_is_named(device: Device) -> None:
    device.write({"remote.down.sql": f"{REMOTE_DOWN}{WRONG}"})
    _refuse_after(device)
    assert ended(device.coordinator().migrate()) == ("in_flight", 6, "T338")
    device.write({"remote.down.sql": "ALTER TABLE item DROP pinned;"})
    report = device.coordinator().resume()
    assert ended(report) == ("in_flight", 6, "T371")
    assert report.error is not None
    assert "T338" in report.error.message
    assert "T116" in report.error.message
    device.write({"remote.down.sql": REMOTE_DOWN})
    assert ended(device.coordinator().resume()) == ("rolled_back", 1, "")
