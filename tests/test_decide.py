"""What `decide` chooses, as a pure function: on named situations, and on every situation that can be generated.

A situation is a status as some legal history leaves it, what could be read of the two ledgers, and a request.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from attrs import evolve, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinstep.engine.decide import QUESTIONS, Observed, Request, decide, has_work, sides_of_rollback
from twinstep.events import types as e
from twinstep.events.errors import IllegalHistory
from twinstep.events.fold import Status, authorise
from twinstep.events.lifecycle import TABLE, Effect, State, When
from twinstep.events.types import Event
from twinstep.migrations.ledger import CONFIRM, DONE, DOWN, OPEN, UP, LedgerRow, SideLedger

RUN, EARLIER, OTHER = "run-now", "run-earlier", "run-of-another-device"
EMPTY = SideLedger()


def row(direction: str, run: str, *, step: int = 1, undoes: str = "", state: str = DONE, steps: int = 1) -> LedgerRow:
    return LedgerRow(migration="0001_x", direction=direction, run=run, step=step, undoes=undoes, state=state, steps=steps)


def ledger(*rows: LedgerRow) -> SideLedger:
    return SideLedger(rows=rows)


def applied(run: str) -> SideLedger:
    return ledger(row(UP, run))


def undone(run: str, by: str) -> SideLedger:
    return ledger(row(UP, run), row(DOWN, by, undoes=run))


def started(**changes: object) -> e.RunStarted:
    return evolve(
        e.RunStarted(run=RUN, migration="0001_x", direction=e.APPLY, sides=("local", "remote"), local={}, remote={}),
        **changes,  # type: ignore[arg-type]
    )


def status(state: State, **changes: object) -> Status:
    """A status in that state, with a run in flight that has the lock "token"."""
    begun = Status(state=state, run=started(), lock="token", known_runs=frozenset({RUN}))
    return evolve(begun, **changes)  # type: ignore[arg-type]


def refused(effect: Effect) -> e.StepFailed:
    return e.StepFailed(run=RUN, effect=str(effect), side="remote", code="T000", message="refused")


TAKES_BACK = started(direction=e.BACK, undoes=(EARLIER,))
ROLLBACK = e.RollbackStarted(run=RUN, reason="refused", sides=("local", "remote"))
BOTH = Observed(local=EMPTY, remote=EMPTY, lock="token", remote_held=True)
APPLY, BACK, FINISH = Request(wish="apply"), Request(wish="back"), Request(wish="finish")
BEGAN, RECORD = Request(wish="apply", began=True), Request(wish="record")
BY_RESTORE = '{"restored": "a backup", "replaced": "another"}'
RESTORED = ledger(
    row(UP, RUN),
    evolve(row(DOWN, "the restore", undoes=RUN), stream_hash="as it was", before=BY_RESTORE),
)


@frozen
class Case:
    """A named situation and the number of the row that must be chosen, None for nothing left to do."""

    name: str
    status: Status
    observed: Observed
    request: Request
    number: str | None


S = State
REMOTE_AWAY = Observed(local=EMPTY, remote=None, lock="token")
CASES = (
    Case("a pending migration begins", Status(), Observed(local=EMPTY, remote=EMPTY), APPLY, "2"),
    Case("finishing begins nothing", Status(), Observed(local=EMPTY, remote=EMPTY), FINISH, None),
    Case("taking back what is not applied begins nothing", Status(), Observed(local=EMPTY, remote=EMPTY), BACK, None),
    Case("a verified migration is left alone", status(S.VERIFIED), BOTH, APPLY, None),
    Case("a verified migration is taken back when asked to", status(S.VERIFIED), BOTH, BACK, "2"),
    Case("a skipped remote is done later", status(S.VERIFIED, remote_skipped=True), BOTH, APPLY, "2"),
    Case(
        "a skipped remote is skipped again",
        status(S.VERIFIED, remote_skipped=True),
        BOTH,
        Request(wish="apply", skip_remote=True),
        None,
    ),
    Case("what was rolled back may be tried again", status(S.ROLLED_BACK), BOTH, APPLY, "2"),
    Case("what this call rolled back is not tried again by it", status(S.ROLLED_BACK), BOTH, BEGAN, None),
    Case("after validation comes the backup", status(S.VALIDATED), BOTH, BEGAN, "5"),
    Case("after a crash it is validated again, under the new lock", status(S.VALIDATED), evolve(BOTH, lock="new"), FINISH, "4"),
    Case("a lock that is not held yet is another lock", status(S.BACKED_UP), evolve(BOTH, lock=None), FINISH, "4"),
    Case("after the backup comes the local change", status(S.BACKED_UP), BOTH, BEGAN, "6"),
    Case(
        "a local change that the log lacks is recorded, not repeated",
        status(S.BACKED_UP),
        Observed(local=applied(RUN), remote=EMPTY),
        FINISH,
        "0a",
    ),
    Case(
        "an open step does not count as a whole change",
        status(S.BACKED_UP),
        Observed(local=ledger(row(UP, RUN, state=OPEN)), remote=EMPTY, lock="token"),
        FINISH,
        "6",
    ),
    Case("a take-back goes on to undo after its backup", status(S.BACKED_UP, run=TAKES_BACK), BOTH, BACK, "3a"),
    Case("a run in flight is given up when asked to take back", status(S.LOCAL_APPLIED), BOTH, BACK, "3b"),
    Case("a take-back is not given up by being asked for again", status(S.VALIDATED, run=TAKES_BACK), BOTH, BACK, "5"),
    Case("the remote is started before it is changed", status(S.LOCAL_APPLIED), BOTH, BEGAN, "9a"),
    Case("a started remote is changed", status(S.LOCAL_APPLIED, remote_started=True), BOTH, BEGAN, "9b"),
    Case("an unread remote is started all the same", status(S.LOCAL_APPLIED), REMOTE_AWAY, BEGAN, "9a"),
    Case("a remote without work is passed", status(S.LOCAL_APPLIED, run=started(sides=("local",))), BOTH, BEGAN, "9b"),
    Case("a remote is skipped when asked to", status(S.LOCAL_APPLIED), BOTH, Request(wish="apply", skip_remote=True), "7"),
    Case("a remote is skipped when the run said so", status(S.LOCAL_APPLIED, run=started(skip_remote=True)), BOTH, FINISH, "7"),
    Case(
        "a started remote is not skipped any more",
        status(S.LOCAL_APPLIED, remote_started=True),
        BOTH,
        Request(wish="finish", skip_remote=True),
        "9b",
    ),
    Case(
        "what another device applied is confirmed",
        status(S.LOCAL_APPLIED),
        Observed(local=applied(RUN), remote=applied(OTHER)),
        BEGAN,
        "8",
    ),
    Case("a required remote is confirmed", status(S.LOCAL_APPLIED, run=started(remote_role="require")), BOTH, BEGAN, "8"),
    Case(
        "a remote change that the log lacks is recorded",
        status(S.LOCAL_APPLIED, remote_started=True),
        Observed(local=applied(RUN), remote=applied(RUN)),
        FINISH,
        "0b",
    ),
    Case(
        "half a remote change is gone on with",
        status(S.LOCAL_APPLIED, remote_started=True),
        Observed(local=applied(RUN), remote=ledger(row(UP, RUN, steps=2)), remote_held=True),
        FINISH,
        "9b",
    ),
    Case(
        "a remote that was started before a crash is locked before it is looked at again",
        status(S.LOCAL_APPLIED, remote_started=True),
        Observed(local=applied(RUN), remote=EMPTY),
        FINISH,
        "9a",
    ),
    Case(
        "a confirmation that the log lacks is recorded",
        status(S.LOCAL_APPLIED),
        Observed(local=applied(RUN), remote=ledger(row(UP, OTHER), row(CONFIRM, RUN, step=0, undoes=OTHER))),
        FINISH,
        "0c",
    ),
    Case("what is applied on both sides is verified", status(S.REMOTE_APPLIED), BOTH, BEGAN, "11"),
    Case(
        "a person may accept what verification has refused",
        status(S.REMOTE_APPLIED, failure=refused(Effect.VERIFY)),
        BOTH,
        Request(wish="finish", accept=True),
        "10",
    ),
    Case(
        "a person may accept what was new when it was to be accepted",
        status(S.REMOTE_APPLIED, failure=refused(Effect.ACCEPT)),
        BOTH,
        Request(wish="finish", accept=True),
        "10",
    ),
    Case(
        "what nobody has seen refused is verified, not accepted",
        status(S.REMOTE_APPLIED),
        BOTH,
        Request(wish="finish", accept=True),
        "11",
    ),
    Case(
        "what was refused before it was verified is not accepted either",
        status(S.REMOTE_APPLIED, failure=refused(Effect.APPLY_REMOTE)),
        BOTH,
        Request(wish="finish", accept=True),
        "11",
    ),
    Case(
        "the remote is undone first",
        status(S.ROLLING_BACK, rollback=ROLLBACK),
        Observed(local=applied(RUN), remote=applied(RUN)),
        FINISH,
        "13a",
    ),
    Case(
        "an open step on the remote is undone",
        status(S.ROLLING_BACK, rollback=ROLLBACK),
        Observed(local=applied(RUN), remote=ledger(row(UP, RUN, state=OPEN))),
        FINISH,
        "13a",
    ),
    Case(
        "a remote that may hold something and cannot be read is waited for",
        status(S.ROLLING_BACK, rollback=ROLLBACK),
        Observed(local=applied(RUN), remote=None),
        FINISH,
        "13a",
    ),
    Case(
        "a remote that cannot hold anything is not waited for",
        status(S.ROLLING_BACK, rollback=evolve(ROLLBACK, sides=("local",))),
        Observed(local=applied(RUN), remote=None),
        FINISH,
        "13b",
    ),
    Case(
        "a remote on which others rely stays",
        status(S.ROLLING_BACK, run=TAKES_BACK, rollback=ROLLBACK),
        Observed(local=applied(EARLIER), remote=ledger(row(UP, EARLIER), row(CONFIRM, OTHER, step=0, undoes=EARLIER))),
        FINISH,
        "13b",
    ),
    Case(
        "a remote on which others relied is undone",
        status(S.ROLLING_BACK, run=TAKES_BACK, rollback=ROLLBACK),
        Observed(
            local=applied(EARLIER),
            remote=ledger(
                row(UP, EARLIER),
                row(CONFIRM, OTHER, step=0, undoes=EARLIER),
                row(DOWN, "later", step=0, undoes=OTHER),
            ),
        ),
        FINISH,
        "13a",
    ),
    Case(
        "what another device applied is not undone",
        status(S.ROLLING_BACK, rollback=ROLLBACK),
        Observed(local=applied(RUN), remote=applied(OTHER)),
        FINISH,
        "13b",
    ),
    Case(
        "an undo of the remote that the log lacks is recorded",
        status(S.ROLLING_BACK, rollback=ROLLBACK),
        Observed(local=applied(RUN), remote=undone(RUN, RUN)),
        FINISH,
        "0d",
    ),
    Case(
        "an undo of the local side that the log lacks is recorded",
        status(S.ROLLING_BACK, run=TAKES_BACK, rollback=ROLLBACK, remote_undone=True),
        Observed(local=undone(EARLIER, RUN), remote=undone(EARLIER, RUN)),
        FINISH,
        "0e",
    ),
    Case(
        "half an undo is gone on with",
        status(S.ROLLING_BACK, rollback=ROLLBACK),
        Observed(
            local=EMPTY,
            remote=ledger(row(UP, RUN, steps=2), row(UP, RUN, step=2, steps=2), row(DOWN, RUN, step=2, undoes=RUN, steps=2)),
        ),
        FINISH,
        "13a",
    ),
    Case("when nothing stands it is compared", status(S.ROLLING_BACK, rollback=ROLLBACK), BOTH, FINISH, "15"),
    Case(
        "a difference that was found may be accepted",
        status(S.ROLLING_BACK, rollback=ROLLBACK, failure=refused(Effect.COMPARE)),
        BOTH,
        Request(wish="finish", accept=True),
        "14",
    ),
    Case(
        "a difference that nobody has seen is looked for, not accepted",
        status(S.ROLLING_BACK, rollback=ROLLBACK, failure=refused(Effect.VERIFY)),
        BOTH,
        Request(wish="finish", accept=True),
        "15",
    ),
    Case(
        "what still stands is undone, whatever a person accepts",
        status(S.ROLLING_BACK, rollback=ROLLBACK, failure=refused(Effect.COMPARE)),
        Observed(local=applied(RUN), remote=EMPTY),
        Request(wish="finish", accept=True),
        "13b",
    ),
    Case(
        "a take-back that has undone nothing may be abandoned",
        status(S.ROLLING_BACK, run=TAKES_BACK, rollback=ROLLBACK),
        Observed(local=applied(EARLIER), remote=applied(EARLIER)),
        Request(wish="finish", accept=True),
        "12",
    ),
    Case(
        "a take-back that has undone something is not abandoned",
        status(S.ROLLING_BACK, run=TAKES_BACK, rollback=ROLLBACK),
        Observed(local=applied(EARLIER), remote=undone(EARLIER, RUN)),
        Request(wish="finish", accept=True),
        "0d",
    ),
    Case(
        "a take-back whose remote cannot be read is not abandoned",
        status(S.ROLLING_BACK, run=TAKES_BACK, rollback=ROLLBACK),
        Observed(local=applied(EARLIER), remote=None),
        Request(wish="finish", accept=True),
        "13a",
    ),
    Case("the ledgers are adopted whatever the log says", status(S.LOCAL_APPLIED), BOTH, Request(wish="adopt"), "1a"),
    Case("and only once in a call", status(S.VERIFIED), BOTH, Request(wish="adopt", began=True), None),
    Case("a baseline is taken", Status(), BOTH, Request(wish="baseline"), "1b"),
    Case("a backup is restored", status(S.VERIFIED), BOTH, Request(wish="restore"), "1c"),
    Case(
        "what a restored backup changed, and the log lacks, is recorded",
        status(S.VERIFIED, last_hash="as it was"),
        Observed(local=RESTORED, remote=EMPTY),
        RECORD,
        "0f",
    ),
    Case(
        "from any state in flight",
        status(S.LOCAL_APPLIED, last_hash="as it was"),
        Observed(local=RESTORED, remote=EMPTY),
        BEGAN,
        "0f",
    ),
    Case(
        "but not where the stream has gone on since",
        status(S.VERIFIED, last_hash="as it became"),
        Observed(local=RESTORED, remote=EMPTY),
        RECORD,
        None,
    ),
    Case(
        "and not twice",
        status(S.PENDING, last_hash="as it was", adopted_runs=frozenset({"the restore"})),
        Observed(local=RESTORED, remote=EMPTY),
        RECORD,
        None,
    ),
    Case("recording goes on with nothing", status(S.VALIDATED), BOTH, RECORD, None),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_row_that_fits_is_chosen(case: Case) -> None:
    chosen = decide(case.status, case.observed, case.request)
    assert (None if chosen is None else chosen.number) == case.number


def test_every_row_of_the_table_is_chosen_in_some_named_case() -> None:
    assert {case.number for case in CASES} - {None} == {row.number for row in TABLE}


def test_every_question_of_the_table_has_an_answer() -> None:
    assert set(QUESTIONS) == set(When)


# Any situation: what can stand in a ledger, in any status

ROWS = st.sampled_from(
    [
        row(UP, RUN),
        row(UP, RUN, state=OPEN),
        row(UP, RUN, step=2, steps=2),
        row(UP, EARLIER),
        row(UP, OTHER),
        row(DOWN, RUN, undoes=RUN),
        row(DOWN, RUN, undoes=EARLIER),
        row(CONFIRM, RUN, step=0, undoes=OTHER),
        row(CONFIRM, OTHER, step=0, undoes=EARLIER),
        row(DOWN, RUN, step=0, undoes=RUN),
    ]
)
LEDGERS = st.none() | st.lists(ROWS, unique=True, max_size=4).map(lambda rows: SideLedger(rows=tuple(rows)))
OBSERVED = st.builds(Observed, local=LEDGERS, remote=LEDGERS, lock=st.sampled_from([None, "token", "new"]))
REQUESTS = st.builds(
    Request,
    wish=st.sampled_from(["apply", "back", "finish", "adopt", "baseline", "restore"]),
    skip_remote=st.booleans(),
    accept=st.booleans(),
    began=st.booleans(),
)
SIDES = st.sampled_from([("local", "remote"), ("local",), ("remote",), ()])
RUNS = st.builds(
    lambda sides, back, role, skip: started(
        sides=sides,
        direction=e.BACK if back else e.APPLY,
        undoes=(EARLIER,) if back else (),
        remote_role=role,
        skip_remote=skip,
    ),
    SIDES,
    st.booleans(),
    st.sampled_from(["apply", "require", "skip"]),
    st.booleans(),
)


@st.composite
def statuses(draw: st.DrawFn) -> Status:
    state = draw(st.sampled_from(list(State)))
    run = draw(RUNS)
    if run.direction == e.BACK and state in (S.LOCAL_APPLIED, S.REMOTE_APPLIED):
        state = S.ROLLING_BACK
    return status(
        state,
        run=run,
        lock=draw(st.sampled_from(["token", "lost"])),
        remote_started=draw(st.booleans()),
        remote_skipped=draw(st.booleans()),
        local_undone=draw(st.booleans()),
        remote_undone=draw(st.booleans()),
        failure=draw(st.none() | st.sampled_from(Effect).map(refused)),
        rollback=evolve(ROLLBACK, sides=draw(SIDES)) if state is S.ROLLING_BACK else None,
    )


def _event(name: str, run: str) -> Event:
    """The smallest event of that name."""
    match name:
        case "RunStarted":
            return started(run="a-new-run")
        case "Validated":
            return e.Validated(run=run, lock="token")
        case "Adopted" | "Baselined" | "BackupRestored":
            return getattr(e, name)(run="a-word", migration="0001_x", state="verified")  # type: ignore[no-any-return]
        case "RollbackStarted":
            return e.RollbackStarted(run=run, reason="asked for", sides=())
        case "RemoteConfirmed":
            return e.RemoteConfirmed(run=run, by=OTHER)
        case "RemoteUndone":
            return e.RemoteUndone(run=run, undoes=())
        case "LocalUndone":
            return e.LocalUndone(run=run, undoes=(), how="down")
        case _:
            return getattr(e, name)(run=run)  # type: ignore[no-any-return]


ANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@ANY
@given(statuses(), OBSERVED, REQUESTS)
def test_what_is_decided_may_always_be_written(now: Status, observed: Observed, request: Request) -> None:
    chosen = decide(now, observed, request)
    if chosen is None:
        return
    run = "a-new-run" if chosen.events[0] == "RunStarted" else RUN
    after = authorise(now, [_event(name, run) for name in chosen.events])
    assert chosen.destination is None or after.state is chosen.destination


@ANY
@given(statuses(), OBSERVED, REQUESTS)
def test_while_a_run_is_in_flight_there_is_always_something_to_do(now: Status, observed: Observed, request: Request) -> None:
    if now.in_flight:
        assert decide(now, observed, request) is not None


@ANY
@given(statuses(), OBSERVED, REQUESTS)
def test_deciding_twice_gives_the_same_and_the_first_row_that_fits(now: Status, observed: Observed, request: Request) -> None:
    fitting = [row for row in TABLE if now.state in row.sources and QUESTIONS[row.when](now, observed, request)]
    assert decide(now, observed, request) == decide(now, observed, request) == next(iter(fitting), None)


@ANY
@given(statuses(), OBSERVED, REQUESTS)
def test_nothing_of_others_is_ever_undone_and_nothing_of_ours_forgotten(
    now: Status, observed: Observed, request: Request
) -> None:
    chosen = decide(now, observed, request)
    runs = now.undone_runs()
    if chosen is not None and chosen.effect is Effect.UNDO_REMOTE and observed.remote is not None:
        assert observed.remote.holds(runs)
        assert not observed.remote.relied_on_by_others(runs)
    if chosen is not None and chosen.effect is Effect.UNDO_LOCAL and observed.local is not None:
        assert observed.local.holds(runs)
    if chosen is not None and chosen.effect is Effect.COMPARE:
        assert observed.local is None or not observed.local.holds(runs)
        assert observed.remote is None or not observed.remote.holds(runs) or observed.remote.relied_on_by_others(runs)


@ANY
@given(statuses(), OBSERVED, REQUESTS)
def test_once_the_remote_was_started_it_is_never_skipped(now: Status, observed: Observed, request: Request) -> None:
    chosen = decide(now, observed, request)
    assert not (now.remote_started and chosen is not None and chosen.effect is Effect.SKIP_REMOTE)


@ANY
@given(statuses(), OBSERVED, REQUESTS)
def test_nothing_is_accepted_unasked_unseen_or_while_something_of_ours_is_half_undone(
    now: Status, observed: Observed, request: Request
) -> None:
    chosen = decide(now, observed, request)
    if chosen is None or chosen.effect is not Effect.ACCEPT:
        return
    assert request.accept
    if chosen.number != "12":
        assert now.failure is not None
        assert now.failure.effect in (Effect.VERIFY, Effect.COMPARE, Effect.ACCEPT)
    if chosen.number == "14":
        assert observed.local is None or not observed.local.holds(now.undone_runs())
    if chosen.number == "12":
        assert (now.local_undone, now.remote_undone) == (False, False)


@ANY
@given(statuses(), OBSERVED)
def test_the_sides_of_a_rollback_are_those_that_hold_something_or_may(now: Status, observed: Observed) -> None:
    sides, runs = sides_of_rollback(now, observed), now.undone_runs()
    for side, read in (("local", observed.local), ("remote", observed.remote)):
        if not has_work(now, side):
            assert side not in sides
        elif read is not None:
            assert (side in sides) == read.holds(runs)
    if observed.remote is None and has_work(now, "remote") and now.remote_started:
        assert "remote" in sides


# A small world that does what is decided: whatever is lost between effect and event, it comes to an end


@frozen(kw_only=True)
class _Both:
    local: SideLedger = EMPTY
    remote: SideLedger = EMPTY


def _done(effect: Effect, now: Status, world: _Both) -> _Both:
    """The ledgers after the effect."""
    run, undone_runs = RUN if now.run is None else now.run.run, now.undone_runs()
    match effect:
        case Effect.APPLY_LOCAL if has_work(now, "local") and world.local.applied_by() is None:
            return evolve(world, local=SideLedger(rows=(*world.local.rows, row(UP, run))))
        case Effect.APPLY_REMOTE if has_work(now, "remote"):
            return evolve(world, remote=SideLedger(rows=(*world.remote.rows, row(UP, run))))
        case Effect.CONFIRM_REMOTE:
            by = world.remote.applied_by()
            return evolve(
                world, remote=SideLedger(rows=(*world.remote.rows, row(CONFIRM, run, step=0, undoes=by.run if by else "")))
            )
        case Effect.UNDO_REMOTE:
            standing = (*world.remote.standing(undone_runs), *world.remote.confirming(undone_runs))
            downs = [row(DOWN, run, step=each.step, undoes=each.run) for each in standing]
            return evolve(world, remote=SideLedger(rows=(*world.remote.rows, *downs)))
        case Effect.UNDO_LOCAL:
            downs = [row(DOWN, run, step=each.step, undoes=each.run) for each in world.local.standing(undone_runs)]
            return evolve(world, local=SideLedger(rows=(*world.local.rows, *downs)))
        case _:
            return world


def _driven(world: _Both, request: Request, lost: frozenset[int]) -> Iterator[Status]:
    """Each status on the way, where the events of the effects with these numbers are lost in a crash."""
    now, lock, held = Status(), "lock 0", False
    for step in range(40):
        observed = Observed(local=world.local, remote=world.remote, lock=lock, remote_held=held)
        chosen = decide(now, observed, request)
        if chosen is None:
            return
        begins = chosen.events[0] == "RunStarted"
        run = RUN if now.run is None or begins else now.run.run
        world = _done(chosen.effect, now, world)
        held = held or chosen.effect is Effect.START_REMOTE
        if step in lost:
            lock, held = f"lock {step}", False
            continue
        events = [started() if name == "RunStarted" else _event(name, run) for name in chosen.events]
        events = [evolve(each, lock=lock) if isinstance(each, e.Validated) else each for each in events]
        now = authorise(now, events)
        request = evolve(request, began=request.began or begins)
        yield now
    raise AssertionError(f"no end was reached: {now.state}")


@pytest.mark.parametrize("remote", [EMPTY, applied(OTHER)], ids=["an empty remote", "a remote that another device changed"])
def test_it_comes_to_an_end_whatever_events_are_lost(remote: SideLedger) -> None:
    for lost in itertools.chain.from_iterable(itertools.combinations(range(8), number) for number in range(4)):
        *_, last = _driven(_Both(remote=remote), APPLY, frozenset(lost))
        assert last.state is S.VERIFIED, lost


def test_a_status_that_no_row_leads_to_cannot_be_written() -> None:
    with pytest.raises(IllegalHistory):
        authorise(Status(), [e.LocalApplied(run=RUN)])
