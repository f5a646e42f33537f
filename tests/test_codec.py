"""Events to text and back: without loss, across versions of the program, and never with a guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import evolve, fields, frozen
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_events, events_of

from twinstep.events import types as e
from twinstep.events.chain import GENESIS, check_stream
from twinstep.events.codec import EVENT_TYPES, UPCASTERS, decode, encode
from twinstep.events.errors import LogDamaged
from twinstep.events.types import Event, Recorded
from twinstep.stores.envelope import enveloped

GOLDEN = Path(__file__).parent / "data" / "events_v1.jsonl"


def recorded(event: Event) -> Recorded:
    (record,) = enveloped(
        "pair/0001_first", [event], version=0, previous_hash=GENESIS, position=0, recorded_at="2026-01-01T00:00:00Z"
    )
    return record


def golden_records() -> list[Recorded]:
    return [Recorded(**json.loads(line)) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_comes_back_as_it_was(name: str) -> None:
    @given(events_of(EVENT_TYPES[name]))
    def comes_back(event: Event) -> None:
        assert decode(recorded(event)) == event

    comes_back()


@given(any_events())
def test_equal_events_are_equal_texts_that_any_database_can_keep(event: Event) -> None:
    text = encode(event)
    assert encode(decode(recorded(event))) == text
    assert text.encode().decode() == text
    assert "\0" not in text


def test_half_characters_are_kept_and_whole_ones_stay_readable() -> None:
    event = e.ValidationFailed(run="r", code="T1", message="caf\udce9, Größe, 🗝")
    said = '"message":"caf\\udce9, Größe, 🗝"'
    assert encode(event) == '{"checksums":{},"code":"T1","direction":"apply",' + said + ',"next_step":"","run":"r"}'
    assert decode(recorded(event)) == event


@given(st.sampled_from([float("nan"), float("inf"), float("-inf")]))
def test_what_is_no_number_is_not_written(seconds: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(e.Verified(run="r", seconds=seconds))


def test_the_golden_file_holds_every_type_in_every_version() -> None:
    written = {(record.type, record.schema_version) for record in golden_records()}
    assert written == {(name, version) for name, kind in EVENT_TYPES.items() for version in range(1, kind.SCHEMA_VERSION + 1)}


@pytest.mark.parametrize("record", golden_records(), ids=lambda record: f"{record.type}-{record.schema_version}")
def test_what_was_written_once_is_read_for_ever(record: Recorded) -> None:
    assert check_stream([record]) == (1, record.hash)
    event = decode(record)
    assert type(event) is EVENT_TYPES[record.type]
    written = json.loads(record.payload)
    # The example says more than the defaults, so that a field that were dropped on reading would be noticed.
    if record.schema_version == type(event).SCHEMA_VERSION:
        assert {name: value for name, value in json.loads(encode(event)).items() if name in written} == written
        for attribute in fields(type(event)):
            if attribute.name in written:
                assert getattr(event, attribute.name) != attribute.default


def test_a_type_that_a_newer_program_wrote_is_refused() -> None:
    record = evolve(recorded(e.RemoteStarted(run="r")), type="RemotePaused")
    with pytest.raises(LogDamaged, match="A newer Twinstep wrote event 1 of stream pair/0001_first") as caught:
        decode(record)
    assert caught.value.code == "T502"


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_a_schema_version_that_a_newer_program_wrote_is_refused(name: str) -> None:
    kind = EVENT_TYPES[name]
    record = evolve(recorded(e.RemoteStarted(run="r")), type=name, schema_version=kind.SCHEMA_VERSION + 1)
    with pytest.raises(LogDamaged) as caught:
        decode(record)
    assert caught.value.code == "T502"


@pytest.mark.parametrize(
    "payload",
    ["", "{", "[]", "5", "null", '{"lock":"l"}', '{"run":"r","lock":"l","surplus":1}', '{"run":"r","lock":"l","queries":5}'],
)
def test_a_payload_that_is_no_such_event_is_refused(payload: str) -> None:
    record = evolve(recorded(e.Validated(run="r", lock="l")), payload=payload)
    with pytest.raises(LogDamaged, match="is no Validated") as caught:
        decode(record)
    assert caught.value.code == "T503"


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_never_was_is_refused(version: int) -> None:
    with pytest.raises(LogDamaged) as caught:
        decode(evolve(recorded(e.RemoteStarted(run="r")), schema_version=version))
    assert caught.value.code == "T503"


@frozen(kw_only=True)
class Painted(Event):
    """Made up: version 1 had a `colour` by name, version 2 three numbers, version 3 also how many coats."""

    SCHEMA_VERSION: ClassVar[int] = 3
    red: int
    coats: int = 1


MADE_UP = {
    ("Painted", 1): lambda payload: {"rgb": {"crimson": [220, 20, 60]}[payload["colour"]]},
    ("Painted", 2): lambda payload: {"red": payload["rgb"][0], "coats": 2},
}


@pytest.mark.parametrize(
    ("version", "payload", "coats"),
    [(1, '{"colour":"crimson"}', 2), (2, '{"rgb":[220,20,60]}', 2), (3, '{"red":220,"coats":5}', 5), (3, '{"red":220}', 1)],
)
def test_an_older_event_is_lifted_from_version_to_version(version: int, payload: str, coats: int) -> None:
    record = evolve(recorded(e.RemoteStarted(run="r")), type="Painted", schema_version=version, payload=payload)
    event = decode(record, event_types={"Painted": Painted}, upcasters=MADE_UP)
    assert event == Painted(red=220, coats=coats)


def test_an_older_event_that_cannot_be_lifted_is_refused() -> None:
    record = evolve(recorded(e.RemoteStarted(run="r")), type="Painted", schema_version=1, payload='{"colour":"ultramarine"}')
    with pytest.raises(LogDamaged) as caught:
        decode(record, event_types={"Painted": Painted}, upcasters=MADE_UP)
    assert caught.value.code == "T503"


def test_there_is_an_upcaster_for_every_version_that_was_ever_written() -> None:
    assert set(UPCASTERS) == {
        (name, version) for name, kind in EVENT_TYPES.items() for version in range(1, kind.SCHEMA_VERSION)
    }
