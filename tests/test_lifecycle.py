"""The lifecycle: the table, the state machine built from it, and the fold that reads it backwards, say the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from strategies import Append, histories, minimal_event, shortest_histories

from twinstep.events import types as e
from twinstep.events.chain import GENESIS
from twinstep.events.codec import EVENT_TYPES
from twinstep.events.errors import IllegalHistory
from twinstep.events.fold import Status, authorise, evolve, fold
from twinstep.events.lifecycle import MOVES, NOTES, PAIR_EVENTS, RESTING, TABLE, Row, State, machine
from twinstep.events.types import Recorded
from twinstep.stores.envelope import enveloped

RUN = e.RunStarted(run="r", migration="0001_first", direction=e.APPLY, sides=("local", "remote"))
STATES_AND_EVENTS = [(state, name) for state in State for name in EVENT_TYPES]


def status_in(state: State, *, lock: str | None = None) -> Status:
    return Status(state=state, run=RUN, lock=lock)


def machine_destinations(state: State, name: str) -> set[str]:
    """Where the `transitions` machine leads from a state by an event, by any of the event's triggers."""
    triggers = [name, *(f"{name} to {target}" for target in State)]
    return {str(found.dest) for trigger in triggers for found in machine().get_transitions(trigger, str(state))}


def fold_destinations(state: State, name: str) -> set[str]:
    """Where the fold leads from a state by an event, whatever the event says about it."""
    found = set()
    for target in State:
        status = Status(state=state, run=RUN, before=target)
        for stands in ({}, {"local": "other"}):
            try:
                found.add(str(evolve(status, minimal_event(name, run="r", state=str(target), stands=stands)).state))
            except IllegalHistory:
                continue
    return found


@pytest.mark.parametrize(("state", "name"), STATES_AND_EVENTS)
def test_the_fold_and_the_state_machine_allow_the_same(state: State, name: str) -> None:
    by_fold, by_machine = fold_destinations(state, name), machine_destinations(state, name)
    assert bool(by_fold) == bool(by_machine) == ((state, name) in MOVES)
    # RolledBack leads to fewer states than its triggers allow: the fold knows where the run began.
    assert by_fold <= by_machine
    if MOVES.get((state, name)) is not None:
        assert by_fold == by_machine == {str(MOVES[state, name])}


def test_no_event_is_missing_from_the_lifecycle() -> None:
    of_migrations = {name for _, name in MOVES}
    assert of_migrations | PAIR_EVENTS == set(EVENT_TYPES)
    assert not of_migrations & PAIR_EVENTS
    assert of_migrations >= NOTES


def test_every_row_is_reached_from_pending_from_each_of_its_sources() -> None:
    reached = {(row.number, source) for row, source, _ in shortest_histories()}
    assert reached == {(row.number, source) for row in TABLE for source in row.sources}


@pytest.mark.parametrize(
    ("row", "source", "appends"), [pytest.param(*case, id=f"{case[0].number}-{case[1]}") for case in shortest_histories()]
)
def test_a_row_leads_where_it_says(row: Row, source: State, appends: list[Append]) -> None:
    status = Status()
    for events in appends[:-1]:
        status = authorise(status, events)
    assert status.state is source
    for event in appends[-1][:-1]:
        status = authorise(status, [event])
        assert status.state is source
    status = authorise(status, appends[-1][-1:])
    assert status.state is row.destination if row.destination is not None else status.state in RESTING


def test_row_numbers_are_unique_and_final_states_rest() -> None:
    numbers = [row.number for row in TABLE]
    assert len(numbers) == len(set(numbers))
    from_rest = {event for (state, event), to in MOVES.items() if state in RESTING and to not in (None, state)}
    assert from_rest == {"Validated"}


def recorded(appends: list[Append], stream: str = "pair/0001_first") -> list[Recorded]:
    records: list[Recorded] = []
    for events in appends:
        head = records[-1] if records else None
        records += enveloped(
            stream,
            events,
            version=head.version if head else 0,
            previous_hash=head.hash if head else GENESIS,
            position=len(records),
            recorded_at="2026-01-01T00:00:00.000000+00:00",
        )
    return records


@settings(max_examples=40, deadline=None)
@given(histories())
def test_folding_piece_by_piece_gives_the_same_as_folding_at_once(appends: list[Append]) -> None:
    records = recorded(appends)
    whole = fold(records)
    status = Status()
    for record in records:
        status = fold([record], status)
    assert status == whole
    assert whole.version == len(records)
    assert whole.last_hash == records[-1].hash


@settings(max_examples=40, deadline=None)
@given(histories())
def test_what_is_legal_may_be_written(appends: list[Append]) -> None:
    status = Status()
    for events in appends:
        status = authorise(status, events)
    assert status.state is fold(recorded(appends)).state


@settings(max_examples=40, deadline=None)
@given(histories(max_appends=6))
def test_a_missing_event_in_the_middle_is_refused(appends: list[Append]) -> None:
    records = recorded(appends)
    for index in range(len(records) - 1):
        with pytest.raises(IllegalHistory) as caught:
            fold(records[:index] + records[index + 1 :])
        assert caught.value.code == "T505"


RUN_EVENTS = [
    (state, name)
    for (state, name) in MOVES
    if name not in ("RunStarted", "ValidationFailed", "Adopted", "Baselined", "BackupRestored")
]


@pytest.mark.parametrize(("state", "name"), RUN_EVENTS)
def test_an_event_of_another_run_is_refused(state: State, name: str) -> None:
    assert evolve(status_in(state), minimal_event(name, run="r")).state in State
    with pytest.raises(IllegalHistory, match="which is not in flight"):
        evolve(status_in(state), minimal_event(name, run="another"))
    with pytest.raises(IllegalHistory, match="which is not in flight"):
        evolve(Status(state=state), minimal_event(name, run="r"))


@pytest.mark.parametrize("state", RESTING)
def test_a_run_that_has_ended_is_not_validated_again(state: State) -> None:
    with pytest.raises(IllegalHistory, match="no run has been started"):
        evolve(status_in(state, lock="held then"), e.Validated(run="r", lock="held now"))


@pytest.mark.parametrize("told", ["local_applied", "rolling_back", "nonsense"])
def test_a_settled_migration_rests(told: str) -> None:
    with pytest.raises(IllegalHistory, match=f"it cannot lead to {told}"):
        evolve(Status(), e.Adopted(run="r", migration="0001_first", state=told))


def test_an_illegal_history_names_the_event_the_state_and_the_stream() -> None:
    records = recorded([(RUN, e.Validated(run="r", lock="l")), (e.Verified(run="r"),)])
    with pytest.raises(IllegalHistory) as caught:
        fold(records)
    assert caught.value.code == "T505"
    assert caught.value.state == "validated"
    assert caught.value.details["event"] == "Verified"
    assert caught.value.details["stream"] == "pair/0001_first"
    assert caught.value.details["version"] == 3
