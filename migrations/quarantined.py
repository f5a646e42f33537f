"""The rows that lie in `twinstep_quarantine`: the table, who set them aside, how many, and putting them back.

A row that goes back is the row that was set aside: same values, same rowid, and no trigger fires. Where it cannot (its key
is taken by now, a column is gone, its key would refuse it again), it stays, and why is said; nothing is ever deleted from
this table.

Works inside the caller's transaction, with foreign keys off. Must never import SQLAlchemy. Read next: `quarantine.py`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from attrs import field, fields, frozen

from .row_values import RawText, Value, from_json, read_text, shown, to_json
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
        migration TEXT NOT NULL DEFAULT '',
        run TEXT NOT NULL DEFAULT '',
        set_aside_at TEXT NOT NULL,
        put_back_at TEXT,
        put_back_by TEXT
    )
"""
_SELECT = f"""
    SELECT id, kind, table_name, row_key, row_number, content, reason, migration, run, set_aside_at, put_back_at, put_back_by
    FROM main.{TABLE}
"""
_TRIGGERS = """
    SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE ORDER BY rowid
"""


@frozen(kw_only=True)
class Quarantined:
    """One row, or one reference of a row, that was set aside. Times are UTC, ISO 8601 with zone.

    `row_key` is the primary key and `content` the whole row (of a "reference": the columns that became NULL), as JSON text.
    `row_number` is the rowid, None in a table without. `put_back_by` is the run or the restore that put it back.
    """

    id: int
    kind: str
    table: str
    row_key: str
    row_number: int | None
    content: str
    reason: str
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
    """Write the run into the rows that its steps have just set aside; how many there are, per table."""
    if not is_there(driver):
        return {}
    driver.execute(f"UPDATE main.{TABLE} SET migration = ?, run = ? WHERE run = ''", (migration, run_id))
    query = f"SELECT table_name, count(*) FROM main.{TABLE} WHERE run = ? GROUP BY table_name ORDER BY table_name"
    return {str(table): int(count) for table, count in driver.execute(query, (run_id,)).fetchall()}


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
        for each in sorted(wanted, key=lambda each: (each.kind != ROW, -each.id)):
            table = _table(driver, each.table)
            if table is None:
                refused[each.id] = f"there is no table {each.table} any more"
                continue
            without_triggers(table.name)
            problem = _insert(driver, table, each) if each.kind == ROW else _set(driver, table, each)
            if problem is None:
                done[each.id] = each
            else:
                refused[each.id] = problem
        for id, problem in _taken_out_again(driver, done, before):
            del done[id]
            refused[id] = problem
        for id in done:
            driver.execute(f"UPDATE main.{TABLE} SET put_back_at = ?, put_back_by = ? WHERE id = ?", (at, by, id))
    return PutBack(done=tuple(done.values()), refused=refused)


def put_all_back(driver: sqlite3.Connection, runs: Collection[str], *, by: str, at: str) -> tuple[str, ...]:
    """Put back all that these runs have set aside; what stays, and why, in sentences."""
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
    return read_any_table(driver, name) if driver.execute(query, (name,)).fetchone() else None


def _insert(driver: sqlite3.Connection, table: Table, row: Quarantined) -> str | None:
    """Insert the row as it was; why that cannot be, None where it was done."""
    values = from_json(row.content)
    if table.rowid is not None and not table.rowid_is_column and not (table.primary_key and _rowid_taken(driver, table, row)):
        values = {table.rowid: row.row_number, **values}
    names = ", ".join(map(quoted, values))
    marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, RawText) else "?" for value in values.values())
    bound = tuple(bytes(value) if isinstance(value, RawText) else value for value in values.values())
    if problem := _problem(driver, f"INSERT OR ABORT INTO {table.sql_name} ({names}) VALUES ({marks})", bound):
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
    marks = [f"{quoted(name)} = {'CAST(? AS TEXT)' if isinstance(value, RawText) else '?'}" for name, value in values.items()]
    bound = tuple(bytes(value) if isinstance(value, RawText) else value for value in values.values())
    return _problem(driver, f"UPDATE OR ABORT {table.sql_name} SET {', '.join(marks)} WHERE {where}", (*bound, *key))


def _problem(driver: sqlite3.Connection, statement: str, values: Sequence[Value]) -> str | None:
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


def _found_by(table: Table, row: Quarantined) -> tuple[str, tuple[Value, ...]]:
    named = from_json(row.row_key)
    # A primary key that holds NULL finds more than one row.
    if named and not (table.rowid is not None and any(value is None for value in named.values())):
        return " AND ".join(f"{quoted(name)} IS ?" for name in named), tuple(map(_plain, named.values()))
    return f"{quoted(table.rowid or 'rowid')} IS ?", (row.row_number,)


def _plain(value: Value) -> Value:
    return bytes(value) if isinstance(value, RawText) else value


def _taken_out_again(
    driver: sqlite3.Connection, done: Mapping[int, Quarantined], before: Counter[ForeignKeyViolation]
) -> Iterator[tuple[int, str]]:
    """Those that would refer to nothing, in rounds: what referred to one of them does not find it any more either."""
    left = dict(done)
    while broken := foreign_key_violations(driver) - before:
        again = {id: each for id, each in left.items() if _is_broken(driver, each, broken)}
        if not again:
            return
        for id, each in sorted(again.items()):
            table = read_any_table(driver, each.table)
            if each.kind == ROW:
                _delete(driver, table, each)
            else:
                where, key = _found_by(table, each)
                cleared = ", ".join(f"{quoted(name)} = NULL" for name in from_json(each.content))
                run(driver, f"UPDATE {table.sql_name} SET {cleared} WHERE {where}", *key)
            del left[id]
            yield id, f"still {each.reason}"


def _is_broken(driver: sqlite3.Connection, row: Quarantined, broken: Counter[ForeignKeyViolation]) -> bool:
    table = read_any_table(driver, row.table)
    ours = [each for each in broken if fold(each.table) == fold(table.name)]
    if row.kind == REFERENCE:
        columns = {fold(name) for name in from_json(row.content)}
        ours = [each for each in ours if columns & set(map(fold, each.columns))]
    if table.rowid is None:
        return bool(ours)
    where, key = _found_by(table, row)
    found = driver.execute(f"SELECT {quoted(table.rowid)} FROM {table.sql_name} WHERE {where}", key).fetchone()
    return found is not None and any(each.rowid == found[0] for each in ours)


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


@contextmanager
def exact_text(driver: sqlite3.Connection) -> Iterator[None]:
    """Text is read exactly inside, also where it is not UTF-8."""
    before, driver.text_factory = driver.text_factory, read_text
    try:
        yield
    finally:
        driver.text_factory = before
