"""Which trouble with a remote is tried again, for how long, and how the tries nest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import psycopg
import pytest
from sqlalchemy import Connection
from targets import PostgresPlace, order, work

from twinstep.engine import session
from twinstep.engine.coordinator import Coordinator
from twinstep.engine.report import Report
from twinstep.events.errors import InDoubt, Refused, TwinstepError, Unreachable
from twinstep.migrations.definition import Migration, RemoteOptions, Side
from twinstep.migrations.passing import is_passing
from twinstep.migrations.postgres_target import PostgresTarget
from twinstep.stores.patience import FIRST_SECONDS, LONGEST_SECONDS, Patience
from twinstep.stores.remote_connection import open_remote


@pytest.fixture
def remote(remote_url: str) -> Iterator[PostgresPlace]:
    place = PostgresPlace(remote_url)
    yield place
    place.close()


class Time:
    """A clock that only sleeping moves on."""

    def __init__(self, *, lucky: float = 1.0) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self._lucky = lucky

    def patience(self, seconds: float) -> Patience:
        return Patience(seconds, clock=lambda: self.now, sleep=self.sleep, random_up_to=lambda most: most * self._lucky)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


# For how long


def test_the_pauses_grow_and_end_when_the_time_does() -> None:
    clock = Time()
    patience = clock.patience(30.0)
    while patience.wait():
        pass
    assert clock.now == 1030.0
    assert clock.pauses[:5] == [FIRST_SECONDS * 2**n for n in range(5)]
    assert max(clock.pauses) == LONGEST_SECONDS


@pytest.mark.parametrize("seconds", [0.1, 1.0, 7.5, 30.0, 3600.0])
def test_no_pause_goes_beyond_the_limit_however_the_tries_last(seconds: float) -> None:
    clock = Time(lucky=0.7)
    patience = clock.patience(seconds)
    began = clock.now
    while patience.wait():
        assert clock.now <= began + seconds
        clock.now += 0.3  # the try itself
    assert began + seconds <= clock.now <= began + seconds + 0.3


def test_pauses_are_random() -> None:
    pauses: list[float] = []
    for _ in range(20):
        Patience(30.0, sleep=pauses.append).wait()
    assert len(set(pauses)) > 10
    assert all(0.0 <= pause <= FIRST_SECONDS for pause in pauses)


def test_without_any_time_there_is_no_second_try() -> None:
    clock = Time()
    assert not clock.patience(0.0).wait()
    assert clock.pauses == []


def test_whatever_gets_done_ends_the_trouble_and_the_next_one_has_the_time_anew() -> None:
    clock = Time()
    patience = clock.patience(10.0)
    assert patience.wait()
    clock.now += 9.0
    patience.done()
    assert not patience.in_trouble
    clock.now += 100.0
    assert patience.wait()
    assert clock.pauses == [FIRST_SECONDS, FIRST_SECONDS]


# Which


PASSING: list[TwinstepError] = [
    InDoubt("T391", side="remote", migration="", problem=""),
    InDoubt("T321", statement=""),
    InDoubt("T392", backend=1, seconds=1),
    Unreachable("T221", url="", problem=""),
    Unreachable("T229", url="", problem=""),
]
LASTING: list[TwinstepError] = [
    Unreachable("T226", url="", problem=""),
    Unreachable("T227", url="", problem=""),
    Unreachable("T228", url="", problem=""),
    Unreachable("T263", url="", problem=""),
    Refused("T331", migration="", side="remote", problem="", statement=""),
]


def test_what_is_lost_or_away_is_passing_and_a_login_that_is_wrong_is_not() -> None:
    assert all(is_passing(error) for error in PASSING)
    assert not any(is_passing(error) for error in LASTING)


def test_a_server_without_room_for_another_session_is_tried_again(remote: PostgresPlace) -> None:
    role = f"crowded_{remote.asked('SELECT current_database()')[0][0]}"
    remote.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    try:
        with pytest.raises(Unreachable) as away:
            open_remote(remote.url.replace("postgresql://postgres@", f"postgresql://{role}@"))
        assert is_passing(away.value)
    finally:
        remote.execute(f"DROP ROLE {role}")


def raising(code: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{code}'; END $$"


TRIED_AGAIN = ("55P03", "40P01", "40001")
LOST = ("57P01", "57P02", "57P03")
# Syntax, rights, unique, not null, foreign key, full disk, full memory, too many connections, cancelled, out of range.
REFUSED = ("42601", "42501", "23505", "23502", "23503", "53100", "53200", "53300", "57014", "22003")


def tries_of(remote: PostgresPlace, code: str) -> tuple[int, type[BaseException]]:
    """How often a group that meets this was begun, within time for three pauses, and as what it ended."""
    clock, tries = Time(), 0

    def count(connection: Connection) -> None:
        nonlocal tries
        tries += 1

    patience = clock.patience(FIRST_SECONDS * 7)
    with closing(PostgresTarget(remote.url, patience=patience)) as target, pytest.raises(TwinstepError) as error:
        target.apply(order(work(remote, (count, raising(code)), "SELECT 1")))
    return tries, type(error.value)


@pytest.mark.parametrize("code", TRIED_AGAIN)
def test_a_group_that_others_were_in_the_way_of_is_tried_again_as_a_whole(remote: PostgresPlace, code: str) -> None:
    assert tries_of(remote, code) == (4, Refused)


@pytest.mark.parametrize("code", LOST)
def test_a_lost_session_is_not_tried_again_by_the_target_itself_but_in_doubt(remote: PostgresPlace, code: str) -> None:
    assert tries_of(remote, code) == (1, InDoubt)


@pytest.mark.parametrize("code", REFUSED)
def test_any_other_error_is_refused_at_once(remote: PostgresPlace, code: str) -> None:
    assert tries_of(remote, code) == (1, Refused)


def test_a_concurrent_build_that_met_a_deadlock_is_tried_again(remote: PostgresPlace) -> None:
    """The server lets a build die of it as it does anybody else."""
    remote.execute(
        "CREATE FUNCTION fails_once(n bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN "
        "IF (SELECT is_called FROM public.tries) THEN RETURN n; END IF; "
        "PERFORM nextval('public.tries'); RAISE EXCEPTION 'planted' USING ERRCODE = '40P01'; END $$",
        "CREATE SEQUENCE tries",
    )
    up = ("CREATE INDEX CONCURRENTLY item_tried ON item (fails_once(n))",)
    with closing(PostgresTarget(remote.url, patience=Time().patience(30.0))) as target:
        target.apply(order(work(remote, up, None)))
    assert remote.asked("SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_tried'::regclass") == [(True,)]


# How they nest


class Run:
    """A remote migration of two groups, whose time is that of the clock, and which is cut at the given places."""

    def __init__(self, place: PostgresPlace, folder: Path) -> None:
        self.clock = Time()
        self.cuts: list[str] = []
        self._place, self._folder = place, folder

    def migrate(self, cut: Callable[[str], bool], *, retry_for_seconds: float = 30.0) -> Report:
        def probe(crossing: str) -> None:
            if cut(crossing):
                self.cuts.append(crossing)
                self._place.cut()

        up = ("UPDATE item SET n = n + 10", "CREATE INDEX CONCURRENTLY item_n ON item (n)", "ALTER TABLE item ADD COLUMN m int")
        migration = Migration(
            id="0001_change",
            remote=Side(up=up, down=("ALTER TABLE item DROP COLUMN m", "-- twinstep: group", "UPDATE item SET n = n - 10")),
            remote_options=RemoteOptions(lock_timeout_seconds=0.01),
        )
        coordinator = Coordinator(
            remote=self._place.url,
            migrations=[migration],
            state_dir=self._folder,
            retry_for_seconds=retry_for_seconds,
            probe=probe,
        )
        with patch.object(session, "Patience", self.clock.patience):
            return coordinator.migrate()


@pytest.fixture
def run(remote: PostgresPlace, tmp_path: Path) -> Run:
    return Run(remote, tmp_path)


def test_without_time_to_retry_there_is_exactly_one_try(run: Run, remote: PostgresPlace) -> None:
    report = run.migrate(lambda crossing: crossing == "remote:group:before-commit", retry_for_seconds=0)
    assert (report.outcome, report.exit_code) == ("in_flight", 6)
    assert len(run.cuts) == 1
    assert run.migrate(lambda crossing: False).outcome == "verified"
    assert remote.items()["a"] == 11


def test_a_session_that_is_cut_at_each_try_is_tried_for_as_long_as_there_is_time(run: Run) -> None:
    report = run.migrate(lambda crossing: crossing == "remote:group:before-commit", retry_for_seconds=6)
    assert (report.outcome, report.exit_code) == ("in_flight", 6)
    assert run.clock.now == 1006.0
    assert len(run.cuts) == len(run.clock.pauses) + 1


def test_waiting_for_a_lock_after_a_lost_session_is_in_the_same_time(run: Run, remote: PostgresPlace) -> None:
    """Thirty seconds of one inside thirty seconds of the other would be fifteen minutes."""
    with psycopg.connect(remote.url) as other:

        def cut(crossing: str) -> bool:
            if crossing != "remote:group:before-commit" or run.cuts:
                return False
            run.clock.now += 3.0
            return True

        def lock(crossing: str) -> bool:
            cuts = cut(crossing)
            if cuts:
                remote.cut()
                other.execute("LOCK TABLE item IN SHARE MODE")
            return cuts

        report = run.migrate(lock)
    assert (report.outcome, report.exit_code) == ("rolled_back", 1)
    assert report.error is not None
    assert "55P03" in report.error.message
    assert run.clock.now == 1003.0 + 30.0


def test_a_second_loss_long_after_the_first_has_the_whole_time_again(run: Run, remote: PostgresPlace) -> None:
    def cut(crossing: str) -> bool:
        if crossing == "remote:group:before-commit" and len(run.cuts) < 1:
            return True
        if crossing == "remote:single:after" and len(run.cuts) < 2:
            run.clock.now += 3600.0  # what the concurrent build took
            return True
        return False

    assert run.migrate(cut).outcome == "verified"
    assert len(run.cuts) == 2
    assert remote.items()["a"] == 11
