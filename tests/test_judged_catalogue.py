"""The properties find each wrong migration of the catalogue wrong, within 100 databases, and blame no right one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from judged import found, judged
from migration_entries import Right, Wrong
from right_migrations import RIGHT
from wrong_migrations import WRONG

from twinstep.engine.embedded import EmbeddedPostgres

# In the small form a few ways to go wrong; `test_verification.py` sees each property fail.
SMALL = (
    "NULL made an empty text",
    "a constraint that was never validated",
)


def entries(all: Sequence[Wrong | Right]) -> pytest.MarkDecorator:
    chosen = [pytest.param(each, id=each.name, marks=() if each.name in SMALL else (pytest.mark.full,)) for each in all]
    return pytest.mark.parametrize("entry", chosen)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> str | None:
    """The shared server, where the entry has a remote side."""
    entry = request.node.callspec.params["entry"]
    if "remote" not in entry.sides:
        return None
    shared: EmbeddedPostgres = request.getfixturevalue("postgres")
    return shared.url()


@entries(WRONG)
def test_a_wrong_migration_is_found_wrong(entry: Wrong, server: str | None) -> None:
    verification = judged(entry, server, examples=100, properties=entry.properties)
    verdicts = [(str(each.property), each.verdict, each.reason) for each in verification.results]
    assert found(entry, verification), verdicts
    assert all(each.counterexample is not None and each.counterexample.told for each in verification.failures)


@entries(RIGHT)
def test_a_right_migration_is_not_blamed(entry: Right, server: str | None) -> None:
    verification = judged(entry, server, examples=10)
    assert verification.ok, verification.failures


def test_a_kill_that_chance_left_out_is_tried_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of crossing is met once, on the largest database, and a small one is then looked for."""
    monkeypatch.setattr("twinstep.engine.verification.searching.ANYWHERE", st.just(0))
    (entry,) = (each for each in WRONG if each.name == "a file that says that it is done")
    (result,) = judged(entry, None, examples=20, properties=("crash",)).failures
    assert result.counterexample is not None
    assert "killed at" in result.counterexample.told[0]
    assert (result.examples, result.counterexample.rows) == (5, 1)  # four by chance, and the one that was not
