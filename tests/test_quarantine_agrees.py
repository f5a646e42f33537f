"""What is set aside goes back alike: the quarantine of a database in memory agrees with that of a file, call by call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from targets import ID, Crash, MemoryPlace, SQLitePlace, back, crash_at, order, shape, work

from twinstep.events.errors import TwinstepError
from twinstep.migrations.definition import Step, StepFunction
from twinstep.migrations.memory_quarantine import set_aside, take_in
from twinstep.migrations.memory_target import Contents
from twinstep.migrations.quarantined import Quarantined
from twinstep.migrations.rebuild import ForeignKey, rebuild_table

ALLOWED = (2, 12)
KEY = ForeignKey(columns="n", parent="allowed", parent_columns="n")
SETTING_ASIDE = st.tuples(
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from(["apply", "undo", "put back", "write"]),
            st.sampled_from([None, "before-commit", "after-commit"]),
        ),
        max_size=7,
    ),
)
COMMITS = {"apply": "group", "undo": "undo", "put back": "quarantine", "write": ""}


def _with_allowed_numbers(place: MemoryPlace | SQLitePlace) -> tuple[Step, Step, Callable[[], None]]:
    """A step that allows no other numbers and sets their items aside, its down, and a host that takes the place of one, and
    allows all that lie aside."""
    if isinstance(place, SQLitePlace):
        place.execute("DELETE FROM counted")  # its references would follow the items
        place.execute("CREATE TABLE allowed (n INTEGER PRIMARY KEY)")
        place.execute(f"INSERT INTO allowed VALUES ({'), ('.join(map(str, ALLOWED))})")

        def host() -> None:
            place.execute("INSERT OR IGNORE INTO item VALUES ('a', 12)")

        return (
            lambda connection: rebuild_table(connection, "item", add_foreign_keys=[KEY]),
            lambda connection: rebuild_table(connection, "item", drop_foreign_keys=[KEY]),
            host,
        )
    place.database.contents.tables["allowed"] = {str(number): number for number in ALLOWED}

    def aside(contents: Contents) -> None:
        allowed = contents.tables["allowed"].values()
        set_aside(contents, "item", [key for key, n in contents.tables["item"].items() if n not in allowed], "not allowed")

    return (
        cast("StepFunction", aside),
        cast("StepFunction", lambda contents: take_in(contents, "item")),
        lambda: place.database.contents.tables["item"].setdefault("a", 12) and None,
    )


def _allow(place: MemoryPlace | SQLitePlace, numbers: list[int]) -> None:
    for number in numbers:
        if isinstance(place, SQLitePlace):
            place.execute(f"INSERT OR IGNORE INTO allowed VALUES ({number})")
        else:
            place.database.contents.tables["allowed"][str(number)] = number


def _played(place: MemoryPlace | SQLitePlace, first: bool, calls: list[tuple[str, str | None]]) -> tuple[object, ...]:
    """What comes of the calls: how each ended and what it told, the items, what lies aside, and the ledger's shape."""
    aside, take, host = _with_allowed_numbers(place)
    up, down = ((aside, place.add(10)), (place.add(-10), take)) if first else ((place.add(10), aside), (take, place.add(-10)))
    done, ends, run = work(place, up, down), [], 0
    for number, (call, crossing) in enumerate(calls):
        target = place.target(probe=crash_at(f"local:{COMMITS[call]}:{crossing}") if crossing else lambda crossing: None)
        ledger = target.ledger(ID)
        lying = [each for each in target.quarantined() if each.put_back_at is None]
        try:
            if call == "apply":
                run += ledger.applied_by() is None
                ends.append(target.apply(order(done, f"run-{run}")).rows_quarantined)
            elif call == "undo":
                ends.append(len(target.undo(back(done, f"run-{run}", run=f"back-{number}")).findings))
            elif call == "put back":
                _allow(place, [_number(each) for each in lying])
                put = target.put_back([each.id for each in lying], f"restore-{number}")
                ends.append((sorted(_named(each) for each in put.done), len(put.refused)))
            else:
                host()
        except Crash as crash:
            ends.append(str(crash))
        except TwinstepError as error:
            ends.append(error.code)
        target.close()
        place.died()
    target = place.target()
    found = sorted((_named(each), _number(each), each.run, each.put_back_by or "") for each in target.quarantined())
    return ends, place.items(), found, shape(target)


def _named(row: Quarantined) -> str:
    return str(next(iter(json.loads(row.row_key).values())))


def _number(row: Quarantined) -> int:
    kept = json.loads(row.content)
    return int(kept["row"] if "row" in kept else kept["n"])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(drawn=(False, [("apply", None), ("undo", "before-commit"), ("undo", None)]))
@example(drawn=(False, [("apply", None), ("put back", "after-commit"), ("undo", None)]))
@example(drawn=(True, [("apply", "after-commit"), ("undo", None), ("apply", None), ("write", None), ("undo", None)]))
@example(drawn=(False, [("apply", None), ("write", None), ("put back", None), ("undo", None)]))
@given(drawn=SETTING_ASIDE)
def test_sqlite_and_memory_agree_on_what_is_set_aside_and_goes_back(
    drawn: tuple[bool, list[tuple[str, str | None]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    real, memory = SQLitePlace(tmp_path_factory.mktemp("aside"), "wal"), MemoryPlace("local")
    assert _played(real, *drawn) == _played(memory, *drawn)
    real.close()
