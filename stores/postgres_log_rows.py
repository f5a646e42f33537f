"""Between the tables of a log in PostgreSQL and our values: every statement that reads or writes a row of one.

All functions take the caller's connection, which is in autocommit; each is one round trip. Where the isolation level of a
session is not known, a writing statement goes to the server with its values in it, in one message (the simple protocol) that
begins with the level that it needs. On a `plain` session, which is ours alone and has that level by itself, an append is a
prepared statement.

Raises the driver's errors; `postgres_log.py` turns them into ours. Read next: `postgres_events.py`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg
from attrs import fields, frozen

from ..events.projections import ROW_TYPES, Row, RowKey, columns_of, key_of, project
from ..events.types import Event, Recorded
from .claims import Claim
from .postgres_log_schema import READ_TABLES, WRITING

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    Remote: TypeAlias = psycopg.Connection[TupleRow]

_COLUMNS: Final = tuple(attribute.name for attribute in fields(Recorded))
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM twinstep.events"
_BATCH: Final = 1000
_APPEND: Final = (
    "SELECT outcome, last, at_version, at_hash FROM twinstep.append("
    "%(stream)s, %(expected_version)s, %(expected_hash)s, %(types)s::text[], %(schema_versions)s::integer[], %(recorded_at)s, "
    "%(payloads)s::text[], %(hashes)s::text[], %(pair_position)s, "
    + "".join(f"%({table})s::json, " for table in ROW_TYPES)
    + "%(token)s, %(is_new)s, %(milliseconds)s)"
)
_KNOW_PAIR: Final = f"{WRITING}; SELECT pair FROM twinstep.know_pair(%s, %s)"
_REPLACE: Final = (
    f"{WRITING}; {READ_TABLES} SELECT twinstep.replace_rows(%(up_to)s"
    + "".join(f", %({table})s::json" for table in ROW_TYPES)
    + ")"
)
# One snapshot for the four of them.
_PAIR_ROWS: Final = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; "
    "SELECT coalesce(max(position), 0) FROM twinstep.events WHERE split_part(stream, '/', 1) = %(pair)s; "
    + "; ".join(f"SELECT {', '.join(columns_of(table))} FROM twinstep.{table} WHERE pair = %(pair)s" for table in ROW_TYPES)
)


@frozen(kw_only=True)
class PairRows:
    """The rows of one pair as they stood after the event at `position`, 0 before its first one."""

    position: int
    rows: Mapping[RowKey, Row]


@frozen(kw_only=True)
class Order:
    """What is to be appended, and where: the same however often it has to be sent."""

    records: Sequence[Recorded]
    events: Sequence[Event]
    expected_version: int
    expected_hash: str
    claim: Claim | None

    @property
    def stream(self) -> str:
        """The stream that it is for."""
        return self.records[0].stream


@frozen(kw_only=True)
class Answer:
    """What the server did with an order. `last` is the position of the log's last event before it."""

    outcome: str
    last: int
    version: int
    hash: str


def storable(text: str) -> bool:
    """Whether PostgreSQL can hold the text at all: not with NUL or half characters in it."""
    return "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)


def stored_key(key: str) -> str:
    """The key of a pair as text that PostgreSQL can hold. No two keys become the same."""
    if storable(key) and not key.startswith("\\x"):
        return key
    return "\\x" + key.encode("utf-8", "surrogatepass").hex()


def changed_rows(order: Order, known: PairRows) -> dict[RowKey, tuple[int, Row]]:
    """The rows that the order changes, as they are after it, each with the number of the event that changed it first."""
    changed: dict[RowKey, tuple[int, Row]] = {}

    def find(table: str, pair: str, id: str) -> Row | None:
        key = table, pair, id
        return changed[key][1] if key in changed else known.rows.get(key)

    for number, (record, event) in enumerate(zip(order.records, order.events, strict=True), start=1):
        for row in project(record, event, find):
            first, _ = changed.get(key_of(row), (number, row))
            changed[key_of(row)] = first, row
    return changed


def counted(connection: Remote) -> tuple[int, int]:
    """How many events there are, and the position that was handed out last; the same in a whole log."""
    found = connection.execute("SELECT count(*), (SELECT last_position FROM twinstep.log) FROM twinstep.events").fetchone()
    return (0, 0) if found is None else (int(found[0]), int(found[1]))


def append(
    connection: Remote,
    *,
    order: Order,
    changed: Mapping[RowKey, tuple[int, Row]],
    pair_position: int,
    wait_seconds: float,
    plain: bool,
) -> Answer:
    """Append in one commit, or learn why not. Waits for other writers for so long; then LockNotAvailable is raised."""
    claim = order.claim
    values = {
        "stream": order.stream,
        "expected_version": order.expected_version,
        "expected_hash": order.expected_hash,
        "types": _array(record.type for record in order.records),
        "schema_versions": _array(str(record.schema_version) for record in order.records),
        "recorded_at": order.records[0].recorded_at,
        "payloads": _array(record.payload for record in order.records),
        "hashes": _array(record.hash for record in order.records),
        "pair_position": pair_position,
        "token": None if claim is None else claim.token,
        "is_new": claim is not None and claim.is_new,
        "milliseconds": max(1, round(1000 * wait_seconds)),
        **_as_json(changed.values()),
    }
    if plain:
        (found,) = connection.execute(_APPEND.encode(), values, prepare=True).fetchall()
    else:
        (found,) = _in_one_message(connection, f"{WRITING}; {_APPEND}", values)[1]
    return Answer(outcome=found[0], last=found[1], version=found[2] or 0, hash=found[3] or "")


