"""The connection to the remote cut at every message of a run, before it, and after it and before its answer; gone deaf; and the
server crashed under it.

Most schedules do so once. The same call goes on by itself on a new connection, or says that it could not, and then `resume`
finishes; the world is compared with the only legal one, in which a step done twice shows in the rows.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from network import Act, Message, Rule, at, first, is_commit, network_to
from pooling_proxy import pooling
from real_schedules import SCENARIOS, Place, world_after
from targets import sometimes

from twinstep.engine.backup_report import BackupReport
from twinstep.engine.coordinator import Coordinator
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.engine.report import Report
from twinstep.events.errors import InDoubt
from twinstep.migrations.postgres_target import PostgresTarget
from twinstep.stores import remote_connection, watched_connection
from twinstep.stores.remote_connection import open_remote
from twinstep.stores.seam import Probe, no_probe


def database_of(url: str) -> str:
    """The name in it."""
    return urlsplit(url).path.removeprefix("/")


RUNS = ("success", "refused remotely", "taken back")
CUTS = (Act.CUT, Act.SWALLOW)
ENDS = {"success": ("verified", 0), "refused remotely": ("rolled_back", 1), "taken back": ("rolled_back", 0)}


class Sweep:
    """The schedules of one kind of run on one server."""

    def __init__(self, name: str, server: EmbeddedPostgres, folder: Callable[[], Path]) -> None:
        self._name, self._scenario, self._server, self._folder = name, SCENARIOS[name], server, folder
        self._legal = world_after(self._scenario, Place(folder=folder(), url=server.create_database()))
        self.ends: Counter[str] = Counter()

    def over(self, rule: Rule) -> list[Message]:
        """One run over a network with that rule, and whatever it needs to be finished; the messages of its first call."""
        place = self.begin()
        with network_to(place.url) as network:
            network.rule = rule
            report = self.call(place, network.url)
            seen = list(network.seen)
        self.end(place, report)
        return seen

    def with_probe(self, probe: Probe, *, retry_for_seconds: float = 20) -> Report:
        """The same straight to the server, with something done at a crossing; what the first call said."""
        place = self.begin()
        report = self.call(place, place.url, probe, retry_for_seconds)
        self.end(place, report)
        return report

    def begin(self) -> Place:
        place = Place(folder=self._folder(), url=self._server.create_database())
        self._scenario.begin(place)
        return place

    def call(self, place: Place, url: str, probe: Probe = no_probe, retry_for_seconds: float = 20) -> Report:
        """As on a device that waits for no lock: one of its own must not be in its way."""
        over = Place(folder=place.folder, url=url, wait_seconds=0, retry_for_seconds=retry_for_seconds)
        return self._made(self._scenario.call, over, probe)

    def end(self, place: Place, report: Report) -> None:
        """Finish by `resume` what began, by the same call what was refused before it began; and look at the world."""
        is_last = (report.outcome, report.exit_code) == ENDS[self._name]
        why = "" if is_last or report.error is None else f": {report.error.message}"
        self.ends[f"{report.outcome} {report.exit_code}{why}"] += 1
        if not is_last:
            calls = {5: self._scenario.call, 6: Coordinator.resume}
            again = self._made(calls[report.exit_code], place, no_probe)
            assert again.outcome == ENDS[self._name][0], again
        self._scenario.check_end(place, self._legal)
        self._server.drop_database(database_of(place.url))

    def _made(self, call: Callable[[Coordinator], Report | BackupReport], place: Place, probe: Probe) -> Report:
        report = call(self._scenario.coordinator(place, probe))
        assert isinstance(report, Report), report
        return report


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """A new folder at each call."""
    made = 0

    def make() -> Path:
        nonlocal made
        made += 1
        path = tmp_path / str(made)
        path.mkdir()
        return path

    return make


def nth(matches: Callable[[Message], bool], number: int, act: Act) -> Rule:
    """That, to the message that is the so-manieth to match."""
    found = 0

    def rule(message: Message) -> Act:
        nonlocal found
        found += matches(message)
        return act if matches(message) and found == number + 1 else Act.PASS

    return rule


def sweep(name: str, act: Act, server: EmbeddedPostgres, folder: Callable[[], Path], *, every: int) -> int:
    """Do that at each so-many-th message; how many schedules that were, until there was no such message any more."""
    runs, number, schedules = Sweep(name, server, folder), 0, 0
    while len(runs.over(at(number, act))) > number:
        number, schedules = number + every, schedules + 1
    print(f"{name}: {act.name.lower()} at {schedules} messages, ended as {dict(runs.ends)}")
    return schedules


@pytest.mark.parametrize("name", RUNS)
def test_a_connection_cut_at_a_message_leads_to_the_same_end(
    name: str, postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    assert sweep(name, Act.CUT, postgres, folder, every=199) >= 1


@pytest.mark.full
@pytest.mark.parametrize("act", CUTS)
@pytest.mark.parametrize("name", RUNS)
def test_a_connection_cut_at_any_message_leads_to_the_same_end(
    name: str, act: Act, postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    assert sweep(name, act, postgres, folder, every=1) > 150


@pytest.mark.parametrize("name", RUNS)
def test_the_answers_to_the_first_commits_are_lost_one_after_the_other(
    name: str, postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    """Each is done, and is not done again: what it added would show twice."""
    runs = Sweep(name, postgres, folder)
    runs.over(first(is_commit, Act.SWALLOW, times=4))
    assert runs.ends == {"{} {}".format(*ENDS[name]): 1}


@pytest.mark.full
@pytest.mark.parametrize("name", RUNS)
def test_with_the_answer_to_any_commit_lost_the_same_call_ends_it(
    name: str, postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    runs, commits = Sweep(name, postgres, folder), 0
    while sum(map(is_commit, runs.over(nth(is_commit, commits, Act.SWALLOW)))) > commits:
        commits += 1
    assert commits > 3
    assert runs.ends == {"{} {}".format(*ENDS[name]): commits + 1}


@pytest.mark.parametrize("said", [False, True], ids=["before it is said that there is none", "just after that"])
def test_a_session_lost_while_the_ledger_is_read_for_the_first_time_is_no_fault_of_the_run(
    said: bool, postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    def is_the_first_look(message: Message) -> bool:
        found = message.kind == "S" and "twinstep.ledger WHERE migration" in message.text
        if found and said:
            time.sleep(0.3)  # a server says at once what is wrong, and does not wait for the end of what it is sent
        return found

    runs = Sweep("success", postgres, folder)
    runs.over(first(is_the_first_look, Act.SWALLOW))
    assert runs.ends == {"verified 0": 1}


@pytest.mark.parametrize(
    "text", ["SELECT pg_catalog.pg_backend_pid()", " SELECT pg_is_in_recovery()", "SELECT set_config(name"]
)
def test_a_session_lost_while_the_remote_is_looked_at_is_no_fault_of_the_run(
    text: str, postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    runs = Sweep("success", postgres, folder)
    seen = runs.over(first(lambda message: message.text.replace("\n", " ").startswith(text), Act.CUT))
    assert runs.ends == {"verified 0": 1}
    assert len({message.session for message in seen}) == 2


# Deaf


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silence that is noticed after less than a second."""
    monkeypatch.setattr(watched_connection, "SILENCE_SECONDS", 0.5)


