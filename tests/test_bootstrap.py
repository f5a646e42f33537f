"""A host's start with `bootstrap`, on a real SQLite file and a real PostgreSQL: when it may start, and that it never loops.

Every row of the table in docs/hosts.md has a test here. Crashes enter through the probes, as everywhere.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import evolve
from command_line import LIMIT_SECONDS, WAITING, clean_environment
from targets import Crash, crash_at, sometimes

from twinstep import BootstrapOutcome, Coordinator, Migration, Side, bootstrap
from twinstep.engine.bootstrap_rules import by_circumstances, decision_on
from twinstep.engine.report import ConflictReport, InFlight, MigrationReport, SideReport, StatusReport
from twinstep.events.messages import MESSAGES
from twinstep.stores.sqlite_events import SQLiteEventStore

AWAY = "postgresql://nobody@127.0.0.1:1/nowhere"
FIRST, SECOND = "0001_first", "0002_second"


class Host:
    """An application's folder: its database, its migrations, and what it hands to `bootstrap`."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.path = folder / "app.db"
        self.migrations = folder / "migrations"
        self.given: dict[str, Any] = {"local": self.path, "migrations": self.migrations, "retry_for_seconds": 0.4}
        if url is not None:
            self.given["remote"] = url
        with closing(sqlite3.connect(self.path)) as local:
            local.execute("CREATE TABLE item (n)")
            local.commit()
        self.write(FIRST)

    def write(self, name: str, **texts: str) -> None:
        folder = self.migrations / name
        folder.mkdir(parents=True, exist_ok=True)
        table = name.partition("_")[2]
        files = {
            "local.up.sql": f"CREATE TABLE {table} (x);",
            "local.down.sql": f"DROP TABLE {table};",
            "remote.up.sql": f"CREATE TABLE {table} (x int);",
            "remote.down.sql": f"DROP TABLE {table};",
            **{key.replace("_", "."): text for key, text in texts.items() if "_sql" in key},
            **({"migration.toml": texts["toml"]} if "toml" in texts else {}),
        }
        for file, text in files.items():
            (folder / file).write_text(text)

    def start(self, **options: Any) -> BootstrapOutcome:
        return bootstrap(**{"wait_seconds": 0, **self.given, **options})

    def coordinator(self, **options: Any) -> Coordinator:
        return Coordinator(**{**self.given, **options})

    def local(self) -> set[str]:
        with closing(sqlite3.connect(self.path)) as local:
            names = local.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'twinstep_ledger'")
            return {name for (name,) in names}

    def remote(self) -> set[str]:
        with psycopg.connect(self.given["remote"]) as remote:
            return {name for (name,) in remote.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}

    def log(self) -> list[str]:
        with closing(SQLiteEventStore(self.path.with_name("app.db.twinstep") / "log.db", readonly=True)) as store:
            return [record.type for record in store.read_all()]


@pytest.fixture
def host(tmp_path: Path, remote_url: str) -> Host:
    return Host(tmp_path, remote_url)


@pytest.fixture
def alone(tmp_path: Path) -> Host:
    """A host without a remote."""
    return Host(tmp_path, None)


def told(outcome: BootstrapOutcome) -> tuple[str, str | None]:
    return outcome.decision, None if outcome.error is None else outcome.error.code


def test_a_host_starts_once_both_databases_are_at_its_version_and_then_at_once(host: Host) -> None:
    first = host.start()
    assert told(first) == ("start", None)
    assert first.report is not None
    assert first.report.outcome == "verified"
    assert first.status is not None
    assert first.status.local.applied == first.status.remote.applied == (FIRST,)
    assert (host.local(), host.remote()) == ({"item", "first"}, {"first"})
    again = host.start()
    assert (told(again), again.report) == (("start", None), None)
    host.write(SECOND)
    assert host.start().decision == "start"
    assert host.local() == {"item", "first", "second"}


