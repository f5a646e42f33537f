"""Which PostgreSQL statements cannot run in a transaction, by their first words.

The list was run against PostgreSQL 15 and 18 (`tests/test_script.py` runs it again). What the words do not tell is not here:
REINDEX of a partitioned table, a CALL or DO that commits; those are marked `-- twinstep: single` by who writes them.

Pure. Read next: `script.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

SingleKind: TypeAlias = Literal["create_index", "drop_index", "reindex", "vacuum", "detach_partition"]


def single_kind(words: Sequence[str]) -> SingleKind | None:
    """Which of the statements that cannot run in a transaction, and that Twinstep can probe, this one is; None for others."""
    match tuple(words):
        case ("CREATE", "INDEX", "CONCURRENTLY", *_) | ("CREATE", "UNIQUE", "INDEX", "CONCURRENTLY", *_):
            return "create_index"
        case ("DROP", "INDEX", "CONCURRENTLY", *_):
            return "drop_index"
        case ("REINDEX", *options) if _reindexes_alone(options):
            return "reindex"
        case ("VACUUM", *_):
            return "vacuum"
        case ("ALTER", "TABLE", *rest) if "DETACH" in rest and rest[-1] == "CONCURRENTLY":
            return "detach_partition"
        case _:
            return None


def _reindexes_alone(options: Sequence[str]) -> bool:
    """REINDEX [(VERBOSE, CONCURRENTLY [boolean])] DATABASE | SYSTEM | SCHEMA | TABLE | INDEX [CONCURRENTLY] name."""
    if "CONCURRENTLY" in options:
        following = options[options.index("CONCURRENTLY") + 1 :][:1]
        if list(following) not in (["FALSE"], ["OFF"], ["0"]):
            return True
    kinds = [word for word in options if word in {"DATABASE", "SYSTEM", "SCHEMA", "TABLE", "INDEX"}]
    return kinds[:1] in (["DATABASE"], ["SYSTEM"], ["SCHEMA"])


def is_beyond_us(words: Sequence[str]) -> bool:
    """Also not in a transaction, but neither to be probed nor undone: databases, tablespaces, settings of the server."""
    match tuple(words):
        case ("CREATE" | "DROP", "DATABASE" | "TABLESPACE" | "SUBSCRIPTION", *_):
            return True
        case ("ALTER", "SYSTEM", *_) | ("DISCARD", "ALL") | ("CLUSTER",) | ("CLUSTER", "VERBOSE"):
            return True
        case ("ALTER", "DATABASE", _, "SET", "TABLESPACE", *_):
            return True
        case _:
            return False
