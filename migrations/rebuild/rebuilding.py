"""`rebuild_table`: another definition for a table of SQLite, which has no ALTER TABLE for it, without losing anything.

The table is made anew under a free name, filled, compared with the old one row by row and checked against its new keys, and
only then takes the old one's place. Up to that moment a refusal throws the copy away and leaves the table as it was.

The order is that of https://www.sqlite.org/lang_altertable.html#otheralter with three additions: `legacy_alter_table`, without
which the renaming is refused while a trigger or view names the table; SQLite's own reading of the new table, compared before
a row is copied; and the mark of AUTOINCREMENT and the statistics, which the textbook order forgets.

Never begins or ends a transaction. Read next: `create_table.py` (the text), `copying.py` (the rows), `placing.py`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import evolve

from ...events.errors import DefinitionError, Refused
from ..create_table import CreateTable, DeclaredKey, ForeignKey
from ..quarantine import set_aside
from ..sqlite_catalogue import ForeignKeyViolation, foreign_key_violations, plain_rows
from ..sqlite_table import Table, describe, read_table, run
from ..sqlite_text import fold, quoted
from .copying import NAMED_ROWS, fill, rows_named
from .placing import refuse_unless_unchanged, schema_texts, take_place

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["ForeignKey", "Violations", "rebuild_table"]

Violations: TypeAlias = Literal["quarantine", "refuse"]

_KEYS = """
    SELECT id, "table", "from", "to", on_delete, on_update FROM pragma_foreign_key_list(?, 'main') ORDER BY id, seq
"""
_COLUMN_NAMES = "SELECT name, pk FROM pragma_table_xinfo(?, 'main') ORDER BY pk"


def rebuild_table(
    connection: Connection | sqlite3.Connection,
    table: str,
    *,
    add_foreign_keys: Iterable[ForeignKey] = (),
    drop_foreign_keys: Iterable[ForeignKey] = (),
    violations: Violations = "quarantine",
) -> None:
    """Give the table these foreign keys and take those from it, with one copy of its rows; all else stays as it is.

    Rows, rowids, the texts of columns and constraints, indexes, triggers (also those of other tables), views, the mark of
    AUTOINCREMENT and the statistics of ANALYZE are the same afterwards. Runs inside the caller's transaction, with foreign
    keys off; becomes durable with it. No statement of the connection may still be reading from the table.

    Raises DefinitionError for a table or key that does not fit (T311) or a connection that is not ready (T312), and Refused
    where rows cannot be kept exactly (T313, T316), where rows violate a new key (T314; older violations do not count), or
    where keys cannot be checked (T315): then the table is as it was. Refused with T317 says that the result is not what
    it must be; the transaction must then be rolled back. Errors of the driver (a full disk) come out as they are, and mean
    the same.
    """
    driver = _driver_connection(connection)
    with plain_rows(driver):
        _refuse_unless_ready(driver)
        broken = foreign_key_violations(driver)
        old = read_table(driver, table)
        added = tuple(add_foreign_keys)
        wanted = _edited(driver, old, added, tuple(drop_foreign_keys))
        before = schema_texts(driver, old.name)
        new = _make(driver, old, wanted)
        try:
            _refuse_unless_wanted(driver, old, new)
            fill(driver, old, new)
            refused = bool(added) and _breaks_a_key(driver, old, new, refuse=violations == "refuse")
        except Refused:
            run(driver, f"DROP TABLE {new.sql_name}")
            raise
        take_place(driver, old, new)
        refuse_unless_unchanged(driver, old, wanted, before)
        if refused:
            set_aside(driver, broken)


def _driver_connection(connection: Connection | sqlite3.Connection) -> sqlite3.Connection:
    driver = connection if isinstance(connection, sqlite3.Connection) else connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise DefinitionError("T312", problem=f"it is a {type(driver).__module__}.{type(driver).__name__}, not one to SQLite")
    return driver


def _refuse_unless_ready(driver: sqlite3.Connection) -> None:
    if not driver.in_transaction:
        raise DefinitionError("T312", problem="no transaction is open")
    # Read, not set: inside a transaction, setting it does nothing and says nothing.
    if driver.execute("PRAGMA foreign_keys").fetchone() != (0,):
        raise DefinitionError("T312", problem="foreign keys are on: dropping the old table would delete rows that refer to it")


def _edited(driver: sqlite3.Connection, old: Table, add: Sequence[ForeignKey], drop: Sequence[ForeignKey]) -> CreateTable:
    """The text of the table as it is wanted."""
    declared = list(old.text.foreign_keys())
    dropped: list[DeclaredKey] = []
    for key in drop:
        matching = [found for found in declared if _identity(driver, found.key) == _identity(driver, key)]
        if not matching:
            raise DefinitionError("T311", table=old.name, problem=f"it has no key {key} with these actions to drop")
        # The last one: where the same key stands twice, the one that was added later.
        if not matching[-1].spans:
            raise DefinitionError("T311", table=old.name, problem=f"the DEFERRABLE of the key {key} does not stand beside it")
        declared.remove(matching[-1])
        dropped.append(matching[-1])
    there = {_identity(driver, found.key) for found in declared}
    for key in add:
        _refuse_unfit_key(driver, old, key)
        if _identity(driver, key) in there:
            raise DefinitionError("T311", table=old.name, problem=f"it already has the key {key}")
        there.add(_identity(driver, key))
    return old.text.without_keys(dropped).with_keys(add)


def _refuse_unfit_key(driver: sqlite3.Connection, old: Table, key: ForeignKey) -> None:
    for table, columns in ((old.name, key.columns), (key.parent, key.parent_columns)):
        there = {fold(name) for name, _ in driver.execute(_COLUMN_NAMES, (table,)).fetchall()}
        if not there:
            raise DefinitionError("T311", table=old.name, problem=f"the key {key} names a table that does not exist")
        missing = [column for column in columns if fold(column) not in there]
        if missing:
            raise DefinitionError("T311", table=old.name, problem=f"there is no column {table}.{missing[0]} for the key {key}")


def _identity(driver: sqlite3.Connection, key: ForeignKey) -> tuple[object, ...]:
    """What makes two keys the same, whether the parent's columns are named or left to its primary key."""
    primary = (name for name, position in driver.execute(_COLUMN_NAMES, (key.parent,)).fetchall() if position)
    parent_columns = key.parent_columns or tuple(primary)
    names = (tuple(map(fold, key.columns)), fold(key.parent), tuple(map(fold, parent_columns)))
    return (*names, key.on_delete, key.on_update, key.deferred)


