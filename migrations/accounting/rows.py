"""The rows of one table, held against the same table in the backup that was made under this very lock.

Rows are found again by primary key, else by rowid, else counted as they are; what they hold is compared with its storage class
and without collation, so that 1 and 1.0, or 'a' and 'A', are two values. Rows that are new are nobody's loss.

Only reads. Read next: `accounting.py`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from attrs import field, frozen

from ...events.cut_short import cut_short
from ..quarantined import REFERENCE, ROW, Quarantined
from ..row_values import exact_text, from_json, shown, to_json
from ..sqlite_text import fold, quoted
from .structure import Structure

BEFORE = "twinstep_before"
NAMED = 5
# SQLite limits the depth of an expression and the number of columns of a result.
COLUMNS_A_PASS = 200
_COMPARED = 900


@frozen(kw_only=True)
class Pair:
    """One table before and after. `columns` are those to compare, the old name to the new one, folded; of those in
    `updated` (old names), which a statement has changed by name, only the kind of value is compared. `remade`: by hand.

    `schema` is where the table before is, `by_rowid` the names that read the rowids of both, where these are known to be kept.
    """

    before: Structure
    after: Structure
    columns: Mapping[str, str]
    updated: frozenset[str] = frozenset()
    remade: bool = False
    schema: str = BEFORE
    by_rowid: tuple[str, str] | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What a row is found again by: the primary key where all of it is still there, else the rowid; or nothing."""
        primary = self.before.primary_key
        if primary and all(column in self.columns for column in primary):
            return primary
        return ()

    @property
    def old(self) -> str:
        return f"{self.schema}.{quoted(self.before.name)}"

    @property
    def new(self) -> str:
        return f"main.{quoted(self.after.name)}"


@frozen(kw_only=True)
class Lost:
    """What is missing: rows, and per column (old names) how many of the others hold another value; with the first of each."""

    rows: int = 0
    named: tuple[str, ...] = ()
    values: Mapping[str, int] = field(factory=dict)
    changed: Mapping[str, tuple[str, ...]] = field(factory=dict)


def compare(driver: sqlite3.Connection, pair: Pair, set_aside: Sequence[Quarantined]) -> Lost:
    """What the table has lost, apart from what was set aside."""
    if pair.by_rowid is not None:
        return _by(driver, pair, [pair.by_rowid], set_aside)
    if pair.updated.intersection(pair.key):
        # New keys were meant: a row is found again by what else it holds.
        return _as_they_are(driver, pair, set_aside)
    same_key = pair.key and {pair.columns[column] for column in pair.key} == set(pair.after.primary_key)
    if same_key and not _holds_null(driver, pair):
        return _by(driver, pair, [(column, pair.columns[column]) for column in pair.key], set_aside)
    if pair.before.rowid is not None and pair.after.rowid is not None and pair.schema == BEFORE:
        found = _by(driver, pair, [(pair.before.rowid, pair.after.rowid)], set_aside, by_rowid=True)
        if not (found.rows or found.values) or not pair.remade:
            return found
    # Without a key, rows that were copied by hand bear other rowids: the same rows are still the same rows.
    return _as_they_are(driver, pair, set_aside)


def _holds_null(driver: sqlite3.Connection, pair: Pair) -> bool:
    """Whether some row's key has NULL in it, which SQLite allows, and which is then no key."""
    if pair.before.rowid is None:
        return False
    unknown = " OR ".join(f"{quoted(column)} IS NULL" for column in pair.key)
    return driver.execute(f"SELECT 1 FROM {pair.old} WHERE {unknown} LIMIT 1").fetchone() is not None


def _by(
    driver: sqlite3.Connection,
    pair: Pair,
    key: Sequence[tuple[str, str]],
    set_aside: Sequence[Quarantined],
    *,
    by_rowid: bool = False,
) -> Lost:
    same_row = " AND ".join(f"n.{quoted(new)} IS o.{quoted(old)}" for old, new in key)
    moved = {_key_of(each, by_rowid) for each in set_aside if each.kind == ROW}
    missing = f"FROM {pair.old} o WHERE NOT EXISTS (SELECT 1 FROM {pair.new} n WHERE {same_row})"
    rows = len(_keys(driver, key, missing, moved)) if moved else count(driver, missing)
    named = tuple(_named(driver, key, missing, moved)) if rows else ()
    joined = f"FROM {pair.old} o JOIN {pair.new} n ON {same_row}"
    values, changed = {}, {}
    for old, number in _differing(driver, pair, joined).items():
        names = {old, pair.columns[old]}
        cleared = {_key_of(each, by_rowid) for each in set_aside if each.kind == REFERENCE and names & _columns(each)}
        left = len(_keys(driver, key, f"{joined} WHERE {_differs(pair, old)}", cleared)) if cleared else number
        if left:
            values[old] = left
            changed[old] = tuple(_changed(driver, pair, key, old, joined, cleared))
    return Lost(rows=rows, named=named, values=values, changed=changed)


def _keys(driver: sqlite3.Connection, key: Sequence[tuple[str, str]], rest: str, known: set[str]) -> list[str]:
    """The keys of these rows, under their new names, without those that are known."""
    listed = ", ".join(f"o.{quoted(old)}" for old, _ in key)
    names = [new for _, new in key]
    with exact_text(driver):
        rows = driver.execute(f"SELECT {listed} {rest}").fetchall()
    return [found for row in rows if (found := _folded(to_json(names, row))) not in known]


