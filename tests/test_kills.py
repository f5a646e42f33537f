"""The command, killed at random moments over the reference migration; `make kills` does the same 300 times on 10 000 notes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from kills import ENDED, KINDS, LOCAL, Killed, Place, Stage, kills, left_behind, staged
from whole_worlds import difference

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events.lifecycle import State

NOTES = 150


@pytest.fixture(scope="module")
def stage(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Both databases, and each kind of run once without a kill."""
    found = staged(postgres, tmp_path_factory.mktemp("stage") / "kills", notes=NOTES)
    yield found
    for place in {each.place.remote: each.place for each in found.legal.values()}.values():
        found.dropped(place)


def test_killed_at_any_moment_and_resumed_both_databases_are_as_they_may_be_row_for_row(stage: Stage) -> None:
    wrong: list[tuple[Killed, Place]] = []
    found = list(kills(stage, count=len(KINDS), seed=5, failed=lambda one, place: wrong.append((one, place))))
    assert [one.differs for one, _ in wrong] == []
    assert sum(one.hit[0] != ENDED for one in found) == len(KINDS)


def test_one_row_or_one_object_that_differs_is_told(stage: Stage) -> None:
    """What the kills are held against can say no: a value, a kind of value, an index, a version, on either side."""
    legal = stage.legal[State.PENDING]
    place = stage.copied(State.PENDING, "planted")
    with closing(sqlite3.connect(place.folder / LOCAL)) as local:
        local.execute("UPDATE note_tags SET tag = tag || '!' WHERE rowid = 3")
        local.execute("DROP INDEX idx_note_tags_tag")
        local.execute("PRAGMA user_version = 13")
        local.commit()
    with psycopg.connect(place.remote, autocommit=True) as remote:
        remote.execute("DELETE FROM attachments WHERE id = (SELECT min(id) FROM attachments)")
        remote.execute("CREATE INDEX left_behind ON notes (id)")
    found = difference(place.databases, legal.place.databases, legal.world)
    told = {each.partition(":")[0] for each in found.told}
    assert found.rows == 4  # of a changed row both, the statistics of the index, and the one that is gone
    assert told >= {"local rows of note_tags", "local objects", "local user_version"}
    assert told >= {"remote rows of public.attachments", "remote indexes"}
    stage.dropped(place)


def test_what_is_left_in_the_state_folder_is_told(stage: Stage) -> None:
    place = stage.copied(State.VERIFIED, "littered")
    (place.state / "backups" / "one.partial").touch()
    (place.state / "backups" / f"{'0' * 36}.db").touch()
    told = list(left_behind(place, []))
    assert told == [
        "backups/one.partial is left in the state folder",
        f"backups/{'0' * 36} is half a backup",
    ]
    stage.dropped(place)