def test_a_start_with_nothing_to_do_takes_no_lock_writes_nothing_and_loads_nothing_heavy(host: Host) -> None:
    host.start()
    state = host.path.with_name("app.db.twinstep")
    program = (
        "import sys; from twinstep import bootstrap;"
        f"outcome = bootstrap(local={str(host.path)!r}, remote={host.given['remote']!r}, migrations={str(host.migrations)!r});"
        "print(outcome.decision, *sys.modules)"
    )

    def seen() -> dict[str, tuple[int, bytes]]:
        # A reader of a WAL writes its own mark into the shared memory beside it; that is no part of the data.
        files = [path for path in (host.path, *state.rglob("*")) if path.is_file() and not path.name.endswith("-shm")]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = seen()
    # The lock is held by somebody else all the while: a start that wanted it would wait.
    from twinstep.engine.locks import coordinator_lock

    with coordinator_lock(state, doing="test", wait_seconds=0):
        held = seen()
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=clean_environment(), timeout=20
        )
        assert seen() == held
    assert seen() == before
    decision, *modules = done.stdout.split()
    assert decision == "start"
    assert {name.partition(".")[0] for name in modules} & {"sqlalchemy", "filelock", "tenacity", "transitions", "rich"} == set()


def test_asked_not_to_migrate_it_says_that_the_local_database_lacks_something(host: Host) -> None:
    outcome = host.start(migrate=False)
    assert (told(outcome), outcome.report) == (("stop", None), None)
    assert outcome.reason == f"the local database lacks {FIRST}"
    assert host.local() == {"item"}
    assert not host.path.with_name("app.db.twinstep").exists()


# A new install


def test_a_new_install_gets_an_empty_database_only_if_asked_to(host: Host) -> None:
    host.path.unlink()
    assert told(host.start()) == ("stop", "T211")
    assert not host.path.exists()
    assert told(host.start(create_local=True)) == ("start", None)
    assert host.local() == {"first"}


def test_a_new_install_in_a_folder_that_is_not_there_gets_it(alone: Host, tmp_path: Path) -> None:
    elsewhere = tmp_path / "new" / "place" / "app.db"
    assert told(alone.start(local=elsewhere, create_local=True)) == ("start", None)
    assert elsewhere.with_name("app.db.twinstep").is_dir()


def test_a_database_that_was_lost_is_not_taken_for_a_new_install(host: Host) -> None:
    host.start()
    host.path.unlink()
    outcome = host.start(create_local=True)
    assert told(outcome) == ("stop", "T165")
    assert not host.path.exists()


def test_a_database_that_was_made_but_never_migrated_may_be_made_again(alone: Host) -> None:
    alone.write(FIRST, local_up_sql="CREATE TABLE first (x); INSERT INTO missing VALUES (1);")
    alone.path.unlink()
    assert told(alone.start(create_local=True)) == ("stop", "T331")
    alone.path.unlink()
    alone.write(FIRST)
    assert told(alone.start(create_local=True)) == ("start", None)


