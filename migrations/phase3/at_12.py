"""What a new install of version 12 makes at once, derived from version 11 and the migration, so that the two cannot part.

A test holds a file made so, and a remote, against upgraded ones. No I/O but reading the migration's folder. Read next:
`builders.py`.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..checksums import DIALECTS
from ..create_table import CreateTable, ForeignKey
from ..definition import SideName
from ..sql import Statement, split
from . import local_schema

FOLDER = Path(__file__).parent / "folder" / "0012_phase3"


def tables_at_12() -> tuple[str, ...]:
    """The statements of version 11 with the foreign keys of the migration."""
    keys = foreign_keys()
    return tuple(_with_keys(statement, keys) for statement in local_schema.TABLES)


def indexes_at_12() -> tuple[str, ...]:
    """The indexes that the migration adds to a fresh file."""
    return _statements("local")


def remote_at_12() -> tuple[str, ...]:
    """What the migration runs on the remote, statement by statement; for a connection in autocommit mode."""
    return _statements("remote")


def foreign_keys() -> Mapping[str, Sequence[ForeignKey]]:
    """The keys by table, from the migration's own migration.py."""
    found: Mapping[str, Sequence[ForeignKey]] = runpy.run_path(str(FOLDER / "migration.py"))["FOREIGN_KEYS"]
    return found


def _with_keys(statement: str, keys: Mapping[str, Sequence[ForeignKey]]) -> str:
    try:
        table = CreateTable(statement)
    except ValueError:
        return statement  # the search table is a virtual one
    return table.with_keys(keys.get(table.name, ())).sql


def _statements(side: SideName) -> tuple[str, ...]:
    path = FOLDER / f"{side}.up.sql"
    found = split(path.read_text(encoding="utf-8"), DIALECTS[side], str(path))
    return tuple(item.text for item in found.items if isinstance(item, Statement))
