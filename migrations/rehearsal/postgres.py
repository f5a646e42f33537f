"""The remote side rehearsed in one transaction that is rolled back, on the real database, within a budget of time.

All groups of all migrations run in order with their ledger rows, by the code of the real target; then their downs in reverse.
Deferred constraints are checked where the real run commits, and deferred again for the next group. What does not fit into
the budget is left out, the transaction is rolled back at once, and the report says so: an omission, never a fault. So is what
depends on something that only a commit would have made real: a new value of an enum, an index built concurrently.

No advisory lock is taken, and the ledger's head is not touched: a coordinator that begins meanwhile waits for our locks at
most the budget, and then goes on. That somebody is at work already is looked at before (`wait_for_others`).

Read next: `postgres_inside.py` (one statement), `postgres_budget.py`, `postgres_traces.py`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from attrs import evolve, frozen

from ...events.errors import Blocked, DefinitionError, InDoubt, Locked, Refused, TwinstepError, Unreachable
from ...stores.remote_connection import shown
from ...stores.remote_lock import wait_for_others
from ...stores.seam import Probe, no_probe
from ..catalogue import Catalogue, Changes, Fingerprint
from ..definition import SideName
from ..postgres_catalogue import read_catalogue
from ..script import Unit
from ..target import Timing
from .postgres_budget import OverBudget
from .postgres_inside import Inside, NotRehearsed
from .postgres_traces import counts_rows, row_counts, rows_between
from .rehearsing import Part, PartRehearsal, SideRehearsal, rebuilt

# Of the time that is left, what measuring queries may take: going back is worth more.
MEASURING_PART = 0.25
REPETITIONS = 3


@frozen(kw_only=True)
class _Done:
    """A part, or its beginning, that stands in the open transaction: the units that ran, and how everything was before."""

    part: Part
    told: PartRehearsal
    before: Catalogue
    units: list[tuple[int, Unit]]


class PostgresRehearser:
    """Rehearses the remote side."""

    side: SideName = "remote"

    def __init__(self, url: str, *, wait_seconds: float = 0.0, is_pair: bool = False, probe: Probe = no_probe) -> None:
        self._url = url
        self._wait_seconds = wait_seconds
        self._is_pair = is_pair
        self._probe = probe
        self._inside = Inside(url, probe=probe)
        self._stopped = ""
        self._done: list[_Done] = []

    def rehearse(self, parts: Sequence[Part]) -> SideRehearsal:
        """See `rehearsing.py`. Raises Blocked: T221 no way in, T353 the session was lost; Locked (T401) somebody is at work."""
        told = tuple(PartRehearsal(migration=part.order.migration, side=self.side) for part in parts)
        self._inside, self._stopped, self._done = Inside(self._url, probe=self._probe), "", []
        if any(part.order.work.script.callables() or part.order.work.check is not None for part in parts):
            # Half a second of import, which must not fall into the time in which locks are held.
            from ...stores import remote_guard  # noqa: F401
        try:
            self._measure_first(parts[0], told[0])
            if not told[0].faults:
                with self._transaction(told):
                    self._forward(parts, told)
                    self._backward()
            else:
                self._omit_the_rest("the migration before it has a fault", told[1:])
        finally:
            self._inside.close()
        return SideRehearsal(side=self.side, parts=told, held_seconds=self._inside.held_seconds)

    @contextmanager
    def _transaction(self, told: Sequence[PartRehearsal]) -> Iterator[None]:
        """The one transaction. Whatever ends it, nothing of it is left; that the time was over is told, and no error."""
        inside = self._inside
        try:
            inside.begin()
            yield
        except (OverBudget, InDoubt) as error:
            if isinstance(error, InDoubt) and not inside.budget.is_over:
                raise Blocked("T353", url=shown(self._url), problem=error.details["problem"]) from error
            self._stopped = self._over()
            self._omit_the_rest(self._stopped, told)
        finally:
            self._probe("rehearsal:before-rollback")
            inside.roll_back()

    def _over(self) -> str:
        return f"it did not fit into the {self._inside.budget.seconds:g} s for which locks may be held ([rehearsal] budget)"

    def _omit_the_rest(self, reason: str, told: Sequence[PartRehearsal]) -> None:
        """Say what of each part there was no time for; those that had not begun, as a whole."""
        finished = {id(done.told): done for done in self._done}
        for one in told:
            done = finished.get(id(one))
            if done is None:
                one.omit("everything", reason)
            elif len(done.units) < len(done.part.order.work.script.units):
                one.omit(f"step {len(done.units) + 1} and everything after it", reason)
            elif one.changes is None:
                one.omit("what came of it, its check, and going back", reason)
            elif "COMPARE" not in one.seconds and not one.faults:
                one.omit("going back", reason)

    # Before the transaction: nothing is locked here that anybody would wait for

    def _measure_first(self, part: Part, told: PartRehearsal) -> None:
        """Who else is at work, and the queries of the first migration as they are now."""
        began = time.perf_counter()
        try:
            wait_for_others(self._inside.connection, self._wait_seconds)
            told.before = self._inside.measure(part.queries)
        except (Locked, Unreachable):
            raise
        except (psycopg.Error, InDoubt) as error:
            problem = error.details["problem"] if isinstance(error, InDoubt) else " ".join(str(error).split())
            raise Blocked("T353", url=shown(self._url), problem=problem) from error
        except TwinstepError as error:
            told.fail("VALIDATE", error)
        finally:
            told.took("VALIDATE", time.perf_counter() - began)

    # Forward

    def _forward(self, parts: Sequence[Part], told: Sequence[PartRehearsal]) -> None:
        for part, one in zip(parts, told, strict=True):
            if self._stopped:
                one.omit("everything", self._stopped)
                continue
            before = read_catalogue(self._inside.connection, part.order.work.limits.schemas)
            done = _Done(part=part, told=one, before=before, units=[])
            self._done.append(done)
            self._inside.begin_part(part, head_pair=part.order.pair if self._is_pair else str(uuid.uuid4()))
            if len(self._done) > 1:
                one.before = self._measured(part, one, "VALIDATE")
                if one.faults:
                    self._stopped = f"{one.migration}, before it, has a fault"
                    continue
            self._part(done)

    def _part(self, done: _Done) -> None:
        inside, told, part = self._inside, done.told, done.part
        rows = row_counts(inside.connection)
        predicted: list[tuple[str, str]] = []
        began = time.perf_counter()
        for number, unit in enumerate(part.order.work.script.units, start=1):
            try:
                predicted += inside.up(part, told, number, unit)
                done.units.append((number, unit))
            except NotRehearsed as reason:
                told.omit(f"step {number} and everything after it", str(reason))
                self._stopped = f"it comes after a step of {told.migration} that was not rehearsed"
            except TwinstepError as error:
                if isinstance(error, InDoubt):
                    raise
                told.fail("APPLY_REMOTE", error)
                self._stopped = f"{told.migration}, before it, has a fault"
            if self._stopped:
                break
        told.took("APPLY_REMOTE", time.perf_counter() - began)
        if not self._stopped:
            self._look_at_it(done, rows, predicted)

    def _look_at_it(self, done: _Done, rows: dict[str, tuple[int, int, int]], predicted: Sequence[tuple[str, str]]) -> None:
        """What came of a part that ran whole: objects, rows, its check, its queries."""
        inside, told, part = self._inside, done.told, done.part
        inside.arm()
        with inside.asking(told.migration):
            after = read_catalogue(inside.connection, part.order.work.limits.schemas)
            told.changes = _with(done.before.changes_to(after), predicted)
            told.rewritten = rebuilt(done.before, after)
            if counts_rows(inside.connection):
                told.rows = rows_between(rows, row_counts(inside.connection))
            else:
                told.omit("the count of rows", "this server does not count them (track_counts is off)")
        began = time.perf_counter()
        self._verify(part, told)
        if inside.left_out and part.queries:
            told.omit("the queries afterwards", "the indexes that are built concurrently were not there")
        elif not told.faults:
            told.after = self._measured(part, told, "VERIFY")
        told.took("VERIFY", time.perf_counter() - began)

    def _verify(self, part: Part, told: PartRehearsal) -> None:
        """The migration's own check, which may look for what was left out."""
        try:
            self._inside.arm()
            told.findings += self._inside.verify_inside(part)
        except Refused as error:
            if isinstance(error.__cause__, psycopg.errors.QueryCanceled) and self._inside.budget.is_over:
                raise OverBudget from error
            is_open = self._inside.is_open
            reason = self._inside.why_not(error.__cause__, "check_remote()") if is_open else None
            if reason is None and self._inside.left_out and is_open:
                reason = f"it failed ({error.details.get('problem')}), but what is built concurrently was not there"
            if reason is None:
                told.fail("VERIFY", error)
                self._stopped = f"{told.migration}, before it, has a fault"
            else:
                told.omit("the check", reason)

    def _measured(self, part: Part, told: PartRehearsal, effect: str) -> tuple[Timing, ...]:
        """The queries that fit into a part of the time that is left. One that the server refuses is a fault."""
        inside = self._inside
        if not part.queries or (inside.left_out and effect == "VALIDATE"):
            return ()
        kept = inside.budget.left * (1 - MEASURING_PART)
        timings: list[Timing] = []
        for query in part.queries:
            try:
                at_most = max(0.001, inside.budget.left - kept)
                timing = inside.timed(query, at_most_seconds=at_most, repetitions=REPETITIONS)
            except DefinitionError as error:
                told.fail(effect, error)
                break
            timings += [timing] if timing is not None else []
        if len(timings) < len(part.queries):
            when = "before" if effect == "VALIDATE" else "afterwards"
            told.omit(f"{len(part.queries) - len(timings)} queries {when}", "there was no time for them")
        return tuple(timings)

    # Back

    def _backward(self) -> None:
        """What stands in the transaction, taken back in reverse; where one cannot be, those before it are not tried."""
        reason = "" if self._inside.is_open else "a function has ended the transaction of the rehearsal"
        for done in reversed(self._done):
            if reason:
                done.told.omit("going back", reason)
                continue
            began = time.perf_counter()
            reason = self._take_back(done)
            done.told.took("UNDO_REMOTE", time.perf_counter() - began)

    def _take_back(self, done: _Done) -> str:
        inside, told, part = self._inside, done.told, done.part
        for number, unit in reversed(done.units):
            if unit.kind == "group" and unit.down is None:
                told.omit("going back", "it has no down")
                return f"{told.migration}, after it, has no down"
            try:
                inside.down(part, told, number, unit)
            except NotRehearsed as reason:
                told.omit(f"going back, step {number} and everything before it", str(reason))
                return f"{told.migration}, after it, was not taken back"
            except TwinstepError as error:
                if isinstance(error, InDoubt):
                    raise
                told.fail("UNDO_REMOTE", error)
                return f"{told.migration}, after it, could not be taken back"
        inside.arm()
        began = time.perf_counter()
        with inside.asking(told.migration):
            now = read_catalogue(inside.connection, part.order.work.limits.schemas)
        told.took("COMPARE", time.perf_counter() - began)
        differences = Fingerprint(objects=done.before.digests()).differences(Fingerprint(objects=now.digests()))
        if differences:
            told.fail("COMPARE", Refused("T335", migration=told.migration, differences="; ".join(differences)))
            return f"{told.migration}, after it, could not be taken back"
        return ""


def _with(changes: Changes, predicted: Sequence[tuple[str, str]]) -> Changes:
    """The changes together with those of statements that were looked up rather than run: pairs of a deed and a key."""
    added = [key for deed, key in predicted if deed == "added"]
    dropped = [key for deed, key in predicted if deed == "dropped"]
    return evolve(
        changes,
        indexes_added=changes.indexes_added + len(added),
        indexes_dropped=changes.indexes_dropped + len(dropped),
        objects_added=tuple(sorted({*changes.objects_added, *added})),
        objects_dropped=tuple(sorted({*changes.objects_dropped, *dropped})),
    )
