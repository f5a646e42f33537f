"""What `test` prints: a table of properties; of each that fails the smallest database, what differs, and how to see it again.

Pure. Read next: `../verification/outcome.py` (what is shown).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from ..report import error_report
from ..verification.outcome import EXIT_CODES, Unverified, Verification
from .figures import count, counted, seconds
from .screen import BAD, GOOD, HEADING, Screen
from .trouble import error_json, show_error

if TYPE_CHECKING:
    from ...events.types import Json
    from ..verification.outcome import Counterexample, PropertyResult

Answer: TypeAlias = "Verification | Unverified"

TOLD: Final = 8
NOT_VERIFIED: Final = "not verified"
AGAIN: Final = "the same"


def show_one(found: Sequence[Answer], screen: Screen, *, given: Sequence[str] = ()) -> None:
    """The last one of them. `given` are the words of the command that it takes to see the same again, beside the migration,
    the property and the seed."""
    if len(found) > 1:
        screen.line()
    last = found[-1]
    if isinstance(last, Verification):
        show_verification(last, screen, given=given)
    else:
        screen.line(last.migration, HEADING)
        show_error(error_report(last.error), screen)
        screen.line()
        screen.line(f"{last.migration}: not verified", BAD)


def show_total(found: Sequence[Answer], screen: Screen) -> None:
    """What several come to, by name where they do not hold."""
    if len(found) < 2:
        return
    screen.line()
    named = {word: [each.migration for each in found if outcome_of(each) == word] for word in (*EXIT_CODES, NOT_VERIFIED)}
    said = [
        f"{word} {len(names)}" + (f" ({', '.join(names)})" if word != "holds" else "") for word, names in named.items() if names
    ]
    screen.line(f"{counted(len(found), 'migration')}: {', '.join(said)}", GOOD if exit_code(found) == 0 else BAD)


def outcome_of(found: Answer) -> str:
    """Of one migration, in a word or two."""
    return found.outcome if isinstance(found, Verification) else NOT_VERIFIED


def outcome_of_all(found: Sequence[Answer]) -> str:
    """A property that fails comes first, then one that was not verified, then that nothing was tried."""
    outcomes = {outcome_of(each) for each in found}
    return next((word for word in ("fails", NOT_VERIFIED, "not tried") if word in outcomes), "holds")


def exit_code(found: Sequence[Answer]) -> int:
    """Of all together; where one was not verified, that of its error."""
    refused = max((each.error.exit_code for each in found if isinstance(each, Unverified)), default=0)
    codes = {NOT_VERIFIED: refused, **{str(outcome): code for outcome, code in EXIT_CODES.items()}}
    return codes[outcome_of_all(found)]


def show_verification(found: Verification, screen: Screen, *, given: Sequence[str] = ()) -> None:
    """The table, the failures, and one line of what it comes to."""
    screen.line(f"{found.migration}, on databases drawn from seed {found.seed}", HEADING)
    said: set[str] = set()
    rows = []
    for each in found.results:
        text = each.reason or each.property.sentence
        rows.append(
            (str(each.property), each.verdict, count(each.examples) if each.examples else "", AGAIN if text in said else text)
        )
        said.add(text)
    screen.table(("property", "verdict", "databases", "what it says"), rows, right={2}, indent="  ")
    for each in found.failures:
        screen.line()
        show_failure(found, each, screen, given=given)
    for finding in found.findings:
        screen.paragraph(finding, first="  finding: ")
    if found.untried:
        screen.paragraph(untried(found), first="  finding: ")
    screen.line()
    failed = f"{counted(len(found.failures), 'property', 'properties')} failed"
    words = {"fails": failed, "not tried": "nothing could be tried, so that nothing is known of it"}.get(found.outcome, "holds")
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


def verifications_json(found: Sequence[Answer]) -> dict[str, Json]:
    """One object: the outcome of all, and each migration."""
    return {"outcome": outcome_of_all(found), "migrations": [_answer_json(each) for each in found]}


def _answer_json(found: Answer) -> dict[str, Json]:
    if isinstance(found, Verification):
        return _verification_json(found)
    error = dict(error_json(error_report(found.error)))
    return {"migration": found.migration, "outcome": NOT_VERIFIED, "error": error}


def _verification_json(found: Verification) -> dict[str, Json]:
    return {
        "migration": found.migration,
        "outcome": found.outcome,
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
