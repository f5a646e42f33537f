"""The pytest plugin: `pytest --twinstep=migrations/` has one test for each migration and property.

What a run costs is Hypothesis' to say: its profiles have the number of databases (`max_examples`), `--hypothesis-seed` is the
seed.
Loaded with every pytest where Twinstep is installed, so that nothing else of Twinstep is imported before it is asked for.

Fixtures for tests of host applications: `twinstep_postgres`, `twinstep_pair`, `twinstep_coordinator`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from ...events.errors import TwinstepError
    from ..coordinator import Coordinator
    from ..embedded import EmbeddedPostgres
    from .outcome import PropertyResult, Verification
    from .verifying import Verifier

OPTION: Final = "--twinstep"
SEED: Final = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    """The folder, and how much is tried."""
    group = parser.getgroup("twinstep", "verification of migrations by property")
    group.addoption(OPTION, metavar="DIR", default=None, help="one test for each migration of DIR and property")
    group.addoption(
        "--twinstep-examples", metavar="N", type=int, default=None, help="databases a test (default: as Hypothesis)"
    )
    group.addoption(
        "--twinstep-time", metavar="SECONDS", type=float, default=None, help="for one migration: no new database after it"
    )
    group.addoption("--twinstep-server", metavar="URL", default=None, help="a PostgreSQL for trials, instead of one of its own")
    parser.addini("twinstep", "the folder of migrations, relative to the root", default="")


def pytest_configure(config: pytest.Config) -> None:
    """What is held for the whole run: the server, once somebody needs it."""
    config.stash[_SERVERS] = _Servers(config.getoption("twinstep_server"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing stays behind."""
    if _SERVERS in config.stash:
        config.stash[_SERVERS].close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before anything is deselected, so that -k and the rest hold for these too."""
    folder = config.getoption("twinstep")
    if folder is not None:
        path = Path(config.invocation_params.dir, folder)
        collector = MigrationFolder.from_parent(session, name=str(folder).rstrip("/"), path=path)
        items.extend(collector.items())


class MigrationFolder(pytest.Collector):
    """A folder of migrations."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        """Its migrations, in order."""
        from ...events.errors import TwinstepError

        try:
            ids = self.config.stash[_SERVERS].verifier_of(self.path).ids
        except TwinstepError as error:
            raise pytest.UsageError(str(error)) from error
        return [OneMigration.from_parent(self, name=id) for id in ids]

    def items(self) -> Iterator[pytest.Item]:
        """Each property of each migration."""
        for migration in self.collect():
            assert isinstance(migration, OneMigration)
            yield from migration.collect()


class OneMigration(pytest.Collector):
    """One migration of the folder. Its properties are verified together, by the first of them that is run."""

    _found: Verification | TwinstepError | None = None
    _warned = False

    def collect(self) -> list[PropertyItem]:
        """Its properties."""
        from .properties import Property

        return [PropertyItem.from_parent(self, name=each.value) for each in Property]

    def verified(self, item: PropertyItem) -> Verification:
        """What was found of the properties that are run. A worker of pytest-xdist, which runs only some, tries each alone."""
        from ...events.errors import TwinstepError

        if hasattr(self.config, "workerinput"):
            return self._verify([item])
        if self._found is None:
            try:
                self._found = self._verify([each for each in self.session.items if each.parent is self])
            except TwinstepError as error:
                self._found = error
        if isinstance(self._found, TwinstepError):
            raise self._found
        return self._found

    def warn_of(self, found: Verification) -> None:
        """Say once what no row was tried of; it fails nothing."""
        from ..cli.proving_view import untried

        if not self._warned:
            self.warn(pytest.PytestWarning(f"{self.name}: {untried(found)}"))
        self._warned = True

    def _verify(self, items: Sequence[pytest.Item]) -> Verification:
        from hypothesis import settings

        from .properties import Property

        assert isinstance(self.parent, MigrationFolder)
        folder, asked = self.parent.path, self.config.getoption("twinstep_examples")
        seed = self.config.getoption("hypothesis_seed", None)
        servers = self.config.stash[_SERVERS]
        return servers.verifier_of(folder).verify(
            self.name,
            properties=tuple(Property(each.name) for each in items),
            examples=settings().max_examples if asked is None else asked,
            seed=SEED if seed in (None, "random") else int(seed),
            time_seconds=self.config.getoption("twinstep_time"),
            server=servers.url,
        )


class PropertyItem(pytest.Item):
    """One property of one migration."""

    def runtest(self) -> None:
        """Verify it. What cannot be tried is skipped, with the reason."""
        from .properties import Property

        assert isinstance(self.parent, OneMigration)
        found = self.parent.verified(self)
        if found.untried:
            self.parent.warn_of(found)
        result = found.result(Property(self.name))
        assert result is not None
        if result.verdict == "fails":
            raise DoesNotHold(found, result, self.given())
        if result.verdict != "holds":
            pytest.skip(result.reason)

    def given(self) -> list[str]:
        """What `twinstep test` takes to try the same."""
        from ..cli.trouble import shown_address

        server = self.config.getoption("twinstep_server")
        words = ["--migrations", str(self.config.getoption("twinstep"))]
        return words if server is None else [*words, "--server", shown_address(server)]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What `twinstep test` prints."""
        from ...events.errors import TwinstepError

        if isinstance(excinfo.value, DoesNotHold | TwinstepError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Such as "0012_phase3 keeps-rows"."""
        assert self.parent is not None
        return self.path, None, f"{self.parent.name} {self.name}"


class DoesNotHold(Exception):
    """A property does not hold; its text is what a person needs to see why."""

    def __init__(self, found: Verification, result: PropertyResult, given: Sequence[str]) -> None:
        from ..cli.proving_view import show_failure
        from ..cli.screen import Screen

        text = io.StringIO()
        show_failure(found, result, Screen(text, terminal=False), given=given)
        super().__init__(text.getvalue())


class _Servers:
    """At most one server for the run, started when a migration has a remote side; and what is read and made of each folder."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._open = ExitStack()
        self._started: EmbeddedPostgres | None = None
        self._verifiers: dict[Path, Verifier] = {}

    def verifier_of(self, folder: Path) -> Verifier:
        """The folder is read once, and the schema before a migration made from the one before that."""
        from .verifying import Verifier

        if folder not in self._verifiers:
            self._verifiers[folder] = Verifier(folder)
        return self._verifiers[folder]

    def url(self) -> str:
        """Of a server on which databases may be made."""
        return self._url if self._url is not None else self.started().url()

    def started(self) -> EmbeddedPostgres:
        from ..embedded import EmbeddedPostgres

        if self._started is None:
            self._started = self._open.enter_context(EmbeddedPostgres.started(durable=False))
        return self._started

    def close(self) -> None:
        for verifier in self._verifiers.values():  # what lies on the server goes first
            verifier.close()
        self._open.close()


_SERVERS: Final = pytest.StashKey[_Servers]()


class Pair:
    """An empty pair of databases. `remote` is None where no migration has a remote side."""

    def __init__(self, local: Path, remote: str | None) -> None:
        self.local = local
        self.remote = remote


@pytest.fixture(scope="session")
def twinstep_postgres(pytestconfig: pytest.Config) -> EmbeddedPostgres:
    """An embedded PostgreSQL for the run; `create_database()` makes an empty database."""
    return pytestconfig.stash[_SERVERS].started()


@pytest.fixture
def twinstep_pair(pytestconfig: pytest.Config, tmp_path: Path) -> Pair:
    """An empty SQLite file, and an empty PostgreSQL database where the migrations have a remote side."""
    import sqlite3

    local = tmp_path / "local.db"
    sqlite3.connect(local).close()
    servers = pytestconfig.stash[_SERVERS]
    needs_remote = servers.verifier_of(_folder(pytestconfig)).has_remote
    return Pair(local, servers.started().create_database() if needs_remote else None)


@pytest.fixture
def twinstep_coordinator(pytestconfig: pytest.Config, twinstep_pair: Pair, tmp_path: Path) -> Coordinator:
    """A coordinator over `twinstep_pair`, with the migrations of `--twinstep`, or of `twinstep` in pytest's configuration."""
    from ..coordinator import Coordinator

    return Coordinator(
        local=twinstep_pair.local,
        remote=twinstep_pair.remote,
        migrations=_folder(pytestconfig),
        state_dir=tmp_path / "twinstep",
    )


def _folder(config: pytest.Config) -> Path:
    given = config.getoption("twinstep")
    if given is not None:
        return Path(config.invocation_params.dir, given)
    return config.rootpath / (config.getini("twinstep") or "migrations")
