"""The event store in memory: complete, for `--log memory:`, for rehearsals, and as the oracle of the tests.

It lives and dies with its process. Every method may be called from any thread. Read next: `port.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from threading import RLock

from ..events.chain import GENESIS
from ..events.projections import ROW_TYPES, Row, RowKey, key_of, project, rebuild
from ..events.types import Event, Recorded
from .claims import Claims
from .envelope import adopted_key, enveloped, moved_on, new_id, written_time
from .port import Clock, unfenced, utc_now
from .seam import AFTER_COMMIT, BEFORE_COMMIT, Probe, no_probe


class MemoryEventStore:
    """An `EventStore` in memory. Closing it forgets nothing: it may be used again."""

    def __init__(self, *, clock: Clock = utc_now, probe: Probe = no_probe) -> None:
        self._clock = clock
        self._probe = probe
        self._claims = Claims()
        # Reentrant, because a probe may look at the store from inside an append.
        self._lock = RLock()
        self._log_id = new_id()
        self._records: list[Recorded] = []
        self._streams: dict[str, list[Recorded]] = {}
        self._rows: dict[RowKey, Row] = {}
        self._pairs: dict[str, str] = {}
        self._tokens: dict[str, str] = {}

    def another_handle(self, *, probe: Probe = no_probe) -> MemoryEventStore:
        """Another handle on the same log, with claims and a probe of its own."""
        other = copy(self)
        other._claims, other._probe = Claims(), probe
        return other

    @property
    def log_id(self) -> str:
        """The id of this log, drawn when the store was made."""
        return self._log_id

    @property
    def location(self) -> str:
        """How `--log` names it."""
        return "memory:"

    def read(self, stream: str, *, after: int = 0) -> list[Recorded]:
        """The events of a stream from version `after` + 1 on; empty for an unknown stream."""
        with self._lock:
            return self._streams.get(stream, [])[max(after, 0) :]

    def read_all(self, *, after: int = 0) -> Iterator[Recorded]:
        """The events of all streams from position `after` + 1 on; also those that are appended while it is read."""
        position = max(after, 0)
        # The list only ever grows: no lock is needed, and none may be held while the caller works.
        while position < len(self._records):
            yield self._records[position]
            position += 1

    def streams(self) -> list[str]:
        """The names of all streams, in order of their first event."""
        with self._lock:
            return list(self._streams)

    def append(
        self,
        stream: str,
        events: Sequence[Event],
        *,
        expected_version: int,
        expected_hash: str,
        fence: Callable[[], None] = unfenced,
    ) -> list[Recorded]:
        """Append events, all or none. Raises ConcurrencyConflict (T504), LostLock (T403). No events: nothing is checked."""
        if not events:
            return []
        with self._lock:
            claim = self._claims.of(stream)
            if claim is not None:
                claim.check(self._tokens.get(claim.pair))
            version, last_hash = self._head(stream)
            if (version, last_hash) != (expected_version, expected_hash):
                raise moved_on(
                    stream,
                    expected_version=expected_version,
                    expected_hash=expected_hash,
                    version=version,
                    last_hash=last_hash,
                )
            records = enveloped(
                stream,
                events,
                version=version,
                previous_hash=last_hash,
                position=len(self._records),
                recorded_at=written_time(self._clock()),
            )
            changed = self._changed_rows(records, events)
            self._probe(BEFORE_COMMIT)
            fence()
            self._streams.setdefault(stream, []).extend(records)
            self._rows.update(changed)
            self._records.extend(records)
            if claim is not None:
                self._tokens[claim.pair] = claim.token
                self._claims.written(claim)
        self._probe(AFTER_COMMIT)
        return records

    def claim(self, pair: str) -> None:
        """Take the pair's log over with this handle's next append to it."""
        self._claims.draw(pair)

    def pair_of(self, key: str) -> str | None:
        """The id of the pair with that key, or None."""
        with self._lock:
            return self._pairs.get(key)

    def register_pair(self, key: str) -> str:
        """The id of the pair with that key, drawn when the key is new."""
        with self._lock:
            return self._pairs.setdefault(key, new_id())

    def adopt_pair(self, pair: str) -> None:
        """Know a pair that another log drew."""
        with self._lock:
            if pair not in self._pairs.values():
                self._pairs[adopted_key(pair)] = pair

    def knows_pair(self, pair: str) -> bool:
        """Whether this log drew that pair's id."""
        with self._lock:
            return pair in self._pairs.values()

    def rows(self, table: str) -> list[Row]:
        """All rows of a read table, in the order in which they first appeared."""
        kind = ROW_TYPES[table]
        with self._lock:
            return [row for row in self._rows.values() if isinstance(row, kind)]

    def check(self) -> None:
        """Nothing lies between this list and whoever reads it."""

    def rebuild_rows(self) -> None:
        """Make the read tables' rows again from the log."""
        with self._lock:
            # In place: other handles look at the same rows.
            rows = rebuild(self._records)
            self._rows.clear()
            self._rows.update(rows)

    def close(self) -> None:
        """Nothing is held open."""

    def _head(self, stream: str) -> tuple[int, str]:
        records = self._streams.get(stream)
        return (records[-1].version, records[-1].hash) if records else (0, GENESIS)

    def _changed_rows(self, records: Sequence[Recorded], events: Sequence[Event]) -> dict[RowKey, Row]:
        changed: dict[RowKey, Row] = {}

        def find(table: str, pair: str, id: str) -> Row | None:
            key = table, pair, id
            return changed.get(key) or self._rows.get(key)

        for record, event in zip(records, events, strict=True):
            for row in project(record, event, find):
                changed[key_of(row)] = row
        return changed
