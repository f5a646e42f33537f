"""A log that is not what was written is found before anything is run on it, and a run that cannot go on says what it needs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from twinstep.engine.coordinator import Coordinator
from twinstep.events.errors import Blocked
from twinstep.events.lifecycle import State
from twinstep.events.types import Recorded
from twinstep.migrations import sqlite_target
from twinstep.migrations.definition import Migration, Side
from twinstep.migrations.memory_target import Contents, MemoryDatabase
from twinstep.stores.memory import MemoryEventStore

UP = "CREATE TABLE made (a); INSERT INTO made VALUES (1);"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A local database."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE item (a); INSERT INTO item VALUES (1);")
    return path


@pytest.fixture
def change(tmp_path: Path) -> Path:
    """The folder of the one migration, in a folder of migrations."""
    path = tmp_path / "migrations" / "0001_change"
    path.mkdir(parents=True)
    return path


def log_of(app: Path) -> Path:
    return app.with_name("app.db.twinstep") / "log.db"


def edit(log: Path, statement: str) -> None:
    """Change the log as somebody would who goes around it: without its triggers."""
    with closing(sqlite3.connect(log, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(statement)


def tables(app: Path) -> set[str]:
    with closing(sqlite3.connect(app)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return {name for name in names if not name.startswith("twinstep")}


def applied(coordinator: Coordinator) -> int:
    assert coordinator.migrate().outcome == "verified"
    return 4


def taken_back(coordinator: Coordinator) -> int:
    assert coordinator.migrate().outcome == "verified"
    assert coordinator.roll_back().outcome == "rolled_back"
    return 9


# The last ledger row is written while the stream stands there; what is cut off behind it is a crash, not damage.
@pytest.mark.parametrize("run", [applied, taken_back])
def test_a_log_whose_tail_was_cut_off_is_noticed_and_nothing_is_run(
    run: Callable[[Coordinator], int], app: Path, change: Path
) -> None:
    (change / "local.up.sql").write_text(UP, encoding="utf-8")
    (change / "local.down.sql").write_text("DROP TABLE made", encoding="utf-8")
    coordinator = Coordinator(local=app, migrations=change.parent)
    last_needed = run(coordinator)
    before = tables(app)
    for version in range(last_needed - 2, 0, -1):
        edit(log_of(app), f"DELETE FROM twinstep_events WHERE version > {version}")
        report = coordinator.migrate()
        assert (report.outcome, report.exit_code) == ("blocked", 5), version
        assert tables(app) == before


def test_an_edited_event_is_noticed_and_nothing_is_run(app: Path, change: Path) -> None:
    (change / "local.up.sql").write_text(UP, encoding="utf-8")
    coordinator = Coordinator(local=app, migrations=change.parent)
    assert coordinator.migrate().outcome == "verified"
    edit(log_of(app), "UPDATE twinstep_events SET recorded_at = '2001-01-01' WHERE version = 2")
    later = change.with_name("0002_next")
    later.mkdir()
    (later / "local.up.sql").write_text("CREATE TABLE later (a)", encoding="utf-8")
    report = coordinator.migrate()
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("blocked", "T501")
    assert "later" not in tables(app)


def test_a_refused_down_can_be_corrected_and_the_correction_is_recorded(app: Path, change: Path) -> None:
    (change / "local.up.sql").write_text(UP, encoding="utf-8")
    down = change / "local.down.sql"
    down.write_text("DROP TABLE mispelt", encoding="utf-8")
    coordinator = Coordinator(local=app, migrations=change.parent)
    assert coordinator.migrate().outcome == "verified"
    report = coordinator.roll_back()
    assert report.error is not None
    assert (report.outcome, report.exit_code, report.error.code) == ("in_flight", 6, "T338")
    assert "made" in tables(app)
    down.write_text("DROP TABLE made", encoding="utf-8")
    assert coordinator.resume().exit_code == 0
    assert tables(app) == {"item"}
    assert "DownReplaced" in [record.type for record in coordinator.events()]
    assert coordinator.status().migrations[0].state == State.ROLLED_BACK


class Killed(BaseException):
    """The process is dead."""


def test_a_run_whose_function_was_changed_stays_where_it_is_until_it_is_put_back(app: Path, change: Path) -> None:
    file = change / "migration.py"
    right = "def local_up(connection):\n    connection.exec_driver_sql('CREATE TABLE made (a)')\n"
    file.write_text(right, encoding="utf-8")

    def kill(crossing: str) -> None:
        if crossing == "APPLY_LOCAL:before":
            raise Killed

    with pytest.raises(Killed):
        Coordinator(local=app, migrations=change.parent, probe=kill).migrate()
    file.write_text(right.replace("made", "other"), encoding="utf-8")
    coordinator = Coordinator(local=app, migrations=change.parent)
    report = coordinator.resume()
    assert report.error is not None
    assert (report.outcome, report.exit_code, report.error.code) == ("in_flight", 6, "T241")
    assert coordinator.status().in_flight is not None
    file.write_text(right, encoding="utf-8")
    assert coordinator.resume().outcome == "verified"
    assert tables(app) == {"item", "made"}


def test_a_lost_log_blocks_until_the_ledger_is_taken_as_the_truth(app: Path, change: Path) -> None:
    (change / "local.up.sql").write_text(UP, encoding="utf-8")
    (change / "local.down.sql").write_text("DROP TABLE made", encoding="utf-8")
    coordinator = Coordinator(local=app, migrations=change.parent)
    assert coordinator.migrate().outcome == "verified"
    for path in log_of(app).parent.glob("log.db*"):
        path.unlink()
    report = coordinator.migrate()
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("blocked", "T251")
    assert coordinator.migrate(adopt=True).exit_code == 0
    status = coordinator.status()
    assert (status.migrations[0].state, status.conflicts, status.needs_migration) == ("verified", (), False)
    assert coordinator.roll_back().outcome == "rolled_back"
    assert tables(app) == {"item"}


def test_an_older_local_file_blocks_until_its_ledger_is_taken_as_the_truth(app: Path, change: Path) -> None:
    (change / "local.up.sql").write_text(UP, encoding="utf-8")
    older = app.read_bytes()
    coordinator = Coordinator(local=app, migrations=change.parent)
    assert coordinator.migrate().outcome == "verified"
    app.write_bytes(older)
    report = coordinator.migrate()
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("blocked", "T253")
    assert tables(app) == {"item"}
    assert coordinator.migrate(adopt=True).outcome == "verified"
    assert tables(app) == {"item", "made"}


def test_a_run_in_flight_is_finished_when_the_folder_is_gone(app: Path, change: Path) -> None:
    (change / "local.up.sql").write_text(UP, encoding="utf-8")
    first = change.with_name("0000_first")
    first.mkdir()
    (first / "local.up.sql").write_text("CREATE TABLE first (a)", encoding="utf-8")

    def kill(crossing: str) -> None:
        if crossing == "APPLY_LOCAL:before" and "first" in tables(app):
            raise Killed

    with pytest.raises(Killed):
        Coordinator(local=app, migrations=change.parent, probe=kill).migrate()
    shutil.rmtree(change.parent)
    coordinator = Coordinator(local=app, migrations=change.parent)
    report = coordinator.migrate()
    assert (report.exit_code, [run.state for run in report.runs]) == (2, ["verified"])
    assert tables(app) == {"item", "first", "made"}
    assert coordinator.resume().outcome == "up_to_date"


def test_taking_back_needs_the_side_that_stands_to_be_named(tmp_path: Path) -> None:
    def up(contents: Contents) -> None:
        contents.tables["made"] = {}

    def down(contents: Contents) -> None:
        del contents.tables["made"]

    side = Side(up=up, down=down)  # type: ignore[arg-type]
    migration = Migration(id="0001_change", local=side, remote=side)
    local, remote, log = MemoryDatabase(), MemoryDatabase(), MemoryEventStore()
    both = Coordinator(local=local, remote=remote, migrations=[migration], log=log, state_dir=tmp_path)
    assert both.migrate().outcome == "verified"
    report = Coordinator(local=local, migrations=[migration], log=log, state_dir=tmp_path).roll_back()
    assert report.error is not None
    assert (report.outcome, report.exit_code, report.error.code) == ("blocked", 5, "T260")
    assert "made" in local.contents.tables
    assert both.roll_back().exit_code == 0
    assert local.contents.tables == remote.contents.tables == {}


def adding(amount: int) -> Callable[[Contents], None]:
    """Adds to a number: done twice, it shows."""

    def change(contents: Contents) -> None:
        rows = contents.tables.setdefault("numbers", {"n": 0})
        rows["n"] = int(str(rows["n"])) + amount

    return change


def test_a_remote_that_another_device_changed_meanwhile_is_not_changed_again(tmp_path: Path) -> None:
    side = Side(up=adding(1), down=adding(-1))  # type: ignore[arg-type]
    migration = Migration(id="0001_change", local=side, remote=side)
    remote = MemoryDatabase()

    def device(name: str, probe: Callable[[str], None]) -> Coordinator:
        return Coordinator(
            local=locals_[name], remote=remote, migrations=[migration], log=logs[name], state_dir=tmp_path / name, probe=probe
        )

    locals_ = {name: MemoryDatabase() for name in ("first", "second")}
    logs = {name: MemoryEventStore() for name in ("first", "second")}

    def kill(crossing: str) -> None:
        if crossing == "APPLY_REMOTE:before":
            raise Killed

    with pytest.raises(Killed):
        device("second", kill).migrate()
    remote.crashed()
    locals_["second"].crashed()

    def let_the_first_go_ahead(crossing: str) -> None:
        # The second has looked at the remote without its lock, and is about to take it.
        if crossing in ("START_REMOTE:before", "APPLY_REMOTE:before") and not went_ahead:
            went_ahead.append(device("first", lambda crossing: None).migrate().outcome)

    went_ahead: list[str] = []
    assert device("second", let_the_first_go_ahead).resume().outcome == "verified"
    assert went_ahead == ["verified"]
    assert remote.contents.tables["numbers"] == {"n": 1}
    assert "RemoteConfirmed" in [record.type for record in device("second", lambda crossing: None).events()]


def test_what_a_listener_raises_is_no_refusal_of_the_migration(app: Path, change: Path) -> None:
    (change / "local.up.sql").write_text(UP, encoding="utf-8")

    def ask(record: Recorded) -> None:
        if record.type == "LocalApplied":
            raise Blocked("T280")

    with pytest.raises(RuntimeError, match="on_event failed at LocalApplied"):
        Coordinator(local=app, migrations=change.parent, on_event=ask).migrate()
    assert Coordinator(local=app, migrations=change.parent).resume().outcome == "verified"
    assert "made" in tables(app)


def test_what_the_host_changed_in_its_own_schema_since_does_not_hold_a_take_back_up(app: Path, change: Path) -> None:
    (change / "local.up.sql").write_text(UP, encoding="utf-8")
    (change / "local.down.sql").write_text("DROP TABLE made", encoding="utf-8")
    coordinator = Coordinator(local=app, migrations=change.parent)
    assert coordinator.migrate().outcome == "verified"
    with closing(sqlite3.connect(app)) as connection:
        connection.execute("CREATE TABLE host (a)")
    assert coordinator.roll_back().exit_code == 0
    assert tables(app) == {"item", "host"}


def test_a_function_that_is_not_needed_any_more_may_be_changed_while_going_back(app: Path, change: Path) -> None:
    file = change / "migration.py"
    text = "def local_up(connection):\n    connection.exec_driver_sql('CREATE TABLE made (a)')\n"
    file.write_text(text + "def local_down(connection):\n    raise ValueError('mispelt')\n", encoding="utf-8")
    coordinator = Coordinator(local=app, migrations=change.parent)
    assert coordinator.migrate().outcome == "verified"
    report = coordinator.roll_back()
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (6, "T338")
    down = "def local_down(connection):\n    connection.exec_driver_sql('DROP TABLE made')\n"
    file.write_text(text + down, encoding="utf-8")
    assert coordinator.resume().exit_code == 0
    assert tables(app) == {"item"}


def test_a_take_back_that_leaves_another_user_version_is_noticed_though_the_host_has_written(
    app: Path, change: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (change / "local.up.sql").write_text(UP, encoding="utf-8")
    (change / "local.down.sql").write_text("DROP TABLE made", encoding="utf-8")
    (change / "migration.toml").write_text("[local]\nuser_version = { from = [0], to = 1 }\n", encoding="utf-8")
    assert Coordinator(local=app, migrations=change.parent).migrate().outcome == "verified"
    with closing(sqlite3.connect(app)) as connection:
        connection.execute("INSERT INTO item VALUES (3)")
        connection.commit()
    monkeypatch.setattr(sqlite_target, "put_back", lambda *given, **named: None)
    report = Coordinator(local=app, migrations=change.parent).roll_back()
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (6, "T335")
    assert "user_version was 0, is 1" in report.error.message
    with closing(sqlite3.connect(app)) as connection:
        connection.execute("PRAGMA user_version = 0")
    assert Coordinator(local=app, migrations=change.parent).resume().exit_code == 0
