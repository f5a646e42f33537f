"""What a side is once compiled: the units that run, in order, with what takes each back. JSON-able, for the log holds it.

A *unit* is what gets one ledger row. A *group* runs in one transaction together with its row; a *single* statement cannot
run in a transaction, or was marked `-- twinstep: single`. The local side is one group. The remote side is cut where single
statements stand, and at lines `-- twinstep: group`, which divide a group in two (a new value of an enum may be used only after
a commit).

What takes a remote side back: its down text has one group for each group of the up, last first, divided by the same
lines; a down that exists but is empty says that nothing needs to be undone. Statements that build or drop an index
concurrently bring their own inverse (the target's work). Another single statement has none; only where it is all that
there is, the down text belongs to it.

The values and their JSON stand first, compiling below: what is written to the log is what compiling makes.

No I/O. Functions are not part of a script, only their names and digests: a finished run can be read without them.
Read next: `sql.py` (how text is split), `steps.py` (which units are due).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import evolve, frozen

from ..events.errors import DefinitionError
from .checksums import DIALECTS, digest_of
from .leading_words import refuse_no_sql
from .postgres_statements import is_beyond_us, single_kind
from .sql import Mark, Statement, shown, split

if TYPE_CHECKING:
    from ..events.types import Json
    from .definition import Migration, Side, SideName, Step, StepFunction

UnitKind: TypeAlias = Literal["group", "single"]


@frozen(kw_only=True)
class CallableStep:
    """A function that is a step, or (with an empty digest) a probe: by its name the function is found, by its digest known."""

    name: str
    digest: str

    def to_json(self) -> dict[str, Json]:
        """As it lies in the log."""
        return {"function": self.name, "digest": self.digest}


CompiledStep: TypeAlias = "Statement | CallableStep"


@frozen(kw_only=True)
class Unit:
    """What gets one ledger row. `down` None: nothing of its own takes it back; empty: nothing needs to be done.

    A single's `up` is one statement; `probe` names the function that tells whether a marked one is done.
    """

    kind: UnitKind
    up: tuple[CompiledStep, ...]
    down: tuple[CompiledStep, ...] | None = None
    probe: str | None = None

    def to_json(self) -> dict[str, Json]:
        """As it lies in the log."""
        down = None if self.down is None else [step.to_json() for step in self.down]
        return {"kind": self.kind, "up": [step.to_json() for step in self.up], "down": down, "probe": self.probe}


@frozen(kw_only=True)
class Script:
    """A side's units, in the order in which they are applied."""

    side: SideName
    units: tuple[Unit, ...]

    def to_json(self) -> dict[str, Json]:
        """As it lies in the log."""
        return {"side": self.side, "units": [unit.to_json() for unit in self.units]}

    @classmethod
    def from_json(cls, data: Json) -> Script:
        """Read back what `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        read = _mapping(data)
        return cls(side=_side(read["side"]), units=tuple(_unit(unit) for unit in _sequence(read["units"])))

    def callables(self) -> tuple[CallableStep, ...]:
        """The functions without which the script cannot be run both ways, each once.

        Probes are among them, with an empty digest: they only look, so that a corrected one may stand in for the old.
        """
        found = [step for unit in self.units for step in (*unit.up, *(unit.down or ())) if isinstance(step, CallableStep)]
        found += [CallableStep(name=unit.probe, digest="") for unit in self.units if unit.probe is not None]
        return tuple(dict.fromkeys(found))


@frozen(kw_only=True)
class CompiledSide:
    """A script together with the functions that its steps and probes name."""

    script: Script
    callables: Mapping[str, StepFunction]


def compile_side(migration: Migration, side: SideName) -> CompiledSide | None:
    """The side as units; None where it is not touched, or where its up holds nothing but comments.

    Raises DefinitionError for text that cannot be split (T111 to T114, T119, T122) or is no SQL (T125), for statements that
    have no place here (T115, T120, T124), a probe that is not defined (T121), and for a remote side that could not be taken
    back (T116 to T118).
    """
    defined = migration.side(side)
    if defined is None:
        return None
    functions: dict[str, StepFunction] = dict(defined.probes)
    up = _read(defined.up, migration.id, side, "up", functions)
    down = None if defined.down is None else _read(defined.down, migration.id, side, "down", functions)
    if not any(isinstance(item, Statement | CallableStep) for item in up.items):
        return None
    units: tuple[Unit, ...]
    if side == "local":
        units = (Unit(kind="group", up=up.only_steps(), down=None if down is None else down.only_steps()),)
    else:
        units = _with_downs(_units(up, defined), down, migration)
    return CompiledSide(script=Script(side=side, units=units), callables=functions)


# From steps to units


@frozen(kw_only=True)
class _Read:
    """The steps of one direction, split: statements, functions and marks in their order."""

    path: str
    items: tuple[CompiledStep | Mark, ...]
    wrapped: bool

    def only_steps(self) -> tuple[CompiledStep, ...]:
        """Without marks, which have no meaning here. Raises T119 if there are any."""
        for item in self.items:
            if isinstance(item, Mark):
                raise DefinitionError("T119", path=self.path, line=item.line, problem="the local side is one transaction")
        return tuple(item for item in self.items if not isinstance(item, Mark))


def _read(steps: Sequence[Step], migration: str, side: SideName, direction: str, functions: dict[str, StepFunction]) -> _Read:
    path = f"{migration}/{side}.{direction}.sql"
    items: list[CompiledStep | Mark] = []
    wrapped = False
    count = 0
    for step in steps:
        if isinstance(step, str):
            read = split(step, DIALECTS[side], path)
            for statement in read.statements:
                refuse_no_sql(statement.text, statement.words, DIALECTS[side], path, statement.line)
            items += read.items
            wrapped = wrapped or read.wrapped
        else:
            count += 1
            name = f"{side}_{direction}" if count == 1 else f"{side}_{direction}_{count}"
            functions[name] = step
            items.append(CallableStep(name=name, digest=digest_of(step)))
    return _Read(path=path, items=tuple(items), wrapped=wrapped)


def _units(up: _Read, side: Side) -> list[Unit]:
    """The remote up as units without their downs."""
    units: list[Unit] = []
    group: list[CompiledStep] = []
    mark: Mark | None = None
    for item in (*up.items, None):
        single = _single(item, mark, up, side) if isinstance(item, Statement) else None
        if group and (single or item is None or (isinstance(item, Mark) and item.kind == "group")):
            units.append(Unit(kind="group", up=tuple(group)))
            group = []
        if mark is not None and mark.kind == "single" and not isinstance(item, Statement):
            raise DefinitionError("T119", path=up.path, line=mark.line, problem="no statement follows it")
        mark = item if isinstance(item, Mark) else None
        if single:
            units.append(single)
        elif item is not None and not isinstance(item, Mark):
            group.append(item)
    return units


def _single(statement: Statement, mark: Mark | None, up: _Read, side: Side) -> Unit | None:
    """The statement as a unit of its own, or None where it belongs into a group. Refuses what is neither."""
    marked = mark is not None and mark.kind == "single"
    kind = single_kind(statement.words)
    probe = mark.name if mark is not None and marked else None
    if probe is not None and probe not in side.probes:
        raise DefinitionError("T121", path=up.path, line=statement.line, probe=probe)
    if is_beyond_us(statement.words) and probe is None:
        raise DefinitionError("T115", path=up.path, line=statement.line, statement=shown(statement))
    if kind is None and not marked:
        return None
    if up.wrapped:
        raise DefinitionError("T120", path=up.path, line=statement.line, statement=shown(statement))
    if kind == "create_index" and statement.words[statement.words.index("CONCURRENTLY") + 1 :][:1] == ("ON",):
        raise DefinitionError("T124", path=up.path, line=statement.line, statement=shown(statement))
    return Unit(kind="single", up=(statement,), probe=probe)


# What takes a remote side back


def _with_downs(units: Sequence[Unit], down: _Read | None, migration: Migration) -> tuple[Unit, ...]:
    """The units, each with what takes it back."""
    if migration.irreversible and len(units) > 1:
        raise DefinitionError("T118", migration=migration.id, steps=len(units))
    groups = [place for place, unit in enumerate(units) if unit.kind == "group"]
    # Alone, a statement that has no inverse of its own is what the down text is about.
    if not groups and len(units) == 1 and single_kind(_words(units[0])) not in {"create_index", "drop_index"}:
        groups = [0] if down is not None else []
    if down is None:
        if groups and not migration.irreversible:
            raise DefinitionError("T117", migration=migration.id)
        return tuple(units)
    downs = _down_groups(down, len(groups))
    if len(downs) != len(groups):
        raise DefinitionError("T116", migration=migration.id, downs=len(downs), ups=len(groups))
    found = dict(zip(reversed(groups), downs, strict=True))
    return tuple(evolve(unit, down=found.get(place)) for place, unit in enumerate(units))


def _words(unit: Unit) -> tuple[str, ...]:
    step = unit.up[0]
    return step.words if isinstance(step, Statement) else ()


def _down_groups(down: _Read, wanted: int) -> list[tuple[CompiledStep, ...]]:
    """The down text at its dividing lines; a wholly empty one stands for as many empty groups as are wanted."""
    groups: list[list[CompiledStep]] = [[]]
    for item in down.items:
        if isinstance(item, Mark):
            if item.kind == "single":
                raise DefinitionError("T119", path=down.path, line=item.line, problem="what takes back runs in transactions")
            groups.append([])
            continue
        if isinstance(item, Statement) and (single_kind(item.words) or is_beyond_us(item.words)):
            raise DefinitionError("T120", path=down.path, line=item.line, statement=shown(item))
        groups[-1].append(item)
    if len(groups) == 1 and not groups[0]:
        return [()] * wanted
    return [tuple(group) for group in groups]


# Reading JSON back


def _unit(data: Json) -> Unit:
    read = _mapping(data)
    kind: UnitKind = "single" if read["kind"] == "single" else "group"
    probe = None if read["probe"] is None else str(read["probe"])
    return Unit(kind=kind, up=_steps(read["up"]), down=None if read["down"] is None else _steps(read["down"]), probe=probe)


def _steps(data: Json) -> tuple[CompiledStep, ...]:
    return tuple(_step(_mapping(step)) for step in _sequence(data))


def _step(read: Mapping[str, Json]) -> CompiledStep:
    if "function" in read:
        return CallableStep(name=str(read["function"]), digest=str(read["digest"]))
    words = tuple(str(word) for word in _sequence(read["words"]))
    return Statement(text=str(read["sql"]), line=int(str(read["line"])), words=words)


def _side(data: Json) -> SideName:
    match data:
        case "local":
            return "local"
        case "remote":
            return "remote"
        case _:
            raise ValueError(f"neither local nor remote: {data!r}")


def _mapping(data: Json) -> Mapping[str, Json]:
    if isinstance(data, Mapping):
        return data
    raise TypeError(f"no object: {data!r}")


def _sequence(data: Json) -> Sequence[Json]:
    if isinstance(data, list | tuple):
        return data
    raise TypeError(f"no list: {data!r}")
