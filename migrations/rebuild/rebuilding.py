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
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar, cast

from attrs import evolve, frozen

from ...events.errors import DefinitionError, Refused, TwinstepError
from ...stores.explanation import Explanation, explain
from ...stores.local_connection import restore_foreign_keys, set_foreign_keys_off
from ...stores.local_guard import put_back_first
from ..accounting.structure import read_structure
from ..create_table import CreateTable, DeclaredKey, ForeignKey
from ..quarantine import set_aside
from ..sqlite_catalogue import ForeignKeyViolation, foreign_key_violations, plain_rows
from ..sqlite_table import Column, Table, describe, read_table, run
from ..sqlite_text import fold, quoted
from ..sqlite_working import all_working
from .copying import NAMED_ROWS, fill, rows_named
from .editing import (
    column_of,
    with_changed_column,
    with_columns,
    with_constraints,
    with_options,
    without_columns,
    without_constraints,
)
from .placing import refuse_unless_unchanged, schema_texts, take_place
from .reshaping import refill

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["ForeignKey", "Violations", "rebuild_table", "rebuilding"]

Violations: TypeAlias = Literal["quarantine", "refuse"]

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
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
    add_columns: Iterable[str] = (),
    drop_columns: Iterable[str] = (),
    rename_columns: Mapping[str, str] = _NOTHING,
    change_columns: Mapping[str, str] = _NOTHING,
    add_constraints: Iterable[str] = (),
    drop_constraints: Iterable[str] = (),
    strict: bool | None = None,
    without_rowid: bool | None = None,
    values: Mapping[str, str] = _NOTHING,
    drop_objects: Iterable[str] = (),
    violations: Violations = "quarantine",
) -> None:
    """Give the table another definition, with one copy of its rows; all that is not named stays as it is.

    Columns are definitions as in CREATE TABLE ("due INTEGER NOT NULL DEFAULT 0"); `change_columns` maps a name to the whole
    new definition, `rename_columns` old names to new ones, which all other arguments use. Constraints are texts
    ("CHECK (due > 0)"); those to drop are named, or given as they stand. `values` maps a column to an SQL expression over the
    old row: only where one is given may a value change. `drop_objects` names indexes, triggers and views that go along because
    a dropped column is in them. None for an option leaves it. With `violations` "quarantine", rows that a new key refuses are
    set aside (docs/quarantine.md), with "refuse" they refuse it.

    Rows, rowids, the texts of columns and constraints, indexes, triggers (also those of other tables), views, the mark of
    AUTOINCREMENT and the statistics of ANALYZE are the same afterwards. Runs inside the caller's transaction, with foreign
    keys off; becomes durable with it. No statement of the connection may still be reading from the table.

    Raises DefinitionError for what does not fit (T311) or a connection that is not ready (T312), and Refused where rows
    cannot be kept exactly (T313, T316), where rows violate a new key (T314) or cannot be set aside (T342), where keys cannot be
    checked (T315), or where the result is not what it must be (T317). The table and all else are then as they were. Errors of
    the driver (a full disk) come out as they are; the transaction must then be rolled back.
    """
    driver = _driver_connection(connection)
    if violations not in ("quarantine", "refuse"):
        raise DefinitionError("T311", table=table, problem=f"violations is 'quarantine' or 'refuse', not {violations!r}")
    wish = _Wish(
        add_foreign_keys=_several(add_foreign_keys),
        drop_foreign_keys=_several(drop_foreign_keys),
        add_columns=_several(add_columns),
        drop_columns=_several(drop_columns),
        rename_columns=rename_columns,
        change_columns=change_columns,
        add_constraints=_several(add_constraints),
        drop_constraints=_several(drop_constraints),
        strict=strict,
        without_rowid=without_rowid,
        values=values,
        drop_objects=_several(drop_objects),
        refuse=violations == "refuse",
    )
    with plain_rows(driver):
        _refuse_unless_ready(driver)
        with _undone_if_refused(driver):
            put_back_first(driver, table)
            explanation = _rebuilt(driver, table, wish)
    explain(driver, explanation)


def _several(given: Given | Iterable[Given]) -> tuple[Given, ...]:
    """One may be given alone: a text is no list of letters."""
    return (cast("Given", given),) if isinstance(given, (str, ForeignKey)) else tuple(cast("Iterable[Given]", given))


Given = TypeVar("Given")
_OF_TABLE = "FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"


