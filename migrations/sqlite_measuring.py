"""Timing queries on SQLite: each run in a transaction (or savepoint) that is rolled back, and that the query cannot end.

Read next: `measuring.py` (in which order, and what is told).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from ..events.errors import DefinitionError, Refused
from ..stores.local_connection import OnConnect, guarded, roll_back
from ..stores.sqlite_errors import is_busy, primary_code
from .definition import Query
from .measuring import AGAIN, Round, measured, median_ms
from .sqlite_limits import limited_statements
from .target import Timing

Found = TypeVar("Found")

MEASURE_SECONDS = 30.0
# Of a query: it took too long, or it writes where nothing may be written.
UNMEASURED = (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_READONLY)


def measure(connection: sqlite3.Connection, queries: Sequence[Query]) -> tuple[Timing, ...]:
    """Plan and median of each, without those that others were in the way of. Raises DefinitionError (T341) for a bad one."""
    plans = {query.name: plan for query in queries if (plan := _plan(connection, query)) is not None}
    times = measured([query for query in queries if query.name in plans], lambda query: _once(connection, query))
    return tuple(
        Timing(name=name, side="local", milliseconds=median_ms(found), plan=plans[name], repetitions=len(found))
        for name, found in times.items()
    )


def measure_again(
    connection: sqlite3.Connection, queries: Sequence[Query], before: Path | None, *, on_connect: OnConnect | None
) -> dict[str, tuple[Round, ...]]:
    """Three rounds of each query, on the state before (its backup, which is only read) and on the one now, in turns.

    Where the backup cannot be asked (it is gone, or the query writes), a round has the time of now alone.
    """
    rounds: dict[str, list[Round]] = {query.name: [] for query in queries}
    with _backup(before, on_connect) as old:
        for _ in range(AGAIN):
            for query in queries:
                was = _median_ms(old, query) if old is not None else None
                now = _median_ms(connection, query)
                if now is not None:
                    rounds[query.name].append(Round(before_ms=was, after_ms=now))
    return {name: tuple(found) for name, found in rounds.items()}


def _median_ms(connection: sqlite3.Connection, query: Query) -> float | None:
    found = measured([query], lambda each: _once(connection, each), rounds=2).get(query.name)
    return median_ms(found) if found else None


@contextmanager
def _backup(path: Path | None, on_connect: OnConnect | None) -> Iterator[sqlite3.Connection | None]:
    if path is None or not path.exists():
        yield None
        return
    name = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(name, uri=True, isolation_level=None, cached_statements=0)) as connection:
        if on_connect is not None:
            on_connect(connection)
        yield connection


def _plan(connection: sqlite3.Connection, query: Query) -> str | None:
    def explain() -> str:
        return "\n".join(str(step[3]) for step in _run(connection, f"EXPLAIN QUERY PLAN {query.sql}"))

    with _taken_back(connection):
        return _asked(connection, query, explain)


def _once(connection: sqlite3.Connection, query: Query) -> float | None:
    def run() -> float:
        began = time.perf_counter()
        _run(connection, query.sql)
        return time.perf_counter() - began

    with _taken_back(connection):
        return _asked(connection, query, run)


def _run(connection: sqlite3.Connection, statement: str) -> list[tuple[object, ...]]:
    return connection.execute(statement).fetchall()


def _asked(connection: sqlite3.Connection, query: Query, ask: Callable[[], Found]) -> Found | None:
    try:
        with guarded(connection), limited_statements(connection, time.monotonic() + MEASURE_SECONDS):
            return ask()
    except (sqlite3.Error, sqlite3.Warning, Refused) as error:
        if isinstance(error, sqlite3.Error) and (is_busy(error) or primary_code(error) in UNMEASURED):
            return None  # a time that cannot be had is no fault of the migration
        raise DefinitionError("T341", query=query.name, migration="", side="local", problem=error) from error


@contextmanager
def _taken_back(connection: sqlite3.Connection) -> Iterator[None]:
    inside = connection.in_transaction
    connection.execute("SAVEPOINT twinstep_measure" if inside else "BEGIN")
    try:
        yield
    finally:
        if inside and connection.in_transaction:
            connection.execute("ROLLBACK TO twinstep_measure")
            connection.execute("RELEASE twinstep_measure")
        elif not inside:
            roll_back(connection)
