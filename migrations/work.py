"""One side's work in one run: what to run, how it may be limited, and whose it is. What `RunStarted` records of a side.

A run is finished from what was recorded, not from the folder: text is in the log whole, of a callable the digest is, and
the function is taken from the folder only where it still has that digest.

No I/O here. Read next: `script.py` (what is compiled), `target.py` (who runs it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve, field, frozen

from ..events.errors import Stranded
from ..events.types import Json
from .checksums import checksum
from .definition import Migration, SideName, StepFunction
from .script import CompiledSide, Script, compile_side

if TYPE_CHECKING:
    from sqlalchemy import Connection


Progress: TypeAlias = "Callable[[int, int, str], None]"
"""Told how much of a long step is done, of how much (both 0 where that is not known), and a note in words."""


def no_progress(done: int, total: int, note: str) -> None:
    """Nobody is told."""


def _numbers(given: Iterable[int]) -> tuple[int, ...]:
    return tuple(given)


def _names(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(given)


@frozen(kw_only=True)
class Limits:
    """What the definition says about how a side is changed. Times are in seconds."""

    user_version_from: tuple[int, ...] = field(default=(), converter=_numbers)
    user_version_to: int | None = None
    pending: str | None = None
    timeout_seconds: float = 900.0
    lock_timeout_seconds: float = 5.0
    schemas: tuple[str, ...] = field(default=("public",), converter=_names)
    rows_removed: tuple[str, ...] = field(default=(), converter=_names)
    columns_changed: tuple[str, ...] = field(default=(), converter=_names)
    objects_removed: tuple[str, ...] = field(default=(), converter=_names)
    definitions_changed: tuple[str, ...] = field(default=(), converter=_names)

    def to_json(self) -> dict[str, Json]:
        """As it lies in RunStarted."""
        return {
            "user_version_from": list(self.user_version_from),
            "user_version_to": self.user_version_to,
            "pending": self.pending,
            "timeout_seconds": self.timeout_seconds,
            "lock_timeout_seconds": self.lock_timeout_seconds,
            "schemas": list(self.schemas),
            "rows_removed": list(self.rows_removed),
            "columns_changed": list(self.columns_changed),
            "objects_removed": list(self.objects_removed),
            "definitions_changed": list(self.definitions_changed),
        }


@frozen(kw_only=True)
class SideWork:
    """One side of a migration, compiled, with its limits and the functions that look at it."""

    migration: str
    side: SideName
    compiled: CompiledSide
    checksum: str
    irreversible: bool = False
    limits: Limits = Limits()
    check: StepFunction | None = None

    @property
    def script(self) -> Script:
        """The units that run, in order."""
        return self.compiled.script

    def to_json(self) -> dict[str, Json]:
        """As it lies in RunStarted: everything but the functions."""
        return {"script": self.script.to_json(), "limits": self.limits.to_json(), "checksum": self.checksum}


@frozen(kw_only=True)
class Order:
    """The work together with the run that it is done for: what a target is given, and what its ledger rows will say.

    `undoes` are the runs whose steps are taken back, empty for an apply. `backup` describes the copy that was made before
    the change that is undone, None where there is none. `version` and `last_hash` are those of the stream before the step.
    `discard_writes` is the person's word that what others wrote since may be lost. `progress` is told how far a long step is.
    """

    work: SideWork
    run: str
    pair: str
    log: str
    undoes: tuple[str, ...] = ()
    backup: Mapping[str, Json] | None = None
    discard_writes: bool = False
    version: int = 0
    last_hash: str = ""
    progress: Progress = no_progress

    @property
    def migration(self) -> str:
        """The migration's id."""
        return self.work.migration


@frozen(kw_only=True)
class RestoreOrder:
    """A backup to put back: what a target is given.

    `backup` describes it; `replaced` is the id that the backup of the replaced state will bear. `streams` has, by migration,
    the version and last hash of its stream. `ours` are the changes that the log knows, as the database's content before and
    after each: what they explain is not written by others. `discard_writes` gives up what is not explained.
    """

    backup: Mapping[str, Json]
    run: str
    pair: str
    log: str
    replaced: str
    token: str
    streams: Mapping[str, tuple[int, str]] = field(factory=dict)
    ours: frozenset[tuple[str, str]] = frozenset()
    discard_writes: bool = False

    @property
    def id(self) -> str:
        """The backup's."""
        return str(self.backup["id"])


def work_of(migration: Migration, side: SideName) -> SideWork | None:
    """The side as it is defined now, compiled; None where it has no work. Raises DefinitionError (T11x)."""
    defined = migration.side(side)
    compiled = compile_side(migration, side)
    if defined is None or compiled is None:
        return None
    return SideWork(
        migration=migration.id,
        side=side,
        compiled=compiled,
        checksum=checksum(defined.up, side=side),
        irreversible=migration.irreversible,
        limits=_limits(migration, side),
        check=defined.check,
    )


def _limits(migration: Migration, side: SideName) -> Limits:
    expect = migration.expect
    if side == "local":
        local = migration.local_options
        return Limits(
            user_version_from=local.user_version_from,
            user_version_to=local.user_version_to,
            pending=local.pending,
            timeout_seconds=local.timeout_seconds,
            rows_removed=expect.rows_removed,
            columns_changed=expect.columns_changed,
            objects_removed=expect.objects_removed,
            definitions_changed=expect.definitions_changed,
        )
    remote = migration.remote_options
    return Limits(
        timeout_seconds=remote.statement_timeout_seconds,
        lock_timeout_seconds=remote.lock_timeout_seconds,
        schemas=remote.schemas,
        objects_removed=expect.objects_removed,
    )


def recorded_work(
    migration: str, side: SideName, recorded: Mapping[str, Json], *, irreversible: bool, defined: SideWork | None
) -> SideWork:
    """The side as RunStarted recorded it, with functions from what is defined now where they are still the same.

    One that is not raises Stranded (T241) when it is called, and not before: a run may go back without it.
    """
    script = Script.from_json(recorded["script"])
    functions: dict[str, StepFunction] = {}
    for step in script.callables():
        known = defined.compiled.callables.get(step.name) if defined is not None else None
        same = defined is not None and any(step == other for other in defined.script.callables())
        functions[step.name] = known if known is not None and same else _stranded(migration, step.name)
    limits = recorded["limits"]
    assert isinstance(limits, Mapping)
    return SideWork(
        migration=migration,
        side=side,
        compiled=CompiledSide(script=script, callables=functions),
        checksum=str(recorded["checksum"]),
        irreversible=irreversible,
        limits=Limits(**limits),  # type: ignore[arg-type]
        check=defined.check if defined is not None else None,
    )


def _stranded(migration: str, name: str) -> StepFunction:
    def missing(connection: Connection) -> object:
        raise Stranded("T241", migration=migration, function=name)

    return missing


def with_down_of(work: SideWork, defined: SideWork) -> SideWork:
    """The same work with the down steps that are defined now: a refused down may be corrected, the up may not."""
    units = tuple(
        evolve(recorded, down=now.down) for recorded, now in zip(work.script.units, defined.script.units, strict=True)
    )
    script = evolve(work.script, units=units)
    return evolve(work, compiled=CompiledSide(script=script, callables=defined.compiled.callables))
