"""What events and changes are called in words."""

from __future__ import annotations

import pytest

from twinstep.engine.cli.sentences import _sentence, changes_text
from twinstep.events.types import Json, RollbackStarted


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "no change in the catalogue"),
        ({"objects_changed": ["table notes"]}, "1 table changed"),
        (
            {"indexes_added": 1, "objects_added": ["index notes_paid"], "objects_changed": ["table notes"]},
            "1 index added, 1 table changed",
        ),
        (
            {"tables_rebuilt": 1, "foreign_keys_added": 1, "objects_changed": ["table notes"]},
            "1 table rebuilt, 1 foreign key added",
        ),
        (
            {"tables_rebuilt": 1, "foreign_keys_added": 1, "objects_changed": ["table notes", "table tags"]},
            "1 table rebuilt, 1 foreign key added, 1 table changed",
        ),
        ({"tables_rebuilt": 3, "objects_changed": []}, "3 tables rebuilt"),
        ({"objects_added": ["constraint public.notes.known"]}, "1 constraint added"),
        ({"foreign_keys_added": 1, "objects_added": ["constraint public.notes.key"]}, "1 foreign key added"),
        ({"foreign_keys_added": -1, "objects_dropped": ["constraint public.notes.key"]}, "1 foreign key dropped"),
        (
            {"tables_added": 1, "objects_added": ["constraint public.notes.notes_pkey", "table public.notes"]},
            "1 table added",
        ),
        (
            {"objects_added": ["trigger t"], "objects_dropped": ["policy public.notes.a", "policy public.notes.b"]},
            "1 trigger added, 2 policies dropped",
        ),
        ({"objects_changed": ["materialized view public.v"]}, "1 materialized view changed"),
    ],
)
def test_what_a_change_did_is_counted_by_kind_and_not_told_of_twice(changes: dict[str, Json], text: str) -> None:
    assert changes_text(changes) == text


def test_a_refusal_before_anything_stands_is_said_to_leave_nothing_to_take_back() -> None:
    event = RollbackStarted(run="r", reason="refused", sides=())
    assert _sentence(event) == "going back (refused) with nothing to take back"
