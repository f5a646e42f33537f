"""A side rehearsed on a copy of its database: the real target runs on it, commits, and takes everything back again.

Because the copy is committed, what shows only at COMMIT is found. Afterwards the migrations are taken back in reverse, each
held against the look before it, so that a bad down is found too. Nothing here knows what kind of database it is.

Read next: `rehearsing.py` (what is told), `sqlite.py`, `memory.py` (who makes the copy).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from attrs import evolve, frozen

from ...events.errors import Refused, TwinstepError
from ...events.types import Json
from ..catalogue import Catalogue, Changes, Fingerprint
from ..definition import SideName
from ..functions import load_what_they_use
from ..measuring import NO_TIME
from ..script import CallableStep, Unit
from ..target import Target, Timing
from .rehearsing import Part, PartRehearsal, RehearsedStep, counted_rows, rebuilt


class Copy(Protocol):
    """A database of our own, to be changed at will, and the target that works on it."""

    @property
    def target(self) -> Target:
        """What works on it."""

    def catalogue(self) -> Catalogue:
        """What is committed."""

    def with_rows(self, look: Fingerprint) -> Fingerprint:
        """A look taken just now, with rows and their digests also where the target does not read them."""

    def back_up(self, part: Part, told: PartRehearsal) -> Mapping[str, Json] | None:
        """Do what the real run does before the change; None where nothing is kept."""

    def forget(self, backup: Mapping[str, Json] | None) -> None:
        """The backup is not needed any more."""

    def changing(self) -> None:
        """The change of a part begins now."""

    def changed(self) -> None:
        """It is committed, and nothing is open."""


@frozen(kw_only=True)
class _Applied:
    """A part whose change is committed on the copy."""

    part: Part
    told: PartRehearsal
    before: Fingerprint
    backup: Mapping[str, Json] | None


def rehearse_on(copy: Copy, side: SideName, parts: Sequence[Part]) -> tuple[tuple[PartRehearsal, ...], float]:
    """Each part forward and all of them back; what is told of each, and for how long (in seconds) the writer lock was held."""
    told: list[PartRehearsal] = []
    applied: list[_Applied] = []
    held = [0.0]
    stopped = False
    for part in parts:
        one = PartRehearsal(migration=part.order.migration, side=side)
        told.append(one)
        if stopped:
            one.omit("everything", "the migration before it has a fault")
            continue
        try:
            _forward(copy, part, one, applied, held)
        finally:
            copy.target.release()
        stopped = bool(one.faults)
    _backward(copy, applied)
    return tuple(told), max(held)


def _forward(copy: Copy, part: Part, told: PartRehearsal, applied: list[_Applied], held: list[float]) -> None:
    target, work = copy.target, part.order.work
    before_objects = copy.catalogue()
    load_what_they_use(work)
    began = time.perf_counter()
    with _effect(told, "VALIDATE"):
        target.hold()
        target.validate(work, back=False)
        before = target.look(work, content=True)
        before_rows = copy.with_rows(before)
        told.before = target.measure(part.queries)
        _omit_unmeasured(copy, part, told, told.before, "before")
    if told.faults:
        return
    backup = None
    with _effect(told, "BACK_UP"):
        backup = copy.back_up(part, told)
    if told.faults:
        return
    copy.changing()
    effect = f"APPLY_{target.side.upper()}"
    changes = Changes()
    with _effect(told, effect):
        changes = target.apply(part.order)
    held.append(time.perf_counter() - began)
    if all(unit.down is not None for unit in work.script.units):
        # It was what the change was held against; the way back has steps of its own.
        copy.forget(backup)
        backup = None
    if told.faults:
        copy.forget(backup)
        return
    target.release()
    copy.changed()
    applied.append(_Applied(part=part, told=told, before=before, backup=backup))
    told.steps.append(RehearsedStep(direction="up", step=1, statement=_text(work.script.units), seconds=told.seconds[effect]))
    after_objects = copy.catalogue()
    told.changes = evolve(before_objects.changes_to(after_objects), rows_quarantined=changes.rows_quarantined)
    told.findings += changes.findings
    told.rewritten = rebuilt(before_objects, after_objects)
    with _effect(told, "VERIFY"):
        told.findings += target.verify(work)
        told.rows = counted_rows(before_rows, copy.with_rows(target.look(work, content=True)))
        told.after = target.measure(part.queries)
        _omit_unmeasured(copy, part, told, told.after, "afterwards")


def _omit_unmeasured(copy: Copy, part: Part, told: PartRehearsal, timings: Sequence[Timing], when: str) -> None:
    measured = {timing.name for timing in timings}
    for query in part.queries if copy.target.measures else ():
        if query.name not in measured:
            told.omit(f"query {query.name} {when}", NO_TIME)


def _backward(copy: Copy, applied: Sequence[_Applied]) -> None:
    """Take back what is committed, last first; where one cannot be, those before it are not tried."""
    reason = ""
    for one in reversed(applied):
        if reason:
            one.told.omit("going back", reason)
            copy.forget(one.backup)
            continue
        reason = _take_back(copy, one)
        copy.forget(one.backup)


def _take_back(copy: Copy, one: _Applied) -> str:
    """Take one part back, and hold the copy against how it was; why those before it cannot be tried, or nothing."""
    target, work, told = copy.target, one.part.order.work, one.told
    if any(unit.kind == "group" and unit.down is None for unit in work.script.units):
        if target.side == "remote":
            told.omit("going back", "it has no down")
            return f"{told.migration} after it has no down"
        if one.backup is None:
            told.omit("going back", "it has no down, and the backup that would be restored was not made")
            return f"{told.migration} after it was not taken back"
    order = evolve(one.part.order, undoes=(one.part.order.run,), backup=one.backup)
    known = len(told.faults)
    began = time.perf_counter()
    with _effect(told, f"UNDO_{target.side.upper()}"):
        target.undo(order)
    target.release()
    if len(told.faults) == known:
        text, seconds = _text(work.script.units, back=True), time.perf_counter() - began
        told.steps.append(RehearsedStep(direction="down", step=1, statement=text, seconds=seconds))
        with _effect(told, "COMPARE"):
            # Rows of a remote are others' to write, so that the real run compares its catalogue only.
            differences = one.before.differences(target.look(work, content=target.side == "local"))
            if differences:
                raise Refused("T335", migration=told.migration, differences="; ".join(differences))
    return f"{told.migration} after it could not be taken back" if len(told.faults) > known else ""


def _text(units: Sequence[Unit], *, back: bool = False) -> str:
    """What a step is, in a few words: its statement, or how many there are."""
    steps = [step for unit in units for step in ((unit.down or ()) if back else unit.up)]
    if len(steps) == 1:
        step = steps[0]
        return f"{step.name}()" if isinstance(step, CallableStep) else " ".join(step.text.split())
    if back and any(unit.kind == "group" and unit.down is None for unit in units):
        return "restoring the backup"
    return f"{len(steps)} statements"


@contextmanager
def _effect(told: PartRehearsal, effect: str) -> Iterator[None]:
    """Time an effect; what it is refused with is the fault of the real run."""
    began = time.perf_counter()
    try:
        yield
    except TwinstepError as error:
        told.fail(effect, error)
    finally:
        told.took(effect, time.perf_counter() - began)