@frozen(kw_only=True)
class _Wish:
    """What is asked for."""

    add_foreign_keys: tuple[ForeignKey, ...]
    drop_foreign_keys: tuple[ForeignKey, ...]
    add_columns: tuple[str, ...]
    drop_columns: tuple[str, ...]
    rename_columns: Mapping[str, str]
    change_columns: Mapping[str, str]
    add_constraints: tuple[str, ...]
    drop_constraints: tuple[str, ...]
    strict: bool | None
    without_rowid: bool | None
    values: Mapping[str, str]
    drop_objects: tuple[str, ...]
    refuse: bool

    @property
    def only_keys(self) -> bool:
        """Whether nothing but foreign keys is to change, so that the rows can be moved as they lie on disk."""
        shape = (self.add_columns, self.drop_columns, self.change_columns, self.add_constraints, self.drop_constraints)
        return not any((*shape, self.values)) and self.strict is None and self.without_rowid is None


def _rebuilt(driver: sqlite3.Connection, table: str, wish: _Wish) -> Explanation:
    worked = all_working(driver)
    gone = _drop_objects(driver, table, wish.drop_objects)
    promised = _promises(driver, table)
    _rename_columns(driver, table, wish.rename_columns)
    broken = foreign_key_violations(driver)
    old = read_table(driver, table)
    wanted = _edited(driver, old, wish)
    before = schema_texts(driver, old.name)
    new = _make(driver, old, wanted)
    _refuse_unless_wanted(driver, old, new, wish)
    if wish.only_keys:
        fill(driver, old, new)
    else:
        refill(driver, old, new, wish.values)
    # A key may also come as a constraint, or with a column.
    more_keys = len(wanted.foreign_keys()) > len(old.text.foreign_keys()) or bool(wish.add_foreign_keys)
    refused = more_keys and _breaks_a_key(driver, old, new, refuse=wish.refuse)
    take_place(driver, old, new)
    refuse_unless_unchanged(driver, old, wanted, before, only_keys=wish.only_keys)
    _refuse_broken_dependents(driver, old, worked - set(gone))
    if refused:
        set_aside(driver, broken)
    return Explanation(
        table=old.name,
        columns_changed=tuple(wish.values),
        columns_removed=wish.drop_columns,
        objects_removed=gone,
        definition_changed=True,
        page=_page(driver, old.name),
        promised=promised,
        promises=_promises(driver, old.name),
    )


def _promises(driver: sqlite3.Connection, table: str) -> Counter[str]:
    """What the table promises; nothing where it is none that can be rebuilt, which is refused a little later."""
    found = driver.execute(f"SELECT name, sql {_OF_TABLE}", (table,)).fetchone()
    structure = None if found is None else read_structure(driver, *found)
    return Counter() if structure is None else structure.promises


def _page(driver: sqlite3.Connection, table: str) -> int:
    (page,) = driver.execute(f"SELECT rootpage {_OF_TABLE}", (table,)).fetchone()
    return int(page)


@contextmanager
def _undone_if_refused(driver: sqlite3.Connection) -> Iterator[None]:
    run(driver, "SAVEPOINT twinstep_rebuild")
    try:
        yield
    except TwinstepError:
        run(driver, "ROLLBACK TO twinstep_rebuild")
        run(driver, "RELEASE twinstep_rebuild")
        raise
    run(driver, "RELEASE twinstep_rebuild")


