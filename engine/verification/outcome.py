"""What a verification answers: by property whether it holds, and the smallest database on which it does not.

Values only, mirrored by the JSON of `twinstep test`. Read next: `verifying.py` (who makes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from attrs import field, frozen

from ...events.errors import TwinstepError
from ...migrations.definition import SideName
from .properties import Property

Verdict: TypeAlias = Literal["holds", "fails", "not tried", "does not apply"]
"""`not tried` is what could have failed, and of which nothing is known; `does not apply` what the migration has nothing for."""

Outcome: TypeAlias = Literal["holds", "fails", "not tried"]

EXIT_CODES: Final[Mapping[Outcome, int]] = {"holds": 0, "fails": 1, "not tried": 5}


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
    def outcome(self) -> Outcome:
        """What it comes to. `not tried`: of all that was asked for, nothing could be tried on a single database."""
        verdicts = {result.verdict for result in self.results}
        if "fails" in verdicts:
            return "fails"
        return "not tried" if "not tried" in verdicts and "holds" not in verdicts else "holds"

    @property
    def ok(self) -> bool:
        """Whether nothing fails, and something was tried."""
        return self.outcome == "holds"

    @property
    def failures(self) -> tuple[PropertyResult, ...]:
        """The properties that do not hold."""
        return tuple(result for result in self.results if result.verdict == "fails")

    @property
    def exit_code(self) -> int:
        """The command's: 1 where a property fails, 5 where nothing could be tried."""
        return EXIT_CODES[self.outcome]

    def result(self, property: Property) -> PropertyResult | None:
        """That of one property."""
        return next((result for result in self.results if result.property is property), None)


@frozen(kw_only=True)
class Unverified:
    """One of several migrations that could not be verified at all, and why."""

    migration: str
    error: TwinstepError