def count(driver: sqlite3.Connection, rest: str) -> int:
    """How many rows that is."""
    (number,) = driver.execute(f"SELECT count(*) {rest}").fetchone()
    return int(number)


def _differing(driver: sqlite3.Connection, pair: Pair, joined: str) -> dict[str, int]:
    """How many rows hold another value, per column that differs at all."""
    found: dict[str, int] = {}
    columns = list(pair.columns)
    for first in range(0, len(columns), COLUMNS_A_PASS):
        some = columns[first : first + COLUMNS_A_PASS]
        sums = ", ".join(f"total({_differs(pair, column)})" for column in some)
        counts = driver.execute(f"SELECT {sums} {joined}").fetchone()
        found |= {column: int(count) for column, count in zip(some, counts, strict=True) if count}
    return found


def _differs(pair: Pair, column: str) -> str:
    old, new = f"o.{quoted(column)}", f"n.{quoted(pair.columns[column])}"
    if column in pair.updated:
        # A new value of the same kind was meant; one of another kind, or none any more, is as likely a mistake.
        return f"({old} IS NOT NULL AND typeof({old}) <> typeof({new}))"
    return differ(old, new)


def differ(old: str, new: str) -> str:
    """The condition under which two columns hold two values."""
    # Plus and COLLATE BINARY: neither an affinity nor a collation may call two values equal.
    return f"(typeof({old}) <> typeof({new}) OR +{old} IS NOT +{new} COLLATE BINARY)"


def _named(driver: sqlite3.Connection, key: Sequence[tuple[str, str]], rest: str, known: set[str]) -> Iterator[str]:
    listed = ", ".join(f"o.{quoted(old)}" for old, _ in key)
    with exact_text(driver):
        rows = driver.execute(f"SELECT {listed} {rest} ORDER BY {listed} LIMIT {NAMED + len(known)}").fetchall()
    keys = [to_json([new for _, new in key], row) for row in rows]
    yield from [shown(key) for key in keys if _folded(key) not in known][:NAMED]


def _changed(
    driver: sqlite3.Connection, pair: Pair, key: Sequence[tuple[str, str]], column: str, joined: str, known: set[str]
) -> Iterator[str]:
    listed = ", ".join(f"o.{quoted(name)}" for name, _ in key)
    names = [new for _, new in key]
    old, new = f"o.{quoted(column)}", f"n.{quoted(pair.columns[column])}"
    differs = f"{joined} WHERE {_differs(pair, column)} ORDER BY {listed}"
    query = f"SELECT {listed}, {old}, {new} {differs} LIMIT {NAMED + len(known)}"
    with exact_text(driver):
        rows = driver.execute(query).fetchall()
    kept = [row for row in rows if _folded(to_json(names, row[: len(names)])) not in known]
    for *values, was, now in kept[:NAMED]:
        yield f"{shown(to_json(names, values))}: {_value(was)} became {_value(now)}"


def _as_they_are(driver: sqlite3.Connection, pair: Pair, set_aside: Sequence[Quarantined]) -> Lost:
    """Without anything that names a row: how many fewer there are of each."""
    kept = {was: now for was, now in pair.columns.items() if was not in pair.updated}
    moved = [from_json(each.content) for each in set_aside if each.kind == ROW]
    if not kept or len(kept) > _COMPARED:
        fewer = count(driver, f"FROM {pair.old}") - count(driver, f"FROM {pair.new}") - len(moved)
        return Lost(rows=max(fewer, 0))
    # Nor may a collation call two values equal here.
    old = ", ".join(f"{quoted(column)} COLLATE BINARY" for column in kept)
    new = ", ".join(f"{quoted(column)} COLLATE BINARY" for column in kept.values())
    kinds = ", ".join(f"typeof({quoted(column)})" for column in kept)
    new_kinds = ", ".join(f"typeof({quoted(column)})" for column in kept.values())
    numbered = "row_number() OVER (PARTITION BY {0}, {1})"
    gone = (
        f"SELECT {old}, {kinds}, {numbered.format(old, kinds)} FROM {pair.old} "
        f"EXCEPT SELECT {new}, {new_kinds}, {numbered.format(new, new_kinds)} FROM {pair.new}"
    )
    (rows,) = driver.execute(f"SELECT count(*) FROM ({gone})").fetchone()
    if not rows:
        return Lost()
    names = list(kept.values())
    with exact_text(driver):
        found = driver.execute(gone if moved else f"{gone} LIMIT {NAMED}").fetchall()
    left = Counter(to_json(names, row[: len(names)]) for row in found)
    if moved:
        contents = [{fold(name): value for name, value in content.items()} for content in moved]
        left -= Counter(to_json(names, [content.get(name) for name in names]) for content in contents)
        rows = left.total()
    return Lost(rows=int(rows), named=tuple(shown(row) for row in list(left.elements())[:NAMED]))


def _key_of(row: Quarantined, by_rowid: bool) -> str:
    if row.row_key == "{}" or by_rowid:
        return _folded(to_json(["rowid"], [row.row_number]))
    return _folded(row.row_key)


def _folded(key: str) -> str:
    """A key as JSON text, whatever case its columns are written in, and whichever name reads the rowid."""
    values = from_json(key)
    names = [fold(name) for name in values]
    if names in (["oid"], ["_rowid_"]):
        names = ["rowid"]
    return to_json(names, tuple(values.values()))


def _columns(row: Quarantined) -> set[str]:
    return {fold(name) for name in from_json(row.content)}


def _value(value: object) -> str:
    text = "NULL" if value is None else repr(value)
    return cut_short(text, 40)
