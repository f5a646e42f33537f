"""Ctrl-C, SIGTERM and SIGHUP: at every crossing, from outside at any moment, and in the middle of what takes long.

Each time: exit code 130, a way to go on that fits what is in flight, nothing left running or lying about, and `resume` ends it.
"""

from __future__ import annotations

import itertools
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from interrupted_runs import QUARANTINE_FILES, QUARANTINE_SCHEMA, Interrupted

from twinstep.engine.embedded import EmbeddedPostgres

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Died(BaseException):
    """Stands for the death of the process."""


def nothing(place: Interrupted) -> None:
    """The databases are as they were made."""


def migrated(place: Interrupted) -> None:
    assert place.coordinator().migrate().outcome == "verified"


def half_way(place: Interrupted) -> None:
    """A run that died once the local side was changed."""

    def probe(crossing: str) -> None:
        if crossing == "remote:open:after-commit":
            raise Died

    with pytest.raises(Died):
        place.coordinator(probe).migrate()


def with_parents(place: Interrupted) -> None:
    migrated(place)
    with closing(sqlite3.connect(place.local)) as local, local:
        local.execute("INSERT INTO parent VALUES (7), (8)")


@frozen(kw_only=True)
class Kind:
    """A command that is interrupted: what was before it, and what may be after it and after `resume`."""

    words: tuple[str, ...]
    before: Callable[[Interrupted], None] = nothing
    files: dict[str, str] | None = None
    schema: str | None = None

    def made(self, folder: Path, url: str) -> Interrupted:
        options: dict[str, Any] = {} if self.schema is None else {"files": self.files, "schema": self.schema}
        place = Interrupted.made(folder, url, **options)
        self.before(place)
        return place

    def arguments(self, place: Interrupted) -> tuple[str, ...]:
        """The words, with the id of the first backup where one is wanted."""
        return tuple(place.coordinator().backups()[0].backup_id if word == "BACKUP" else word for word in self.words)


KINDS = {
    "migrate": Kind(words=("migrate",)),
    "rollback": Kind(words=("rollback",), before=migrated),
    "resume": Kind(words=("resume",), before=half_way),
    "dry_run": Kind(words=("migrate", "--dry-run")),
    "backup_create": Kind(words=("backup", "create")),
    "backup_restore": Kind(words=("backup", "restore", "BACKUP"), before=migrated),
    "quarantine_restore": Kind(
        words=("quarantine", "restore", "--all"), before=with_parents, files=QUARANTINE_FILES, schema=QUARANTINE_SCHEMA
    ),
}


@pytest.fixture
def places(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Callable[[Kind], Interrupted]]:
    """A new place of a kind at each call; its remote is dropped with the next."""
    made: list[str] = []
    numbers = itertools.count()

    def drop() -> None:
        while made:
            postgres.drop_database(made.pop().rpartition("/")[2].partition("?")[0])

    def make(kind: Kind) -> Interrupted:
        drop()
        made.append(postgres.create_database())
        return kind.made(tmp_path / str(next(numbers)), made[-1])

    yield make
    drop()


def legal_worlds(kind: Kind, places: Callable[[Kind], Interrupted]) -> list[dict[str, Any]]:
    """Before the command, and after it where nobody interrupts it (and after `resume`, where it finishes a run)."""
    place = places(kind)
    before = place.world()
    ended = place.signalled_at(kind.arguments(place), 1_000_000, signal.SIGINT)
    assert ended.code == 0, ended
    after = place.world()
    place.check_nothing_is_left()
    return [after] if kind.words == ("resume",) else [before, after]


def sweep(kind: Kind, places: Callable[[Kind], Interrupted], *, every: int, first: int = 0) -> int:
    """Signal at each so-many-th crossing; how many that were."""
    legal = legal_worlds(kind, places)
    for number in itertools.count():
        place = places(kind)
        at = first + number * every
        as_json = number % 2 == 1
        words = (*kind.arguments(place), *(["--json"] if as_json else []))
        ended = place.signalled_at(words, at, SIGNALS[number % len(SIGNALS)])
        if ended.code == 0:
            return number
        place.check_answer(ended, as_json=as_json)
        place.check_nothing_is_left()
        place.check_it_goes_on(legal)
    raise AssertionError("there is always a crossing that is not reached")


@pytest.mark.parametrize("name", KINDS)
def test_interrupted_at_a_crossing_it_says_how_to_go_on_and_that_is_so(
    name: str, places: Callable[[Kind], Interrupted]
) -> None:
    assert sweep(KINDS[name], places, every=15 if name != "backup_create" else 2, first=1) > 0


@pytest.mark.full
@pytest.mark.parametrize("name", KINDS)
def test_interrupted_at_every_crossing_it_ends_legally(name: str, places: Callable[[Kind], Interrupted]) -> None:
    crossings = sweep(KINDS[name], places, every=1)
    print(f"{name}: {crossings} crossings")
    assert crossings > 1
