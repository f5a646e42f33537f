"""Setting rows aside that a new foreign key refuses, whole, into `twinstep_quarantine` in the same database.

A required reference to a row that is not there: the row moves, every value of it, with the reasons. A reference that may be
NULL: it becomes NULL, and what it was is kept. Rows that referred to a row that has moved follow by the same rule, in
whatever table, until nothing refers to nothing any more. What was broken before is nobody's business here and stays.

The rows are set aside, not deleted: no trigger fires for it, and none when they are put back, so that both together leave the
database as it was. Works inside the caller's transaction, with foreign keys off; becomes durable with it.

Must never import SQLAlchemy. Read next: `quarantined.py` (the table, and putting back), `row_values.py`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from attrs import frozen

from ..events.errors import Refused
from .quarantined import REFERENCE, ROW, TABLE, exact_text, make_table, triggers_off
from .row_values import Value, shown, to_json
from .sqlite_catalogue import ForeignKeyViolation, foreign_key_violations, plain_rows
from .sqlite_table import Table, read_any_table, run
from .sqlite_text import fold, quoted

_INSERT = f"""
    INSERT INTO main.{TABLE} (kind, table_name, row_key, row_number, content, reason, set_aside_at) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_KEYS = """
    SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?, 'main') ORDER BY id, seq
"""


