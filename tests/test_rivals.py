"""Coordinators started at the same instant on one pair; `make rivals` does the same with eight, fifty times each form."""

from __future__ import annotations

from pathlib import Path

import pytest
from rivals import FORMS, Form, Ground, fought

RIVALS = 4

# Each form once in CI, every second one told to wait.
ROUNDS = [
    pytest.param(form, waits, marks=[] if waits == bool(number % 2) else [pytest.mark.full])
    for number, form in enumerate(FORMS)
    for waits in (False, True)
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command's code is kept compiled from one round to the next."""
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.parametrize(("form", "waits"), ROUNDS)
def test_of_many_that_start_at_once_one_migrates_and_nothing_is_applied_twice(
    form: Form, waits: bool, tmp_path: Path, compiled: Path, remote_url: str
) -> None:
    ground = Ground(form=form, folder=tmp_path, remote=remote_url, rivals=RIVALS, compiled=compiled)
    found = fought(ground.made(), waits=waits)
    assert found.wrong == ()
    assert found.unnamed == ()
    if waits:
        assert {answer.code for answer in found.answers} == {0}
