"""The effects: each one call to a target (validate, verify and compare ask both), answered with the events that record it.

A `Worker` performs for one migration on one pair. It holds the targets and what is defined, and nothing about where the
migration stands: that is in the status and in what was observed, which it is given. It appends nothing; the loop does, with
the expected version, after the effect. An effect therefore either is in the ledger of its own transaction, or changed
nothing, or can be done again.

Errors pass through: which of them are refusals that are recorded and lead back, and which leave the run in flight, is the
loop's decision. Read next: `coordinator.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from attrs import evolve, field, frozen
from uuid_utils import uuid7

from ..events import types as e
from ..events.errors import Blocked, Refused, Stranded
from ..events.fold import Status
from ..events.lifecycle import Effect, Row, State
from ..events.types import Event, Json
from ..migrations.catalogue import Fingerprint
from ..migrations.definition import Query, SideName
from ..migrations.ledger import SideLedger
from ..migrations.target import Target, Timing
from ..migrations.work import Order, SideWork, recorded_work, with_down_of
from .decide import Observed, Request, has_work, sides_of_rollback
from .recall import Recalled

SIDES: tuple[SideName, ...] = ("local", "remote")


@frozen(kw_only=True)
class Defined:
    """A migration as it is defined now; empty for one that the folder no longer has."""

    id: str
    works: Mapping[SideName, SideWork] = field(factory=dict)
    queries: tuple[Query, ...] = ()
    irreversible: bool = False

    def checksums(self) -> dict[str, str]:
        """By side."""
        return {side: work.checksum for side, work in self.works.items()}


@frozen(kw_only=True)
class Situation:
    """What an effect is performed in: everything but the targets."""

    status: Status
    observed: Observed
    request: Request
    recalled: Recalled

    @property
    def run(self) -> e.RunStarted:
        """The run in flight."""
        assert self.status.run is not None
        return self.status.run


class Worker:
    """Performs effects for one migration on one pair."""

    def __init__(
        self,
        *,
        defined: Defined,
        pair: str,
        log: str,
        targets: Mapping[SideName, Target],
        remote_role: str = "apply",
        discard_writes: bool = False,
    ) -> None:
        self.defined = defined
        self.pair = pair
        self.log = log
        self.targets = targets
        self.remote_role = remote_role
        self.discard_writes = discard_writes
        # Where no local database is changed there is no writer lock; this token stands for "the same call" instead.
        self._token = uuid.uuid4().hex

    def perform(self, row: Row, situation: Situation) -> list[Event]:
        """Do what the row orders; the events that record it, in the order of one append."""
        return EFFECTS[row.effect](self, row, situation)

    def new_run_id(self) -> str:
        """A fresh id for an attempt: UUIDv7, so that ids sort by the time they were drawn."""
        return str(uuid7())

    def target(self, side: SideName) -> Target:
        """The database of that side. Raises Stranded (T260) where a run needs one that was not named."""
        target = self.targets.get(side)
        if target is None:
            raise Stranded("T260", migration=self.defined.id, side=side)
        return target

    def lock(self) -> str | None:
        """The token of the lock that is held, or of this call where there is no lock to hold."""
        local = self.targets.get("local")
        if local is not None and "local" in self.defined.works:
            return local.held
        return self._token

    def work(self, side: SideName, status: Status) -> SideWork | None:
        """The side's work: as the run in flight recorded it, else as it is defined now."""
        run = status.run
        if run is None or not status.in_flight:
            return self.defined.works.get(side)
        recorded = run.local if side == "local" else run.remote
        if recorded is None:
            return None
        return recorded_work(run.migration, side, recorded, irreversible=run.irreversible, defined=self.defined.works.get(side))

    # Rows 0 and 1: what the ledgers say is taken into the log.

    def _record(self, row: Row, situation: Situation) -> list[Event]:
        run, observed = situation.run, situation.observed
        undoes = situation.status.undone_runs()
        match row.events[-1]:
            case "LocalApplied":
                return [e.LocalApplied(run=run.run, by=run.run, recovered=True)]
            case "RemoteApplied":
                return [e.RemoteApplied(run=run.run, by=run.run, recovered=True)]
            case "RemoteUndone":
                return [e.RemoteUndone(run=run.run, undoes=undoes, recovered=True)]
            case "LocalUndone":
                work = self.work("local", situation.status)
                restored = work is not None and any(unit.down is None for unit in work.script.units)
                how = "restore" if restored else "down"
                return [e.LocalUndone(run=run.run, undoes=undoes, how=how, recovered=True)]
            case _:
                assert observed.remote is not None
                (confirmation, *_) = observed.remote.confirming((run.run,))
                return [
                    e.RemoteStarted(run=run.run),
                    e.RemoteConfirmed(run=run.run, by=confirmation.undoes, recovered=True),
                ]

    def _adopt(self, row: Row, situation: Situation) -> list[Event]:
        """What the ledgers say. Raises Blocked (T259) where a change of this pair's own stands in part."""
        migration, ledgers = self.defined.id, self._ledgers(situation)
        standing: dict[str, str] = {}
        runs: set[str] = set()
        for side, ledger in ledgers.items():
            runs |= {found.run for found in ledger.rows if found.pair == self.pair}
            half = ledger.half_applied_by()
            if half is not None and half.pair == self.pair:
                raise Blocked("T259", migration=migration, side=side, run=half.run)
            applied = ledger.applied_by()
            if applied is not None:
                standing[side] = applied.run
        sides = tuple(side for side in SIDES if side in self.defined.works and side in self.targets)
        whole = bool(standing) and all(side in standing for side in sides)
        return [
            e.Adopted(
                run=self.new_run_id(),
                migration=migration,
                state=str(State.VERIFIED if whole else State.PENDING),
                local=standing.get("local"),
                remote=standing.get("remote"),
                sides=sides,
                runs=tuple(sorted(runs)),
            )
        ]

    def _ledgers(self, situation: Situation) -> dict[SideName, SideLedger]:
        """Both ledgers, read now where they were not; raises where a side that the migration has cannot be reached."""
        observed: dict[SideName, SideLedger | None] = {"local": situation.observed.local, "remote": situation.observed.remote}
        return {
            side: observed[side] or target.ledger(self.defined.id)
            for side, target in self.targets.items()
            if not (side == "remote" and self.remote_role == "skip")
        }

    # Row 2 and 4

    def _validate(self, row: Row, situation: Situation) -> list[Event]:
        status = situation.status
        begins = row.events[0] == "RunStarted"
        run = self._new_run(situation) if begins else situation.run
        # The status as it will be once the run has started, so that the work is what the run records.
        status = evolve(status, run=run, state=State.VALIDATED)
        back = run.direction == e.BACK
        looks: dict[SideName, Fingerprint] = {}
        timings: list[Timing] = []
        for side in self._sides_to_look_at(run, situation):
            target = self.target(side)
            work = self.work(side, status)
            assert work is not None
            if side == "local":
                target.hold()
            if not (side == "local" and not back and self._stands_by_another(run.run, situation)):
                target.validate(work, back=back)
            looks[side] = target.look(work, content=True)
            if not back:
                timings += target.measure([query for query in self.defined.queries if query.side == side])
        if "remote" in looks and not back:
            self._check_remote_is_free(run, situation.observed)
        lock = self.lock()
        assert lock is not None
        validated = e.Validated(
            run=run.run,
            lock=lock,
            local=looks["local"].to_json() if "local" in looks else None,
            remote=looks["remote"].to_json() if "remote" in looks else None,
            queries=tuple(timing.to_json() for timing in timings),
        )
        return [run, validated] if begins else [validated]

    def _sides_to_look_at(self, run: e.RunStarted, situation: Situation) -> list[SideName]:
        sides = [side for side in SIDES if side in run.sides]
        if run.skip_remote or situation.request.skip_remote:
            return [side for side in sides if side != "remote"]
        return sides

    def _new_run(self, situation: Situation) -> e.RunStarted:
        back = situation.request.wish == "back"
        undoes = self._runs_to_undo(situation) if back else ()
        if back:
            self._check_way_back()
        skip = situation.request.skip_remote or self.remote_role == "skip" or "remote" not in self.targets
        works = {side: work for side, work in self.defined.works.items() if back or side == "remote" or side in self.targets}
        sides = tuple(side for side in SIDES if side in works)
        if back:
            sides = tuple(side for side in sides if self._stands(side, situation, undoes))
            away = [side for side in sides if side not in self.targets]
            if away:
                raise Blocked("T260", migration=self.defined.id, side=away[0])
        return e.RunStarted(
            run=self.new_run_id(),
            migration=self.defined.id,
            direction=e.BACK if back else e.APPLY,
            undoes=undoes,
            sides=sides,
            remote_role=self.remote_role,
            skip_remote=skip and not back and "remote" in sides,
            irreversible=self.defined.irreversible,
            checksums={side: work.checksum for side, work in works.items()},
            local=works["local"].to_json() if "local" in works else None,
            remote=works["remote"].to_json() if "remote" in works else None,
        )

    def _stands(self, side: SideName, situation: Situation, undoes: Sequence[str]) -> bool:
        observed = situation.observed.local if side == "local" else situation.observed.remote
        if observed is None:
            by = situation.status.local_by if side == "local" else situation.status.remote_by
            return by is not None
        return observed.holds(undoes)

    def _runs_to_undo(self, situation: Situation) -> tuple[str, ...]:
        """The runs of this pair that the take-back undoes: what another pair applied stays."""
        status = situation.status
        runs = [status.local_by, status.remote_confirmed_in]
        if situation.observed.remote is not None:
            rows = situation.observed.remote.standing((status.remote_by or "",))
            runs += [row.run for row in rows if row.pair == self.pair]
        return tuple(dict.fromkeys(run for run in runs if run is not None))

    def _check_way_back(self) -> None:
        if self.defined.irreversible:
            raise Blocked("T207", migration=self.defined.id)
        local = self.defined.works.get("local")
        if local is not None and any(unit.down is None for unit in local.script.units):
            raise Blocked("T206", migration=self.defined.id)

    def _check_remote_is_free(self, run: e.RunStarted, observed: Observed) -> None:
        assert observed.remote is not None
        half = observed.remote.half_applied_by(other_than=(run.run,))
        if half is not None:
            raise Blocked("T203", migration=run.migration, run=half.run)
        if run.remote_role == "require" and observed.remote.applied_by() is None:
            raise Blocked("T205", migration=run.migration)

    # Rows 3, 5 and 6

    def _give_up(self, row: Row, situation: Situation) -> list[Event]:
        sides = sides_of_rollback(situation.status, situation.observed)
        # Only the remote's own ledger can say whether there is anything that cannot be taken back.
        if situation.run.irreversible and "remote" in sides and self._remote_holds(situation):
            raise Blocked("T207", migration=situation.run.migration)
        return [e.RollbackStarted(run=situation.run.run, reason="asked for", sides=sides)]

    def _remote_holds(self, situation: Situation) -> bool:
        return self.target("remote").ledger(situation.run.migration).holds(situation.status.undone_runs())

    def _back_up(self, row: Row, situation: Situation) -> list[Event]:
        backup = None
        if has_work(situation.status, "local") and not self._local_stands_already(situation):
            backup = self.target("local").back_up(self._order("local", situation))
        return [e.BackedUp(run=situation.run.run, backup=backup)]

    def _local_stands_already(self, situation: Situation) -> bool:
        """An earlier run's local change is there, and this run has only the remote to do."""
        applies = situation.run.direction == e.APPLY
        return applies and situation.observed.local is not None and situation.observed.local.applied_by() is not None

    def _stands_by_another(self, run: str, situation: Situation) -> bool:
        """The local change of an earlier run stands, and later migrations may have moved the database on since."""
        applied = situation.observed.local.applied_by() if situation.observed.local is not None else None
        return applied is not None and applied.run != run

    def _apply_local(self, row: Row, situation: Situation) -> list[Event]:
        run = situation.run.run
        if not has_work(situation.status, "local"):
            return [e.LocalApplied(run=run, nothing=True)]
        standing = situation.observed.local.applied_by() if situation.observed.local is not None else None
        if standing is not None:
            self.target("local").release()
            return [e.LocalApplied(run=run, by=standing.run)]
        changes = self.target("local").apply(self._order("local", situation))
        return [e.LocalApplied(run=run, by=run, changes=changes.to_json())]

    # Rows 7 to 9

    def _skip_remote(self, row: Row, situation: Situation) -> list[Event]:
        return [e.RemoteSkipped(run=situation.run.run)]

    def _confirm_remote(self, row: Row, situation: Situation) -> list[Event]:
        run = situation.run
        target = self.target("remote")
        target.hold()
        applied = target.ledger(run.migration).applied_by()
        if applied is None:
            raise Blocked("T205", migration=run.migration)
        target.confirm(self._order("remote", situation), applied.run)
        return [e.RemoteStarted(run=run.run), e.RemoteConfirmed(run=run.run, by=applied.run)]

    def _start_remote(self, row: Row, situation: Situation) -> list[Event]:
        self.target("remote").hold()
        return [e.RemoteStarted(run=situation.run.run)]

    def _apply_remote(self, row: Row, situation: Situation) -> list[Event]:
        run = situation.run
        if not has_work(situation.status, "remote"):
            return [e.RemoteApplied(run=run.run, nothing=True)]
        target = self.target("remote")
        target.hold()
        half = target.ledger(run.migration).half_applied_by(other_than=(run.run,))
        if half is not None:
            raise Blocked("T203", migration=run.migration, run=half.run)
        changes = target.apply(self._order("remote", situation))
        return [e.RemoteApplied(run=run.run, by=run.run, changes=changes.to_json())]

    # Rows 10 and 11

    def _verify(self, row: Row, situation: Situation) -> list[Event]:
        looks: dict[SideName, Fingerprint] = {}
        timings: list[Timing] = []
        findings: list[str] = []
        for side in SIDES:
            if not has_work(situation.status, side) or (side == "remote" and situation.status.remote_skipped):
                continue
            target = self.target(side)
            work = self.work(side, situation.status)
            assert work is not None
            if not (side == "local" and self._stands_by_another(situation.run.run, situation)):
                findings += target.verify(work)
            looks[side] = target.look(work, content=False)
            timings += target.measure([query for query in self.defined.queries if query.side == side])
        findings += _slowdowns(self.defined.queries, situation.recalled.validated, timings)
        return [
            e.Verified(
                run=situation.run.run,
                local=looks["local"].to_json() if "local" in looks else None,
                remote=looks["remote"].to_json() if "remote" in looks else None,
                queries=tuple(timing.to_json() for timing in timings),
                findings=findings,
            )
        ]

    def _accept(self, row: Row, situation: Situation) -> list[Event]:
        run = situation.run.run
        match row.events[-1]:
            case "Verified":
                failure = situation.status.failure
                differences = (failure.message,) if failure is not None else ()
                return [
                    e.VerificationAccepted(run=run, differences=differences),
                    e.Verified(run=run, accepted=True),
                ]
            case "RollbackAbandoned":
                return [e.RollbackAbandoned(run=run)]
            case _:
                return [
                    e.VerificationAccepted(run=run, differences=self._differences(situation)),
                    e.RolledBack(run=run, stands=self._what_stands(situation), accepted=True),
                ]

    # Rows 13 and 15

    def _undo_remote(self, row: Row, situation: Situation) -> list[Event]:
        undoes = situation.status.undone_runs()
        order, corrected = self._undo_order("remote", situation)
        self.target("remote").hold()
        self.target("remote").undo(order)
        return [*corrected, e.RemoteUndone(run=situation.run.run, undoes=undoes)]

    def _undo_local(self, row: Row, situation: Situation) -> list[Event]:
        undoes = situation.status.undone_runs()
        order, corrected = self._undo_order("local", situation)
        undone = self.target("local").undo(order)
        after = undone.after.to_json() if undone.after is not None else None
        return [
            *corrected,
            e.LocalUndone(
                run=situation.run.run,
                undoes=undoes,
                how=undone.how,
                others_wrote=undone.others_wrote,
                after=after,
                replaced=undone.replaced,
            ),
        ]

    def _undo_order(self, side: SideName, situation: Situation) -> tuple[Order, list[Event]]:
        """The order by the recorded down steps; once one was refused, by those of the folder, where they were corrected."""
        order = self._order(side, situation)
        defined, failure = self.defined.works.get(side), situation.status.failure
        refused = failure is not None and failure.effect in (Effect.UNDO_LOCAL, Effect.UNDO_REMOTE)
        if not refused or defined is None or defined.checksum != order.work.checksum:
            return order, []
        work = with_down_of(order.work, defined)
        if work.script == order.work.script:
            return order, []
        return evolve(order, work=work), [e.DownReplaced(run=situation.run.run, side=side, down=work.script.to_json())]

    def _compare(self, row: Row, situation: Situation) -> list[Event]:
        differences = self._differences(situation)
        if differences:
            raise Refused("T335", migration=situation.run.migration, differences="; ".join(differences))
        return [e.RolledBack(run=situation.run.run, stands=self._what_stands(situation))]

    def _differences(self, situation: Situation) -> tuple[str, ...]:
        """What is not as it was when the (first undone) run was validated, apart from what others wrote since."""
        status, validated = situation.status, situation.recalled.validated
        if validated is None:
            return ()
        found: list[str] = []
        if validated.local is not None and "local" in self.targets:
            found += [f"local: {each}" for each in self._local_differences(situation, validated.local)]
        stands = self._what_stands(situation)
        changed = status.remote_started or status.remote_undone
        if validated.remote is not None and changed and "remote" not in stands:
            found += [f"remote: {each}" for each in self._remote_differences(situation, validated.remote)]
        return tuple(found)

    def _remote_differences(self, situation: Situation, validated: Mapping[str, Json]) -> tuple[str, ...]:
        before = _fingerprint(validated)
        now = self.target("remote").look(self._work_or_defined("remote", situation.status), content=False)
        if situation.run.direction == e.BACK and situation.recalled.remote_after is not None:
            # Others may have changed the schema for months since: of theirs nothing is known, and nothing is asked.
            after = _fingerprint(situation.recalled.remote_after)
            ours = {
                key for key in before.objects.keys() | after.objects.keys() if before.objects.get(key) != after.objects.get(key)
            }
            before, now = before.only(ours), now.only(ours)
        return before.differences(now)

    def _local_differences(self, situation: Situation, validated: Mapping[str, Json]) -> tuple[str, ...]:
        status = situation.status
        before = _fingerprint(validated)
        if status.local_undone and status.local_after is not None and status.others_wrote is False:
            return before.differences(_fingerprint(status.local_after))
        # Others may have written since, so that only the schema can be held against what it was.
        now = self.target("local").look(self._work_or_defined("local", status), content=False)
        before, now = before.schema_only(), now.schema_only()
        ours = situation.recalled.local_ours
        if status.local_undone and ours is not None:
            # And only those objects which the undone change touched: the rest is the host's to change.
            before, now = before.only(ours), now.only(ours)
        return before.differences(now)

    def _work_or_defined(self, side: SideName, status: Status) -> SideWork:
        work = self.work(side, status)
        assert work is not None
        return work

    def _what_stands(self, situation: Situation) -> dict[str, str]:
        """By side, the runs that stood before this one and still do, and what is left because others rely on it."""
        status, observed = situation.status, situation.observed
        undone = status.undone_runs()
        stands = {side: by for side, by in status.stood_before.items() if by not in undone}
        if observed.remote is not None:
            left = [row.run for row in observed.remote.standing(undone)]
            if left:
                stands["remote"] = left[0]
        return stands

    def _order(self, side: SideName, situation: Situation) -> Order:
        status = situation.status
        work = self.work(side, status)
        assert work is not None
        undoes = status.undone_runs() if status.state is State.ROLLING_BACK else ()
        return Order(
            work=work,
            run=situation.run.run,
            pair=self.pair,
            log=self.log,
            undoes=undoes,
            backup=situation.recalled.backup if situation.run.direction == e.APPLY else None,
            discard_writes=self.discard_writes,
            version=status.version,
            last_hash=status.last_hash,
        )


