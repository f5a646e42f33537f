"""What `test` prints: a table of properties; of each that fails the smallest database, what differs, and how to see it again.

Pure. Read next: `../verification/outcome.py` (what is shown).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from .figures import count, counted, seconds
from .screen import BAD, GOOD, HEADING, Screen

if TYPE_CHECKING:
    from ...events.types import Json
    from ..verification.outcome import Counterexample, PropertyResult, Verification

TOLD: Final = 8


def show_verifications(found: Sequence[Verification], screen: Screen, *, given: Sequence[str] = ()) -> None:
    """One after the other; the failures of each below its table. `given` are the words of the command that it takes to see
    the same again, beside the migration, the property and the seed."""
    for number, each in enumerate(found):
        if number:
            screen.line()
        show_verification(each, screen, given=given)


def show_verification(found: Verification, screen: Screen, *, given: Sequence[str] = ()) -> None:
    """The table, the failures, and one line of what it comes to."""
    screen.line(f"{found.migration}, on databases drawn from seed {found.seed}", HEADING)
    rows = [
        (str(each.property), each.verdict, count(each.examples) if each.examples else "", each.reason or each.property.sentence)
        for each in found.results
    ]
    screen.table(("property", "verdict", "databases", "what it says"), rows, right={2}, indent="  ")
    for each in found.failures:
        screen.line()
        show_failure(found, each, screen, given=given)
    for finding in found.findings:
        screen.paragraph(finding, first="  finding: ")
    if found.untried:
        screen.paragraph(untried(found), first="  finding: ")
    screen.line()
    words = "holds" if found.ok else f"{counted(len(found.failures), 'property', 'properties')} failed"
    total = f"{counted(found.examples, 'database')} in {seconds(found.seconds)}"
    screen.line(f"{found.migration}: {words}; {total}", GOOD if found.ok else BAD)


def untried(found: Verification) -> str:
    """What is not known, and how it can be."""
    return (
        f"not a single row was tried in {', '.join(found.untried)}: the schema admits none of those that were drawn. What "
        "becomes of such rows is not known. Give the columns values that fit, in verification.py"
    )


def show_failure(found: Verification, result: PropertyResult, screen: Screen, *, given: Sequence[str] = ()) -> None:
    """What was found, on which rows, and how to see it again."""
    fault = result.counterexample
    assert fault is not None
    where = f" ({fault.side} side)" if fault.side else ""
    screen.line(f"{result.property} fails{where}: {result.property.sentence}, but", BAD)
    for told in fault.told[:TOLD]:
        screen.paragraph(told, first="  ", rest="    ")
    if len(fault.told) > TOLD:
        screen.line(f"  and {len(fault.told) - TOLD} more")
    screen.line(f"on the schema before {found.migration} {_rows(fault)}", HEADING)
    for side, text in fault.sql.items():
        screen.line(f"  -- {side}")
        for line in text.splitlines():
            screen.line(f"  {line}")
    screen.line("Run it again:", HEADING)
    screen.line(f"  {_again(found, result, given)}")


def _again(found: Verification, result: PropertyResult, given: Sequence[str]) -> str:
    from ..verification.settings import EXAMPLES

    words = ["twinstep", "test", found.migration, *given, "--property", str(result.property), "--seed", str(found.seed)]
    if found.asked != EXAMPLES:
        words += ["--examples", str(found.asked)]
    return shlex.join(words)


def _rows(fault: Counterexample) -> str:
    return "without any row" if not fault.rows else f"with {counted(fault.rows, 'row')}"


def verifications_json(found: Sequence[Verification]) -> Mapping[str, Json]:
    """One object: the outcome of all, and each migration."""
    outcome = "holds" if all(each.ok for each in found) else "fails"
    return {"outcome": outcome, "migrations": [_verification_json(each) for each in found]}


def _verification_json(found: Verification) -> dict[str, Json]:
    return {
        "migration": found.migration,
        "outcome": "holds" if found.ok else "fails",
        "seed": found.seed,
        "databases": found.examples,
        "seconds": round(found.seconds, 3),
        "properties": [_result_json(each) for each in found.results],
        "findings": list(found.findings),
        "untried": list(found.untried),
    }


def _result_json(result: PropertyResult) -> dict[str, Json]:
    fault = result.counterexample
    return {
        "property": str(result.property),
        "verdict": result.verdict,
        "databases": result.examples,
        "seconds": round(result.seconds, 3),
        "reason": result.reason,
        "counterexample": None
        if fault is None
        else {
            "side": fault.side or None,
            "code": fault.code or None,
            "differences": list(fault.told),
            "rows": fault.rows,
            "sql": {str(side): text for side, text in fault.sql.items()},
        },
    }
