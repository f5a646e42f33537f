"""Setting rows aside that a new foreign key refuses, whole, into `twinstep_quarantine` in the same database.

A required reference to a row that is not there: the row moves, every value of it, with the reasons. A reference that may be
NULL: it becomes NULL, and what it was is kept. Rows that referred to a row that has moved follow by the same rule, in
whatever table, until nothing refers to nothing any more. What was broken before is nobody's business here and stays.

The rows are set aside, not deleted: no trigger fires for it, and none when they are put back, so that both together leave the
database as it was. Works inside the caller's transaction, with foreign keys off; becomes durable with it.

Must never import SQLAlchemy. Read next: `broken_keys.py`, `following_keys.py` (long chains), `quarantined.py` (putting back).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from attrs import frozen

from ..events.errors import Refused
from ..stores.local_guard import setting_aside
from .broken_keys import Key, broken_rows, key_name, keys_of, parents_of, tables_with_keys
from .following_keys import Links, Settled
from .quarantined import REFERENCE, ROW, TABLE, make_table, triggers_off
from .row_values import Value, bindable, exact_text, mark, shown, to_json
from .sqlite_catalogue import ForeignKeyViolation, foreign_key_violations, plain_rows
from .sqlite_table import Table, read_any_table, run
from .sqlite_text import fold, quoted

_INSERT = f"""
    INSERT INTO main.{TABLE} (kind, table_name, row_key, row_number, content, reason, broken_before, set_aside_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
# Rounds in which rows may follow each other before it is read at once who refers to whom.
_PATIENCE = 8


@frozen(kw_only=True)
class _Row:
    """One row that refers to nothing, by which keys, and which others were broken before."""

    key: tuple[Value, ...]
    keys: tuple[Key, ...]
    before: tuple[Key, ...]


_Keys: TypeAlias = "Mapping[tuple[str, tuple[str, ...]], tuple[Key, ...]]"
# What was broken before, by table (folded) and rowid.
_Old: TypeAlias = "Mapping[tuple[str, int | None], list[ForeignKeyViolation]]"


def set_aside(driver: sqlite3.Connection, before: Counter[ForeignKeyViolation]) -> Mapping[str, int]:
    """Set aside every row, and every optional reference, that refers to nothing and is not in `before`; how many per table.

    `before` are the broken references of the whole database as they were. Raises Refused where rows cannot be set aside: T315
    for a key that cannot be checked, T342 for rows that cannot be told apart; the transaction must then be rolled back.
    """
    counts: Counter[str] = Counter()
    old: dict[tuple[str, int | None], list[ForeignKeyViolation]] = {}
    for violation in before:
        old.setdefault((fold(violation.table), violation.rowid), []).append(violation)
    links: Links | None = None
    rounds = 0
    with plain_rows(driver), setting_aside(driver), triggers_off(driver) as without_triggers:
        found = foreign_key_violations(driver) - before
        while found:
            rounds += 1
            names = sorted({violation.table for violation in found})
            if rounds % _PATIENCE == 0 and links is None:
                links = Links(driver, names)
            settled: list[Settled] = []
            for name in names:
                without_triggers(name)
                ours = [violation for violation in found if violation.table == name]
                settled += _settle(driver, name, ours, old)
            counts.update(each.table for each in settled)
            found = Counter() if links is None else links.followers(settled)
            if not found:
                touched = None if links is not None else _touching(driver, settled)
                found = foreign_key_violations(driver, tables=touched) - before
                links = None
    return dict(counts)


def _touching(driver: sqlite3.Connection, settled: Iterable[Settled]) -> list[str]:
    """Only what refers to a table that was changed can be broken by that."""
    changed = {fold(each.table) for each in settled}
    return [name for name in tables_with_keys(driver) if changed & parents_of(driver, name)]


def _settle(driver: sqlite3.Connection, name: str, found: Sequence[ForeignKeyViolation], old: _Old) -> list[Settled]:
    """Deal with the broken rows of one table: each moves, or keeps its place without the reference."""
    if any(not violation.parent for violation in found):
        raise Refused("T315", table=name)
    table = read_any_table(driver, name)
    keys = keys_of(driver, name)
    rows = _numbered(table, keys, found, old) if table.rowid is not None else _counted(driver, table, keys, found, old)
    if not rows:
        raise Refused("T342", table=table.name, problem="SQLite says that there are some, and they cannot be found")
    make_table(driver)
    return [_settle_row(driver, table, row) for row in rows]


def _settle_row(driver: sqlite3.Connection, table: Table, row: _Row) -> Settled:
    number = row.key[0] if table.rowid is not None else None
    assert number is None or isinstance(number, int)
    if all(_optional(table, key) for key in row.keys):
        columns = tuple(dict.fromkeys(column for key in row.keys for column in key.columns if _may_be_null(table, column)))
        if _clear(driver, table, row, columns):
            return Settled(table=table.name, rowid=number, cleared=columns)
    _move(driver, table, row)
    return Settled(table=table.name, rowid=number)


def _numbered(table: Table, keys: _Keys, found: Iterable[ForeignKeyViolation], old: _Old) -> list[_Row]:
    """The rows that SQLite named by rowid."""
    by_row: dict[int, list[ForeignKeyViolation]] = {}
    for violation in found:
        assert violation.rowid is not None
        by_row.setdefault(violation.rowid, []).append(violation)
    name = fold(table.name)
    return [
        _Row(key=(rowid,), keys=_named(keys, broken), before=_named(keys, old.get((name, rowid), ())))
        for rowid, broken in sorted(by_row.items())
    ]


def _named(keys: _Keys, found: Iterable[ForeignKeyViolation]) -> tuple[Key, ...]:
    """The keys that SQLite means. Of two with the same columns and parent it does not say which; they are told of alike."""
    names = dict.fromkeys(key_name(violation.parent, violation.columns) for violation in found)
    return tuple(keys[name][0] for name in names if name in keys)


def _counted(
    driver: sqlite3.Connection, table: Table, keys: _Keys, found: Iterable[ForeignKeyViolation], old: _Old
) -> list[_Row]:
    """Without rowids SQLite counts the rows and does not say which they are: they are looked for."""
    if not table.text.without_rowid:
        raise Refused("T342", table=table.name, problem="its columns rowid, oid and _rowid_ hide the true rowids")
    already = old.get((fold(table.name), None), ())
    if any(violation in already for violation in found):
        problem = "some of them were broken before by the same key, and it has no rowids to tell them apart by"
        raise Refused("T342", table=table.name, problem=problem)
    broken_before = _looked_for(driver, table, keys, already)
    return [
        _Row(key=row, keys=tuple(broken.values()), before=tuple(broken_before.get(row, {}).values()))
        for row, broken in _looked_for(driver, table, keys, found).items()
    ]


def _looked_for(
    driver: sqlite3.Connection, table: Table, keys: _Keys, found: Iterable[ForeignKeyViolation]
) -> dict[tuple[Value, ...], dict[tuple[str, tuple[str, ...]], Key]]:
    """By primary key, the keys by which these rows are broken, each name once."""
    by_row: dict[tuple[Value, ...], dict[tuple[str, tuple[str, ...]], Key]] = {}
    for name in dict.fromkeys(key_name(violation.parent, violation.columns) for violation in found):
        for key in keys.get(name, ()):
            for row in broken_rows(driver, table, key):
                by_row.setdefault(row, {}).setdefault(name, key)
    return by_row


def _clear(driver: sqlite3.Connection, table: Table, row: _Row, columns: Sequence[str]) -> bool:
    """Make the broken references NULL; False where a rule of the table does not let them be."""
    record = _record(driver, REFERENCE, table, row, columns)
    assignments = ", ".join(f"{quoted(column)} = NULL" for column in columns)
    try:
        run(driver, f"UPDATE OR ABORT {table.sql_name} SET {assignments} WHERE {_where(table, row)}", *bindable(row.key))
    except sqlite3.IntegrityError:
        return False
    run(driver, _INSERT, *record)
    return True


def _move(driver: sqlite3.Connection, table: Table, row: _Row) -> None:
    run(driver, _INSERT, *_record(driver, ROW, table, row, table.stored))
    run(driver, f"DELETE FROM {table.sql_name} WHERE {_where(table, row)}", *bindable(row.key))


def _record(driver: sqlite3.Connection, kind: str, table: Table, row: _Row, columns: Sequence[str]) -> tuple[Value, ...]:
    """What is written down, read while the row is still as it was."""
    named = table.primary_key
    number = row.key[0] if table.rowid is not None else None
    content = to_json(columns, _read(driver, table, row, columns))
    reason = "; ".join(_reason(driver, table, row, key) for key in row.keys)
    key = to_json(named, _read(driver, table, row, named) if named else ())
    old = json.dumps([[each.parent, each.columns] for each in row.before], ensure_ascii=False)
    return kind, table.name, key, number, content, reason, old, datetime.now(UTC).isoformat()


def _reason(driver: sqlite3.Connection, table: Table, row: _Row, key: Key) -> str:
    values = shown(to_json(key.columns, _read(driver, table, row, key.columns)))
    return f"the key ({', '.join(key.columns)}) to {key.parent} finds no row for {values}"


def _read(driver: sqlite3.Connection, table: Table, row: _Row, columns: Sequence[str]) -> tuple[Value, ...]:
    names = ", ".join(map(quoted, columns))
    with exact_text(driver):
        found = driver.execute(f"SELECT {names} FROM {table.sql_name} WHERE {_where(table, row)}", bindable(row.key)).fetchone()
    values: tuple[Value, ...] = found
    return values


def _where(table: Table, row: _Row) -> str:
    return " AND ".join(f"{quoted(name)} IS {mark(value)}" for name, value in zip(table.row_key, row.key, strict=True))


def _optional(table: Table, key: Key) -> bool:
    """Whether the reference can be left out: one of its columns may be NULL."""
    return any(_may_be_null(table, column) for column in key.columns)


def _may_be_null(table: Table, name: str) -> bool:
    column = next(each for each in table.columns if fold(each.name) == fold(name))
    return not (column.required or column.key_position or column.generated)
