"""`verify_migration`: a migration is tried on databases that the schema before it admits, and held to its properties.

Read next: `searching.py` (how a fault is looked for), `scratch.py` (the schema before it), `outcome.py` (what is found).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...events.errors import DefinitionError
from ...migrations.loader import load_folder
from ...stores.scratch import folder_in_memory
from ..definitions import MigrationSource
from .outcome import Verification
from .own import Invariant, Own, read_own
from .properties import OF_WHOLE_RUNS
from .scratch import Schemas, Scratch, ScratchServer
from .searching import Search
from .settings import Settings
from .subject import Subject

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

ROOM_BYTES: Final = 1 << 30


def verify_migration(
    migrations: MigrationSource,
    id: str | None = None,
    *,
    invariants: Sequence[Invariant | Callable[..., Any]] = (),
    columns: Mapping[str, SearchStrategy[Any]] | None = None,
    settings: Settings | None = None,
    **given: Any,
) -> Verification:
    """Try one migration (by default the last) on databases that the schema before it admits, and say what holds.

    `migrations` is a folder or a sequence of `Migration`; what a folder's `verification.py` adds is used too. `given` are the
    fields of `Settings`. Nothing but scratch databases is touched.

    Raises DefinitionError and ConfigurationError for what cannot be verified at all: an unknown migration (T145), an earlier
    one that fails (T381), a remote side without a server (T383), a schema for which no rows can be made (T373).
    """
    with Verifier(migrations) as verifier:
        return verifier.verify(id, invariants=invariants, columns=columns, settings=settings, **given)


class Verifier:
    """Verifies migrations of one folder or sequence, in any order; quickest in theirs, for each schema is made from the one
    before it. What it makes is gone when the block ends.

    ::

        with Verifier("migrations/") as verifier:
            assert all(verifier.verify(id).ok for id in verifier.ids)
    """

    def __init__(self, migrations: MigrationSource) -> None:
        self._folder: Path | None = None
        if isinstance(migrations, str | Path):
            self._folder = Path(migrations)
            self._migrations = load_folder(self._folder)
        else:
            self._migrations = tuple(migrations)
        self._open = ExitStack()
        self._servers: dict[str, ScratchServer] = {}
        self._numbers = count(1)
        memory = folder_in_memory(ROOM_BYTES)  # none of them has to be durable
        self._scratch = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="twinstep-trial-", dir=memory)))
        self._schemas = Schemas(self._scratch / "before")

    @property
    def ids(self) -> tuple[str, ...]:
        """Of its migrations, as they were given."""
        return tuple(each.id for each in self._migrations)

    @property
    def has_remote(self) -> bool:
        """Whether one of them changes the remote, so that a server is needed."""
        return any(each.remote is not None for each in self._migrations)

    def verify(
        self,
        id: str | None = None,
        *,
        invariants: Sequence[Invariant | Callable[..., Any]] = (),
        columns: Mapping[str, SearchStrategy[Any]] | None = None,
        settings: Settings | None = None,
        **given: Any,
    ) -> Verification:
        """As `verify_migration`."""
        began = time.monotonic()
        if not self._migrations:
            raise DefinitionError("T387")
        chosen = settings or Settings(**given)
        name = self.ids[-1] if id is None else id
        own = read_own(self._folder, name) if self._folder is not None else Own()
        own = own.and_of(Own(invariants=tuple(invariants), columns=columns or {}))
        also = [side for each in own.invariants for side in each.sides]
        subject = Subject.of(self._migrations, name, also=also, given=[*chosen.schemas_before])
        server = self._server(chosen.server) if "remote" in subject.sides and chosen.server is not None else None
        logged = any(each in chosen.properties for each in OF_WHOLE_RUNS)
        before = self._schemas.before(subject, server, chosen.schemas_before, logged=logged)
        scratch = Scratch(subject, self._scratch / str(next(self._numbers)), server, before)
        search = Search(subject, own, scratch, chosen, began)
        search.run()
        return Verification(
            migration=subject.id,
            seed=chosen.seed,
            asked=chosen.examples,
            examples=search.tried,
            seconds=time.monotonic() - began,
            results=tuple(search.results[each] for each in chosen.properties),
            findings=tuple(search.findings),
            untried=search.untried(),
        )

    def close(self) -> None:
        """Drop every scratch database. A closed one verifies nothing."""
        self._open.close()

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _server(self, given: str | Callable[[], str]) -> ScratchServer:
        url = given if isinstance(given, str) else given()
        if url not in self._servers:
            self._servers[url] = ScratchServer(url)
            self._open.callback(self._servers[url].close)
        return self._servers[url]
