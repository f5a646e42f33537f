"""The event store in an SQLite file: the default log.

An append is one transaction in WAL mode with synchronous=FULL: events and the rows of the read tables that follow from them
become durable together, when COMMIT returns. The file itself refuses anything but the next event of a stream, so that of
two writers one wins. What a cut-off tail would hide is found by the ledgers in the databases, not here.

Read next: `sqlite_file.py` (opening), `sqlite_rows.py` (statements), `sqlite_schema.py` (tables and triggers).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..events.errors import LogDamaged
from ..events.projections import ROW_TYPES, Row
from ..events.types import Event, Recorded
from .claims import Claims
from .envelope import adopted_key, enveloped, moved_on, new_id, written_time
from .port import Clock, unfenced, utc_now
from .seam import AFTER_COMMIT, BEFORE_COMMIT, Probe, no_probe
from .soundness import unsound
from .sqlite_file import SQLiteLogFile, Synchronous
from .sqlite_rows import (
    all_rows,
    bindable,
    counted,
    head,
    hold_claim,
    insert_events,
    last_position,
    make_rows_again,
    next_records,
    put_rows_of,
    stream_names,
    stream_records,
)


class SQLiteEventStore:
    """An `EventStore` in one file, for any number of threads and processes.

    A file that is not there is an empty log with the id "" until the first write makes it, and its folder; with `readonly`
    it is never made, and writing is Blocked (T506). Every method may raise LogDamaged (T507, T508) where the file is no log
    of ours, and Blocked (T506) where it cannot be used now; a busy file is waited for `busy_timeout_seconds` first.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock = utc_now,
        synchronous: Synchronous = "FULL",
        readonly: bool = False,
        busy_timeout_seconds: float = 5.0,
        probe: Probe = no_probe,
    ) -> None:
        self._clock = clock
        self._probe = probe
        self._claims = Claims()
        self._file = SQLiteLogFile(
            # Absolute from the start: the host may change its working directory.
            Path(path).absolute(),
            created_at=lambda: written_time(clock()),
            synchronous=synchronous,
            readonly=readonly,
            busy_timeout_seconds=busy_timeout_seconds,
        )

    @property
    def log_id(self) -> str:
        """The id of this log, drawn by its first write; empty before that."""
        with self._file.reading():
            return self._file.log_id

    @property
    def location(self) -> str:
        """The absolute path of the file."""
        return str(self._file.path)

    def read(self, stream: str, *, after: int = 0) -> list[Recorded]:
        """The events of a stream from version `after` + 1 on; empty for an unknown stream."""
        with self._file.reading() as connection:
            return [] if connection is None else stream_records(connection, stream, after)

    def read_all(self, *, after: int = 0) -> Iterator[Recorded]:
        """The events of all streams from position `after` + 1 on; also those that are appended while it is read."""
        while True:
            # In batches: no cursor and no lock is held while the caller works.
            with self._file.reading() as connection:
                batch = [] if connection is None else next_records(connection, after)
            if not batch:
                return
            yield from batch
            after = batch[-1].position

    def streams(self) -> list[str]:
        """The names of all streams, in order of their first event."""
        with self._file.reading() as connection:
            return [] if connection is None else stream_names(connection)

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

        Raises ConcurrencyConflict (T504) where the stream is not at the expected version and hash, LostLock (T403) where
        another handle has claimed the pair since. Nothing is appended then.
        """
        if not events:
            return []
        claim = self._claims.of(stream)

        def last_moment() -> None:
            self._probe(BEFORE_COMMIT)
            fence()

        with self._file.writing(last_moment) as connection:
            if claim is not None:
                hold_claim(connection, claim)
            records = enveloped(
                stream,
                events,
                version=expected_version,
                previous_hash=expected_hash,
                position=last_position(connection),
                recorded_at=written_time(self._clock()),
            )
            try:
                insert_events(connection, records)
            except sqlite3.IntegrityError as error:
                version, last_hash = head(connection, stream)
                if (version, last_hash) == (expected_version, expected_hash):
                    raise
                raise moved_on(
                    stream,
                    expected_version=expected_version,
                    expected_hash=expected_hash,
                    version=version,
                    last_hash=last_hash,
                ) from error
            for record, event in zip(records, events, strict=True):
                put_rows_of(connection, record, event)
        self._claims.written(claim)
        self._probe(AFTER_COMMIT)
        return records

    def claim(self, pair: str) -> None:
        """Take the pair's log over with this handle's next append to it; nothing is written yet."""
        self._claims.draw(pair)

    def pair_of(self, key: str) -> str | None:
        """The id of the pair with that key, or None."""
        with self._file.reading() as connection:
            return None if connection is None else _pair_of(connection, key)

    def register_pair(self, key: str) -> str:
        """The id of the pair with that key; where the key is new, drawn and durable once it returns."""
        known = self.pair_of(key)
        if known is not None:
            return known
        with self._file.writing() as connection:
            # Asked again under the writer's lock: another process may have been first.
            pair = _pair_of(connection, key)
            if pair is None:
                pair = new_id()
                connection.execute("INSERT INTO twinstep_pairs (key, pair) VALUES (?, ?)", (bindable(key), pair))
        return pair

    def adopt_pair(self, pair: str) -> None:
        """Know a pair that another log drew; durable once it returns."""
        if self.knows_pair(pair):
            return
        with self._file.writing() as connection:
            if _pair_of(connection, adopted_key(pair)) is None:
                values = (bindable(adopted_key(pair)), bindable(pair))
                connection.execute("INSERT INTO twinstep_pairs (key, pair) VALUES (?, ?)", values)

    def knows_pair(self, pair: str) -> bool:
        """Whether this log drew that pair's id."""
        with self._file.reading() as connection:
            if connection is None:
                return False
            return connection.execute("SELECT 1 FROM twinstep_pairs WHERE pair = ?", (bindable(pair),)).fetchone() is not None

    def rows(self, table: str) -> list[Row]:
        """All rows of a read table, in the order in which they first appeared."""
        if table not in ROW_TYPES:
            raise KeyError(table)
        with self._file.reading() as connection:
            return [] if connection is None else all_rows(connection, table)

    def check(self) -> None:
        """Raise LogDamaged where the file is not sound (T507), or lacks events between its first and its last (T293)."""
        with self._file.reading() as connection:
            if connection is None:
                return
            found = unsound(connection, "integrity_check")
            if found:
                raise LogDamaged("T507", path=self.location, problem=f"SQLite says: {found[0]}")
            events, last = counted(connection)
            if events != last:
                raise LogDamaged("T293", location=self.location, events=events, last=last)

    def rebuild_rows(self) -> None:
        """Drop the read tables and make them again from the log, in one commit."""
        with self._file.writing() as connection:
            make_rows_again(connection)

    def close(self) -> None:
        """Let go of the file. The next use opens it again."""
        self._file.close()


def _pair_of(connection: sqlite3.Connection, key: str) -> str | None:
    found = connection.execute("SELECT pair FROM twinstep_pairs WHERE key = ?", (bindable(key),)).fetchone()
    return None if found is None else str(found[0])
