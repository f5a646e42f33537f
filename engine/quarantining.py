"""The rows that a migration has set aside: which there are, and putting them back by a person's word.

Putting back is one transaction of the local database, in which each row's own record says so too. The event follows; for a
process that was killed in between, the next call that takes the lock reads from those records what the log lacks.

Read next: `migrations/quarantine.py` (setting aside), `migrations/quarantined.py` (putting back), `pair_log.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from attrs import frozen
from uuid_utils import uuid7

from ..events import types as e
from ..events.codec import decode
from ..events.errors import Blocked
from ..migrations.quarantined import Quarantined
from .pair_log import append_to_pair
from .report import ErrorReport
from .session import Session


@frozen(kw_only=True)
class StillThere:
    """A row that could not be put back, and why."""

    row: Quarantined
    problem: str


@frozen(kw_only=True)
class QuarantineReport:
    """`outcome` is restored, up_to_date where there was nothing to put back, or refused where some rows stay; or blocked,
    locked or failed, with the `error`. `restore` is the id that is written beside each row that went back."""

    outcome: str
    restore: str | None = None
    restored: tuple[Quarantined, ...] = ()
    refused: tuple[StillThere, ...] = ()
    exit_code: int = 0
    error: ErrorReport | None = None


def restore_quarantined(opened: Session, ids: Sequence[int] | None) -> QuarantineReport:
    """Put these rows back, or all that lie there.

    Raises Blocked: T290 without a local database, T291 for an id that does not lie there, T292 while a run is in flight.
    """
    local = opened.targets.get("local")
    if local is None:
        raise opened.problems.get("local") or Blocked("T290")
    lying = {each.id: each for each in local.quarantined() if each.put_back_at is None}
    unknown = [id for id in ids or () if id not in lying]
    if unknown:
        raise Blocked("T291", id=unknown[0])
    in_flight = [name for name, status in opened.statuses().items() if status.in_flight]
    if in_flight:
        raise Blocked("T292", migration=in_flight[0])
    wanted = lying if ids is None else {id: lying[id] for id in ids}
    if not wanted:
        return QuarantineReport(outcome="up_to_date")
    restore = str(uuid7())
    put = local.put_back(tuple(wanted), restore)
    append_to_pair(opened, list(_events(put.done, restore)))
    refused = tuple(StillThere(row=wanted[id], problem=problem) for id, problem in put.refused.items())
    return QuarantineReport(
        outcome="refused" if refused else "restored",
        restore=restore if put.done else None,
        restored=tuple(sorted(put.done, key=lambda each: each.id)),
        refused=refused,
        exit_code=1 if refused else 0,
    )


def take_in_put_back(opened: Session) -> None:
    """Record what was put back by a call that was killed before it could say so."""
    local = opened.targets.get("local")
    if local is None or opened.pair is None:
        return
    restores: dict[str, list[Quarantined]] = {}
    for each in local.quarantined():
        if each.put_back_by is not None:
            restores.setdefault(each.put_back_by, []).append(each)
    if not restores:
        return
    known = {event.restore for record in opened.of_the_pair() if isinstance(event := decode(record), e.QuarantineRestored)}
    # A run that went back has put back what it had set aside, and its own events tell of that.
    runs = {
        event.run for each in opened.histories().values() for record in each if isinstance(event := decode(record), e.RunEvent)
    }
    for restore in restores.keys() - known - runs:
        append_to_pair(opened, list(_events(restores[restore], restore)))


def _events(rows: Sequence[Quarantined], restore: str) -> Iterator[e.Event]:
    for table, number in sorted(Counter(each.table for each in rows).items()):
        yield e.QuarantineRestored(table=table, rows=number, restore=restore)
