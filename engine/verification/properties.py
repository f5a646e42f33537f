"""The properties that a migration is held to, by name; and what is raised where one does not hold.

No I/O here. Read next: `trial.py` (how the first ones are judged), `whole_runs.py` (the others).
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Final

from ...migrations.definition import SideName


class Property(StrEnum):
    """What must hold of a migration on every database that the schema before it admits."""

    APPLIES = "applies"
    KEEPS_ROWS = "keeps-rows"
    CONSTRAINTS = "constraints"
    QUERIES = "queries"
    INVARIANTS = "invariants"
    NEW_INSTALL = "new-install"
    DOWN_RESTORES = "down-restores"
    AGAIN = "again"
    DRY_RUN = "dry-run"
    CRASH = "crash"
    REFUSAL = "refusal"

    @property
    def sentence(self) -> str:
        """What it says."""
        return SENTENCES[self]


SENTENCES: Final[dict[Property, str]] = {
    Property.APPLIES: "it ends verified",
    Property.KEEPS_ROWS: "no row disappears and no value changes that is not declared",
    Property.CONSTRAINTS: "every declared constraint is true of the rows afterwards",
    Property.QUERIES: "its queries return the same rows before and after",
    Property.INVARIANTS: "the invariants hold before, afterwards, and when it is taken back",
    Property.NEW_INSTALL: "the schema is the one that a new installation has",
    Property.DOWN_RESTORES: "down after up gives back schema, rows and marks",
    Property.AGAIN: "applying it again changes nothing",
    Property.DRY_RUN: "a dry run changes nothing, and predicts what the real run does",
    Property.CRASH: "killed at any crossing and run again, it ends as if nothing had happened",
    Property.REFUSAL: "refused at any step, it ends as before",
}

# Judged on each database by the change itself; the others by whole runs of the engine, on fewer databases.
OF_THE_CHANGE: Final = (
    Property.APPLIES,
    Property.KEEPS_ROWS,
    Property.CONSTRAINTS,
    Property.QUERIES,
    Property.INVARIANTS,
    Property.NEW_INSTALL,
    Property.DOWN_RESTORES,
)
OF_WHOLE_RUNS: Final = (Property.AGAIN, Property.DRY_RUN, Property.CRASH, Property.REFUSAL)


class Failed(Exception):
    """A property does not hold: which, on which side (empty for both), and what was found, one sentence each."""

    def __init__(self, property: Property, told: tuple[str, ...], *, side: SideName | str = "", code: str = "") -> None:
        super().__init__(f"{property}: {'; '.join(told)}")
        self.property = property
        self.told = told
        self.side = side
        self.code = code


@cache
def _kind(property: Property, side: str, code: str) -> type[Failed]:
    return type(f"Failed_{property.name}_{side}_{code}", (Failed,), {})


def failed(property: Property, *told: str, side: SideName | str = "", code: str = "") -> Failed:
    """What is raised. Each kind of failure is a type of its own, so that shrinking one never ends at another."""
    return _kind(property, side, code)(property, told, side=side, code=code)
