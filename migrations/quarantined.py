"""The rows that lie in `twinstep_quarantine`: the table, who set them aside, how many, and putting them back.

A row that goes back is the row that was set aside: same values, same rowid, and no trigger fires. Where it cannot (its key
is taken by now, a column is gone, its key would refuse it again), it stays, and why is said; nothing is ever deleted from
this table.

Works inside the caller's transaction, with foreign keys off. Must never import SQLAlchemy. Read next: `quarantine.py`.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from attrs import field, fields, frozen

from ..stores.local_guard import LocalConnection, setting_aside
from .broken_keys import broken_rows, key_name, keys_of
from .row_values import SqlValue, Value, bindable, exact_text, from_json, mark, shown, to_json
from .sqlite_catalogue import ForeignKeyViolation, foreign_key_violations, plain_rows
from .sqlite_table import Table, read_any_table, run
from .sqlite_text import fold, in_main, quoted

TABLE = "twinstep_quarantine"
ROW = "row"
REFERENCE = "reference"

# No AUTOINCREMENT: nothing is deleted from it, and the mark would need a table that the application may not have.
_CREATE = f"""
    CREATE TABLE IF NOT EXISTS main.{TABLE} (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        table_name TEXT NOT NULL,
        row_key TEXT NOT NULL,
        row_number INTEGER,
        content TEXT NOT NULL,
        reason TEXT NOT NULL,
        broken_before TEXT NOT NULL,
        migration TEXT NOT NULL DEFAULT '',
        run TEXT NOT NULL DEFAULT '',
        set_aside_at TEXT NOT NULL,
        put_back_at TEXT,
        put_back_by TEXT
    )
"""
_SELECT = f"""
    SELECT id, kind, table_name, row_key, row_number, content, reason, broken_before, migration, run, set_aside_at,
        put_back_at, put_back_by
    FROM main.{TABLE}
"""
_TRIGGERS = """
    SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE ORDER BY rowid