@frozen(kw_only=True)
class _Key:
    """One declared key: the child's columns, the parent, and the columns of it that they must be found in."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


@frozen(kw_only=True)
class _Row:
    """One row that refers to nothing, and by which keys."""

    key: tuple[Value, ...]
    keys: tuple[_Key, ...]


# By parent and columns, folded.
_Keys: TypeAlias = "Mapping[tuple[str, tuple[str, ...]], _Key]"


def set_aside(driver: sqlite3.Connection, before: Counter[ForeignKeyViolation]) -> Mapping[str, int]:
    """Set aside every row, and every optional reference, that refers to nothing and is not in `before`; how many per table.

    `before` are the broken references of the whole database as they were. Raises Refused where rows cannot be set aside: T315
    for a key that cannot be checked, T342 for rows that cannot be told apart; the transaction must then be rolled back.
    """
    counts: Counter[str] = Counter()
    tables: Iterable[str] | None = None
    with plain_rows(driver), triggers_off(driver) as without_triggers:
        while found := foreign_key_violations(driver, tables=tables) - before:
            moved = set[str]()
            for name in sorted({violation.table for violation in found}):
                without_triggers(name)
                ours = [violation for violation in found if violation.table == name]
                rows, references = _settle(driver, name, ours, before)
                counts[name] += rows + references
                if rows:
                    moved.add(fold(name))
            # Only what refers to a table that rows have left can be broken by that.
            tables = [name for name in _tables_with_keys(driver) if moved & _parents(driver, name)]
            if not tables:
                break
    return dict(counts)


def _settle(
    driver: sqlite3.Connection, name: str, found: Sequence[ForeignKeyViolation], before: Counter[ForeignKeyViolation]
) -> tuple[int, int]:
    """Deal with the broken rows of one table: how many rows moved, and how many kept their place without the reference."""
    if any(not violation.parent for violation in found):
        raise Refused("T315", table=name)
    table = read_any_table(driver, name)
    keys = _keys(driver, table)
    rows = _numbered(table, keys, found) if table.rowid is not None else _counted(driver, table, keys, found, before)
    moved = cleared = 0
    make_table(driver)
    for row in rows:
        optional = [key for key in row.keys if _optional(table, key)]
        if len(optional) == len(row.keys) and _clear(driver, table, row):
            cleared += 1
        else:
            _move(driver, table, row)
            moved += 1
    return moved, cleared


def _numbered(
    table: Table, keys: Mapping[tuple[str, tuple[str, ...]], _Key], found: Iterable[ForeignKeyViolation]
) -> list[_Row]:
    """The rows that SQLite named by rowid."""
    by_row: dict[int, list[_Key]] = {}
    for violation in found:
        assert violation.rowid is not None
        key = keys[fold(violation.parent), tuple(map(fold, violation.columns))]
        by_row.setdefault(violation.rowid, []).append(key)
    return [_Row(key=(rowid,), keys=tuple(broken)) for rowid, broken in sorted(by_row.items())]


def _counted(
    driver: sqlite3.Connection,
    table: Table,
    keys: _Keys,
    found: Iterable[ForeignKeyViolation],
    before: Counter[ForeignKeyViolation],
) -> list[_Row]:
    """Without rowids SQLite counts the rows and does not say which they are: they are looked for."""
    if table.rowid is None and not table.text.without_rowid:
        raise Refused("T342", table=table.name, problem="its columns rowid, oid and _rowid_ hide the true rowids")
    by_row: dict[tuple[Value, ...], list[_Key]] = {}
    for violation in found:
        if before[violation]:
            problem = f"{before[violation]} of its rows were broken before, and it has no rowids to tell them apart by"
            raise Refused("T342", table=table.name, problem=problem)
        key = keys[fold(violation.parent), tuple(map(fold, violation.columns))]
        for row in _looked_for(driver, table, key):
            by_row.setdefault(row, []).append(key)
    return [_Row(key=row, keys=tuple(broken)) for row, broken in by_row.items()]


def _looked_for(driver: sqlite3.Connection, table: Table, key: _Key) -> list[tuple[Value, ...]]:
    pairs = zip(key.parent_columns, key.columns, strict=False)
    there = " AND ".join(f"p.{quoted(parent)} = o.{quoted(child)}" for parent, child in pairs)
    given = " AND ".join(f"o.{quoted(child)} IS NOT NULL" for child in key.columns)
    names = ", ".join(f"o.{quoted(name)}" for name in table.primary_key)
    parent = f"main.{quoted(key.parent)}"
    missing = f"NOT EXISTS (SELECT 1 FROM {parent} p WHERE {there})" if _is_table(driver, key.parent) else "1"
    with exact_text(driver):
        return driver.execute(f"SELECT {names} FROM {table.sql_name} o WHERE {given} AND {missing}").fetchall()


def _clear(driver: sqlite3.Connection, table: Table, row: _Row) -> bool:
    """Make the broken references NULL; False where a rule of the table does not let them be."""
    columns = tuple(dict.fromkeys(column for key in row.keys for column in key.columns if _may_be_null(table, column)))
    record = _record(driver, REFERENCE, table, row, columns)
    assignments = ", ".join(f"{quoted(column)} = NULL" for column in columns)
    try:
        run(driver, f"UPDATE OR ABORT {table.sql_name} SET {assignments} WHERE {_where(table)}", *row.key)
    except sqlite3.IntegrityError:
        return False
    run(driver, _INSERT, *record)
    return True


def _move(driver: sqlite3.Connection, table: Table, row: _Row) -> None:
    run(driver, _INSERT, *_record(driver, ROW, table, row, table.stored))
    run(driver, f"DELETE FROM {table.sql_name} WHERE {_where(table)}", *row.key)


def _record(driver: sqlite3.Connection, kind: str, table: Table, row: _Row, columns: Sequence[str]) -> tuple[Value, ...]:
    """What is written down, read while the row is still as it was."""
    named = table.primary_key
    number = row.key[0] if table.rowid is not None else None
    content = to_json(columns, _read(driver, table, row, columns))
    reason = "; ".join(_reason(driver, table, row, key) for key in row.keys)
    key = to_json(named, _read(driver, table, row, named) if named else ())
    return kind, table.name, key, number, content, reason, datetime.now(UTC).isoformat()


def _reason(driver: sqlite3.Connection, table: Table, row: _Row, key: _Key) -> str:
    values = shown(to_json(key.columns, _read(driver, table, row, key.columns)))
    return f"the key ({', '.join(key.columns)}) to {key.parent} finds no row for {values}"


def _read(driver: sqlite3.Connection, table: Table, row: _Row, columns: Sequence[str]) -> tuple[Value, ...]:
    names = ", ".join(map(quoted, columns))
    with exact_text(driver):
        found = driver.execute(f"SELECT {names} FROM {table.sql_name} WHERE {_where(table)}", row.key).fetchone()
    values: tuple[Value, ...] = found
    return values


def _where(table: Table) -> str:
    return " AND ".join(f"{quoted(name)} IS ?" for name in table.row_key)


def _optional(table: Table, key: _Key) -> bool:
    """Whether the reference can be left out: one of its columns may be NULL."""
    return any(_may_be_null(table, column) for column in key.columns)


def _may_be_null(table: Table, name: str) -> bool:
    column = next(each for each in table.columns if fold(each.name) == fold(name))
    return not (column.required or column.key_position or column.generated)


def _keys(driver: sqlite3.Connection, table: Table) -> dict[tuple[str, tuple[str, ...]], _Key]:
    """The table's keys by parent and columns, folded."""
    parts: dict[int, list[tuple[str, str, str | None]]] = {}
    for number, parent, column, parent_column in driver.execute(_KEYS, (table.name,)).fetchall():
        parts.setdefault(number, []).append((parent, column, parent_column))
    found = {}
    for each in parts.values():
        parent = each[0][0]
        columns = tuple(column for _, column, _ in each)
        named = tuple(parent_column for _, _, parent_column in each if parent_column is not None)
        key = _Key(columns=columns, parent=parent, parent_columns=named or _primary_key(driver, parent))
        found[fold(parent), tuple(map(fold, columns))] = key
    return found


def _primary_key(driver: sqlite3.Connection, table: str) -> tuple[str, ...]:
    query = "SELECT name FROM pragma_table_xinfo(?, 'main') WHERE pk > 0 ORDER BY pk"
    return tuple(name for (name,) in driver.execute(query, (table,)).fetchall())


def _is_table(driver: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
    return driver.execute(query, (name,)).fetchone() is not None


def _tables_with_keys(driver: sqlite3.Connection) -> list[str]:
    query = "SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY name"
    return [name for (name,) in driver.execute(query).fetchall() if _parents(driver, name)]


def _parents(driver: sqlite3.Connection, table: str) -> set[str]:
    return {fold(parent) for _, parent, *_ in driver.execute(_KEYS, (table,)).fetchall()}
