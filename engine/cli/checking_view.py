"""What `verify` and `status --at` print, in words and as JSON. Pure; asks nothing of anybody.

Read next: `../report.py` for what goes in, `views.py` for the other commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from .figures import counted, instant
from .screen import BAD, GOOD, HEADING, Screen
from .shapes import conflicts_json
from .trouble import error_json, without_passwords
from .views import show_conflict, show_queries

if TYPE_CHECKING:
    from ...events.types import Json
    from ..report import DriftReport, QueryTime, SideReport, StatusReport, VerifiedMigration, VerifyReport

    Shape = dict[str, Json]

OUTCOMES: Final[Mapping[str, tuple[str, str]]] = {
    "verified": ("Verified: everything is as it was recorded.", GOOD),
    "accepted": ("Accepted, and everything else is as it was recorded.", GOOD),
    "drift": ("A schema has drifted from the one that was verified last.", BAD),
    "problems": ("Not everything is as it was when it was verified.", BAD),
    "rolled_back": ("Refused only now, and rolled back: both databases are as before.", BAD),
    "blocked": ("Blocked: see above. Neither database was changed.", BAD),
    "locked": ("Locked by another coordinator.", BAD),
    "failed": ("Not begun: neither database was changed.", BAD),
    "in_flight": ("In flight: no final state was reached.", BAD),
}


def verify_json(report: VerifyReport) -> Shape:
    """`verify`."""
    return {
        "outcome": report.outcome,
        "migrations": [_migration_json(one) for one in report.migrations],
        "drift": {side: _drift_json(one) for side, one in report.drift.items()},
        "conflicts": conflicts_json(report.conflicts),
        "accepted": [
            {"migration": one.migration, "what": one.what, "differences": list(one.differences)} for one in report.accepted
        ],
        "findings": list(report.findings),
        "error": None if report.error is None else error_json(report.error),
    }


def _migration_json(one: VerifiedMigration) -> Shape:
    return {
        "id": one.id,
        "ok": one.ok,
        "problems": list(one.problems),
        "findings": list(one.findings),
        "queries": [_query_json(query) for query in one.queries],
    }


def _query_json(query: QueryTime) -> Shape:
    return {
        "name": query.name,
        "side": query.side,
        "before_ms": query.before_ms,
        "after_ms": query.after_ms,
        "plan_changed": query.plan_changed,
    }


def _drift_json(one: DriftReport) -> Shape:
    return {"since": one.since, "differences": list(one.differences), "not_compared": one.not_compared}


def show_verified(report: VerifyReport, screen: Screen) -> None:
    """What was accepted, each migration, each schema, what does not fit together, and the outcome."""
    for accepted in report.accepted:
        screen.paragraph(f"Accepted of {accepted.migration}: {accepted.what}.", style=HEADING)
        for difference in accepted.differences:
            screen.paragraph(without_passwords(difference), first="  ")
    for one in report.migrations:
        screen.line(f"{one.id}: {'ok' if one.ok else 'not as it was'}", "" if one.ok else BAD)
        for name, texts in (("problem", one.problems), ("finding", one.findings)):
            for text in texts:
                screen.paragraph(without_passwords(text), first=f"  {name:<9}", rest=" " * 11)
        if one.queries:
            show_queries(one.queries, screen, indent="  ")
    for side, drift in report.drift.items():
        screen.paragraph(_drift_text(side, drift))
    for conflict in report.conflicts:
        show_conflict(conflict, screen)
    for finding in report.findings:
        screen.paragraph(without_passwords(finding))
    text, style = OUTCOMES.get(report.outcome, (report.outcome, ""))
    screen.line(text, style)


def _drift_text(side: str, drift: DriftReport) -> str:
    if drift.not_compared is not None:
        return f"The schema of the {side} database was not compared: {drift.not_compared}."
    if drift.differences:
        return f"The schema of the {side} database has {counted(len(drift.differences), 'difference')} since {drift.since}."
    return f"The schema of the {side} database is the one that was verified last, with {drift.since}."


def at_json(status: StatusReport) -> Shape:
    """The moment of `status --at`."""
    at = status.at
    assert at is not None
    return {"asked": at.asked, "position": at.position, "recorded_at": at.recorded_at, "note": at.note}


def show_status_at(status: StatusReport, screen: Screen) -> None:
    """Where both sides stood, as the log tells."""
    at = status.at
    assert at is not None
    if at.note:
        screen.paragraph(at.note)
    if at.position is not None and at.recorded_at is not None:
        screen.line(f"At position {at.position} of the log, recorded {instant(at.recorded_at)} UTC:", HEADING)
    for name, side in (("local", status.local), ("remote", status.remote)):
        screen.paragraph(_stood(side), first=f"{name:<8}")
    if status.migrations:
        screen.line()
        screen.table(
            ("migration", "state", "local", "remote", "runs"),
            [(one.id, one.state, one.local_status, one.remote_status, str(one.runs)) for one in status.migrations],
            right={4},
        )
    screen.line()
    for conflict in status.conflicts:
        screen.paragraph(without_passwords(conflict.message), first=f"Conflict ({conflict.kind}): ", rest="    ", style=BAD)
    if status.in_flight is not None:
        run = status.in_flight
        screen.paragraph(f"In flight: {run.migration} was {run.state}, since {instant(run.since)} UTC (run {run.run}).")
    if status.pending:
        screen.paragraph(f"Pending: {', '.join(status.pending)}.")


def _stood(side: SideReport) -> str:
    return f"{len(side.applied)} applied, the last {side.applied[-1]}" if side.applied else "nothing applied"
