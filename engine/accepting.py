"""What a person accepts: that a verification is refused, that a take-back is given up, that going back left a difference.

Everything is looked at once more first, so that what is accepted is what is there, and only what had been reported before:
something new is reported instead (T273), and may be accepted by asking again. Where nothing differs any more, there is
nothing to accept, and what is recorded is what verifying or comparing would have recorded.

No database is changed. Read next: `verifying.py` (who asks for it), `going_back.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..events import types as e
from ..events.errors import Refused
from ..events.fold import Status
from ..events.lifecycle import Row
from ..events.types import Event, Json
from ..migrations.definition import SideName
from .decide import has_work
from .definitions import SIDES
from .going_back import differences, what_stands
from .worker import Situation, Worker


def accept(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """Take a person's word for it. Raises Refused (T273) where something differs that was not reported yet."""
    match row.events[-1]:
        case "Verified":
            return _accept_verification(worker, situation)
        case "RollbackAbandoned":
            return [e.RollbackAbandoned(run=situation.run.run)]
        case _:
            return _accept_difference(worker, situation)


def _accept_verification(worker: Worker, situation: Situation) -> list[Event]:
    run, found, findings = situation.run.run, dict[str, str](), list[str]()
    looks: dict[SideName, dict[str, Json]] = {}
    for side in SIDES:
        work = worker.work(side, situation.status) if _is_verified(situation.status, side) else None
        if work is None:
            continue
        try:
            if not (side == "local" and situation.local_stands_by_another(run)):
                findings += worker.target(side).verify(work)
        except Refused as refused:
            found[refused.condition] = side
        # The look with which it stands from here on: what later ones are held against.
        looks[side] = worker.target(side).look(work, content=False).to_json()
    _refuse_news(situation, found)
    verified = e.Verified(
        run=run, accepted=bool(found), local=looks.get("local"), remote=looks.get("remote"), findings=findings
    )
    return [e.VerificationAccepted(run=run, differences=tuple(found)), verified] if found else [verified]


def _is_verified(status: Status, side: SideName) -> bool:
    return has_work(status, side) and not (side == "remote" and status.remote_skipped)


def _accept_difference(worker: Worker, situation: Situation) -> list[Event]:
    run, found = situation.run.run, differences(worker, situation)
    _refuse_news(situation, {each: each.partition(":")[0] for each in found})
    ended = e.RolledBack(run=run, stands=what_stands(worker, situation), accepted=bool(found))
    return [e.VerificationAccepted(run=run, differences=found), ended] if found else [ended]


def _refuse_news(situation: Situation, found: Mapping[str, str]) -> None:
    """`found` says on which side each difference is."""
    reported = situation.status.failure.message if situation.status.failure is not None else ""
    news = [difference for difference in found if difference not in reported]
    if news:
        raise Refused("T273", migration=situation.run.migration, side=found[news[0]], differences="; ".join(found))
