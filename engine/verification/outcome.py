"""What a verification answers: by property whether it holds, and the smallest database on which it does not.

Values only, mirrored by the JSON of `twinstep test`. Read next: `verifying.py` (who makes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from attrs import field, frozen

from ...migrations.definition import SideName
from .properties import Property

Verdict: TypeAlias = Literal["holds", "fails", "not tried"]


@frozen(kw_only=True)
class Counterexample:
    """The smallest database that was found on which a property fails. `told` is what was found there, one sentence each.

    `sql` reproduces each side's rows, on top of the schema before the migration; `rows` is how many there are in all.
    """

    told: tuple[str, ...]
    side: str = ""
    code: str = ""
    sql: Mapping[SideName, str] = field(factory=dict)
    rows: int = 0


@frozen(kw_only=True)
class PropertyResult:
    """One property: on how many databases it was tried until then, and what was found. `reason` is why it was not tried."""

    property: Property
    verdict: Verdict
    examples: int = 0
    seconds: float = 0.0
    counterexample: Counterexample | None = None
    reason: str = ""


@frozen(kw_only=True)
class Verification:
    """One migration, verified on `examples` databases; `asked` for were so many, besides whole runs. `seconds` is the time of
    it all; `findings` are worth knowing, and no failure. In the tables that are `untried` no row was admitted of those that
    were drawn, so that nothing is known of theirs."""

    migration: str
    seed: int
    asked: int
    examples: int
    seconds: float
    results: tuple[PropertyResult, ...] = ()
    findings: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing fails."""
        return not self.failures

    @property
    def failures(self) -> tuple[PropertyResult, ...]:
        """The properties that do not hold."""
        return tuple(result for result in self.results if result.verdict == "fails")

    @property
    def exit_code(self) -> int:
        """The command's: 1 where a property fails."""
        return 0 if self.ok else 1

    def result(self, property: Property) -> PropertyResult | None:
        """That of one property."""
        return next((result for result in self.results if result.property is property), None)