def test_a_place_where_no_database_can_be_made_is_named(alone: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = alone.start(local=tmp_path / "file" / "app.db", create_local=True)
    assert outcome.decision == "stop"
    assert str(tmp_path / "file") in outcome.reason


def test_a_new_database_is_made_with_the_hosts_own_connection_settings(alone: Host) -> None:
    alone.path.unlink()
    seen: list[sqlite3.Connection] = []

    def connected(connection: sqlite3.Connection) -> None:
        seen.append(connection)

    alone.start(create_local=True, migrate=False, on_local_connect=connected)
    assert len(seen) >= 2


# No boot loop


def test_what_was_refused_is_not_run_again_until_its_text_changes(host: Host) -> None:
    host.write(SECOND, remote_up_sql="CREATE TABLE second (x int); SELECT 1 / 0;")
    first = host.start()
    assert told(first) == ("stop", "T331")
    assert first.report is not None
    assert first.report.outcome == "rolled_back"
    events = host.log()
    for _ in range(3):
        again = host.start()
        assert told(again) == ("stop", "T164")
        assert again.report is None
        assert f"the local database lacks {SECOND}" in again.reason
        assert "division by zero" in again.reason
    assert host.log() == events
    # A comment is no change; a corrected down is none either.
    commented = "-- why\nCREATE TABLE second (x int);\nSELECT 1/0;"
    host.write(SECOND, remote_up_sql=commented, remote_down_sql="DROP TABLE IF EXISTS second;")
    assert told(host.start()) == ("stop", "T164")
    host.write(SECOND)
    assert told(host.start()) == ("start", None)


def test_it_is_run_again_if_told_to(host: Host) -> None:
    host.write(FIRST, remote_up_sql="CREATE TABLE first (x int); INSERT INTO wanted VALUES (1);")
    assert told(host.start()) == ("stop", "T331")
    with psycopg.connect(host.given["remote"], autocommit=True) as remote:
        remote.execute("CREATE TABLE wanted (n int)")
    assert told(host.start()) == ("stop", "T164")
    assert told(host.start(retry_rolled_back=True)) == ("start", None)
    assert told(host.start()) == ("start", None)


def test_what_comes_before_a_refused_migration_is_still_run(host: Host) -> None:
    host.write("0003_third", remote_up_sql="SELECT 1 / 0;")
    assert told(host.start()) == ("stop", "T331")
    host.write(SECOND)
    outcome = host.start()
    assert told(outcome) == ("stop", "T164")
    assert host.local() == {"item", "first", "second"}
    assert "0003_third" in outcome.reason


def test_what_a_person_took_back_is_not_brought_back_by_a_start(host: Host) -> None:
    host.start()
    host.coordinator().roll_back()
    outcome = host.start()
    assert told(outcome) == ("stop", "T164")
    assert "it was taken back" in outcome.reason
    assert host.local() == {"item"}


def test_a_refusal_by_circumstances_is_tried_at_each_start(host: Host) -> None:
    host.write(SECOND, toml="[local]\npending = 'SELECT count(*) FROM item'\n")
    with closing(sqlite3.connect(host.path)) as local:
        local.execute("INSERT INTO item VALUES (1)")
        local.commit()
    for _ in range(2):
        assert told(host.start()) == ("stop", "T202")
    with closing(sqlite3.connect(host.path)) as local:
        local.execute("DELETE FROM item")
        local.commit()
    assert told(host.start()) == ("start", None)


def test_a_run_that_circumstances_ended_is_tried_again(host: Host) -> None:
    # A run that was validated, killed, and then met with operations that are pending: rolled back, and nobody's fault.
    host.write(SECOND, toml="[local]\npending = 'SELECT count(*) FROM item'\n")
    with pytest.raises(Crash):
        host.start(probe=crash_at("APPLY_LOCAL:before", times=2))
    with closing(sqlite3.connect(host.path)) as local:
        local.execute("INSERT INTO item VALUES (1)")
        local.commit()
    assert told(host.start()) == ("stop", "T202")
    assert "RolledBack" in host.log()[-3:]  # after it, only what is scheduled of its backup
    with closing(sqlite3.connect(host.path)) as local:
        local.execute("DELETE FROM item")
        local.commit()
    assert told(host.start()) == ("start", None)


def test_a_host_without_a_local_database_does_not_loop_either(tmp_path: Path, remote_url: str) -> None:
    host = Host(tmp_path, remote_url)
    host.write(FIRST, remote_up_sql="SELECT 1 / 0;")
    given = {"local": None, "state_dir": tmp_path / "state"}
    assert told(host.start(**given)) == ("stop", "T331")
    assert told(host.start(**given)) == ("stop", "T164")
    # Its local text is not run here, and no part of what was refused.
    host.write(FIRST, remote_up_sql="SELECT 1 / 0;", local_up_sql="CREATE TABLE other (x);", local_down_sql="DROP TABLE other;")
    assert told(host.start(**given)) == ("stop", "T164")
    host.write(FIRST)
    assert told(host.start(**given)) == ("start", None)


def test_a_side_that_was_added_since_makes_it_another_migration(host: Host) -> None:
    bad, none = "INSERT INTO missing VALUES (1);", "-- nothing\n"
    host.write(FIRST, remote_up_sql=none, remote_down_sql=none, local_up_sql=bad)
    assert told(host.start()) == ("stop", "T331")
    assert told(host.start()) == ("stop", "T164")
    host.write(FIRST, local_up_sql="INSERT INTO missing VALUES (1);")
    assert told(host.start()) == ("stop", "T331")


@pytest.mark.parametrize("code", [code for code in MESSAGES if code.startswith(("T2", "T3", "T4"))])
def test_circumstances_are_what_the_code_raises_as_such(code: str) -> None:
    root, folders = Path(__file__).parent.parent, ("stores", "migrations", "engine")
    root, folders = Path(__file__).parent.parent, ("stores", "migrations", "engine")
    # A rehearsal is no run: what it refuses is in no log.
    files = [
        path
        for folder in folders
        for path in (root / folder).rglob("*.py")
        if "rehearsal" not in f"{path.parent.name} {path.name}"
    ]
    source = "".join(path.read_text() for path in files)
    if f'Refused("{code}"' in source:
        assert not by_circumstances(code)
    if f'Blocked("{code}"' in source or f'Locked("{code}"' in source:
        assert by_circumstances(code)


# In flight


CROSSINGS = (
    "VALIDATE:performed",
    "BACK_UP:performed",
    "local:group:after-commit",
    "APPLY_LOCAL:performed",
    "START_REMOTE:before",
    "remote:group:after-commit",
    "APPLY_REMOTE:performed",
    "VERIFY:before",
)


@pytest.mark.parametrize("crossing", sometimes(CROSSINGS, 2))
def test_a_start_that_was_killed_is_finished_by_the_next(host: Host, crossing: str) -> None:
    with pytest.raises(Crash):
        host.start(probe=crash_at(crossing))
    outcome = host.start()
    assert told(outcome) == ("start", None), outcome
    assert (host.local(), host.remote()) == ({"item", "first"}, {"first"})
    assert host.log().count("LocalApplied") == host.log().count("RemoteApplied") == 1


@pytest.mark.parametrize("crossing", ["APPLY_LOCAL:performed", "START_REMOTE:before"])
def test_what_is_in_flight_is_finished_also_where_nothing_is_to_be_migrated(host: Host, crossing: str) -> None:
    with pytest.raises(Crash):
        host.start(probe=crash_at(crossing))
    host.write(SECOND)
    outcome = host.start(migrate=False)
    assert outcome.decision == "stop"
    assert outcome.reason == f"the local database lacks {SECOND}"
    assert host.local() == {"item", "first"}


@pytest.mark.parametrize("crossing", ["local:undo:before-commit", "UNDO_LOCAL:before", "COMPARE:before"])
def test_a_start_killed_on_its_way_back_goes_on_back_and_does_not_try_again(host: Host, crossing: str) -> None:
    host.write(FIRST, remote_up_sql="SELECT 1 / 0;")
    with pytest.raises(Crash):
        host.start(probe=crash_at(crossing))
    outcome = host.start()
    assert (outcome.decision, host.local()) == ("stop", {"item"})
    assert told(host.start()) == ("stop", "T164")
    assert host.log().count("RunStarted") == 1


def test_a_run_in_flight_whose_remote_is_away_stops_the_host_until_it_is_back(host: Host) -> None:
    with pytest.raises(Crash):
        host.start(probe=crash_at("APPLY_REMOTE:performed"))
    outcome = host.start(remote=AWAY)
    assert told(outcome)[0] == "stop"
    assert outcome.reason.startswith(f"{FIRST} is in flight (local_applied)")
    # Something may be there: it is not skipped, whatever is asked.
    assert host.start(remote=AWAY, skip_remote_if_away=True).decision == "stop"
    assert told(host.start()) == ("start", None)


# The remote away, behind, left for later


def test_a_remote_that_is_away_keeps_nobody_from_starting_whose_own_database_is_whole(host: Host) -> None:
    host.start()
    outcome = host.start(remote=AWAY)
    assert (outcome.decision, outcome.report) == ("start_degraded", None)
    assert outcome.reason.startswith("the remote database cannot be reached: T221")


def test_a_remote_that_is_away_stops_a_host_that_needs_a_migration_unless_it_may_be_left_for_later(host: Host) -> None:
    assert told(host.start(remote=AWAY)) == ("stop", "T221")
    assert host.local() == {"item"}
    began = time.monotonic()
    later = host.start(remote=AWAY, skip_remote_if_away=True, retry_for_seconds=60)
    assert later.decision == "start_degraded"
    assert time.monotonic() - began < 30
    assert host.local() == {"item", "first"}
    # At each later start it is done as soon as the remote is there.
    assert host.start(remote=AWAY).decision == "start_degraded"
    assert told(host.start()) == ("start", None)
    assert host.remote() == {"first"}


def test_a_remote_that_is_left_alone_is_degraded_and_no_lock_is_taken_for_it_again(host: Host) -> None:
    outcome = host.start(skip_remote=True)
    assert outcome.decision == "start_degraded"
    assert FIRST in outcome.reason
    again = host.start(skip_remote=True)
    assert (again.decision, again.report) == ("start_degraded", None)
    by_role = host.start(remote_role="skip")
    assert (by_role.decision, by_role.report) == ("start_degraded", None)
    assert by_role.reason == f"the remote part of {FIRST} was left for later"
    assert told(host.start()) == ("start", None)
    assert told(host.start(remote_role="skip")) == ("start", None)


def test_a_remote_part_that_was_refused_later_lets_the_host_start_and_is_not_tried_again(host: Host) -> None:
    host.write(FIRST, remote_up_sql="INSERT INTO missing VALUES (1);")
    host.start(skip_remote=True)
    first = host.start()
    assert told(first) == ("start_degraded", "T331")
    again = host.start()
    assert (told(again), again.report) == (("start_degraded", "T164"), None)


def test_a_host_without_a_remote_has_no_remote_to_miss(alone: Host) -> None:
    assert told(alone.start()) == ("start", None)
    assert told(alone.start()) == ("start", None)


def test_a_host_whose_only_database_is_the_remote_cannot_start_without_it(tmp_path: Path, remote_url: str) -> None:
    host = Host(tmp_path, remote_url)
    given = {"local": None, "state_dir": tmp_path / "state"}
    assert told(host.start(**given)) == ("start", None)
    assert host.start(**{**given, "remote": AWAY}).decision == "stop"


def test_a_device_without_rights_waits_for_whoever_may_change_the_remote(host: Host, tmp_path: Path) -> None:
    assert told(host.start(remote_role="require")) == ("stop", "T205")
    host.coordinator(local=None, state_dir=tmp_path / "operator").migrate()
    assert told(host.start(remote_role="require")) == ("start", None)


# Conflicts, bad input, others


def test_a_database_that_is_newer_than_the_code_stops_the_host(host: Host) -> None:
    host.write(SECOND)
    host.start()
    shutil.rmtree(host.migrations / SECOND)
    outcome = host.start()
    assert (outcome.decision, outcome.report) == ("stop", None)
    assert outcome.reason.startswith(f"conflict (unknown): {SECOND} is applied on the local side")


def test_an_edited_migration_and_a_lost_log_stop_the_host_and_nothing_is_run(host: Host) -> None:
    host.start()
    host.write(SECOND)
    host.write(FIRST, local_up_sql="CREATE TABLE first (x, y);")
    assert host.start().reason.startswith("conflict (edited)")
    host.write(FIRST)
    shutil.rmtree(host.path.with_name("app.db.twinstep"))
    assert host.start().reason.startswith("conflict (foreign_log)")
    assert host.local() == {"item", "first"}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"migrations": "nowhere"}, "T101"),
        ({"local": None, "remote": None}, "T142"),
        ({"local": ":memory:"}, "T143"),
        ({"log": "file:x"}, "T144"),
        ({"remote_role": "master"}, "T141"),
    ],
)
def test_what_is_wrong_with_the_input_is_in_the_outcome_and_not_raised(host: Host, given: dict[str, Any], code: str) -> None:
    outcome = host.start(**given)
    assert told(outcome) == ("stop", code)
    assert outcome.status is None


