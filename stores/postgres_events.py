"""The event store in a PostgreSQL database: one log for many pairs, on many devices.

An append is one statement, and so one round trip: the server checks what was expected, hands out positions, and makes the
events and the rows of the read tables that follow from them durable together. Those rows are worked out here, from the pair's
rows as this handle last saw them, with the position of the pair's last event as the proof that they are the latest: where the
pair has moved on, nothing is appended, the rows are read, and the append is sent again. So the first append of a handle to a
pair takes two round trips, and each later one takes one, unless another handle writes to that pair too.

Where the connection is lost before the answer, nobody knows whether the server has appended. It is asked on a new connection,
and the same records are sent again: of two with the same hash, the server takes one. What cannot be found out within
`retry_for_seconds` is InDoubt (T510).

Read next: `postgres_log.py` (connection), `postgres_log_rows.py` (statements), `postgres_log_schema.py` (tables, functions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import psycopg
from attrs import evolve

from ..events.codec import decode
from ..events.errors import ConcurrencyConflict, InDoubt, LogDamaged, LostLock, Unreachable
from ..events.projections import ROW_TYPES, Row, RowKey, key_of, project
from ..events.types import Event, Recorded
from . import postgres_log_rows as rows_of
from .claims import Claims, taken_over
from .envelope import adopted_key, enveloped, moved_on, new_id, written_time
from .port import Clock, unfenced, utc_now
from .postgres_log import ConnectionLost, PostgresLog
from .postgres_log_rows import Answer, Order, PairRows, storable
from .postgres_log_schema import CONFLICT, MOVED, STALE, TAKEN_OVER
from .seam import AFTER_COMMIT, BEFORE_COMMIT, Probe, no_probe

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    Remote: TypeAlias = psycopg.Connection[TupleRow]


class PostgresEventStore:
    """An `EventStore` in the schema `twinstep` of a database, for any number of threads, processes and machines.

    A database without that log is an empty log with the id "" until the first write makes it, which needs the right to make the
    schema; with `readonly` it is never made, and writing is Blocked (T506). Every method may raise Unreachable (T511, T512),
    Blocked (T506, T513) where the log cannot be used now, and LogDamaged (T508, T514) where what is there is no log of ours.
    A connection that is lost is tried again for `retry_for_seconds`; so long, too, other writers are waited for.

    Raises ConfigurationError (T516) for what is no address.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock = utc_now,
        readonly: bool = False,
        retry_for_seconds: float = 30.0,
        probe: Probe = no_probe,
    ) -> None:
        self._clock = clock
        self._probe = probe
        self._claims = Claims()
        self._pairs: dict[str, PairRows] = {}
        self._log = PostgresLog(
            url,
            created_at=lambda: written_time(clock()),
            fill=_make_rows_again,
            readonly=readonly,
            retry_for_seconds=retry_for_seconds,
        )

    @property
    def log_id(self) -> str:
        """The id of this log, drawn by its first write; empty before that."""
        return self._log.reading(lambda _: self._log.log_id, nothing="")

    @property
    def location(self) -> str:
        """The address, without its password."""
        return self._log.location

    def read(self, stream: str, *, after: int = 0) -> list[Recorded]:
        """The events of a stream from version `after` + 1 on; empty for an unknown stream."""
        if not storable(stream):
            return []
        return self._log.reading(lambda connection: rows_of.stream_records(connection, stream, after), nothing=[])

    def read_all(self, *, after: int = 0) -> Iterator[Recorded]:
        """The events of all streams from position `after` + 1 on; also those that are appended while it is read."""
        position = after
        while True:
            # In batches: no cursor and no lock is held while the caller works.
            batch = self._next(position)
            yield from batch
            if not batch:
                return
            position = batch[-1].position

    def streams(self) -> list[str]:
        """The names of all streams, in order of their first event."""
        return self._log.reading(rows_of.stream_names, nothing=[])

    def append(
        self,
        stream: str,
        events: Sequence[Event],
        *,
        expected_version: int,
        expected_hash: str,
        fence: Callable[[], None] = unfenced,
    ) -> list[Recorded]:
        """Append events in one commit; durable once it returns. No events: nothing happens, nothing is checked.

        Raises ConcurrencyConflict (T504) where the stream is not at the expected version and hash, and LostLock (T403) where
        the pair was claimed by another handle since; nothing is appended then. Raises InDoubt (T510) where the connection was
        lost and did not come back in time.
        """
        if not events:
            return []
        if not storable(stream):
            raise ValueError(f"PostgreSQL cannot hold a stream of the name {stream!r}")
        records = enveloped(
            stream,
            events,
            version=expected_version,
            previous_hash=expected_hash,
            position=0,
            recorded_at=written_time(self._clock()),
        )
        with self._log.held():
            order = Order(
                records=records,
                events=events,
                expected_version=expected_version,
                expected_hash=expected_hash,
                claim=self._claims.of(stream),
            )
            self._probe(BEFORE_COMMIT)
            fence()
            try:
                last = self._send(order)
            except ConnectionLost as lost:
                last = self._send_in_doubt(order, lost)
            self._claims.written(order.claim)
        self._probe(AFTER_COMMIT)
        return [evolve(record, position=last + number) for number, record in enumerate(records, start=1)]

    def claim(self, pair: str) -> None:
        """Take the pair's log over with this handle's next append to it; nothing is written yet."""
        self._claims.draw(pair)

    def pair_of(self, key: str) -> str | None:
        """The id of the pair with that key, or None."""
        return self._log.reading(lambda connection: rows_of.pair_of(connection, key), nothing=None)

    def register_pair(self, key: str) -> str:
        """The id of the pair with that key; where the key is new, drawn and durable once it returns."""
        known = self.pair_of(key)
        if known is not None:
            return known
        fresh = new_id()
        return self._log.writing(lambda connection: rows_of.know_pair(connection, key, fresh))

    def adopt_pair(self, pair: str) -> None:
        """Know a pair that another log drew; durable once it returns."""
        if not self.knows_pair(pair):
            self._log.writing(lambda connection: rows_of.know_pair(connection, adopted_key(pair), pair))

    def knows_pair(self, pair: str) -> bool:
        """Whether this log drew that pair's id, or was told of it."""
        return storable(pair) and self._log.reading(lambda connection: rows_of.is_pair(connection, pair), nothing=False)

    def rows(self, table: str) -> list[Row]:
        """All rows of a read table, in the order in which they first appeared; read from the log where it was dropped."""
        kind = ROW_TYPES[table]

        def read(connection: Remote) -> list[Row]:
            try:
                return rows_of.table_rows(connection, table)
            except psycopg.errors.UndefinedTable:
                return [row for _, row in _rebuilt(connection)[1] if isinstance(row, kind)]

        return self._log.reading(read, nothing=[])

    def check(self) -> None:
        """Raise LogDamaged (T293) where events are missing between the first and the last that the log has handed out."""
        events, last = self._log.reading(rows_of.counted, nothing=(0, 0))
        if events != last:
            raise LogDamaged("T293", location=self.location, events=events, last=last)

    def rebuild_rows(self) -> None:
        """Empty the read tables and fill them again from the log, in one commit. Only the log's owner may."""
        self._log.writing(_make_rows_again)

    def close(self) -> None:
        """Let go of the connection. The next use opens another one."""
        self._log.close()

    def _next(self, position: int) -> list[Recorded]:
        return self._log.reading(lambda connection: rows_of.next_records(connection, position), nothing=[])

    def _send(self, order: Order) -> int:
        """The position after which the order's events lie now. Raises ConnectionLost where nobody knows whether they do."""
        pair = order.stream.partition("/")[0]
        while True:
            known = self._pairs.get(pair) or self._log.writing(lambda connection: rows_of.pair_rows(connection, pair))
            changed = rows_of.changed_rows(order, known)
            answer = self._log.writing_once(partial(self._append, order, changed, known.position))
            # What this handle knew may be wrong from here on, whatever comes next.
            self._pairs.pop(pair, None)
            if answer.outcome != MOVED:
                break
        _refuse(order, answer)
        rows: dict[RowKey, Row] = {**known.rows, **{key: row for key, (_, row) in changed.items()}}
        self._pairs[pair] = PairRows(position=answer.last + len(order.records), rows=rows)
        return answer.last

    def _append(
        self, order: Order, changed: Mapping[RowKey, tuple[int, Row]], pair_position: int, connection: Remote
    ) -> Answer:
        return rows_of.append(
            connection,
            order=order,
            changed=changed,
            pair_position=pair_position,
            wait_seconds=self._log.retry_for_seconds,
            plain=self._log.is_plain,
        )

    def _send_in_doubt(self, order: Order, lost: ConnectionLost) -> int:
        """Like `_send`, for an order that may have been carried out, or may be yet: by the server, without us."""
        own = order.records[-1]

        def found() -> int | None:
            record = self._log.reading(
                lambda connection: rows_of.record_at(connection, order.stream, own.version), nothing=None
            )
            is_ours = record is not None and record.hash == own.hash
            return record.position - len(order.records) if record is not None and is_ours else None

        def settle() -> int:
            # The rows may have moved with what was lost.
            self._pairs.pop(order.stream.partition("/")[0], None)
            last = found()
            if last is not None:
                return last
            try:
                return self._send(order)
            except (ConcurrencyConflict, LostLock):
                # What was lost may have come first after all, between the look and this.
                last = found()
                if last is None:
                    raise
                return last

        try:
            return self._log.again(settle)
        except (ConnectionLost, Unreachable) as error:
            raise InDoubt("T510", stream=order.stream, url=self.location, problem=lost.problem) from error