EFFECTS: Mapping[Effect, Callable[[Worker, Row, Situation], list[Event]]] = {
    Effect.RECORD: Worker._record,
    Effect.ADOPT: Worker._adopt,
    Effect.VALIDATE: Worker._validate,
    Effect.GIVE_UP: Worker._give_up,
    Effect.BACK_UP: Worker._back_up,
    Effect.APPLY_LOCAL: Worker._apply_local,
    Effect.SKIP_REMOTE: Worker._skip_remote,
    Effect.CONFIRM_REMOTE: Worker._confirm_remote,
    Effect.START_REMOTE: Worker._start_remote,
    Effect.APPLY_REMOTE: Worker._apply_remote,
    Effect.ACCEPT: Worker._accept,
    Effect.VERIFY: Worker._verify,
    Effect.UNDO_REMOTE: Worker._undo_remote,
    Effect.UNDO_LOCAL: Worker._undo_local,
    Effect.COMPARE: Worker._compare,
}


def _fingerprint(data: Mapping[str, Json]) -> Fingerprint:
    return Fingerprint.from_json(cast("Mapping[str, Mapping[str, str | int]]", data))


def _slowdowns(queries: Sequence[Query], validated: e.Validated | None, after: Sequence[Timing]) -> list[str]:
    """Sentences for queries that do not use the index they should, or became slower with another plan."""
    found: list[str] = []
    wanted = {(query.side, query.name): query.uses_index for query in queries}
    before = {(str(each["side"]), str(each["name"])): each for each in (validated.queries if validated is not None else ())}
    for timing in after:
        index = wanted.get((timing.side, timing.name))
        if index is not None and index not in timing.plan:
            found.append(f"query {timing.name} ({timing.side}) does not use {index}")
        old = before.get((timing.side, timing.name))
        if old is None or old["plan"] == timing.plan:
            continue
        was = float(cast("float", old["milliseconds"]))
        if timing.milliseconds > 5 and timing.milliseconds > 1.2 * was:
            found.append(f"query {timing.name} ({timing.side}) took {was:.2f} ms, takes {timing.milliseconds:.2f} ms")
    return found