"""


@frozen(kw_only=True)
class Quarantined:
    """One row, or one reference of a row, that was set aside. Times are UTC, ISO 8601 with zone.

    `row_key` is the primary key and `content` the whole row (of a "reference": the columns that became NULL), as JSON text.
    `row_number` is the rowid, None in a table without. `broken_before` are the keys (parent and columns, as JSON text) by which
    the row referred to nothing already: these it may break again when it is put back. `put_back_by` is the run or the restore
    that put it back.
    """

    id: int
    kind: str
    table: str
    row_key: str
    row_number: int | None
    content: str
    reason: str
    broken_before: str
    migration: str
    run: str
    set_aside_at: str
    put_back_at: str | None = None
    put_back_by: str | None = None

    @property
    def named(self) -> str:
        """How a person finds the row: by primary key, else by rowid."""
        return shown(self.row_key) or f"rowid={self.row_number}"


_FIELDS = tuple(each.name for each in fields(Quarantined))


@frozen(kw_only=True)
class PutBack:
    """What went back, and why the rest did not, by id."""

    done: tuple[Quarantined, ...] = ()
    refused: Mapping[int, str] = field(factory=dict)


def make_table(driver: sqlite3.Connection) -> None:
    """Make the table where it is not there yet."""
    run(driver, _CREATE)


def is_there(driver: sqlite3.Connection) -> bool:
    """Whether anything was ever set aside in this database."""
    query = f"SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = '{TABLE}'"
    return driver.execute(query).fetchone() is not None


def sign(driver: sqlite3.Connection, *, migration: str, run_id: str) -> dict[str, int]:
    """Write the run into the rows that its steps have just set aside; how many these are, per table."""
    if not is_there(driver):
        return {}
    query = f"SELECT table_name, count(*) FROM main.{TABLE} WHERE run = '' GROUP BY table_name ORDER BY table_name"
    counts = {str(table): int(count) for table, count in driver.execute(query).fetchall()}
    driver.execute(f"UPDATE main.{TABLE} SET migration = ?, run = ? WHERE run = ''", (migration, run_id))
    return counts


def read_quarantined(driver: sqlite3.Connection) -> tuple[Quarantined, ...]:
    """All rows, oldest first, also those that were put back."""
    with plain_rows(driver):
        if not is_there(driver):
            return ()
        rows = driver.execute(f"{_SELECT} ORDER BY id").fetchall()
        return tuple(Quarantined(**dict(zip(_FIELDS, row, strict=True))) for row in rows)


def put_back(driver: sqlite3.Connection, wanted: Sequence[Quarantined], *, by: str, at: str) -> PutBack:
    """Put these back, and write down who did. Rows come first, so that a reference of one that had moved later finds it."""
    before = foreign_key_violations(driver)
    done: dict[int, Quarantined] = {}
    refused: dict[int, str] = {}
    with plain_rows(driver), triggers_off(driver) as without_triggers:
        tables = {name: _table(driver, name) for name in {each.table for each in wanted}}
        for each in _rows_first(wanted):
            table = tables[each.table]
            if table is None:
                refused[each.id] = f"there is no table {each.table} any more"
                continue
            without_triggers(table.name)
            problem = _put(driver, table, each)
            if problem is None:
                done[each.id] = each
            else:
                refused[each.id] = problem
        standing = {name: table for name, table in tables.items() if table is not None}
        for id, problem in _taken_out_again(driver, standing, done, before):
            del done[id]
            refused[id] = problem
        for id in done:
            _write_down(driver, id, by=by, at=at)
    return PutBack(done=tuple(done.values()), refused=refused)


@contextmanager
def going_back(driver: sqlite3.Connection, runs: Collection[str], *, by: str, at: str) -> Iterator[None]:
    """While the steps of these runs are taken back: what they have set aside of a table goes back when `rebuild_table` begins
    to make the table as it was, so that what else is taken back is taken back of these rows too.

    What does not fit the table then, and what a down without `rebuild_table` takes back, is left to `put_all_back`.
    """

    def first(connection: sqlite3.Connection, name: str) -> None:
        with plain_rows(connection):
            table = _table(connection, name) if is_there(connection) else None
            rows = read_quarantined(connection) if table is not None else ()
            wanted = [each for each in rows if each.run in runs and each.put_back_at is None and fold(each.table) == fold(name)]
            if table is not None and wanted:
                _put_back_first(connection, table, wanted, by=by, at=at)

    if isinstance(driver, LocalConnection):
        driver.going_back = first
    try:
        yield
    finally:
        if isinstance(driver, LocalConnection):
            driver.going_back = None


def _put_back_first(driver: sqlite3.Connection, table: Table, wanted: Sequence[Quarantined], *, by: str, at: str) -> None:
    stored = set(map(fold, table.stored))
    with triggers_off(driver) as without_triggers, setting_aside(driver):
        without_triggers(table.name)
        for each in _rows_first(wanted):
            columns = set(map(fold, from_json(each.content)))
            fits = columns == stored if each.kind == ROW else columns <= stored
            if fits and _put(driver, table, each) is None:
                _write_down(driver, each.id, by=by, at=at)


def _rows_first(wanted: Iterable[Quarantined]) -> list[Quarantined]:
    """So that a reference of one that had moved later finds it; the latest first."""
    return sorted(wanted, key=lambda each: (each.kind != ROW, -each.id))


def _write_down(driver: sqlite3.Connection, id: int, *, by: str, at: str) -> None:
    driver.execute(f"UPDATE main.{TABLE} SET put_back_at = ?, put_back_by = ? WHERE id = ?", (at, by, id))


def put_all_back(driver: sqlite3.Connection, runs: Collection[str], *, by: str, at: str) -> tuple[str, ...]:
    """Put back all that these runs have set aside and that is not back yet; what stays, and why, in sentences."""
    wanted = [each for each in read_quarantined(driver) if each.run in runs and each.put_back_at is None]
    if not wanted:
        return ()
    put = put_back(driver, wanted, by=by, at=at)
    return tuple(
        f"{each.table} {each.named} stays in quarantine (id {each.id}): {put.refused[each.id]}"
        for each in wanted
        if each.id in put.refused
    )


def _table(driver: sqlite3.Connection, name: str) -> Table | None:
    query = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
    if driver.execute(query, (name,)).fetchone() is None:
        return None
    try:
        return read_any_table(driver, name)
    except ValueError:
        return None  # a virtual table bears the name now


def _put(driver: sqlite3.Connection, table: Table, row: Quarantined) -> str | None:
    """Put the row, or its reference, where it was; why that cannot be, None where it was done."""
    return _insert(driver, table, row) if row.kind == ROW else _set(driver, table, row)


def _insert(driver: sqlite3.Connection, table: Table, row: Quarantined) -> str | None:
    """Insert the row as it was; why that cannot be, None where it was done."""
    values = from_json(row.content)
    if table.rowid is not None and not table.rowid_is_column and not (table.primary_key and _rowid_taken(driver, table, row)):
        values = {table.rowid: row.row_number, **values}
    names = ", ".join(map(quoted, values))
    marks = ", ".join(map(mark, values.values()))
    statement = f"INSERT OR ABORT INTO {table.sql_name} ({names}) VALUES ({marks})"
    if problem := _problem(driver, statement, bindable(values.values())):
        return problem
    kept = from_json(row.content)
    if _now(driver, table, row, tuple(kept)) == to_json(tuple(kept), tuple(kept.values())):
        return None
    _delete(driver, table, row)
    return "the table's columns would give it other values"


def _rowid_taken(driver: sqlite3.Connection, table: Table, row: Quarantined) -> bool:
    """Whether others have made a row of that number; where the table has a key, the number is nobody's concern then."""
    query = f"SELECT 1 FROM {table.sql_name} WHERE {quoted(table.rowid or 'rowid')} = ?"
    return driver.execute(query, (row.row_number,)).fetchone() is not None