SILENT = {
    "before a statement": first(lambda message: message.text.startswith("UPDATE item"), Act.DEAF),
    "after a statement": first(lambda message: message.text.startswith("UPDATE item"), Act.MUTE),
    "in the middle of a question": first(lambda message: message.kind == "B", Act.DEAF),
    "after a commit": first(is_commit, Act.MUTE, times=2),
    "after a concurrent build": first(lambda message: message.text.startswith("CREATE INDEX CONC"), Act.MUTE),
    "after everything": first(lambda message: "pg_advisory_unlock_all" in message.text, Act.MUTE),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("when", sometimes(SILENT, 3))
def test_a_connection_that_goes_deaf_is_given_up_and_a_new_one_finishes(
    when: str, postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    """The session that it had keeps its lock for as long as the server sees no end of it: it is ended first."""
    runs = Sweep("success", postgres, folder)
    runs.over(SILENT[when])
    assert runs.ends == {"verified 0": 1}


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_at_work_for_long_is_not_taken_for_a_deaf_one(remote_url: str) -> None:
    with network_to(remote_url) as network, closing(open_remote(network.url)) as connection:
        assert connection.execute("SELECT pg_sleep(2), 1").fetchone() == ("", 1)


@pytest.mark.usefixtures("impatient")
def test_where_nobody_answers_any_more_the_wait_ends_too(remote_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_connection, "ASK_SECONDS", 2)
    with network_to(remote_url) as network, closing(open_remote(network.url)) as connection:
        network.answers = False
        network.rule = lambda message: Act.MUTE
        with pytest.raises(watched_connection.NoAnswer):
            connection.execute("SELECT 1")
        assert connection.closed
        assert connection.broken


@pytest.mark.usefixtures("impatient")
def test_where_a_server_answers_and_lets_nobody_in_to_ask_the_wait_goes_on(remote_url: str, postgres: EmbeddedPostgres) -> None:
    with network_to(remote_url) as network, closing(open_remote(network.url)) as connection:
        with psycopg.connect(postgres.url(), autocommit=True) as other:
            other.execute(f"ALTER DATABASE {database_of(remote_url)} ALLOW_CONNECTIONS false".encode())
        assert connection.execute("SELECT pg_sleep(2), 1").fetchone() == ("", 1)


@pytest.mark.usefixtures("impatient")
def test_behind_a_pooler_a_long_statement_is_waited_for_and_no_session_is_ours_to_end(
    remote_url: str, postgres: EmbeddedPostgres
) -> None:
    name = database_of(remote_url)
    with (
        pooling(f"{postgres.folder}/.s.PGSQL.5432", name, keeps=True) as port,
        closing(open_remote(f"postgresql://postgres@127.0.0.1:{port}/{name}")) as connection,
    ):
        assert connection.execute("SELECT pg_sleep(2), 1").fetchone() == ("", 1)
        assert connection.backend is None


def test_a_lost_session_that_does_not_end_keeps_the_next_one_out(remote_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_connection, "END_SECONDS", 1)
    with closing(PostgresTarget(remote_url)) as target, closing(open_remote(remote_url)) as other:
        target.hold()
        (pid,) = other.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory'").fetchone() or (0,)
        os.kill(pid, signal.SIGSTOP)
        target.close()
        with pytest.raises(InDoubt) as doubt:
            target.hold()
        os.kill(pid, signal.SIGCONT)
        assert doubt.value.code == "T392"
        assert target.hold()


def test_ctrl_c_ends_the_wait_for_a_deaf_server_at_once(remote_url: str) -> None:
    with network_to(remote_url) as network, closing(open_remote(network.url)) as connection:
        network.rule = first(lambda message: message.text == "SELECT 1", Act.MUTE)
        began = time.monotonic()
        with interrupted_after(0.3), pytest.raises(KeyboardInterrupt):
            connection.execute(b"SELECT 1")
        assert time.monotonic() - began < watched_connection.SILENCE_SECONDS
        assert connection.closed


def test_ctrl_c_has_the_server_end_a_long_statement_and_leaves_the_session_usable(remote_url: str) -> None:
    with closing(open_remote(remote_url)) as connection:
        connection.execute("BEGIN")
        began = time.monotonic()
        with interrupted_after(0.3), pytest.raises(KeyboardInterrupt):
            connection.execute("SELECT pg_sleep(60)")
        assert time.monotonic() - began < 30
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT 1").fetchone() == (1,)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_answers_that_come_late_change_nothing(postgres: EmbeddedPostgres, folder: Callable[[], Path]) -> None:
    runs = Sweep("success", postgres, folder)
    place = runs.begin()
    with network_to(place.url) as network:
        network.delay_seconds = 0.005
        report = runs.call(place, network.url)
    runs.end(place, report)
    assert runs.ends == {"verified 0": 1}


def test_a_network_that_lets_nobody_in_for_a_while_is_tried_again(
    postgres: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    runs = Sweep("success", postgres, folder)
    place = runs.begin()
    with network_to(place.url) as network:

        def gone_for_a_while(crossing: str) -> None:
            if crossing == "remote:open:before-commit" and not gone:
                gone.append(crossing)
                network.refuse()
                network.cut()
                threading.Timer(1.0, network.accept).start()

        gone: list[str] = []
        report = runs.call(place, network.url, gone_for_a_while)
    runs.end(place, report)
    assert gone
    assert runs.ends == {"verified 0": 1}


# Restarted


@pytest.fixture(scope="module")
def fragile() -> Iterator[EmbeddedPostgres]:
    """A server of these tests' own, to be crashed."""
    with EmbeddedPostgres.started(durable=False) as server:
        yield server


def crossings(name: str, server: EmbeddedPostgres, folder: Callable[[], Path]) -> list[str]:
    """Every place that a run comes by, in order."""
    passed: list[str] = []
    Sweep(name, server, folder).with_probe(passed.append)
    return list(dict.fromkeys(passed))


def restarts(name: str, server: EmbeddedPostgres, folder: Callable[[], Path], *, every: int) -> Counter[str]:
    """Crash the server and start it again at each so-many-th place; how the calls ended."""
    places = [place for place in crossings(name, server, folder) if "append" not in place and "local" not in place]
    runs = Sweep(name, server, folder)
    for place in places[every // 2 :: every]:
        runs.with_probe(once(place, lambda: server.restart("immediate")))
    print(f"{name}: restarted at {runs.ends.total()} of {len(places)} places, ended as {dict(runs.ends)}")
    return runs.ends


def once(crossing: str, action: Callable[[], object]) -> Probe:
    """Do that when the crossing is come by for the first time."""
    left = [action]

    def probe(passed: str) -> None:
        if passed == crossing and left:
            left.pop()()

    return probe


@pytest.mark.parametrize("name", RUNS)
def test_a_server_that_crashes_in_the_middle_leads_to_the_same_end(
    name: str, fragile: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    assert restarts(name, fragile, folder, every=16).total() >= 1


@pytest.mark.full
@pytest.mark.parametrize("name", RUNS)
def test_a_server_that_crashes_anywhere_leads_to_the_same_end(
    name: str, fragile: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    assert restarts(name, fragile, folder, every=1).total() > 15


def test_a_server_that_stays_away_leaves_the_run_in_flight_until_it_is_back(
    fragile: EmbeddedPostgres, folder: Callable[[], Path]
) -> None:
    runs = Sweep("success", fragile, folder)
    place = runs.begin()
    report = runs.call(place, place.url, once("remote:single:before", fragile.stop), retry_for_seconds=1)
    assert (report.outcome, report.exit_code) == ("in_flight", 6)
    assert report.error is not None
    assert report.error.code == "T221"
    with closing(sqlite3.connect(place.local)) as local:
        assert local.execute("PRAGMA user_version").fetchone() == (12,)
    fragile.restart()
    runs.end(place, report)
