"""The search for what fails: Hypothesis draws databases that the schema before a migration admits, and each is tried.

First the change itself, on as many databases as are asked for; then whole runs of the engine, on a tenth of them. A property
that fails is shrunk to a small database, recorded, and left out from then on, so that one fault hides no other.

Read next: `trial.py`, `whole_runs.py` (how one database is tried), `rows.py` (how it is drawn).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Final, TypeAlias

import hypothesis
from attrs import define, evolve, field
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.errors import Flaky, Unsatisfiable

from ...events.cut_short import cut_short
from ...migrations.definition import SideName
from .filling import as_sql, replicate
from .looks import Look
from .mentioned import Mentioned
from .outcome import Counterexample, PropertyResult, Verdict
from .own import Own
from .properties import OF_THE_CHANGE, OF_WHOLE_RUNS, Failed, Property, failed
from .rows import contents
from .scratch import Databases, Scratch
from .settings import Settings
from .shape import SEQUENCES, Content
from .subject import TRIAL_SECONDS, Subject
from .trial import NotForThis, Trial
from .whole_runs import WholeRuns

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Contents: TypeAlias = "Mapping[SideName, Content]"
Trials: TypeAlias = "Callable[[Collection[Property]], Callable[[Contents, int], None]]"
"""What tries one database for some properties."""

# Of the databases on which the change is tried, one in so many is tried with whole runs.
WHOLE_RUNS_EVERY: Final = 10
FEWEST_WHOLE_RUNS: Final = 4
FEWEST_AFTER_A_FAILURE: Final = 20
# So many databases on which it does not begin, and none on which it does: there will be none.
REFUSALS: Final = 50
# No further one is drawn where so many are refused for each that is not.
MOST_REFUSED: Final = 10
# A page or batch of so many rows is tried with more than two of them.
MOST_AT_ONCE: Final = 10_000
# With ten, Hypothesis would make some of them small on purpose, and copy parts from then on.
BATCH: Final = 9
IDLE_BATCHES: Final = 3
# One that hangs is given up: it takes so long on each database, and is refused there.
LONG_SECONDS: Final = TRIAL_SECONDS / 2
MOST_SAID: Final = 140
ANYWHERE: Final = st.integers(0, 2**16)
NOWHERE: Final = st.just(0)
SHRINK_SECONDS: Final = 20.0
SHARE_OF_THE_CHANGE: Final = 0.6
PHASES: Final = (Phase.explicit, Phase.generate, Phase.shrink)


class _TimeIsOver(BaseException):
    """No further database is tried; it passes through Hypothesis, which would shrink anything else."""


@define
class Search:
    """One verification while it runs: every property that is asked for, on databases that Hypothesis draws."""

    subject: Subject
    own: Own
    scratch: Scratch
    settings: Settings
    began: float
    results: dict[Property, PropertyResult] = field(factory=dict, init=False)
    findings: list[str] = field(factory=list, init=False)
    tried: int = field(default=0, init=False)
    _until: float | None = field(default=None, init=False)
    _done: int = field(default=0, init=False)
    _refusals: list[str] = field(factory=list, init=False)
    _largest: Contents = field(factory=dict, init=False)
    _admitted: Contents = field(factory=dict, init=False)
    _with_rows: set[tuple[SideName, str]] = field(factory=set, init=False)
    _found: dict[Property, tuple[tuple[int, int], Failed, Contents]] = field(factory=dict, init=False)

    def run(self) -> None:
        """Every property that is asked for gets its result."""
        for property, reason in self._without_object():
            self.results[property] = PropertyResult(property=property, verdict="does not apply", reason=reason)
        examples = max(1, self.settings.examples)
        new_schemas = self._new_schemas()

        def change(wanted: Collection[Property]) -> Callable[[Contents, int], None]:
            trial = Trial(subject=self.subject, wanted=wanted, own=self.own, new_schemas=new_schemas)

            def try_one(drawn: Contents, at: int) -> None:
                with self._filled(drawn) as databases:
                    trial.run(databases)

            return try_one

        def whole(wanted: Collection[Property]) -> Callable[[Contents, int], None]:
            down = self.results.get(Property.DOWN_RESTORES)
            goes_back = down is None or down.verdict != "fails"
            runs = WholeRuns(subject=self.subject, wanted=wanted, goes_back=goes_back)

            def try_one(drawn: Contents, at: int) -> None:
                with self._filled(drawn) as original:
                    runs.run(lambda: self.scratch.copy_of(original), at=at)

            return try_one

        self._judge(OF_THE_CHANGE, examples, change, NOWHERE, share=SHARE_OF_THE_CHANGE)
        self._try_a_large_one(change)
        whole_runs = max(min(FEWEST_WHOLE_RUNS, examples), examples // WHOLE_RUNS_EVERY)
        self._judge(OF_WHOLE_RUNS, whole_runs, whole, ANYWHERE)
        self._kill_everywhere(whole, whole_runs)

    def _without_object(self) -> Iterator[tuple[Property, str]]:
        subject = self.subject
        asked = self.settings.properties
        if Property.QUERIES in asked and not subject.migration.queries:
            yield Property.QUERIES, "it declares no queries"
        if Property.INVARIANTS in asked and not self.own.invariants:
            yield Property.INVARIANTS, "there are none"
        if Property.DOWN_RESTORES in asked and not all(subject.has_down(side) for side in subject.works):
            yield Property.DOWN_RESTORES, "it has no down on the remote"

    def _judge(
        self,
        kind: Sequence[Property],
        examples: int,
        trial: Trials,
        at: SearchStrategy[int],
        *,
        share: float = 1.0,
    ) -> None:
        """Each of these properties, on so many databases in all, in that share of the time; one that fails is left out of
        what follows."""
        self._until = None if self.settings.time_seconds is None else self.began + share * self.settings.time_seconds
        wanted = [each for each in kind if each in self.settings.properties and each not in self.results]
        left = examples
        began = time.monotonic()
        while wanted:
            fault = self._search(trial, wanted, left, examples, at)
            seconds = time.monotonic() - began
            tried = examples - left + self._done
            if fault is None:
                self._held(wanted, tried, seconds)
                return
            self.results[fault.property] = PropertyResult(
                property=fault.property,
                verdict="fails",
                examples=tried,
                seconds=seconds,
                counterexample=self._counterexample(fault),
            )
            wanted.remove(fault.property)
            left = max(left - self._done, min(examples, FEWEST_AFTER_A_FAILURE))

    def _held(self, wanted: Sequence[Property], tried: int, seconds: float) -> None:
        reason = ""
        if not tried:
            said = sorted(set(self._refusals))
            reason = f"it is applied to none of the databases: {cut_short(said[0], MOST_SAID)}" if said else "the time was over"
        for property in wanted:
            verdict: Verdict = "not tried" if reason else "holds"
            self.results[property] = PropertyResult(
                property=property, verdict=verdict, examples=tried, seconds=seconds, reason=reason
            )

    def _search(
        self, trial: Trials, wanted: Sequence[Property], examples: int, of: int, at: SearchStrategy[int]
    ) -> Failed | None:
        """What fails on the smallest database that Hypothesis comes to; None where nothing fails on any of them."""
        try_it = trial(frozenset(wanted))
        failing_since: float | None = None
        waited = 0.0
        known: set[str] = set()

        def try_one(drawn: Contents, at: int) -> None:
            nonlocal failing_since, try_it, waited
            if (same := f"{drawn} {at}") in known:
                return
            if self._is_over() or (failing_since is not None and time.monotonic() - failing_since > SHRINK_SECONDS):
                raise _TimeIsOver
            began = time.monotonic()
            try:
                try_it(drawn, at)
            except NotForThis as unfit:
                known.add(same)
                self._refusals.append(str(unfit))
                if (taken := time.monotonic() - began) >= LONG_SECONDS:
                    waited += taken
                if waited >= TRIAL_SECONDS or (not self._done and len(self._refusals) >= REFUSALS):
                    raise _TimeIsOver from unfit
                hypothesis.reject()
            except Failed as fault:
                if failing_since is None:
                    # From here on it is made smaller, and what else would fail there is of no use.
                    failing_since, try_it = time.monotonic(), trial(frozenset({fault.property}))
                self._keep(fault, drawn)
                raise
            known.add(same)
            if failing_since is None:
                self._done += 1
                self.tried += 1
                self.settings.on_progress(self.subject.id, self._done, of)
                self._largest = max(self._largest, drawn, key=_rows)

        self._done = 0
        self._refusals.clear()
        self._found.clear()
        try:
            self._given(try_one, examples, at)
        except Failed as fault:
            return self._found[fault.property][1]
        except _TimeIsOver:
            return next((fault for _, fault, _ in self._found.values()), None)
        except (Flaky, BaseExceptionGroup) as error:
            return self._unsteady(error)
        return None

    def _given(self, try_one: Callable[[Contents, int], None], examples: int, at: SearchStrategy[int]) -> None:
        """So many that differ, in batches: after ten that hold, Hypothesis makes most of the next ones by copying parts of
        those before them, and what one column has is then seldom new. Ends early where nothing new is drawn any more."""
        quietly = hypothesis.settings(
            deadline=None,
            database=None,
            derandomize=False,
            report_multiple_bugs=False,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
            phases=PHASES,
            verbosity=hypothesis.Verbosity.quiet,
        )
        idle = 0
        for batch in count():
            known = self._done + len(self._refusals)
            # Each begins with the simplest one, which is known after the first.
            chosen = hypothesis.settings(quietly, max_examples=min(BATCH, examples - self._done + (batch > 0)))
            test = hypothesis.given(drawn=self._databases, at=at)(try_one)
            with suppress(Unsatisfiable):
                hypothesis.seed(f"{self.settings.seed} {batch}")(chosen(test))()
            idle = idle + 1 if self._done + len(self._refusals) == known else 0
            if self._done >= examples or idle >= IDLE_BATCHES or len(self._refusals) >= REFUSALS + MOST_REFUSED * self._done:
                return

    @cached_property
    def _mentioned(self) -> Mapping[SideName, Mentioned]:
        """What the migration speaks of on each side: all that comes before it is read for that, once."""
        return {side: self.subject.mentioned(side) for side in self.scratch.shapes}

    @cached_property
    def _databases(self) -> SearchStrategy[Contents]:
        """The databases that are drawn, the same for each search."""
        return st.fixed_dictionaries(
            {
                side: contents(
                    shape,
                    columns=self.own.of_side(side),
                    max_rows=self.settings.max_rows,
                    dangling=self.settings.dangling and side == "local",
                    mentioned=self._mentioned[side],
                )
                for side, shape in self.scratch.shapes.items()
            }
        )

    def _unsteady(self, error: BaseException) -> Failed:
        """It failed once, and not when it was tried again on the same rows."""
        if not self._found:
            raise error
        _, fault, drawn = min(self._found.values(), key=lambda each: each[0])
        told = (*fault.told, "tried again on the same rows it did not: the migration does not do the same every time")
        unsteady = failed(fault.property, *told, side=fault.side, code=fault.code)
        self._found[fault.property] = (_size(drawn), unsteady, drawn)
        return unsteady

    def _keep(self, fault: Failed, drawn: Contents) -> None:
        """The smallest database on which each property has failed."""
        size = _size(drawn)
        known = self._found.get(fault.property)
        if known is None or size <= known[0]:
            self._found[fault.property] = (size, fault, drawn)

    def _counterexample(self, fault: Failed) -> Counterexample:
        _, _, drawn = self._found[fault.property]
        with self.scratch.empty() as databases:
            admitted = databases.fill(self.scratch.shapes, drawn)
        sql = {side: as_sql(self.scratch.shapes[side], content) for side, content in admitted.items() if content}
        return Counterexample(told=fault.told, side=fault.side, code=fault.code, sql=sql, rows=_rows(admitted))

    def _is_over(self) -> bool:
        return self._until is not None and time.monotonic() > self._until

    def _kill_everywhere(self, trial: Trials, examples: int) -> None:
        """At each kind of crossing once, on the largest of the databases; where that fails, a small one is looked for."""
        held = self.results.get(Property.CRASH)
        if held is None or held.verdict != "holds" or not self._largest:
            return
        try_it = trial(frozenset({Property.CRASH}))
        try:
            crossings = self._crossings()
        except NotForThis:
            return
        for at in sorted(crossings.index(name) for name in set(crossings)):
            if self._is_over():
                return
            try:
                try_it(self._largest, at)
            except NotForThis:
                return
            except Failed as fault:
                smaller = self._search(trial, [Property.CRASH], examples, examples, st.just(at))
                if smaller is None:
                    smaller = fault
                    self._keep(fault, self._largest)
                self.results[Property.CRASH] = evolve(
                    held, verdict="fails", examples=held.examples + 1, counterexample=self._counterexample(smaller)
                )
                return

    def _crossings(self) -> list[str]:
        """Those of a run without any trouble, on the largest of the databases."""
        runs = WholeRuns(subject=self.subject, wanted=())
        with self._filled(self._largest) as original:
            return runs.run(lambda: self.scratch.copy_of(original), at=0)

    def _try_a_large_one(self, trial: Trials) -> None:
        """Once, on many copies of the largest of the databases: what is lost only among many rows is not made smaller."""
        wanted = [each for each in OF_THE_CHANGE if each in self.results and self.results[each].verdict == "holds"]
        if not wanted or not self.settings.large_rows or self._is_over() or not _rows(self._largest):
            return
        shapes = self.scratch.shapes
        spoken = [number for each in self._mentioned.values() for number in each.numbers if number <= MOST_AT_ONCE]
        rows = max([self.settings.large_rows, *(2 * int(number) + 1 for number in spoken)])
        large = {
            side: replicate(shapes[side], content, rows=rows, seed=self.settings.seed)
            for side, content in self._largest.items()
        }
        try:
            trial(frozenset(wanted))(large, 0)
        except NotForThis as unfit:
            self.findings.append(f"not tried on a large database: {unfit}")
        except Failed as fault:
            held = self.results[fault.property]
            told = (*fault.told, f"only on a large database of {_rows(large)} rows, which is not shown")
            self.results[fault.property] = evolve(
                held,
                verdict="fails",
                examples=held.examples + 1,
                counterexample=Counterexample(told=told, side=fault.side, code=fault.code, rows=_rows(large)),
            )
        else:
            self.tried += 1
            if rows := _rows(self._admitted):
                self.findings.append(f"it holds on a database of {rows} rows too")

    @contextmanager
    def _filled(self, drawn: Contents) -> Iterator[Databases]:
        with self.scratch.empty() as databases:
            admitted = self._admitted = databases.fill(self.scratch.shapes, drawn)
            self._with_rows |= {(side, table) for side, content in admitted.items() for table, rows in content.items() if rows}
            yield databases

    def untried(self) -> tuple[str, ...]:
        """The tables in which no drawn row was ever admitted: nothing is known of what becomes of theirs."""
        if not self.tried or not self.settings.max_rows:
            return ()
        shapes = self.scratch.shapes
        missing = [
            (side, table.name) for side in shapes for table in shapes[side].tables if (side, table.name) not in self._with_rows
        ]
        return tuple(name if len(shapes) == 1 else f"{side}.{name}" for side, name in missing)

    def _new_schemas(self) -> dict[SideName, Look]:
        """What a new installation gets: the texts that were given, else what the migrations make of nothing."""
        if Property.NEW_INSTALL not in self.settings.properties:
            return {}
        given = self.settings.new_install
        looks: dict[SideName, Look] = {}
        with self.scratch.empty() as databases, suppress(NotForThis):
            looks = Trial(subject=self.subject, wanted=()).run(databases)
        return {**looks, **self.scratch.made_by(given)}


def _rows(drawn: Contents) -> int:
    return sum(len(rows) for content in drawn.values() for table, rows in content.items() if table != SEQUENCES)


def _size(drawn: Contents) -> tuple[int, int]:
    return _rows(drawn), len(repr(drawn))
