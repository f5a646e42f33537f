"""The quarantine of a database in memory: what a step sets aside, and how it goes back.

In a SQLite file it is `rebuild_table` that sets rows aside when it adds a key, and puts them back where it begins to make the
table as it was. A database in memory has no keys, and its steps say it themselves: `set_aside` in an up, `take_in` in its down.
Everything else is as in a file: the rows lie beside the tables, whole and signed with their run; what a down does not take in
goes back when it is done; nothing is ever deleted from them.

Read next: `memory_target.py` (who calls this), `quarantined.py` (the same in a file).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Protocol

from attrs import define, evolve, field, frozen

from ..events.types import Json
from .quarantined import ROW, PutBack, Quarantined
from .row_values import to_json
from .steps import stamp


@frozen(kw_only=True)
class Returning:
    """Whose rows go back while a down runs, and what is written down with them."""

    runs: frozenset[str]
    by: str
    at: str


@define(kw_only=True)
class Quarantine:
    """All rows that were ever set aside, oldest first. `returning` is None but while a down runs."""

    rows: list[Quarantined] = field(factory=list)
    returning: Returning | None = None

    def lying(self, runs: Collection[str]) -> list[Quarantined]:
        """What these runs have set aside and is not back yet, the latest first."""
        return [each for each in reversed(self.rows) if each.run in runs and each.put_back_at is None]


class Holding(Protocol):
    """What rows are set aside in: the contents of a database in memory."""

    tables: dict[str, dict[str, Json]]
    quarantine: Quarantine


def set_aside(contents: Holding, table: str, keys: Iterable[str], reason: str) -> int:
    """Set the rows of these keys aside, for a step; how many there were. A key that is not there is passed over."""
    rows = contents.tables[table]
    there = [key for key in keys if key in rows]
    for key in there:
        contents.quarantine.rows.append(
            Quarantined(
                id=len(contents.quarantine.rows) + 1,
                kind=ROW,
                table=table,
                row_key=to_json(("key",), (key,)),
                row_number=None,
                content=json.dumps({"key": key, "row": rows.pop(key)}, ensure_ascii=False),
                reason=reason,
                broken_before="[]",
                migration="",
                run="",
                set_aside_at=stamp(),
            )
        )
    return len(there)


def take_in(contents: Holding, table: str) -> None:
    """Have what lies aside of that table go back now, for a down: what it does to the table next, it does to these rows too.

    What cannot go back stays, and is tried again when the down is done. Nothing happens outside of a down.
    """
    returning = contents.quarantine.returning
    if returning is not None:
        wanted = [each for each in contents.quarantine.lying(returning.runs) if each.table == table]
        put_rows_back(contents, wanted, by=returning.by, at=returning.at)


def sign(quarantine: Quarantine, *, migration: str, run: str) -> dict[str, int]:
    """Write the run into the rows that its steps have just set aside; how many these are, per table."""
    counts = Counter(each.table for each in quarantine.rows if not each.run)
    quarantine.rows[:] = [each if each.run else evolve(each, migration=migration, run=run) for each in quarantine.rows]
    return dict(sorted(counts.items()))


def put_rows_back(contents: Holding, wanted: Iterable[Quarantined], *, by: str, at: str) -> PutBack:
    """Put these back, and write down who did; those whose table is gone, or whose key is taken, stay."""
    done: list[Quarantined] = []
    refused: dict[int, str] = {}
    for each in wanted:
        key = _kept(each)["key"]
        rows = contents.tables.get(each.table)
        if rows is None:
            refused[each.id] = f"there is no table {each.table} any more"
        elif key in rows:
            refused[each.id] = f"{each.table} has another row with that key"
        else:
            rows[str(key)] = _kept(each)["row"]
            contents.quarantine.rows[each.id - 1] = evolve(each, put_back_at=at, put_back_by=by)
            done.append(each)
    return PutBack(done=tuple(done), refused=refused)


def put_the_rest_back(contents: Holding, runs: Collection[str], *, by: str, at: str) -> tuple[str, ...]:
    """Put back all that these runs have set aside and that is not back yet; what stays, and why, in sentences."""
    lying = contents.quarantine.lying(runs)
    put = put_rows_back(contents, lying, by=by, at=at)
    return tuple(
        f"{each.table} {each.named} stays in quarantine (id {each.id}): {put.refused[each.id]}"
        for each in reversed(lying)
        if each.id in put.refused
    )


def _kept(row: Quarantined) -> dict[str, Json]:
    kept: dict[str, Json] = json.loads(row.content)
    return kept