@contextmanager
def rebuilding(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A transaction to rebuild tables in, for use without a migration: foreign keys off before BEGIN IMMEDIATE, back after.

    Committed at the end, rolled back where anything is raised. Raises DefinitionError (T312) where a transaction is open
    already, since foreign keys could not be switched off in it.
    """
    if connection.in_transaction:
        raise DefinitionError("T312", problem="a transaction is open already")
    level, connection.isolation_level = connection.isolation_level, None
    was_on = set_foreign_keys_off(connection)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        restore_foreign_keys(connection, was_on)
        connection.isolation_level = level


def _drop_objects(driver: sqlite3.Connection, table: str, names: Iterable[str]) -> tuple[str, ...]:
    """Drop the named indexes, triggers and views; "kind name" of each."""
    query = "SELECT type, name FROM main.sqlite_schema WHERE type <> 'table' AND name = ? COLLATE NOCASE AND sql IS NOT NULL"
    gone = []
    for name in names:
        found = driver.execute(query, (name,)).fetchone()
        if found is None:
            raise DefinitionError("T311", table=table, problem=f"there is no index, trigger or view {name} to drop")
        kind, exact = found
        run(driver, f"DROP {kind} main.{quoted(exact)}")
        gone.append(f"{kind} {exact}")
    return tuple(gone)


def _rename_columns(driver: sqlite3.Connection, table: str, renames: Mapping[str, str]) -> None:
    """SQLite's own renaming: it follows the name into keys, indexes, triggers and views."""
    for old, new in renames.items():
        try:
            run(driver, f"ALTER TABLE main.{quoted(table)} RENAME COLUMN {quoted(old)} TO {quoted(new)}")
        except sqlite3.OperationalError as error:
            raise DefinitionError("T311", table=table, problem=str(error)) from error


def _refuse_broken_dependents(driver: sqlite3.Connection, old: Table, worked: set[str]) -> None:
    """Raise DefinitionError (T311) for views and triggers that worked before and do not with the new columns."""
    broken = sorted(worked - all_working(driver))
    if broken:
        problem = f"{', '.join(broken)} would not work any more; name them in drop_objects, and make them anew afterwards"
        raise DefinitionError("T311", table=old.name, problem=problem)


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


def _edited(driver: sqlite3.Connection, old: Table, wish: _Wish) -> CreateTable:
    """The text of the table as it is wanted."""
    text = _without_keys(driver, old, wish.drop_foreign_keys)
    text = without_constraints(text, wish.drop_constraints, old.name)
    text = with_columns(text, wish.add_columns, old.name)
    text = without_columns(text, wish.drop_columns, old.name)
    for name, definition in wish.change_columns.items():
        text = with_changed_column(text, name, definition, old.name)
    text = with_constraints(text, wish.add_constraints, old.name)
    text = with_options(text, strict=wish.strict, without_rowid=wish.without_rowid, table=old.name)
    columns = {fold(item.column) for item in text.items() if item.column}
    there = {_identity(driver, found.key) for found in text.foreign_keys()}
    for key in wish.add_foreign_keys:
        _refuse_unfit_key(driver, old, key, columns)
        if _identity(driver, key) in there:
            raise DefinitionError("T311", table=old.name, problem=f"it already has the key {key}")
        there.add(_identity(driver, key))
    return text.with_keys(wish.add_foreign_keys)


def _without_keys(driver: sqlite3.Connection, old: Table, drop: Sequence[ForeignKey]) -> CreateTable:
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
    return old.text.without_keys(dropped)


def _refuse_unfit_key(driver: sqlite3.Connection, old: Table, key: ForeignKey, own: Set[str]) -> None:
    for table, columns in ((old.name, key.columns), (key.parent, key.parent_columns)):
        itself = fold(table) == fold(old.name)
        there = own if itself else {fold(name) for name, _ in driver.execute(_COLUMN_NAMES, (table,)).fetchall()}
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
    try:
        run(driver, wanted.named(name))
    except sqlite3.OperationalError as error:
        raise DefinitionError("T311", table=old.name, problem=f"{error}; it would read {wanted.sql}") from error
    return describe(driver, name, wanted)


def _refuse_unless_wanted(driver: sqlite3.Connection, old: Table, new: Table, wish: _Wish) -> None:
    """SQLite's own reading of the edited text must be the wanted columns and exactly the wanted keys, or T317."""
    dropped, changed = set(map(fold, wish.drop_columns)), set(map(fold, wish.change_columns))
    added = [fold(column_of(definition, old.name)) for definition in wish.add_columns]
    names = [fold(column.name) for column in old.columns if fold(column.name) not in dropped] + added
    same = {fold(column.name): _as_declared(column, wish) for column in old.columns if fold(column.name) not in changed}
    read = {fold(column.name): _as_declared(column, wish) for column in new.columns}
    if [fold(column.name) for column in new.columns] != names or any(
        read[name] != declared for name, declared in same.items() if name not in dropped
    ):
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


def _as_declared(column: Column, wish: _Wish) -> tuple[object, ...]:
    """What SQLite says of a column; its place in the primary key and NOT NULL follow from other constraints and options."""
    name, key_position, kind, required, *rest = column.declared
    elsewhere = not wish.only_keys
    return (name, 0 if elsewhere else key_position, kind, 0 if elsewhere and column.key_position else required, *rest)


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