def stream_records(connection: Remote, stream: str, after: int) -> list[Recorded]:
    """The records of one stream, in order."""
    query = f"{_SELECT} WHERE stream = %s AND version > %s ORDER BY version"
    return [_record(values) for values in connection.execute(query.encode(), (stream, after))]


def record_at(connection: Remote, stream: str, version: int) -> Recorded | None:
    """The record of a stream at that version, or None."""
    found = connection.execute(f"{_SELECT} WHERE stream = %s AND version = %s".encode(), (stream, version)).fetchone()
    return None if found is None else _record(found)


def next_records(connection: Remote, after: int) -> list[Recorded]:
    """Up to a thousand records that follow a position, in order."""
    query = f"{_SELECT} WHERE position > %s ORDER BY position LIMIT {_BATCH}"
    return [_record(values) for values in connection.execute(query.encode(), (after,))]


def stream_names(connection: Remote) -> list[str]:
    """All streams, in order of their first event."""
    # Grouped, not "where version = 1": a stream whose first event was removed must not vanish from a check.
    found = connection.execute(b"SELECT stream FROM twinstep.events GROUP BY stream ORDER BY min(position)")
    return [stream for (stream,) in found]


def pair_rows(connection: Remote, pair: str) -> PairRows:
    """The rows of a pair and the position that they stand at, both of one moment."""
    _, ((position,),), *tables = _in_one_message(connection, _PAIR_ROWS, {"pair": pair})
    rows = [_row(table, values) for table, found in zip(ROW_TYPES, tables, strict=True) for values in found]
    return PairRows(position=position, rows={key_of(row): row for row in rows})


def pair_of(connection: Remote, key: str) -> str | None:
    """The id of the pair with that key, or None."""
    found = connection.execute(b"SELECT pair FROM twinstep.pairs WHERE key = %s", (stored_key(key),)).fetchone()
    return None if found is None else str(found[0])


def is_pair(connection: Remote, pair: str) -> bool:
    """Whether a pair has that id."""
    return connection.execute(b"SELECT 1 FROM twinstep.pairs WHERE pair = %s", (pair,)).fetchone() is not None


def know_pair(connection: Remote, key: str, pair: str) -> str:
    """Keep the pair under that key, where neither is known yet; returns the pair that has the key then."""
    ((known,),) = _in_one_message(connection, _KNOW_PAIR, (stored_key(key), pair))[1]
    return str(known)


def table_rows(connection: Remote, table: str) -> list[Row]:
    """All rows of a read table, in the order in which they first appeared."""
    query = f"SELECT {', '.join(columns_of(table))} FROM twinstep.{table} ORDER BY first_position, id"
    return [_row(table, values) for values in connection.execute(query.encode())]


def replace_rows(connection: Remote, up_to: int, rows: Iterable[tuple[int, Row]]) -> None:
    """Make the read tables where they are missing, and hold these rows in them, each with the position that it appeared at.

    Raises the SQLSTATE STALE where the log has moved on from that position.
    """
    _in_one_message(connection, _REPLACE, {"up_to": up_to, **_as_json(rows)})


def _in_one_message(connection: Remote, query: str, values: Any) -> list[list[tuple[Any, ...]]]:
    """The rows of each statement of the query. The server runs them as one transaction, with or without us."""
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(query.encode(), values)
        results = [cursor.fetchall() if cursor.description else []]
        while cursor.nextset():
            results.append(cursor.fetchall() if cursor.description else [])
        return results


def _array(texts: Iterable[str]) -> str:
    """The texts as an array's own notation. The driver's takes longer than all else that is done here for an append."""
    return "{" + ",".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts) + "}"


def _as_json(rows: Iterable[tuple[int, Row]]) -> dict[str, str | None]:
    by_table: dict[str, list[dict[str, object]]] = defaultdict(list)
    for first, row in rows:
        by_table[row.TABLE].append({name: getattr(row, name) for name in columns_of(row.TABLE)} | {"first_position": first})
    return {table: json.dumps(by_table[table], ensure_ascii=False) if table in by_table else None for table in ROW_TYPES}


def _record(values: tuple[Any, ...]) -> Recorded:
    return Recorded(**dict(zip(_COLUMNS, values, strict=True)))


def _row(table: str, values: tuple[Any, ...]) -> Row:
    return ROW_TYPES[table](**dict(zip(columns_of(table), values, strict=True)))
