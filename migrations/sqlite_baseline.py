"""What migrations make of an empty SQLite database, and how an existing one differs from it.

They are really run, on a scratch file that is gone afterwards, by the same target that would run them for a pair. What is
compared is the schema, token by token, and `user_version`: rows are the host's.

Must never import engine. Read next: `sqlite_target.py`, `schema_comparison.py` (what counts as a difference).
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import frozen

from ..events.errors import Blocked, TwinstepError
from ..events.types import Json
from .catalogue import Fingerprint
from .ledger import noted
from .schema_comparison import differences_of
from .target import Comparison, Target
from .work import Order, SideWork


@frozen(kw_only=True)
class Made:
    """What the migrations made of nothing, and what was there before each step of each."""

    look: Fingerprint
    before: Mapping[str, tuple[Mapping[str, Json], ...]]


def compare_local(here: Fingerprint, works: Sequence[SideWork], target_on: Callable[[Path], Target]) -> Comparison:
    """Hold the look at the database against what the works make. Raises Blocked (T286) where one is refused there."""
    with tempfile.TemporaryDirectory(prefix="twinstep-") as folder:
        made = _made(Path(folder) / "scratch.db", works, target_on)
    differences, findings = differences_of(made.look.objects, here.objects)
    wanted, found = made.look.marks.get("user_version"), here.marks.get("user_version")
    # Where no migration sets it, it is the host's.
    if wanted != found and any(work.limits.user_version_to is not None for work in works):
        differences = (*differences, f"user_version is {found}, not {wanted}")
    return Comparison(differences=differences, findings=findings, before=made.before)


def _made(path: Path, works: Sequence[SideWork], target_on: Callable[[Path], Target]) -> Made:
    # Made by SQLite itself, not by a descriptor of ours.
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 0")
    target = target_on(path)
    before: dict[str, tuple[Mapping[str, Json], ...]] = {}
    try:
        for work in works:
            try:
                target.apply(Order(work=work, run="scratch", pair="scratch", log=""))
            except TwinstepError as error:
                raise Blocked("T286", migration=work.migration, side="local", problem=error.condition) from error
            rows = target.ledger(work.migration).standing(("scratch",))
            before[work.migration] = tuple(_before(work, noted(row)) for row in rows)
        return Made(look=target.look(works[-1], content=False) if works else Fingerprint(), before=before)
    finally:
        target.close()


def _before(work: SideWork, said: Mapping[str, Any]) -> Mapping[str, Json]:
    """The version that the step began from, where it sets one. What the definition says that it begins from counts more than
    a scratch file, which begins from nothing."""
    if work.limits.user_version_to is None:
        return {}
    wanted, began = work.limits.user_version_from, int(said["marks"]["user_version"])
    return {"user_version": wanted[0] if wanted and began not in wanted else began}
