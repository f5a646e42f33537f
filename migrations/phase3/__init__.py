"""The reference migration: a notes application's two databases at version 11, and what takes them to 12.

::

    from twinstep.migrations import phase3

    phase3.build_local("notes.db", notes=10_000)
    phase3.build_remote("postgresql:///notes", users=10)
    Coordinator(local="notes.db", remote="postgresql:///notes", migrations=phase3.FOLDER).migrate()

The migration itself is a folder like any other, `folder/0012_phase3/`, and written to be read. Must never import the engine.
Read next: that folder, then `builders.py`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ..definition import Query
from .builders import NOW, JournalMode, build_local, build_remote
from .local_dirt import violations
from .local_schema import Variant

__all__ = ["FOLDER", "MIGRATION", "NOW", "JournalMode", "Variant", "build_local", "build_remote", "queries", "violations"]

FOLDER = Path(__file__).parent / "folder"
"""The folder of migrations; it holds this one."""

MIGRATION = "0012_phase3"
"""The migration's id."""


def queries() -> Mapping[str, Query]:
    """The application's 25 local and 11 remote queries by their short names, "Q1" to "Q24" with "Q1b", "P1" to "P11".

    Read from the migration's own migration.toml, so that benchmarks, tests and the migration measure the same texts.
    """
    settings = tomllib.loads((FOLDER / MIGRATION / "migration.toml").read_text(encoding="utf-8"))
    declared = (Query(**query) for query in settings["query"])
    return MappingProxyType({query.name.split()[0]: query for query in declared})
