"""The migrations as they are defined now, each compiled when somebody first needs it.

A host asks at every start whether anything is pending. What is applied and unchanged is not parsed for that, and its
functions are not loaded: the digest of its bytes lies in the log beside its checksums (`RunStarted`, or what was settled), and
says that they still hold. Everything else, above all what is due, is compiled at once, so that bad input is refused before
anything is touched.

Read next: `../migrations/loader.py` (folders), `../migrations/work.py` (one side, compiled).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Final, TypeAlias

from attrs import field, frozen

from ..events import types as e
from ..events.codec import decode
from ..events.fold import fold
from ..events.lifecycle import State
from ..events.types import Recorded
from ..migrations.checksums import digest_of_migration
from ..migrations.definition import Migration, Query, SideName, in_order
from ..migrations.work import SideWork, work_of

SIDES: tuple[SideName, ...] = ("local", "remote")
# The events that say which bytes have which checksums.
TELLING: Final = frozenset({"RunStarted", "Adopted", "Baselined", "BackupRestored"})
MigrationSource: TypeAlias = "str | Path | Sequence[Migration]"


@frozen(kw_only=True)
class Definition:
    """A migration, compiled: what each side has to do."""

    works: Mapping[SideName, SideWork] = field(factory=dict)
    queries: tuple[Query, ...] = ()
    irreversible: bool = False
    description: str = ""
    rehearsal_budget_seconds: float = 2.0


# With a dictionary of its own, for the one thing that is found out later.
@frozen(kw_only=True, slots=False)
class Defined:
    """A migration as it is defined now; empty for one that the folder no longer has.

    `digest` is that of its bytes, `known` its checksums by side where the log has recorded them for this very digest.
    `define` compiles it. Asking for anything but the checksums may raise DefinitionError then, and only then.
    """

    id: str
    digest: str = ""
    known: Mapping[str, str] | None = None
    define: Callable[[], Definition] = Definition

    @cached_property
    def definition(self) -> Definition:
        """What it is, compiled once."""
        return self.define()

    @property
    def works(self) -> Mapping[SideName, SideWork]:
        """What there is to do, by side."""
        return self.definition.works

    @property
    def queries(self) -> tuple[Query, ...]:
        """What is measured before and after."""
        return self.definition.queries

    @property
    def irreversible(self) -> bool:
        """Whether it may have no way back on the remote."""
        return self.definition.irreversible

    @property
    def description(self) -> str:
        """One line for people."""
        return self.definition.description

    @property
    def rehearsal_budget_seconds(self) -> float:
        """How long a dry run may hold locks on the remote."""
        return self.definition.rehearsal_budget_seconds

    def checksums(self) -> dict[str, str]:
        """By side; a side without work is not there."""
        if self.known is not None:
            return dict(self.known)
        return {side: work.checksum for side, work in self.works.items()}


def definitions(
    source: MigrationSource, histories: Mapping[str, Sequence[Recorded]], *, new_ones: bool = True
) -> dict[str, Defined]:
    """All migrations in order. `histories` are the events of the pair's streams, by migration: what the log knows of them.
    Without `new_ones`, those that it does not know are named only: one that is still being written hinders nobody.

    Raises DefinitionError for a folder that cannot be used, and for a migration that is not known to be good.
    """
    return {
        id: _defined(id, digest, define, histories.get(id, ()))
        if new_ones or id in histories
        else Defined(id=id, digest=digest, known={}, define=define)
        for id, digest, define in _found(source)
    }


def define_migration(migration: Migration) -> Definition:
    """The migration with both sides compiled. Raises DefinitionError."""
    works = {side: work for side in SIDES if (work := work_of(migration, side)) is not None}
    return Definition(
        works=works,
        queries=migration.queries,
        irreversible=migration.irreversible,
        description=migration.description,
        rehearsal_budget_seconds=migration.rehearsal_budget_seconds,
    )


def _found(source: MigrationSource) -> list[tuple[str, str, Callable[[], Definition]]]:
    if isinstance(source, str | Path):
        from ..migrations.loader import MigrationFolder, find_migrations, load_migration

        def load(folder: MigrationFolder) -> Definition:
            return define_migration(load_migration(folder.path))

        return [(folder.id, folder.digest, partial(load, folder)) for folder in find_migrations(source)]
    return [(each.id, digest_of_migration(each), partial(define_migration, each)) for each in in_order(source)]


def _defined(id: str, digest: str, define: Callable[[], Definition], history: Sequence[Recorded]) -> Defined:
    known = _recorded_checksums(digest, history)
    defined = Defined(id=id, digest=digest, known=known, define=define)
    if known is None:
        defined.definition  # noqa: B018 - refused now, or good from here on
    return defined


def _recorded_checksums(digest: str, history: Sequence[Recorded]) -> Mapping[str, str] | None:
    """Those that were recorded for the same bytes, where the migration is applied; None where there are none."""
    telling = [record for record in history if record.type in TELLING]
    if not telling or fold(history).state is not State.VERIFIED:
        return None
    for record in reversed(telling):
        event = decode(record)
        if isinstance(event, e.RunStarted | e.Settled) and event.digest == digest:
            return {side: event.checksums[side] for side in SIDES if side in event.checksums}
    return None
