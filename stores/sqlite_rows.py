"""Between the tables of a log in SQLite and our values: every statement that reads or writes a row of one.

All functions take the caller's connection and leave its transaction alone. Read next: `sqlite_events.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final

from attrs import fields

from ..events.chain import GENESIS
from ..events.errors import LogDamaged
from ..events.projections import ROW_TYPES, Row, columns_of, project, rebuild
from ..events.types import Event, Recorded
from .claims import Claim
from .sqlite_schema import READ_TABLES

_COLUMNS: Final = tuple(attribute.name for attribute in fields(Recorded))
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM twinstep_events"
_INSERT: Final = f"INSERT INTO twinstep_events ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_TYPES: Final = [str, int, int, str, int, str, str, str, str]
_values_of: Final = attrgetter(*_COLUMNS)
_BATCH: Final = 1000


def bindable(text: str) -> str | bytes:
    """The text as SQLite takes it. A path may hold half characters, which UTF-8 cannot: then bytes, which equal no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def head(connection: sqlite3.Connection, stream: str) -> tuple[int, str]:
    """The version and hash of a stream's last event, (0, GENESIS) for an unknown stream."""
    statement = "SELECT version, hash FROM twinstep_events WHERE stream = ? ORDER BY version DESC LIMIT 1"
    found = connection.execute(statement, (stream,)).fetchone()
    return (0, GENESIS) if found is None else (found[0], found[1])


def last_position(connection: sqlite3.Connection) -> int:
    """The position of the last event, 0 in an empty log."""
    found = connection.execute("SELECT max(position) FROM twinstep_events").fetchone()
    return found[0] or 0


def counted(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many events there are, and the position of the last: equal where none is missing."""
    events, last = connection.execute("SELECT count(*), coalesce(max(position), 0) FROM twinstep_events").fetchone()
    return events, last


def insert_events(connection: sqlite3.Connection, records: Sequence[Recorded]) -> None:
    """Insert records; the insert trigger raises sqlite3.IntegrityError where one does not follow the last of its stream."""
    for record in records:
        connection.execute(_INSERT, _values_of(record))


def hold_claim(connection: sqlite3.Connection, claim: Claim) -> None:
    """Write the token of a new claim; of one that was written, raise LostLock (T403) where another one took its place."""
    if claim.is_new:
        connection.execute("INSERT OR REPLACE INTO twinstep_claims (pair, token) VALUES (?, ?)", (claim.pair, claim.token))
        return
    found = connection.execute("SELECT token FROM twinstep_claims WHERE pair = ?", (claim.pair,)).fetchone()
    claim.check(None if found is None else found[0])


def stream_records(connection: sqlite3.Connection, stream: str, after: int) -> list[Recorded]:
    """The records of one stream, in order."""
    found = connection.execute(f"{_SELECT} WHERE stream = ? AND version > ? ORDER BY version", (bindable(stream), after))
    return [_record(values) for values in found]


def next_records(connection: sqlite3.Connection, after: int) -> list[Recorded]:
    """Up to a thousand records that follow a position, in order."""
    found = connection.execute(f"{_SELECT} WHERE position > ? ORDER BY position LIMIT {_BATCH}", (after,))
    return [_record(values) for values in found]


def stream_names(connection: sqlite3.Connection) -> list[str]:
    """All streams, in order of their first event."""
    # Grouped, not "where version = 1": a stream whose first event was removed must not vanish from a check.
    found = connection.execute("SELECT stream FROM twinstep_events GROUP BY stream ORDER BY min(position)")
    names = [stream for (stream,) in found]
    for name in names:
        if type(name) is not str:
            raise LogDamaged("T501", stream=name, version=1, problem="its stream has no name")
    return names


def put_rows_of(connection: sqlite3.Connection, record: Recorded, event: Event) -> None:
    """Let the read tables follow one event."""
    for row in project(record, event, partial(_find_row, connection)):
        _put_row(connection, row)


def all_rows(connection: sqlite3.Connection, table: str) -> list[Row]:
    """All rows of a read table, in the order in which they first appeared; read from the log where the table was dropped."""
    columns, kind = columns_of(table), ROW_TYPES[table]
    if table in missing_read_tables(connection):
        return [row for row in rebuild(_all_records(connection)).values() if isinstance(row, kind)]
    # An upsert keeps a row's rowid, and with it its place.
    found = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid")
    return [_row(table, columns, values) for values in found]


def make_rows_again(connection: sqlite3.Connection) -> None:
    """Drop the read tables, make them, and fill them from the log."""
    for table in ROW_TYPES:
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in READ_TABLES:
        connection.execute(statement)
    for row in rebuild(_all_records(connection)).values():
        _put_row(connection, row)


def table_names(connection: sqlite3.Connection) -> set[str]:
    """The tables in the file, apart from SQLite's own."""
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite#_%' ESCAPE '#'")
    return {name for (name,) in found}


def missing_read_tables(connection: sqlite3.Connection) -> set[str]:
    """The read tables that somebody dropped."""
    return ROW_TYPES.keys() - table_names(connection)


def _all_records(connection: sqlite3.Connection) -> Iterator[Recorded]:
    after = 0
    while batch := next_records(connection, after):
        yield from batch
        after = batch[-1].position


def _record(values: tuple[Any, ...]) -> Recorded:
    if [*map(type, values)] != _TYPES:
        # SQLite keeps any type in any column; an edit may have left another one than was written.
        raise LogDamaged("T501", stream=values[0], version=values[1], problem="a column holds another type of value")
    return Recorded(**dict(zip(_COLUMNS, values, strict=True)))


def _find_row(connection: sqlite3.Connection, table: str, pair: str, id: str) -> Row | None:
    values = connection.execute(_FIND[table], (pair, id)).fetchone()
    return None if values is None else _row(table, columns_of(table), values)


def _put_row(connection: sqlite3.Connection, row: Row) -> None:
    connection.execute(_PUT[row.TABLE], _values_of_row[row.TABLE](row))


def _row(table: str, columns: tuple[str, ...], values: tuple[Any, ...]) -> Row:
    return ROW_TYPES[table](**dict(zip(columns, values, strict=True)))


def _find_statement(table: str) -> str:
    return f"SELECT {', '.join(columns_of(table))} FROM {table} WHERE pair = ? AND id = ?"


def _put_statement(table: str) -> str:
    columns, key = columns_of(table), ROW_TYPES[table].KEY
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)
    values = ", ".join("?" * len(columns))
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    )


_FIND: Final = {table: _find_statement(table) for table in ROW_TYPES}
_PUT: Final = {table: _put_statement(table) for table in ROW_TYPES}
_values_of_row: Final = {table: attrgetter(*columns_of(table)) for table in ROW_TYPES}
