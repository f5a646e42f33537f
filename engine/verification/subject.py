"""What is verified: one migration, what comes before it, and the sides that it needs.

No I/O here. Read next: `scratch.py` (the databases), `properties.py` (what must hold).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from attrs import evolve, frozen

from ...events.errors import DefinitionError
from ...migrations.definition import Migration, SideName, in_order
from ...migrations.sql import Statement
from ...migrations.sqlite_text import fold, meaning
from ...migrations.work import SideWork, work_of
from ..definitions import SIDES
from .losses import Declared
from .mentioned import NOTHING, Mentioned, mentioned_by

# What ALTER TABLE ... DROP drops that is no column.
NOT_COLUMNS = frozenset({"constraint", "default", "not", "identity", "expression"})

TRIAL_SECONDS = 10.0


@frozen(kw_only=True)
class Subject:
    """One migration with those that make the schema before it; all of them without the sides that it does not need."""

    migration: Migration
    earlier: tuple[Migration, ...]
    works: Mapping[SideName, SideWork]
    given: frozenset[SideName] = frozenset()
    """Sides whose schema before it is made otherwise than by the earlier ones."""

    @classmethod
    def of(
        cls, migrations: Sequence[Migration], id: str, *, also: Sequence[SideName] = (), given: Collection[SideName] = ()
    ) -> Subject:
        """The migration of that id; `also` are sides to be there although it does not touch them.

        Raises DefinitionError: T145 for an unknown id, and what compiling it raises.
        """
        ordered = in_order(migrations)
        place = next((place for place, each in enumerate(ordered) if each.id == id), None)
        if place is None:
            raise DefinitionError("T145", migration=id)
        migration = _limited(ordered[place])
        works = works_of(migration)
        needed = {*works, *also}
        earlier = tuple(_only(ordered[:place], needed.difference(given)))
        return cls(migration=migration, earlier=earlier, works=works, given=frozenset(needed.intersection(given)))

    @property
    def id(self) -> str:
        """The migration's."""
        return self.migration.id

    @property
    def sides(self) -> tuple[SideName, ...]:
        """The databases that it takes."""
        touched = {*self.works, *self.given, *(side for each in self.earlier for side in SIDES if each.side(side) is not None)}
        return tuple(side for side in SIDES if side in touched)

    def declared(self, side: SideName) -> Declared:
        """What it may change or remove on that side."""
        dropped = _dropped_columns(self.works[side]) if side in self.works else ()
        return Declared.of(self.migration.expect, side, tuple(dropped))

    def mentioned(self, side: SideName) -> Mentioned:
        """The values that it speaks of there, and the triggers and views that it meets."""
        if side not in self.works:
            return NOTHING
        earlier = (work for each in self.earlier if (work := work_of(each, side)) is not None)
        units = (unit for work in earlier for unit in work.script.units)
        texts = [step.text for unit in units for step in unit.up if isinstance(step, Statement)]
        return mentioned_by(side, self.works[side].compiled, texts)

    def has_down(self, side: SideName) -> bool:
        """Whether it can be taken back on that side: the local database has its backup in any case."""
        if side == "local":
            return True
        groups = [unit for unit in self.works[side].script.units if unit.kind == "group"]
        return all(unit.down is not None for unit in groups)


def works_of(migration: Migration) -> dict[SideName, SideWork]:
    """What it does on each side that it changes. Raises what compiling it raises."""
    return {side: work for side in SIDES if (work := work_of(migration, side)) is not None}


def _limited(migration: Migration) -> Migration:
    """The same in a hurry: on a handful of rows, what takes longer than this hangs."""
    local, remote = migration.local_options, migration.remote_options
    return evolve(
        migration,
        local_options=evolve(local, timeout_seconds=min(local.timeout_seconds, TRIAL_SECONDS)),
        remote_options=evolve(
            remote,
            lock_timeout_seconds=min(remote.lock_timeout_seconds, TRIAL_SECONDS),
            statement_timeout_seconds=min(remote.statement_timeout_seconds, TRIAL_SECONDS),
        ),
        rehearsal_budget_seconds=TRIAL_SECONDS,
    )


def _only(migrations: Sequence[Migration], sides: set[SideName]) -> Iterator[Migration]:
    for migration in migrations:
        local = migration.local if "local" in sides else None
        remote = migration.remote if "remote" in sides else None
        if local is not None or remote is not None:
            yield evolve(migration, local=local, remote=remote, queries=())


def _dropped_columns(work: SideWork) -> Iterator[tuple[str, str]]:
    """Those that a statement drops by name."""
    for unit in work.script.units:
        for step in unit.up:
            if isinstance(step, Statement) and step.words[:2] == ("ALTER", "TABLE"):
                yield from _dropped_by(step.text)


def _dropped_by(text: str) -> Iterator[tuple[str, str]]:
    """The columns of one ALTER TABLE.

    >>> list(_dropped_by('ALTER TABLE IF EXISTS public.notes DROP a, DROP COLUMN IF EXISTS "b" CASCADE, DROP CONSTRAINT c'))
    [('notes', 'a'), ('notes', 'b')]
    """
    found = [token for token in meaning(text) if token.word not in ("if", "exists", "only")]
    at = 2
    while at + 2 < len(found) and found[at + 1].word == ".":
        at += 2
    table = fold(found[at].name)
    for place, token in enumerate(found):
        if token.word == "drop" and place > at and place + 1 < len(found):
            if found[place + 1].word in NOT_COLUMNS:
                continue
            named = found[place + 2 if found[place + 1].word == "column" and place + 2 < len(found) else place + 1]
            yield table, fold(named.name)
