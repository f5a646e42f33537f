"""The entries of the catalogue that are folders, as an application has them: `tests/data/catalogue/`.

In each, all migrations but the last make the schema before. Read next: `migration_entries.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from migration_entries import Look, Right, Wrong, agree

from twinstep.migrations.loader import load_folder

FOLDERS = Path(__file__).parent / "data" / "catalogue"


def in_folder(name: str) -> dict[str, Any]:
    """The fields of an entry that its folder gives."""
    *before, migration = load_folder(FOLDERS / name)
    return {"folder": FOLDERS / name, "before": tuple(before), "migration": migration}


WRONG_FOLDERS: tuple[Wrong, ...] = (
    Wrong(
        name="a folder whose list forgets notes without a folder",
        why="Two tables and a comma are an inner join.",
        properties="queries",
        **in_folder("wrong_list"),
        local_rows=("INSERT INTO folders VALUES (1, 'a')", "INSERT INTO notes VALUES (1, 1, 'a'), (2, NULL, 'b')"),
        look=Look(side="local", sql="SELECT id FROM note_list ORDER BY id", right=((1,), (2,)), found=((1,),)),
    ),
    Wrong(
        name="a folder that tidies up on the server",
        why="Rows without a flag are deleted to make room for NOT NULL, and nothing declares it.",
        properties=("keeps-rows", "down-restores"),
        **in_folder("wrong_tidying"),
        local_rows=("INSERT INTO notes VALUES (1, 'a', 0)",),
        remote_rows=("INSERT INTO notes VALUES (1, 'a', false), (2, 'b', NULL)",),
        look=Look(side="remote", sql="SELECT id FROM notes ORDER BY id", right=((1,), (2,)), found=((1,),)),
    ),
)

RIGHT_FOLDERS: tuple[Right, ...] = (
    Right(
        name="a folder with a key and a function",
        **in_folder("right_keys"),
        local_rows=(
            "INSERT INTO notes VALUES ('a', ''), ('A', 'x'), ('', x'00'), (x'ff', '')",
            "INSERT INTO tags VALUES ('a', 't'), ('gone', 't'), ('', ''), (x'ff', 'T'), (x'61', 't')",
        ),
    ),
    Right(
        name="a folder with states on both sides",
        **in_folder("right_states"),
        local_rows=("INSERT INTO tasks VALUES (1, NULL, 0), (2, '', 1), (3, 'a', 1)",),
        remote_rows=("INSERT INTO tasks VALUES (1, NULL, false), (3, 'b', true)",),
        invariants=(agree("SELECT id, CASE WHEN state = 'done' THEN 1 ELSE 0 END - CAST(done AS int) FROM tasks"),),
    ),
)
