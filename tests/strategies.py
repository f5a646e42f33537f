"""The strategies: what the tests draw from, in one place.

`events_of(kind)`       any event of one type, with anything in its fields that JSON can hold, half characters included
`any_events()`          any event of any type
`histories()`           legal histories of one migration: a list of appends, each the events of one commit, drawn by walking
                        the lifecycle table: any row whose source is the state at hand, taken or refused, notes in between
`logs()`                whole logs: the appends of several migrations on two pairs, interleaved, and the pairs' own events

A history is legal as far as the lifecycle goes. What `decide` would do with real databases is narrower: a drawn run may be
told to skip a remote that it has no work for. What holds for all of these holds for those that happen.

`shortest_histories()` is not drawn but made: for each row of the table and each of its sources, a shortest history that
ends with it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import TypeAlias

from attrs import NOTHING, fields
from hypothesis import strategies as st

from twinstep.events import types as e
from twinstep.events.codec import EVENT_TYPES
from twinstep.events.fold import Status, evolve
from twinstep.events.lifecycle import NOTES, PAIR_EVENTS, REFUSAL, RESTING, TABLE, Row, State

Append: TypeAlias = "tuple[e.Event, ...]"

SIDES = st.sampled_from([(), ("local",), ("remote",), ("local", "remote")])
SQLITE_INTEGERS = st.integers(min_value=0, max_value=2**63 - 1)

# Half characters one by one; a first half followed by a second is the same JSON as the whole character.
WHOLE_IN_TWO_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def texts(max_size: int = 8) -> st.SearchStrategy[str]:
    """Any text, with NUL, half characters and characters beyond the basic plane."""
    alphabet = st.one_of(st.characters(), st.characters(categories=["Cs"]), st.sampled_from("\0'\"\\\n\u2028%{}"))
    return st.text(alphabet, max_size=max_size).filter(lambda text: not WHOLE_IN_TWO_HALVES.search(text))


def json_values() -> st.SearchStrategy[e.Json]:
    """Whatever JSON can hold; a list is a list, as JSON gives it back."""
    floats = st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), floats, texts())
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3), max_leaves=5
    )


def json_mappings() -> st.SearchStrategy[dict[str, e.Json]]:
    """A JSON object."""
    return st.dictionaries(texts(), json_values(), max_size=3)


def backups() -> st.SearchStrategy[dict[str, e.Json]]:
    """A backup as BackedUp and BackupCreated describe it: an id, and what else is known."""
    known: dict[str, st.SearchStrategy[e.Json]] = {
        "bytes": SQLITE_INTEGERS,
        "verified": st.booleans(),
        "sha256": st.text("0123456789abcdef", max_size=4),
        "path": texts(),
    }
    return st.fixed_dictionaries({"id": st.uuids().map(str)}, optional=known)


# By the annotation of the field. A new kind of field is missing here, and every test that draws events says so.
BY_ANNOTATION: dict[str, Callable[[], st.SearchStrategy[object]]] = {
    "str": texts,
    "str | None": lambda: st.none() | texts(),
    "bool": st.booleans,
    "bool | None": lambda: st.none() | st.booleans(),
    "int": lambda: SQLITE_INTEGERS,
    "float": lambda: st.floats(min_value=0, max_value=1e6, allow_nan=False),
    "tuple[str, ...]": lambda: st.lists(texts(), max_size=3).map(tuple),
    "tuple[Mapping[str, Json], ...]": lambda: st.lists(json_mappings(), max_size=2).map(tuple),
    "Mapping[str, str]": lambda: st.dictionaries(texts(), texts(), max_size=2),
    "Mapping[str, Json]": json_mappings,
    "Mapping[str, Json] | None": lambda: st.none() | json_mappings(),
}

# Where not anything goes: what the fold and the read tables look into.
BY_NAME: dict[str, Callable[[], st.SearchStrategy[object]]] = {
    "run": lambda: st.uuids().map(str),
    "direction": lambda: st.sampled_from([e.APPLY, e.BACK]),
    "sides": lambda: SIDES,
    "how": lambda: st.sampled_from(["down", "restore"]),
    "side": lambda: st.sampled_from(["local", "remote"]),
    "state": lambda: st.sampled_from([str(state) for state in RESTING]),
    "stands": lambda: st.dictionaries(st.sampled_from(["local", "remote"]), st.uuids().map(str), max_size=2),
}


def events_of(kind: type[e.Event], **fixed: object) -> st.SearchStrategy[e.Event]:
    """Any event of one type; `fixed` are fields that have one value."""
    drawn = {
        attribute.name: _field(kind, attribute.name, str(attribute.type))
        for attribute in fields(kind)
        if attribute.name not in fixed
    }
    return st.builds(kind, **drawn, **{name: st.just(value) for name, value in fixed.items()})


def any_events() -> st.SearchStrategy[e.Event]:
    """Any event of any type."""
    return st.sampled_from(sorted(EVENT_TYPES)).flatmap(lambda name: events_of(EVENT_TYPES[name]))


def _field(kind: type[e.Event], name: str, annotation: str) -> st.SearchStrategy[object]:
    if name in ("backup", "replaced") and annotation.startswith("Mapping"):
        return st.none() | backups() if annotation.endswith("None") else backups()
    if name == "how" and kind is e.ConflictResolved:
        return texts()
    return BY_NAME.get(name, BY_ANNOTATION[annotation])()


# Histories are long: their events say little, but what they say is what the read tables are made of.
LITTLE: dict[str, st.SearchStrategy[object]] = {
    "message": st.sampled_from(["refused", "no space: \udcff\0", "Größe 🗝"]),
    "code": st.sampled_from(["T301", "T302"]),
    "seconds": st.sampled_from([0.0, 0.25, 0.0004, 1e-7]),
    "nothing": st.booleans(),
    "changes": st.sampled_from([{}, {"indexes_added": 11}]),
    "sides": SIDES,
    "direction": st.sampled_from([e.APPLY, e.APPLY, e.BACK]),
    "how": st.sampled_from(["down", "restore"]),
    "side": st.sampled_from(["local", "remote"]),
    "state": st.sampled_from(["pending", "verified", "rolled_back"]),
    "bytes": SQLITE_INTEGERS,
    "kind": st.sampled_from(["drift", "edited"]),
}


@st.composite
def little_events(draw: st.DrawFn, kind: type[e.Event], **fixed: object) -> e.Event:
    """An event as a run would write it, most of its optional fields left out."""
    values = dict(fixed)
    for attribute in fields(kind):
        if attribute.name in values:
            continue
        if attribute.name == "backup" and str(attribute.type).startswith("Mapping"):
            values["backup"] = draw(_field(kind, "backup", str(attribute.type)))
        elif attribute.name in LITTLE:
            values[attribute.name] = draw(LITTLE[attribute.name])
        elif attribute.default is NOTHING:
            values[attribute.name] = minimal_value(str(attribute.type))
    return kind(**values)


@st.composite
def histories(draw: st.DrawFn, *, migration: str = "0001_first", max_appends: int = 12) -> list[Append]:
    """The appends of one migration's stream, in order; `twinstep.events.fold` allows them."""
    status, appends = Status(), list[Append]()
    for _ in range(draw(st.integers(min_value=1, max_value=max_appends))):
        events = draw(_appends(status, migration))
        for event in events:
            status = evolve(status, event)
        appends.append(events)
    return appends