def test_a_migration_given_in_python_works_as_well(host: Host) -> None:
    change = Side(up="CREATE TABLE mine (x)", down="DROP TABLE mine")
    assert told(host.start(migrations=[Migration(id="0001_mine", local=change)])) == ("start", None)
    bad = Migration(id="0002_bad", local=Side(up="CREATE TABLE mine (x)", down=""))
    refused = [Migration(id="0001_mine", local=change), bad]
    assert told(host.start(migrations=refused)) == ("stop", "T331")
    assert told(host.start(migrations=refused)) == ("stop", "T164")


def test_of_several_processes_that_start_at_once_one_works_and_the_others_wait(alone: Host) -> None:
    shutil.rmtree(alone.migrations / FIRST)
    folder = alone.migrations / "0001_waited"
    folder.mkdir()
    (folder / "migration.py").write_text(WAITING)
    program = (
        "import sys; from twinstep import bootstrap;"
        "from pathlib import Path; asked = lambda connection: Path(sys.argv[1]).touch();"
        f"outcome = bootstrap(local={str(alone.path)!r}, migrations={str(alone.migrations)!r}, wait_seconds=30,"
        " on_local_connect=asked);"
        "print(outcome.decision, outcome.report and outcome.report.outcome)"
    )
    here = alone.path.parent

    def appears(name: str) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (here / name).exists():
            assert time.monotonic() < deadline, name
            time.sleep(0.01)

    command = [sys.executable, "-c", program]
    with subprocess.Popen([*command, here / "one"], stdout=subprocess.PIPE, text=True, env=clean_environment()) as one:
        appears("begun")
        # One that does not wait is told so, and must not start: the other may still fail.
        impatient = alone.start()
        assert told(impatient) == ("stop", "T401")
        with subprocess.Popen([*command, here / "other"], stdout=subprocess.PIPE, text=True, env=clean_environment()) as other:
            # It has asked, and something is to be done; give it time to come to the lock.
            appears("other")
            time.sleep(0.5)
            (here / "go").touch()
            out, _ = other.communicate(timeout=LIMIT_SECONDS)
            # Without a report where it came so late that there was nothing to wait for.
            assert out.split() in (["start", "up_to_date"], ["start", "None"])
        out, _ = one.communicate(timeout=LIMIT_SECONDS)
        assert out.split() == ["start", "verified"]


