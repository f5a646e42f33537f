"""The scripts of `data/scripts/`: SQL as one finds it. Line 1 of each says how many statements a person has counted in it."""

from __future__ import annotations

import re
from pathlib import Path

from twinstep.migrations.definition import SideName
from twinstep.migrations.lexical import Dialect

FOLDER = Path(__file__).parent / "data" / "scripts"
NAMES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.sql"))
POSTGRES = [name for name in NAMES if name.startswith("postgres")]
SQLITE = [name for name in NAMES if name.startswith("sqlite")]


def read(name: str) -> str:
    """The text as it lies in the file, line ends and byte order mark included."""
    return (FOLDER / name).read_bytes().decode()


def dialect_of(name: str) -> Dialect:
    return "postgres" if name.startswith("postgres") else "sqlite"


def side_of(name: str) -> SideName:
    return "remote" if name.startswith("postgres") else "local"


def counted(name: str) -> int:
    """How many statements a person has counted, apart from a BEGIN and COMMIT around the whole."""
    found = re.match("\ufeff?-- statements: ([0-9]+)\r?\n", read(name))
    assert found is not None, f"{name} does not begin with '-- statements: N'"
    return int(found[1])