def _make(driver: sqlite3.Connection, old: Table, wanted: CreateTable) -> Table:
    """An empty table of the wanted text, under a name that is free."""
    names = {fold(name) for (name,) in driver.execute("SELECT name FROM main.sqlite_schema").fetchall()}
    name, number = f"twinstep_new_{old.name}", 1
    while fold(name) in names:
        number += 1
        name = f"twinstep_new_{number}_{old.name}"
    run(driver, wanted.named(name))
    return describe(driver, name, wanted)


def _refuse_unless_wanted(driver: sqlite3.Connection, old: Table, new: Table) -> None:
    """SQLite's own reading of the edited text must be the same columns and exactly the wanted keys, or T317."""
    if [column.declared for column in new.columns] != [column.declared for column in old.columns]:
        raise Refused("T317", table=old.name, problem="the columns of the new table are others")
    keys: dict[int, ForeignKey] = {}
    for number, parent, column, parent_column, on_delete, on_update in driver.execute(_KEYS, (new.name,)).fetchall():
        known = keys.get(number)
        columns = (*(known.columns if known else ()), column)
        parent_columns = () if parent_column is None else (*(known.parent_columns if known else ()), parent_column)
        keys[number] = ForeignKey(
            columns=columns, parent=parent, parent_columns=parent_columns, on_delete=on_delete, on_update=on_update
        )
    # SQLite does not tell whether a key is deferred.
    wanted = [evolve(declared.key, deferred=False) for declared in new.text.foreign_keys()]
    if Counter(_identity(driver, key) for key in keys.values()) != Counter(_identity(driver, key) for key in wanted):
        raise Refused("T317", table=old.name, problem="the keys of the new table are not the wanted ones")


def _breaks_a_key(driver: sqlite3.Connection, old: Table, new: Table, *, refuse: bool) -> bool:
    """Whether rows break a key that is new; with `refuse`, raise for it (T314).

    Asked of the new table while the old one still stands, to which its keys to itself refer: the rows are the same.
    """
    now = foreign_key_violations(driver, tables=(new.name,))
    if not now:
        return False
    if ForeignKeyViolation(table=new.name) in now:
        raise Refused("T315", table=old.name)
    ours = Counter({evolve(found, table=old.name): count for found, count in now.items()})
    ours -= foreign_key_violations(driver, tables=(old.name,))
    by_key: dict[tuple[str, tuple[str, ...]], Counter[int | None]] = {}
    for found, count in ours.items():
        by_key.setdefault((found.parent, found.columns), Counter())[found.rowid] += count
    if by_key and refuse:
        problems = [
            f"{rows.total()} by the key ({', '.join(columns)}) to {parent}, the first are "
            + "; ".join(_violating_rows(driver, old, new, columns, sorted(rowid for rowid in rows if rowid is not None)))
            for (parent, columns), rows in sorted(by_key.items())
        ]
        raise Refused("T314", table=old.name, problem=", and ".join(problems), rows=ours.total())
    return bool(by_key)


def _violating_rows(
    driver: sqlite3.Connection, old: Table, new: Table, columns: tuple[str, ...], rowids: Sequence[int]
) -> list[str]:
    if old.rowid is not None:
        listed = ", ".join(map(str, rowids[:NAMED_ROWS]))
        return rows_named(driver, old, f"FROM {old.sql_name} o WHERE o.{quoted(old.rowid)} IN ({listed})")
    # Without rowids SQLite counts the rows and does not say which they are.
    key = next(found.key for found in new.text.foreign_keys() if found.key.columns == columns)
    (_, _, parent_columns, *_) = _identity(driver, key)
    assert isinstance(parent_columns, tuple)
    pairs = list(zip(parent_columns, columns, strict=True))
    there = " AND ".join(f"p.{quoted(parent)} = o.{quoted(child)}" for parent, child in pairs)
    given = " AND ".join(f"o.{quoted(child)} IS NOT NULL" for child in columns)
    missing = f"NOT EXISTS (SELECT 1 FROM main.{quoted(key.parent)} p WHERE {there})"
    return rows_named(driver, old, f"FROM {old.sql_name} o WHERE {given} AND {missing} LIMIT {NAMED_ROWS}")