def _set(driver: sqlite3.Connection, table: Table, row: Quarantined) -> str | None:
    """Give the row its reference again; why that cannot be, None where it was done."""
    values = from_json(row.content)
    try:
        now = _now(driver, table, row, tuple(values))
    except sqlite3.OperationalError as error:
        return str(error)
    if now is None:
        return "the row is not there any more"
    if any(value is not None for value in from_json(now).values()):
        return "the row has another reference by now"
    where, key = _found_by(table, row)
    marks = ", ".join(f"{quoted(name)} = {mark(value)}" for name, value in values.items())
    return _problem(driver, f"UPDATE OR ABORT {table.sql_name} SET {marks} WHERE {where}", (*bindable(values.values()), *key))


def _problem(driver: sqlite3.Connection, statement: str, values: Sequence[SqlValue]) -> str | None:
    try:
        driver.execute(statement, values)
    except sqlite3.IntegrityError as error:
        return str(error)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        return str(error)  # a column that is not there any more, or is generated now
    return None


def _now(driver: sqlite3.Connection, table: Table, row: Quarantined, names: Sequence[str]) -> str | None:
    """These values of the row as they are in its table, as JSON text; None where it is not there."""
    where, key = _found_by(table, row)
    with exact_text(driver):
        listed = ", ".join(map(quoted, names))
        found = driver.execute(f"SELECT {listed} FROM {table.sql_name} WHERE {where}", key).fetchone()
    return None if found is None else to_json(names, found)


def _delete(driver: sqlite3.Connection, table: Table, row: Quarantined) -> None:
    where, key = _found_by(table, row)
    run(driver, f"DELETE FROM {table.sql_name} WHERE {where}", *key)


def _found_by(table: Table, row: Quarantined) -> tuple[str, tuple[SqlValue, ...]]:
    named = from_json(row.row_key)
    # A primary key that holds NULL finds more than one row.
    if named and not (table.rowid is not None and any(value is None for value in named.values())):
        return " AND ".join(f"{quoted(name)} IS {mark(value)}" for name, value in named.items()), bindable(named.values())
    return f"{quoted(table.rowid or 'rowid')} IS ?", (row.row_number,)


