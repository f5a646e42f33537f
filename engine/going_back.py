"""The way back: deciding it, undoing each side, and comparing with before. Each answers with the events that record it.

The remote goes first: a local undo is cheap to repeat, a remote one may be cut off half-way. Rolled back means as before:
what differs, apart from what others wrote, is named, and only a person may accept it.

Read next: `perform.py` (the way forward), `recall.py` (what going back must equal).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from attrs import evolve

from ..events import types as e
from ..events.errors import Blocked, Refused
from ..events.fold import Status
from ..events.lifecycle import Effect, Row
from ..events.types import Event, Json
from ..migrations.after_undo import differences_after
from ..migrations.catalogue import Fingerprint
from ..migrations.definition import SideName
from ..migrations.ledger import UP
from ..migrations.target import Undone
from ..migrations.work import Order, SideWork, with_down_of
from .backup_report import ON_THE_WAY_BACK
from .decide import sides_of_rollback
from .worker import Situation, Worker, fingerprint_of

NOT_COMPARED = "how the databases were before was never recorded here, so that nothing could be compared with it"


def give_up(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """Decide to go back, because it was asked for. Raises Blocked (T207) where what stands cannot be taken back."""
    sides = sides_of_rollback(situation.status, situation.observed)
    # Only the remote's own ledger can say whether there is anything that cannot be taken back.
    if situation.run.irreversible and "remote" in sides and _remote_holds(worker, situation):
        raise Blocked("T207", migration=situation.run.migration)
    return [e.RollbackStarted(run=situation.run.run, reason=e.ASKED_FOR, sides=sides)]


def _remote_holds(worker: Worker, situation: Situation) -> bool:
    return worker.target("remote").ledger(situation.run.migration).holds(situation.status.undone_runs())


def undo_remote(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """Take back what stands on the remote, by the recorded down steps or corrected ones."""
    undoes = situation.status.undone_runs()
    order, corrected = _undo_order(worker, "remote", situation)
    worker.target("remote").hold()
    worker.target("remote").undo(order)
    return [*corrected, e.RemoteUndone(run=situation.run.run, undoes=undoes, kept=kept_by(worker, situation))]


def kept_by(worker: Worker, situation: Situation) -> tuple[Mapping[str, Json], ...]:
    """What this run took away from the remote, in this call or in an earlier one, and where its copies are."""
    return tuple(kept.to_json() for kept in worker.target("remote").kept(situation.run.run))


def undo_local(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """Take back what stands on the local side."""
    order, corrected = _undo_order(worker, "local", situation)
    undone = worker.target("local").undo(order)
    return [*corrected, local_undone(situation, undone)]


def local_undone(situation: Situation, undone: Undone, *, recovered: bool = False) -> e.LocalUndone:
    """The event that records what an undo of the local side did."""
    return e.LocalUndone(
        run=situation.run.run,
        undoes=situation.status.undone_runs(),
        how=undone.how,
        others_wrote=undone.others_wrote,
        found=None if undone.found is None else undone.found.to_json(),
        after=None if undone.after is None else undone.after.to_json(),
        replaced=None if undone.replaced is None else {**undone.replaced, "why": ON_THE_WAY_BACK},
        findings=undone.findings,
        recovered=recovered,
    )


def _undo_order(worker: Worker, side: SideName, situation: Situation) -> tuple[Order, list[Event]]:
    """The order by the recorded down steps; once one was refused, by those of the folder, where they were corrected."""
    order = worker.order(side, situation)
    defined, failure = worker.defined.works.get(side), situation.status.failure
    refused = failure is not None and failure.effect in (Effect.UNDO_LOCAL, Effect.UNDO_REMOTE)
    if not refused or defined is None or defined.checksum != order.work.checksum:
        return order, []
    work = with_down_of(order.work, defined)
    if work.script == order.work.script:
        return order, []
    return evolve(order, work=work), [e.DownReplaced(run=situation.run.run, side=side, down=work.script.to_json())]


def compare(worker: Worker, row: Row, situation: Situation) -> list[Event]:
    """See that nothing differs from before. Raises Refused (T335) with all that does."""
    found = differences(worker, situation)
    if found:
        raise Refused("T335", migration=situation.run.migration, differences="; ".join(found))
    # An adopted or baselined migration was never looked at before its change.
    nothing = () if situation.recalled.validated is not None else (NOT_COMPARED,)
    return [e.RolledBack(run=situation.run.run, stands=what_stands(worker, situation), findings=nothing)]


def differences(worker: Worker, situation: Situation) -> tuple[str, ...]:
    """What is not as it was when the (first undone) run was validated, apart from what others wrote since."""
    status, validated = situation.status, situation.recalled.validated
    if validated is None:
        return ()
    found: list[str] = []
    if validated.local is not None and "local" in worker.targets:
        found += [f"local: {each}" for each in _local_differences(worker, situation, validated.local)]
    stands = what_stands(worker, situation)
    changed = status.remote_started or status.remote_undone
    if validated.remote is not None and changed and "remote" not in stands:
        found += [f"remote: {each}" for each in _remote_differences(worker, situation, validated.remote)]
    return tuple(found)


def _remote_differences(worker: Worker, situation: Situation, validated: Mapping[str, Json]) -> tuple[str, ...]:
    before = fingerprint_of(validated)
    now = worker.target("remote").look(_recorded(worker, "remote", situation.status), content=False)
    ours, others = _remote_objects(situation, before), _touched_by_others(situation)
    if ours is None and not others:
        return before.differences(now)
    asked = (frozenset(before.objects) | frozenset(now.objects) if ours is None else ours) - others
    return before.only(asked).differences(now.only(asked))


def _touched_by_others(situation: Situation) -> frozenset[str]:
    """What another one has made of the same objects since: its run of this migration came after ours was undone."""
    ledger = situation.observed.remote
    if ledger is None:
        return frozenset()
    theirs = {row.run for row in ledger.rows if row.direction == UP} - {*situation.status.undone_runs()}
    return ledger.touched(run for run in theirs if ledger.standing((run,))) or frozenset()


def _remote_objects(situation: Situation, before: Fingerprint) -> frozenset[str] | None:
    """The objects that the undone steps touched: of what others changed, then or since, nothing is asked. None for all."""
    ledger, after = situation.observed.remote, situation.recalled.remote_after
    touched = ledger.touched(situation.status.undone_runs()) if ledger is not None else None
    if touched is not None or situation.run.direction == e.APPLY or after is None:
        return touched
    verified = fingerprint_of(after).objects
    return frozenset(key for key in before.objects.keys() | verified.keys() if before.objects.get(key) != verified.get(key))


def _local_differences(worker: Worker, situation: Situation, validated: Mapping[str, Json]) -> tuple[str, ...]:
    status = situation.status
    if not status.local_undone:
        return ()  # nothing of ours was ever committed here: whatever is different by now, others did
    before = fingerprint_of(validated)
    target, work = worker.target("local"), _recorded(worker, "local", status)
    if status.local_after is None:
        return before.schema_only().differences(target.look(work, content=False).schema_only())
    changed, found = _changed_look(situation), status.local_found
    # Where nobody else wrote, everything must be as it was.
    others = (before, before) if changed is None or found is None else (changed, fingerprint_of(found))
    against = partial(differences_after, before=before, changed=others[0], found=others[1])
    left = against(now=fingerprint_of(status.local_after))
    if not left:
        return ()
    # Somebody may have put it right since; what else was written since then is not asked about.
    return tuple(sentence for key, sentence in against(now=target.look(work, content=True)).items() if key in left)


def _changed_look(situation: Situation) -> Fingerprint | None:
    """The look right after the change that is undone, from its ledger row."""
    ledger, undone = situation.observed.local, situation.status.undone_runs()
    rows = [row for row in ledger.rows if row.direction == UP and row.run in undone] if ledger is not None else []
    return Fingerprint.from_text(rows[0].content) if rows else None


def what_stands(worker: Worker, situation: Situation) -> dict[str, str]:
    """By side, the runs that stood before this one and still do, and what is left because others rely on it."""
    status, observed = situation.status, situation.observed
    undone = status.undone_runs()
    stands = {side: by for side, by in status.stood_before.items() if by not in undone}
    if observed.remote is not None:
        left = [row.run for row in observed.remote.standing(undone)]
        if left:
            stands["remote"] = left[0]
    return stands


def _recorded(worker: Worker, side: SideName, status: Status) -> SideWork:
    work = worker.work(side, status)
    assert work is not None
    return work
