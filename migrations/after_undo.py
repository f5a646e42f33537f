"""What going back must give, where others have written in between: three looks say what the fourth must be. Pure.

`before` was taken when the run was validated, `changed` in the change's own transaction, `found` at the beginning of the undo,
`now` at its end and in its transaction. From `before` to `changed` only the migration was at work (the lock was held), from
`changed` to `found` only others, from `found` to `now` only the undo. So, for each object, table and mark by itself:

- what others left alone must be again as it was before;
- what the migration left alone must be as others left it;
- what both changed: of an object nothing can be said, nor of the rows' values. But their number can: each row that others
  added is still there, apart from as many as the migration itself had removed (they may be the same ones), and each that
  they removed is gone, apart from as many as the migration itself had added. `user_version` and the like are as before;
  an AUTOINCREMENT stands where others left it, so that no number is given out twice.

Read next: `catalogue.py` (a look), `sqlite_marks.py` (who puts marks back), `engine/going_back.py` (who asks).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from .catalogue import Fingerprint

SEQUENCE = "sequence "
STATISTICS = "sqlite_stat"


Differences: TypeAlias = "Iterator[tuple[str, str]]"


def differences_after(*, before: Fingerprint, changed: Fingerprint, found: Fingerprint, now: Fingerprint) -> dict[str, str]:
    """What is not as it must be: a sentence for each object, mark or table; empty where all is well."""
    return {
        **dict(_objects(before.objects, changed.objects, found.objects, now.objects)),
        **dict(_marks(before, changed, found, now)),
        **dict(_tables(before, changed, found, now)),
    }


def mark_after(name: str, before: int | None, changed: int | None, found: int | None) -> int | None:
    """What a mark must be after the undo; None where it must not be there."""
    if before == changed:
        return found
    if changed != found and name.startswith(SEQUENCE):
        return found
    return before


def _objects(
    before: Mapping[str, str], changed: Mapping[str, str], found: Mapping[str, str], now: Mapping[str, str]
) -> Differences:
    for key in sorted(before.keys() | changed.keys() | found.keys() | now.keys()):
        if changed.get(key) == found.get(key):
            yield from _held_against(key, before.get(key), now.get(key))
        elif before.get(key) == changed.get(key):
            yield from _held_against(key, found.get(key), now.get(key))


def _held_against(key: str, wanted: str | None, now: str | None) -> Differences:
    if wanted != now:
        yield key, f"{key} {'is missing' if now is None else 'is new' if wanted is None else 'differs'}"


def _marks(before: Fingerprint, changed: Fingerprint, found: Fingerprint, now: Fingerprint) -> Differences:
    for name in sorted(before.marks.keys() | changed.marks.keys() | found.marks.keys()):
        wanted = mark_after(name, before.marks.get(name), changed.marks.get(name), found.marks.get(name))
        # The mark of a table that others dropped went with it, and one of a table that nobody has filled is 0 or not there.
        if (wanted or 0) != (now.marks.get(name) or 0):
            yield name, f"{name} was {wanted}, is {now.marks.get(name)}"


def _tables(before: Fingerprint, changed: Fingerprint, found: Fingerprint, now: Fingerprint) -> Differences:
    for table in sorted(before.content.keys() & now.content.keys()):
        looks = [each.content.get(table) for each in (before, changed, found)]
        if table.startswith(STATISTICS):
            # Estimates: those of others go with the objects that they are of, and the longer kinds are not put back.
            if looks[1] == looks[2] and table == f"{STATISTICS}1":
                yield from _same_rows(table, before, now)
        elif looks[1] == looks[2]:
            yield from _same_rows(table, before, now)
        elif looks[0] == looks[1]:
            yield from _same_rows(table, found, now)
        elif all(table in each.rows for each in (before, changed, found, now)):
            yield from _as_many(table, before.rows[table], changed.rows[table], found.rows[table], now.rows[table])


def _same_rows(table: str, wanted: Fingerprint, now: Fingerprint) -> Differences:
    if wanted.rows.get(table) != now.rows.get(table):
        yield f"rows of {table}", f"{table} had {wanted.rows.get(table)} rows, has {now.rows.get(table)}"
    elif wanted.content.get(table) != now.content.get(table):
        yield f"rows of {table}", f"rows of {table} have other values"


def _as_many(table: str, before: int, changed: int, found: int, now: int) -> Differences:
    wanted = before + found - changed
    least, most = wanted - max(0, before - changed), wanted + max(0, changed - before)
    if not least <= now <= most:
        span = f"{least}" if least == most else f"{least} to {most}"
        yield f"rows of {table}", f"{table} should have {span} rows, with those that others wrote; it has {now}"