@st.composite
def _appends(draw: st.DrawFn, status: Status, migration: str) -> Append:
    if draw(st.integers(min_value=0, max_value=5)) == 0:
        return (draw(_notes(status, migration)),)
    row = draw(st.sampled_from([row for row in TABLE if status.state in row.sources]))
    names = REFUSAL if row.refusable and draw(st.integers(min_value=0, max_value=3)) == 0 else row.events
    run = status.run.run if status.run is not None and status.in_flight else draw(st.uuids().map(str))
    return tuple(draw(_runs_event(name, run, status, migration)) for name in names)


@st.composite
def _notes(draw: st.DrawFn, status: Status, migration: str) -> e.Event:
    # A note of a run needs one to belong to.
    names = sorted(NOTES) if status.run is not None else ["ValidationFailed"]
    run = status.run.run if status.run is not None else draw(st.uuids().map(str))
    return draw(_runs_event(draw(st.sampled_from(names)), run, status, migration))


@st.composite
def _runs_event(draw: st.DrawFn, name: str, run: str, status: Status, migration: str) -> e.Event:
    kind = EVENT_TYPES[name]
    fixed: dict[str, object] = {"run": run}
    known = {attribute.name for attribute in fields(kind)}
    if "migration" in known:
        fixed["migration"] = migration
    if "by" in known:
        fixed["by"] = draw(st.sampled_from([run, "another run"]))
    if "stands" in known:
        fixed["stands"] = draw(st.sampled_from([{}, {"local": run}, {"remote": "another run"}]))
    if "local" in known and issubclass(kind, e.Settled):
        fixed["local"], fixed["remote"] = draw(st.sampled_from([None, run])), draw(st.sampled_from([None, run]))
    return draw(little_events(kind, **fixed))