def _taken_out_again(
    driver: sqlite3.Connection,
    tables: Mapping[str, Table],
    done: Mapping[int, Quarantined],
    before: Counter[ForeignKeyViolation],
) -> Iterator[tuple[int, str]]:
    """Those that would refer to nothing, in rounds: what referred to one of them does not find it any more either."""
    left: dict[str, dict[str, list[Quarantined]]] = {}
    places: dict[str, Table] = {}
    while broken := foreign_key_violations(driver) - before:
        if not places:
            for each in done.values():
                table = tables[each.table]
                places[fold(table.name)] = table
                left.setdefault(fold(table.name), {}).setdefault(_place(driver, table, each), []).append(each)
        again = [
            (table, place, each)
            for name, table in places.items()
            for place, names in _broken_places(driver, table, [each for each in broken if fold(each.table) == name]).items()
            for each in left[name].get(place, ())
            if _is_refused(each, names)
        ]
        if not again:
            return
        for table, place, each in sorted(again, key=lambda found: found[2].id):
            if each.kind == ROW:
                _delete(driver, table, each)
            else:
                where, key = _found_by(table, each)
                cleared = ", ".join(f"{quoted(name)} = NULL" for name in from_json(each.content))
                run(driver, f"UPDATE {table.sql_name} SET {cleared} WHERE {where}", *key)
            left[fold(table.name)][place].remove(each)
            yield each.id, f"still {each.reason}"


_KeyName: TypeAlias = "tuple[str, tuple[str, ...]]"


def _place(driver: sqlite3.Connection, table: Table, row: Quarantined) -> str:
    """Where the row lies now, as `_broken_places` names it: by rowid, else by primary key."""
    if table.rowid is None:
        return _key_text(from_json(row.row_key))
    where, key = _found_by(table, row)
    (number,) = driver.execute(f"SELECT {quoted(table.rowid)} FROM {table.sql_name} WHERE {where}", key).fetchone()
    return str(number)


def _key_text(values: Mapping[str, Value]) -> str:
    """A primary key, in whatever order and case its columns are named."""
    folded = {fold(name): value for name, value in values.items()}
    return to_json(sorted(folded), [folded[name] for name in sorted(folded)])


def _broken_places(
    driver: sqlite3.Connection, table: Table, broken: Iterable[ForeignKeyViolation]
) -> Mapping[str, set[_KeyName]]:
    """The rows of this table that refer to nothing, and by which keys."""
    found: dict[str, set[_KeyName]] = {}
    if table.rowid is not None:
        for each in broken:
            found.setdefault(str(each.rowid), set()).add(key_name(each.parent, each.columns))
        return found
    keys = keys_of(driver, table.name)
    for name in {key_name(each.parent, each.columns) for each in broken}:
        for key in keys.get(name, ()):
            for row in broken_rows(driver, table, key):
                found.setdefault(_key_text(dict(zip(table.primary_key, row, strict=True))), set()).add(name)
    return found


def _is_refused(row: Quarantined, broken: set[_KeyName]) -> bool:
    """Whether one of these keys is broken by what has gone back, and was not broken before it was set aside."""
    as_before = {key_name(parent, tuple(columns)) for parent, columns in json.loads(row.broken_before)}
    if row.kind == ROW:
        return bool(broken - as_before)
    mine = set(map(fold, from_json(row.content)))
    return any(mine & set(columns) for _, columns in broken - as_before)


@contextmanager
def triggers_off(driver: sqlite3.Connection) -> Iterator[Callable[[str], None]]:
    """Lends a function that takes a table's triggers off; they are put back, in their order, where nothing was raised."""
    taken: dict[str, list[tuple[str, str]]] = {}

    def take_off(table: str) -> None:
        if fold(table) not in taken:
            taken[fold(table)] = driver.execute(_TRIGGERS, (table,)).fetchall()
            for name, _ in taken[fold(table)]:
                run(driver, f"DROP TRIGGER main.{quoted(name)}")

    yield take_off
    for text in _texts(taken.values()):
        run(driver, in_main("trigger", text))


def _texts(taken: Iterable[Sequence[tuple[str, str]]]) -> Iterator[str]:
    for triggers in taken:
        yield from (text for _, text in triggers)
