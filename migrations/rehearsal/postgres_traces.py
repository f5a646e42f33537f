"""What a transaction has done so far, as its own server process tells it: locks, rows, values of enums, deferred constraints.

Nothing here changes anything but which constraints are deferred. Raises the driver's errors. Read next:
`postgres.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .rehearsing import BLOCKS, HeldLock, TableRows

if TYPE_CHECKING:
    from ...stores.remote_connection import Remote

STRENGTH = {mode: rank for rank, mode in enumerate(BLOCKS)}


def relations(connection: Remote) -> dict[int, str]:
    """The tables, views and sequences that are there, by number: a lock on one that is made meanwhile keeps nobody waiting."""
    return {int(number): str(name) for number, name in connection.execute(_RELATIONS).fetchall()}


def locks(connection: Remote, known: Mapping[int, str]) -> dict[str, str]:
    """The strongest lock that we hold on each of the known relations. What only reading takes is left out."""
    held: dict[str, str] = {}
    for number, mode in connection.execute(_LOCKS).fetchall():
        name = known.get(int(number))
        if name is not None and mode in STRENGTH and STRENGTH[mode] > STRENGTH.get(held.get(name, "AccessShareLock"), 0):
            held[name] = str(mode)
    return held


def stronger(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[HeldLock, ...]:
    """The locks that were not held before, or not as strongly."""
    return tuple(HeldLock(table=table, mode=mode) for table, mode in sorted(now.items()) if before.get(table) != mode)


def row_counts(connection: Remote) -> dict[str, tuple[int, int, int]]:
    """Rows inserted, updated and deleted per table since the transaction began, as the server counts them."""
    found = connection.execute(_ROWS).fetchall()
    return {str(table): (int(inserted), int(updated), int(deleted)) for table, inserted, updated, deleted in found}


def rows_between(before: Mapping[str, tuple[int, int, int]], now: Mapping[str, tuple[int, int, int]]) -> tuple[TableRows, ...]:
    """What was done to the rows of each table between two counts."""
    found = []
    for table, counts in sorted(now.items()):
        inserted, updated, deleted = (new - old for new, old in zip(counts, before.get(table, (0, 0, 0)), strict=True))
        if inserted or updated or deleted:
            found.append(TableRows(table=table, inserted=inserted, updated=updated, deleted=deleted))
    return tuple(found)


def counts_rows(connection: Remote) -> bool:
    """Whether this server counts rows at all."""
    row = connection.execute("SELECT current_setting('track_counts') = 'on'").fetchone()
    return row is not None and bool(row[0])


def enum_values(connection: Remote) -> dict[int, str]:
    """Every value of every enum, by number."""
    return {int(number): str(label) for number, label in connection.execute("SELECT oid, enumlabel FROM pg_enum").fetchall()}


def deferred(connection: Remote) -> set[str]:
    """The constraints (and constraint triggers) that are deferred from the start, by qualified name.

    One that shares its name with a constraint which cannot be deferred is left out: both would be meant.
    """
    return {str(name) for (name,) in connection.execute(_DEFERRED).fetchall()}


def defer(connection: Remote, names: Iterable[str]) -> None:
    """Put these back to where they are checked at COMMIT."""
    listed = ", ".join(sorted(names))
    if listed:
        connection.execute(f"SET CONSTRAINTS {listed} DEFERRED".encode())


_RELATIONS = r"""
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND n.nspname <> 'twinstep' AND n.nspname !~ '^(pg_|information_schema$)'
"""

_LOCKS = """
SELECT relation::bigint, mode FROM pg_locks
WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_ROWS = """
SELECT format('%I.%I', schemaname, relname), n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_xact_user_tables
WHERE schemaname <> 'twinstep' AND schemaname !~ '^pg_' AND n_tup_ins + n_tup_upd + n_tup_del > 0
"""

_DEFERRED = """
SELECT DISTINCT format('%I.%I', n.nspname, k.conname) FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE k.condeferred AND n.nspname !~ '^pg_' AND NOT EXISTS (
    SELECT FROM pg_constraint o WHERE o.connamespace = k.connamespace AND o.conname = k.conname AND NOT o.condeferrable)
"""