@st.composite
def logs(draw: st.DrawFn, *, max_appends: int = 6) -> list[tuple[str, Append]]:
    """(stream, events) of every append of a log: migrations on two pairs, interleaved, and the pairs' own events."""
    waiting: dict[str, deque[Append]] = {}
    for pair in ("pair1", "pair2"):
        for migration in draw(st.sampled_from([(), ("0001_first",), ("0001_first", "0002_second")])):
            appends = draw(histories(migration=migration, max_appends=max_appends))
            waiting[f"{pair}/{migration}"] = deque(appends)
        own = st.sampled_from(sorted(PAIR_EVENTS)).flatmap(_pair_events)
        waiting[pair] = deque((event,) for event in draw(st.lists(own, max_size=3)))
    log = []
    while waiting := {stream: appends for stream, appends in waiting.items() if appends}:
        stream = draw(st.sampled_from(sorted(waiting)))
        log.append((stream, waiting[stream].popleft()))
    return log


@st.composite
def _pair_events(draw: st.DrawFn, name: str) -> e.Event:
    kind = EVENT_TYPES[name]
    known = {attribute.name: str(attribute.type) for attribute in fields(kind)}
    fixed: dict[str, object] = {"migration": "0001_first"} if "migration" in known else {}
    if "backup" in known:
        # Few of them, so that one event tells of the backup that another one made.
        backup = draw(st.sampled_from(["b1", "b2"]))
        fixed["backup"] = backup if known["backup"] == "str" else {"id": backup, "bytes": 1}
    return draw(little_events(kind, **fixed))


def minimal_value(annotation: str) -> object:
    """A value for a field that must have one."""
    return {"str": "x", "int": 1, "tuple[str, ...]": ("local",), "Mapping[str, Json]": {"id": "x"}}[annotation]


def minimal_event(name: str, **fixed: object) -> e.Event:
    """The event of that type that says least; of `fixed`, the fields that it has."""
    kind = EVENT_TYPES[name]
    known = {attribute.name: attribute for attribute in fields(kind)}
    values = {name: value for name, value in fixed.items() if name in known}
    for attribute in known.values():
        if attribute.name not in values and attribute.default is NOTHING:
            values[attribute.name] = minimal_value(str(attribute.type))
    return kind(**values)


def shortest_histories() -> Iterator[tuple[Row, State, list[Append]]]:
    """(row, source, appends) for each row of the table and each of its sources: a shortest history that ends with that row."""
    wanted = {(row.number, source) for row in TABLE for source in row.sources}
    queue: deque[tuple[Status, list[Append]]] = deque([(Status(), [])])
    seen: set[State] = {State.PENDING}
    runs = count(1)
    while queue:
        status, appends = queue.popleft()
        for row in (row for row in TABLE if status.state in row.sources):
            run = status.run.run if status.run is not None and status.in_flight else f"run {next(runs)}"
            # An event that says itself where it leads is drawn towards each resting state.
            for state in RESTING if row.destination is None else (row.destination,):
                events = tuple(
                    minimal_event(name, run=run, state=str(state), direction=e.APPLY, seconds=0.0) for name in row.events
                )
                after = status
                for event in events:
                    after = evolve(after, event)
                if (row.number, status.state) in wanted:
                    wanted.discard((row.number, status.state))
                    yield row, status.state, [*appends, events]
                if after.state not in seen:
                    seen.add(after.state)
                    queue.append((after, [*appends, events]))
