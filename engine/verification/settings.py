"""How much is tried, and what is known beside the migrations.

Values only. Read next: `verifying.py` (who takes them), `searching.py` (who keeps to them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from attrs import field, frozen

from ...migrations.definition import SideName
from .properties import Property

Progress: TypeAlias = "Callable[[str, int, int], None]"
"""Told the migration, how many databases are done, and of how many."""

EXAMPLES: Final = 100
LARGE: Final = 2_000


def _nobody(migration: str, done: int, of: int) -> None:
    """Nobody is told."""


@frozen(kw_only=True)
class Settings:
    """How much is tried, and what is known beside the migrations.

    `examples` databases, drawn from `seed`, with up to `max_rows` rows a table; no new one is begun after `time_seconds`.
    `server` is the URL of a PostgreSQL on which databases may be made and dropped, or a function that gives it, which is called
    only for a migration that needs one. `schemas_before` are SQL texts that make a side's schema in place of the earlier
    migrations, `new_install` texts that make the schema a new installation has. `large_rows` is the size of the one large
    database at the end, 0 for none. With `dangling`, references of the local side may lead to nothing, as on every connection
    that has not switched foreign keys on.
    """

    examples: int = EXAMPLES
    seed: int = 0
    time_seconds: float | None = None
    max_rows: int = 6
    large_rows: int = LARGE
    dangling: bool = True
    server: str | Callable[[], str] | None = None
    properties: tuple[Property, ...] = tuple(Property)
    schemas_before: Mapping[SideName, str] = field(factory=dict)
    new_install: Mapping[SideName, str] = field(factory=dict)
    on_progress: Progress = _nobody
