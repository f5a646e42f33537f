"""Filling a new table that has other columns, rules or options than the old one, and proving that nothing else came of it.

A column of both tables holds the same values afterwards, storage class included, unless an expression was given for it. What
the new definition does not allow, or would turn into something else, is refused with the rows that it would happen to.

Read next: `rebuilding.py`; `copying.py` (tables of the same columns), `../accounting/rows.py` (the comparison).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

from attrs import frozen

from ...events.errors import DefinitionError, Refused
from ..accounting.loss import examples
from ..accounting.rows import Pair, compare
from ..accounting.structure import read_structure
from ..sqlite_table import Table, run
from ..sqlite_text import fold, quoted
from .copying import NAMED_ROWS, rows_named


@frozen(kw_only=True)
class _Copy:
    """Which columns are filled from what; `keeps_rowids` says that rows bear the same rowids in both tables."""

    columns: tuple[str, ...]
    sources: tuple[str, ...]
    keeps_rowids: bool

    def statement(self, old: Table, new: Table, *, conflict: str = "ABORT", where: str = "") -> str:
        named, given = ", ".join(map(quoted, self.columns)), ", ".join(self.sources)
        return f"INSERT OR {conflict} INTO {new.sql_name} ({named}) SELECT {given} FROM {old.sql_name} o {where}"


def refill(driver: sqlite3.Connection, old: Table, new: Table, values: Mapping[str, str]) -> None:
    """Copy all rows, with these expressions for these columns, and compare.

    Raises DefinitionError (T311) for an expression that SQLite cannot read, Refused (T313) naming rows that break a rule of the
    new table or would not be the same in it, and (T316) where rowids exist that no name reads.
    """
    (rows,) = driver.execute(f"SELECT count(*) FROM {old.sql_name}").fetchone()
    if rows and not old.row_key:
        raise Refused("T316", table=old.name)
    copy = _planned(old, new, values)
    if not copy.columns:
        raise DefinitionError("T311", table=old.name, problem="no column of it would be left")
    try:
        run(driver, copy.statement(old, new))
    except sqlite3.IntegrityError as error:
        which = "; ".join(_breaking(driver, old, new, copy))
        raise Refused("T313", table=old.name, problem=f"some break a rule of the new definition ({error}): {which}") from error
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        raise DefinitionError("T311", table=old.name, problem=str(error)) from error
    if problem := _different(driver, old, new, copy, values):
        raise Refused("T313", table=old.name, problem=problem)


def _planned(old: Table, new: Table, values: Mapping[str, str]) -> _Copy:
    given = {fold(name): expression for name, expression in values.items()}
    unknown = given.keys() - set(map(fold, new.stored))
    if unknown:
        raise DefinitionError("T311", table=old.name, problem=f"there is no column {min(unknown)} to give values to")
    there = {fold(column.name): column.name for column in old.columns}
    pairs: list[tuple[str, str]] = []
    keeps = old.rowid is not None and new.rowid is not None and not new.rowid_is_column
    if old.rowid is not None and new.rowid is None and not new.text.without_rowid:
        raise Refused("T316", table=old.name)
    if keeps:
        pairs.append((str(new.rowid), f"o.{quoted(str(old.rowid))}"))
    for name in new.stored:
        if fold(name) in given:
            pairs.append((name, f"({given[fold(name)]})"))
        elif fold(name) in there:
            pairs.append((name, f"o.{quoted(there[fold(name)])}"))
    same_key = old.rowid_is_column and new.rowid_is_column and fold(str(old.rowid)) == fold(str(new.rowid))
    return _Copy(
        columns=tuple(name for name, _ in pairs),
        sources=tuple(source for _, source in pairs),
        keeps_rowids=keeps or (same_key and fold(str(old.rowid)) not in given),
    )


def _breaking(driver: sqlite3.Connection, old: Table, new: Table, copy: _Copy) -> Iterator[str]:
    """The first rows that the new table does not take, found by taking the others."""
    if copy.keeps_rowids:
        try:
            run(driver, copy.statement(old, new, conflict="IGNORE"))
        except sqlite3.IntegrityError:
            run(driver, f"DELETE FROM {new.sql_name}")  # of the types of STRICT no row is ignored
        else:
            same = f"n.{quoted(str(new.rowid))} = o.{quoted(str(old.rowid))}"
            rest = f"FROM {old.sql_name} o WHERE NOT EXISTS (SELECT 1 FROM {new.sql_name} n WHERE {same})"
            (count,) = driver.execute(f"SELECT count(*) {rest}").fetchone()
            yield examples(rows_named(driver, old, f"{rest} LIMIT {NAMED_ROWS}"), count)
            return
    yield from _one_by_one(driver, old, new, copy)


def _one_by_one(driver: sqlite3.Connection, old: Table, new: Table, copy: _Copy) -> Iterator[str]:
    where = "WHERE " + " AND ".join(f"o.{quoted(name)} IS ?" for name in old.row_key)
    statement = copy.statement(old, new, where=where)
    found = 0
    keys = ", ".join(map(quoted, old.row_key))
    for key in driver.execute(f"SELECT {keys} FROM {old.sql_name}").fetchall():
        try:
            run(driver, statement, *key)
        except sqlite3.IntegrityError:
            found += 1
            yield from rows_named(driver, old, f"FROM {old.sql_name} o {where}", key)
            if found == NAMED_ROWS:
                return


def _different(driver: sqlite3.Connection, old: Table, new: Table, copy: _Copy, values: Mapping[str, str]) -> str:
    """What would not be the same, in words; empty where all is well."""
    before = read_structure(driver, old.name, old.text.sql)
    after = read_structure(driver, new.name, new.text.sql)
    assert before is not None
    assert after is not None
    given = set(map(fold, values))
    common = {name: name for name in before.columns if name in after.columns and name not in given}
    pair = Pair(before=before, after=after, columns=common, remade=True, schema="main", by_rowid=_rowids(old, new, copy))
    found = compare(driver, pair, ())
    (more,) = driver.execute(f"SELECT (SELECT count(*) FROM {new.sql_name}) - (SELECT count(*) FROM {old.sql_name})").fetchone()
    said = []
    if found.rows:
        said.append(f"{found.rows} would not be the same: {examples(found.named, found.rows)}")
    for column, count in found.values.items():
        said.append(f"{count} would have another {before.columns[column]}: {examples(found.changed[column], count)}")
    if more:
        said.append(f"there would be {more} rows that were not there")
    return "; ".join(said)


def _rowids(old: Table, new: Table, copy: _Copy) -> tuple[str, str] | None:
    return (str(old.rowid), str(new.rowid)) if copy.keeps_rowids else None
