"""Whole runs of the engine on filled pairs: again, as a dry run, killed at a crossing, and refused.

Each run has a pair of its own with the same rows; what a run without trouble makes of them is what the others are held to. A
kill is an exception that nothing catches, thrown at a crossing of the engine: the process goes on, and all that it held is
gone. (That real processes end the same way is for the engine's own tests.)

Read next: `trial.py` (the change itself), `stores/seam.py` (crossings).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final, NoReturn

from attrs import evolve, frozen

from ...events.errors import Refused
from ...events.messages import UNTOUCHED
from ...events.types import Json
from ...migrations.definition import Migration, Side, SideName
from ..rehearsal_telling import BACKWARD
from ..report import Report
from .looks import Look
from .losses import Declared, differences
from .properties import Property, failed
from .scratch import Databases
from .subject import Subject
from .trial import NotForThis

# Where a step has run and is not committed: what refuses it there leaves nothing of it.
REFUSABLE: Final = ("local:group:before-commit", "remote:group:before-commit", "remote:single:before")
CHECK: Final = "the last check"

Filled = Callable[[], AbstractContextManager[Databases]]


class Killed(BaseException):
    """The process is gone, as far as the code that it passes through can tell."""


@frozen(kw_only=True)
class WholeRuns:
    """One migration, and the properties that it is held to.

    `goes_back` is False where its down is known not to restore: what follows from that alone is not told again.
    """

    subject: Subject
    wanted: Collection[Property]
    goes_back: bool = True

    def run(self, filled: Filled, *, at: int) -> list[str]:
        """Everything that is wanted, each on a pair of its own; `at` chooses the crossing, modulo how many there are. The
        crossings of a run without trouble. Raises what `failed` makes, and NotForThis."""
        crossings: list[str] = []
        with filled() as databases:
            before = databases.look()
            foreseen = self._rehearsed(databases, before) if Property.DRY_RUN in self.wanted else None
            report = self._migrate(databases, probe=crossings.append)
            self._refuse_unapplied(report)
            straight = databases.look()
            if foreseen is not None:
                self._compare_foreseen(foreseen, report)
            if Property.AGAIN in self.wanted:
                self._again(databases, straight)
        if Property.CRASH in self.wanted:
            self._killed(filled, crossings, at % len(crossings), straight)
        if Property.REFUSAL in self.wanted:
            places = self._places(crossings)
            if places:
                self._refused(filled, places[at % len(places)])
        return crossings

    def _places(self, crossings: Sequence[str]) -> list[str]:
        """Where it can be refused. What stands on the remote and is irreversible is not taken back by a last check."""
        passed = [name for name in REFUSABLE if name in crossings]
        if not self.goes_back:
            return passed[:1]  # the first of them is before anything is committed
        irreversible = self.subject.migration.irreversible and "remote" in self.subject.works
        return passed if irreversible else [*passed, CHECK]

    def _migrate(
        self,
        databases: Databases,
        *,
        probe: Callable[[str], object] = lambda crossing: None,
        migration: Migration | None = None,
        dry_run: bool = False,
    ) -> Report:
        migrations = (*self.subject.earlier, migration or self.subject.migration)

        def told(crossing: str) -> None:
            probe(crossing)

        return databases.coordinator(migrations, probe=told).migrate(to=self.subject.id, dry_run=dry_run)

    def _refuse_unapplied(self, report: Report) -> None:
        """Whether it applies at all is asked elsewhere, on many more databases."""
        if report.outcome != "verified":
            raise NotForThis(_error(report))

    # Again, and the dry run

    def _again(self, databases: Databases, straight: Mapping[SideName, Look]) -> None:
        report = self._migrate(databases)
        if report.outcome != "up_to_date":
            raise failed(Property.AGAIN, f"the second run ended {report.outcome}: {_error(report)}", code=report.outcome)
        self._compare(Property.AGAIN, straight, databases.look())

    def _rehearsed(self, databases: Databases, before: Mapping[SideName, Look]) -> Report:
        report = self._migrate(databases, dry_run=True)
        self._compare(Property.DRY_RUN, before, databases.look(), ids_may_rise=True)
        return report

    def _compare_foreseen(self, foreseen: Report, report: Report) -> None:
        if foreseen.exit_code and (self.goes_back or not _is_of_going_back(foreseen)):
            told = f"the dry run foresaw {_error(foreseen)}, and the real run ended verified"
            raise failed(Property.DRY_RUN, told, code=foreseen.error.code if foreseen.error is not None else "")
        for was, now in zip(foreseen.runs, report.runs, strict=False):
            for side, expected, real in (("local", was.local, now.local), ("remote", was.remote, now.remote)):
                differing = () if self._was_left_out(foreseen, side) else tuple(_unforeseen(expected, real))
                if differing:
                    raise failed(Property.DRY_RUN, *differing, side=side)

    def _was_left_out(self, foreseen: Report, side: str) -> bool:
        """Whether something of that side could not be rehearsed, and the report says so."""
        if foreseen.rehearsal is None:
            return True
        parts = [part for each in foreseen.rehearsal.migrations for name, part in each.sides.items() if name == side]
        return any(part.omissions for part in parts)

    # Killed, and refused

    def _killed(self, filled: Filled, crossings: list[str], at: int, straight: Mapping[SideName, Look]) -> None:
        passed: list[str] = []

        def kill(crossing: str) -> None:
            passed.append(crossing)
            if len(passed) == at + 1:
                raise Killed(crossing)

        where = f"killed at {crossings[at]} ({at + 1} of {len(crossings)})"
        with filled() as databases:
            with suppress(Killed):
                self._migrate(databases, probe=kill)
            report = self._migrate(databases)
            if report.outcome not in ("verified", "up_to_date"):
                told = f"{where} and run again, it ended {report.outcome}: {_error(report)}"
                raise failed(Property.CRASH, told, code=report.outcome)
            found = databases.look()
        volatile: Mapping[SideName, Declared] = {}
        if any(tuple(differences(straight[side], look)) for side, look in found.items()):
            volatile = self._volatile(filled, straight)
        self._compare(Property.CRASH, straight, found, prefix=f"{where} and run again, ", apart=volatile, ids_may_rise=True)

    def _volatile(self, filled: Filled, straight: Mapping[SideName, Look]) -> dict[SideName, Declared]:
        """The new columns whose values are others in each run without any trouble, such as the time of day."""
        with filled() as databases:
            before = databases.look()
            self._migrate(databases)
            again = databases.look()
        return {side: Declared(columns=frozenset(_unequal(before[side], straight[side], look))) for side, look in again.items()}

    def _refused(self, filled: Filled, place: str) -> None:
        with filled() as databases:
            before = databases.look()
            if place == CHECK:
                report = self._migrate(databases, migration=_with_check(self.subject.migration))
            else:
                report = self._migrate(databases, probe=_refusing_at(place))
            where = f"refused at {place}, "
            if report.outcome != "rolled_back":
                told = f"{where}it ended {report.outcome}: {_error(report)}"
                raise failed(Property.REFUSAL, told, code=report.error.code if report.error is not None else "")
            found = databases.look()
        declared: dict[SideName, Declared] = {"remote": self.subject.declared("remote")}
        self._compare(Property.REFUSAL, before, found, prefix=where, apart=declared, ids_may_rise=True)

    def _compare(
        self,
        property: Property,
        expected: Mapping[SideName, Look],
        found: Mapping[SideName, Look],
        *,
        prefix: str = "",
        apart: Mapping[SideName, Declared] | None = None,
        ids_may_rise: bool = False,
    ) -> None:
        for side, look in found.items():
            declared = (apart or {}).get(side)
            rising = ids_may_rise and side == "remote"
            told = tuple(differences(expected[side], look, declared=declared, ids_may_rise=rising))
            if told:
                raise failed(property, *(f"{prefix}{each}" for each in told), side=side)


def _unequal(before: Look, one: Look, other: Look) -> Iterator[tuple[str, str]]:
    """The columns that are new, and that two runs have filled differently."""
    for name, table in one.tables.items():
        known = before.tables[name].columns if name in before.tables else ()
        for column in table.columns:
            if column in known or name not in other.tables or column not in other.tables[name].columns:
                continue
            at, new_at = table.place(column), other.tables[name].place(column)
            if sorted(map(repr, (row[at] for row in table.rows))) != sorted(
                map(repr, (row[new_at] for row in other.tables[name].rows))
            ):
                yield name, column


def _unforeseen(expected: Mapping[str, Json], found: Mapping[str, Json]) -> Iterator[str]:
    for name in expected.keys() & found.keys():
        if expected[name] != found[name]:
            yield f"the dry run foresaw {name} as {expected[name]}, and the real run made it {found[name]}"


def _is_of_going_back(foreseen: Report) -> bool:
    faults = foreseen.rehearsal.faults if foreseen.rehearsal is not None else ()
    return bool(faults) and all(fault.effect in BACKWARD for fault in faults)


def _refusing_at(place: str) -> Callable[[str], None]:
    def refuse(crossing: str) -> None:
        if crossing == place:
            side = "local" if place.startswith("local") else "remote"
            raise Refused("T331", migration="", side=side, problem="a refusal of the trial", statement=place)

    return refuse


def _with_check(migration: Migration) -> Migration:
    """The same, with a check that refuses it on the side that is changed last."""

    def refuse(connection: object) -> NoReturn:
        raise ValueError("a refusal of the trial")

    def refused(side: Side) -> Side:
        return evolve(side, check=refuse)

    if migration.remote is not None:
        return evolve(migration, remote=refused(migration.remote))
    assert migration.local is not None
    return evolve(migration, local=refused(migration.local))


def _error(report: Report) -> str:
    if report.error is None:
        told = [run.error.message for run in report.runs if run.error is not None]
        return told[-1] if told else report.outcome
    return f"{report.error.code} {report.error.message}".removesuffix(f" {UNTOUCHED}")