# The decision alone: what no database was brought to above


def standing(**changes: Any) -> StatusReport:
    """Everything well: one migration, on both sides."""
    whole = MigrationReport(
        id=FIRST, state="verified", local_status="completed", remote_status="completed", checksum="1:x", runs=1
    )
    return evolve(
        StatusReport(
            pair="pair",
            needs_migration=False,
            in_flight=None,
            local=SideReport(reachable=True, applied=(FIRST,)),
            remote=SideReport(reachable=True, applied=(FIRST,), role="apply"),
            migrations=(whole,),
        ),
        **changes,
    )


def conflict(kind: str) -> ConflictReport:
    return ConflictReport(kind=kind, migration=FIRST, message="It does not fit.", next_step="Look.")


@pytest.mark.parametrize(
    ("changes", "decision"),
    [
        ({}, "start"),
        ({"conflicts": (conflict("drift"),)}, "start_degraded"),
        ({"conflicts": (conflict("invalid_index"),)}, "start_degraded"),
        ({"conflicts": (conflict("behind_log"), conflict("drift"))}, "stop"),
        ({"in_flight": InFlight(run="r", migration=FIRST, state="remote_applied", since="now")}, "stop"),
        ({"local": SideReport(reachable=False, problem="gone")}, "stop"),
        ({"local": SideReport(reachable=None), "remote": SideReport(reachable=False, role="apply")}, "stop"),
        ({"remote": SideReport(reachable=None, role="skip")}, "start"),
        ({"pending": (FIRST,)}, "start_degraded"),
        ({"pending": (FIRST,), "local": SideReport(reachable=True)}, "stop"),
    ],
)
def test_the_decision_is_made_from_how_the_databases_stand(changes: dict[str, Any], decision: str) -> None:
    assert decision_on(standing(**changes)).decision == decision
