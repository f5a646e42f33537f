"""Rows into an SQLite database, one by one, each in a savepoint.

Must never import SQLAlchemy. Read next: `filling.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from ...migrations.row_values import RawText, SqlValue
from ...migrations.sqlite_catalogue import plain_rows
from ...migrations.sqlite_text import quoted
from .shape import SEQUENCES, Content, Shape, TableShape
from .standing import admitted, leads_nowhere, standing

# Of a statement that was explained before, and so is right: a function that the row's values do not suit, a value too large.
_OF_THE_ROW = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT})
_PRIMARY_CODE = 0xFF


def fill_sqlite(connection: sqlite3.Connection, shape: Shape, content: Content) -> Content:
    """Insert the rows in the transaction of the connection, which is begun if there is none, and return those it admitted.

    Foreign keys are put off until the commit. Where references lead to nothing they are switched off, and stay off on this
    connection: SQLite does not switch them inside a transaction. In one that has begun with keys on, such rows are refused.
    Marks of AUTOINCREMENT are raised, never lowered.
    """
    marks = content.get(SEQUENCES, ())
    with plain_rows(connection):
        enforced = _begun(connection, dangling=leads_nowhere(shape, content))
        rows = {name: each for name, each in standing(shape, content, dangling=not enforced).items() if name != SEQUENCES}
        complete = False
        while not complete:
            connection.execute("SAVEPOINT twinstep_filling")
            inserting = _Inserting(connection)
            # Not complete where a row fell that others refer to which came before it: then all is done again without.
            found, complete = admitted(shape, rows, inserting.insert, dangling=not enforced)
            rows = dict(found)
            if not complete:
                connection.execute("ROLLBACK TO twinstep_filling")
            connection.execute("RELEASE twinstep_filling")
        _raise_marks(connection, marks)
    return rows | {SEQUENCES: marks} if marks else rows


def _begun(connection: sqlite3.Connection, *, dangling: bool) -> bool:
    """Whether the keys are enforced in the transaction that is open now."""
    if dangling and not connection.in_transaction:
        connection.execute("PRAGMA foreign_keys = OFF")
    if not connection.in_transaction:
        connection.execute("BEGIN")
    (enforced,) = connection.execute("PRAGMA foreign_keys").fetchone()
    if enforced:
        connection.execute("PRAGMA defer_foreign_keys = ON")
    return bool(enforced)


class _Inserting:
    """The statements that were found to be right so far, and what they insert."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._right: set[str] = set()

    def insert(self, table: TableShape, rows: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
        """The rows that the table took."""
        return [row for row in rows if self._takes(table, row)]

    def _takes(self, table: TableShape, row: Mapping[str, object]) -> bool:
        values = [_value(value) for value in row.values()]
        statement = insert_statement(table, row, ["CAST(? AS TEXT)" if isinstance(each, RawText) else "?" for each in values])
        bound: list[SqlValue] = [bytes(value) if isinstance(value, RawText) else value for value in values]
        if statement not in self._right:
            self._connection.execute(f"EXPLAIN {statement}", bound).fetchall()
            self._right.add(statement)
        self._connection.execute("SAVEPOINT twinstep_row")
        try:
            # A trigger or ON CONFLICT IGNORE may leave it out without an error.
            taken = self._connection.execute(statement, bound).rowcount == 1
        except sqlite3.Error as error:
            if not self._connection.in_transaction or error.sqlite_errorcode & _PRIMARY_CODE not in _OF_THE_ROW:
                raise
            taken = False
        if not taken:
            self._connection.execute("ROLLBACK TO twinstep_row")
        self._connection.execute("RELEASE twinstep_row")
        return taken


def insert_statement(table: TableShape, names: Iterable[str], values: Iterable[str]) -> str:
    """An INSERT of one row; without columns, one of defaults only."""
    listed = ", ".join(map(quoted, names))
    return f"INSERT INTO {table.sql_name} " + (f"({listed}) VALUES ({', '.join(values)})" if listed else "DEFAULT VALUES")


def _value(value: object) -> SqlValue | RawText:
    if isinstance(value, str):
        # Half characters are no UTF-8, and the driver takes them in no other way.
        return value if value.isascii() or not _has_halves(value) else RawText(value.encode("utf-8", "surrogatepass"))
    if value is None or isinstance(value, int | float | bytes):
        return value
    raise TypeError(f"not a value of SQLite: {value!r}")


def _has_halves(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _raise_marks(connection: sqlite3.Connection, marks: Iterable[Mapping[str, object]]) -> None:
    for mark in marks:
        values = (mark["seq"], mark["name"])
        done = connection.execute("UPDATE main.sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", values)
        if not done.rowcount:
            connection.execute("INSERT INTO main.sqlite_sequence (seq, name) VALUES (?, ?)", values)
