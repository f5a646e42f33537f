"""Rows into a PostgreSQL database: one statement for many rows, halved where the server refuses it until it is known which
row it was.

References that go round in a circle are put off: a column that may be NULL is NULL at first and is updated when all rows are
there, a key that can be deferred is. Where neither is possible, the session is told not to check keys
(session_replication_role) while that table is filled, which needs its rights; the table's triggers do not fire then.

Must never import SQLAlchemy. Read next: `filling.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import psycopg
from attrs import frozen
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ...migrations.sqlite_text import quoted
from .shape import SEQUENCES, Content, KeyShape, Shape, TableShape
from .standing import admitted, standing

if TYPE_CHECKING:
    from psycopg import Connection, Cursor
    from psycopg.rows import TupleRow

Row: TypeAlias = "Mapping[str, object]"

# The protocol counts parameters in 16 bits.
_MOST_PARAMETERS: Final = 60_000
_MOST_ROWS: Final = 1_000
_ESCAPED: Final = re.compile("[\\\\\x01-\x08\x0b-\x1f\x7f]")
# A CHECK, a key, NOT NULL, no partition; a value that an expression of an index or a trigger cannot read; a function that
# raises; a value too long for an index.
_OF_THE_ROW: Final = (psycopg.IntegrityError, psycopg.DataError, errors.RaiseException, errors.ProgramLimitExceeded)


def fill_postgres(connection: Connection[TupleRow], shape: Shape, content: Content) -> Content:
    """Insert the rows in the transaction of the connection, which is begun if there is none, and return those it admitted.

    Constraints are checked at once from here to the end of the transaction. Sequences of serial and identity columns are set
    above the rows, and stay there also if all is rolled back.
    """
    rows: Content = {name: each for name, each in standing(shape, content, dangling=True).items() if name != SEQUENCES}
    with connection.cursor(row_factory=tuple_row) as cursor:
        if connection.autocommit and connection.info.transaction_status is TransactionStatus.IDLE:
            cursor.execute(b"BEGIN")
        complete = False
        while not complete:
            cursor.execute(b"SAVEPOINT twinstep_filling")
            # Not complete where a row fell that others refer to which came before it: then all is done again without.
            rows, complete = _Filling(cursor, shape).fill(rows)
            if not complete:
                cursor.execute(b"ROLLBACK TO twinstep_filling")
            cursor.execute(b"RELEASE twinstep_filling")
        if statements := sequence_statements(shape, rows):
            cursor.execute("; ".join(statements).encode())
    return rows


@frozen(kw_only=True)
class PutOff:
    """What of one table waits until all rows are there: columns that are NULL at first, keys that are deferred; or, where it
    cannot wait, that keys are not checked at all."""

    columns: tuple[str, ...] = ()
    keys: tuple[KeyShape, ...] = ()
    unchecked: bool = False


def put_off(shape: Shape) -> Mapping[str, PutOff]:
    """By table, what waits for tables that are filled later."""
    before, found = set[str](), dict[str, PutOff]()
    for table in shape.tables:
        before.add(table.name)
        waiting = [
            key for key in table.foreign_keys if key.enforced and key.parent not in before and key.parent in shape.by_name
        ]
        nullable = {key: _can_be_null(table, key) for key in waiting}
        rest = [key for key in waiting if not nullable[key]]
        found[table.name] = PutOff(
            columns=tuple(dict.fromkeys(name for names in nullable.values() for name in names)),
            keys=tuple(key for key in rest if key.deferrable),
            unchecked=any(not key.deferrable for key in rest),
        )
    return found


def _can_be_null(table: TableShape, key: KeyShape) -> tuple[str, ...]:
    # Without a primary key the row is not found again.
    if not table.primary_key:
        return ()
    names = tuple(name for name in key.columns if table.by_name[name].nullable)
    return names if not key.match_full or len(names) == len(key.columns) else ()


def insert_statement(table: TableShape, names: Sequence[str], rows: Sequence[Row], value: Callable[[object, str], str]) -> str:
    """An INSERT of several rows; `value` writes a value of a type down. A column that a row does not have is its default."""
    # A row of defaults only still needs a column.
    listed = names or [column.name for column in table.columns][:1]
    if not listed:
        return "; ".join(f"INSERT INTO {table.sql_name} DEFAULT VALUES" for _ in rows)
    types = {name: table.by_name[name].type for name in listed}
    written = (", ".join(value(row[name], types[name]) if name in row else "DEFAULT" for name in listed) for row in rows)
    lines = ",\n".join(f"  ({line})" for line in written)
    return f"INSERT INTO {table.sql_name} ({', '.join(map(quoted, listed))}) OVERRIDING SYSTEM VALUE VALUES\n{lines}"


def update_statement(table: TableShape, names: Sequence[str], row: Row, value: Callable[[object, str], str]) -> str:
    """An UPDATE that gives one row what was put off."""

    def written(names: Sequence[str]) -> list[str]:
        return [f"{quoted(name)} = {value(row[name], table.by_name[name].type)}" for name in names]

    return f"UPDATE {table.sql_name} SET {', '.join(written(names))} WHERE {' AND '.join(written(table.primary_key))}"


def sequence_statements(shape: Shape, content: Content) -> list[str]:
    """One statement for each sequence that belongs to a column of a table with rows: it goes on above them, and never back."""
    return [
        f"SELECT setval({sequence}::regclass, least(high, seqmax)) FROM (SELECT max({quoted(column.name)})::bigint AS high"
        f" FROM {table.sql_name}) AS rows, {column.sequence} AS now, pg_sequence"
        f" WHERE seqrelid = {sequence}::regclass AND seqincrement > 0 AND high >= last_value"
        for table in shape.tables
        for column in table.columns
        if column.sequence and content.get(table.name)
        for sequence in [literal(column.sequence)]
    ]


def literal(text: str) -> str:
    """The text as a string constant, whatever standard_conforming_strings says of backslashes."""
    inner = text.replace("'", "''")
    if not _ESCAPED.search(text):
        return f"'{inner}'"
    return "E'" + _ESCAPED.sub(lambda found: "\\\\" if found.group() == "\\" else f"\\x{ord(found.group()):02x}", inner) + "'"


class _Filling:
    """One attempt to insert everything."""

    def __init__(self, cursor: Cursor[TupleRow], shape: Shape) -> None:
        self._cursor = cursor
        self._shape = shape
        self._put_off = put_off(shape)

    def fill(self, content: Content) -> tuple[Content, bool]:
        """What of the rows may stand, and whether that is what is in the database now."""
        self._cursor.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
        deferred = [key.name for each in self._put_off.values() for key in each.keys]
        if deferred:
            self._cursor.execute(f"SET CONSTRAINTS {', '.join(deferred)} DEFERRED".encode())
        rows, complete = admitted(self._shape, content, self._insert, dangling=True)
        if not complete:
            return rows, False
        refused = self._update(rows)
        if refused:
            left = {name: tuple(row for row in each if id(row) not in refused) for name, each in rows.items()}
            return standing(self._shape, left, dangling=True), False
        self._cursor.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
        return rows, True

    def _insert(self, table: TableShape, rows: Sequence[Row]) -> Sequence[Row]:
        waits = self._put_off[table.name]
        if waits.unchecked:
            self._cursor.execute(b"SET LOCAL session_replication_role = replica")
        size = max(1, min(_MOST_ROWS, _MOST_PARAMETERS // max(1, len(table.columns))))
        parts = (rows[start : start + size] for start in range(0, len(rows), size))
        taken = [row for part in parts for row in self._taken(table, part, waits.columns)]
        if waits.unchecked:
            self._cursor.execute(b"SET LOCAL session_replication_role = origin")
        return taken

    def _taken(self, table: TableShape, rows: Sequence[Row], withheld: Sequence[str]) -> Iterator[Row]:
        first = [{**row, **{name: None for name in withheld if name in row}} for row in rows] if withheld else rows
        names = [column.name for column in table.columns if any(column.name in row for row in first)]
        values = [row[name] for row in first for name in names if name in row]
        if self._succeeds(insert_statement(table, names, first, _parameter), values, len(rows)):
            yield from rows
        elif len(rows) > 1:
            middle = len(rows) // 2
            yield from self._taken(table, rows[:middle], withheld)
            yield from self._taken(table, rows[middle:], withheld)

    def _update(self, content: Content) -> set[int]:
        """Give the rows what was put off; which of them the server refuses."""
        refused = set()
        for table in self._shape.tables:
            names = self._put_off[table.name].columns
            for row in content.get(table.name, ()) if names else ():
                given = [name for name in names if row.get(name) is not None]
                values = [row[name] for name in (*given, *table.primary_key)]
                if given and not self._succeeds(update_statement(table, given, row, _parameter), values, 1):
                    refused.add(id(row))
        return refused

    def _succeeds(self, statement: str, values: Sequence[object], rows: int) -> bool:
        self._cursor.execute(b"SAVEPOINT twinstep_rows")
        try:
            texts = [value if value is None or isinstance(value, str) else str(value) for value in values]
            placed = statement.replace("%", "%%").replace(_PLACE, "%s") if texts else statement
            self._cursor.execute(placed.encode(), texts or None, prepare=False)
            # A trigger may leave a row out without an error.
            succeeded = self._cursor.rowcount == rows
        except _OF_THE_ROW:
            succeeded = False
        if not succeeded:
            self._cursor.execute(b"ROLLBACK TO twinstep_rows")
        self._cursor.execute(b"RELEASE twinstep_rows")
        return succeeded


# No name has a NUL in it, but it may have a percent sign.
_PLACE: Final = "\0"


def _parameter(value: object, kind: str) -> str:
    return f"{_PLACE}::text::{kind}"
