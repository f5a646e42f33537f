"""What an event store must do: the port that memory, SQLite and PostgreSQL implement, and that one contract suite checks.

A store keeps streams of events. An append is one commit, durable once it returns, and takes place only where the caller has
seen the whole stream: the expected version and hash are checked inside the write itself, so that of two writers at most one
wins. Nothing is ever changed or removed. With the same commit the three read tables follow (`events/projections.py`).

Implementations: `memory.py`, `sqlite_events.py`, `postgres_events.py`. This package must never import migrations or engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

from ..events.projections import Row
from ..events.types import Event, Recorded

Clock: TypeAlias = "Callable[[], datetime]"


def utc_now() -> datetime:
    """The wall clock, for people to read; order never comes from it."""
    return datetime.now(UTC)


def unfenced() -> None:
    """Nobody else could have come between."""


class EventStore(Protocol):
    """An append-only log of streams, with the pairs that it knows and the read tables that follow it."""

    @property
    def log_id(self) -> str:
        """The id of this log, drawn when it was made: what a ledger names as the log it belongs to."""

    @property
    def location(self) -> str:
        """Where it is, for people: a path, or a URL without its password."""

    def read(self, stream: str, *, after: int = 0) -> list[Recorded]:
        """The events of a stream from version `after` + 1 on, in order; empty for an unknown stream."""

    def read_all(self, *, after: int = 0) -> Iterator[Recorded]:
        """The events of all streams from position `after` + 1 on, in the order of positions."""

    def streams(self) -> list[str]:
        """The names of all streams, in order of their first event."""

    def append(
        self,
        stream: str,
        events: Sequence[Event],
        *,
        expected_version: int,
        expected_hash: str,
        fence: Callable[[], None] = unfenced,
    ) -> list[Recorded]:
        """Append events in one commit; they are durable once it returns. No events: nothing happens. `fence` is called in the
        last moment before the commit; what it raises comes out, and nothing is appended.

        Raises ConcurrencyConflict (T504) where the stream is not at the expected version and hash, LostLock (T403) where
        this handle had claimed the stream's pair and another one has since, and nothing is appended; Blocked (T506) where
        the log cannot be written (space, rights), InDoubt where nobody knows whether it was.
        """

    def claim(self, pair: str) -> None:
        """Take over what is appended to the streams of a pair (`pair` and `pair/...`); nothing is written yet.

        The next append to one of them makes it known, in its own commit, and each later one is refused (T403) once another
        handle has made its claim known. A handle that never claimed a pair appends to it unchecked. Threads that share a
        handle share its claims.
        """

    def pair_of(self, key: str) -> str | None:
        """The id of the pair with that key (the local database's resolved path, say), or None."""

    def register_pair(self, key: str) -> str:
        """The id of the pair with that key, drawn and kept (durably) when the key is new."""

    def knows_pair(self, pair: str) -> bool:
        """Whether this log drew that pair's id, or was told of it."""

    def adopt_pair(self, pair: str) -> None:
        """Know a pair that another log drew; durable once it returns. Nothing happens where it is known."""

    def rows(self, table: str) -> list[Row]:
        """All rows of a read table (`migration_history`, `migration_backups`, `migration_sync_status`), oldest first."""

    def check(self) -> None:
        """Return if what keeps the log is sound, and no event is missing between its first and its last.

        Raises LogDamaged (T293, T507). What the events say of themselves is not looked at: that is the chain's.
        """

    def rebuild_rows(self) -> None:
        """Drop the read tables' rows and make them again from the log."""

    def close(self) -> None:
        """Let go of files and connections. Closing twice is allowed."""