def _refuse(order: Order, answer: Answer) -> None:
    if answer.outcome == TAKEN_OVER:
        raise taken_over(order.stream.partition("/")[0])
    if answer.outcome == CONFLICT:
        raise moved_on(
            order.stream,
            expected_version=order.expected_version,
            expected_hash=order.expected_hash,
            version=answer.version,
            last_hash=answer.hash,
        )


def _make_rows_again(connection: Remote) -> None:
    """Make the read tables, where they are missing, and what is in them from the log, in one commit."""
    while True:
        up_to, rows = _rebuilt(connection)
        try:
            rows_of.replace_rows(connection, up_to, rows)
            return
        except psycopg.Error as error:
            # Somebody has appended meanwhile.
            if error.sqlstate != STALE:
                raise


def _rebuilt(connection: Remote) -> tuple[int, list[tuple[int, Row]]]:
    """The position of the last event, and all rows with the positions at which they first appeared, in that order."""
    rows: dict[RowKey, tuple[int, Row]] = {}
    position = 0
    while batch := rows_of.next_records(connection, position):
        for record in batch:
            for row in project(record, decode(record), lambda table, pair, id: rows.get((table, pair, id), (0, None))[1]):
                first, _ = rows.get(key_of(row), (record.position, row))
                rows[key_of(row)] = first, row
        position = batch[-1].position
    return position, list(rows.values())
