"""REINDEX and VACUUM, which change nothing that anybody sees, and statements that a person marked as single.

Both kinds of upkeep may be repeated at will, and have nothing to take back. That they are done is read from the file nodes
of the indexes, and from the server's count of vacuums; where the count was lost (a crash loses it), they are run again.
A marked statement brings its own probe, and has no inverse.
This module must never import sqlalchemy. Read next: `concurrent_session.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

from ..events.errors import Refused, TwinstepError
from .concurrent_index import dropping
from .concurrent_session import (
    DEFAULT_WAIT_SECONDS,
    State,
    alone,
    answered,
    at_work,
    no_tick,
    pin_output,
    rows,
    send,
    settled,
    shortened,
    texts_of,
)

if TYPE_CHECKING:
    from ..events.types import Json
    from .concurrent_session import Before, Remote, Tick

Probe: TypeAlias = "Callable[[Remote], bool]"


@frozen(kw_only=True)
class Reindex:
    """REINDEX of an index, a table (also partitioned), a schema, the database or its catalogue; concurrently or not."""

    text: str
    kind: str
    name: str | None

    reversible = True

    def look(self, connection: Remote) -> dict[str, Json]:
        """The file node of each index that is meant, and the remains that earlier ones left behind."""
        with answered(connection, self.text), connection.transaction(force_rollback=True):
            scope = rows(connection, _NUMBER[self.kind], name=self.name)[0][0]
            pin_output(connection)
            found = rows(connection, _INDEXES, kind=self.kind, scope=scope)
        return {
            "indexes": {str(name): str(node) for name, node, wanted, _ in found if wanted},
            "remains": [str(name) for name, _, _, remains in found if remains],
        }

    def probe(self, connection: Remote, before: Before) -> State:
        """ "half" where one that was cut off left an index behind (`..._ccnew`, `..._ccold`)."""
        with answered(connection, self.text):
            if at_work(connection, [self.text]):
                return "building"
        now = self.look(connection)
        if set(texts_of(now, "remains")) - set(texts_of(before, "remains")):
            return "half"
        return "done" if _all_changed(before.get("indexes"), now.get("indexes")) else "absent"

    def run(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Reindex, after dropping what an earlier attempt left. Raises Refused: T320, T324; InDoubt (T321)."""
        state = settled(connection, lambda: self.probe(connection, before), [self.text], wait_seconds)
        if state == "done":
            return
        with alone(connection, statement_timeout_seconds):
            self._clear(connection, before)
            try:
                send(connection, self.text, tick)
            except Refused:
                # The first error is what the caller sees; what stays behind now is dropped by the next attempt.
                with suppress(TwinstepError):
                    self._clear(connection, before)
                raise

    def undo(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Drop what an attempt left behind; there is nothing else to take back."""
        settled(connection, lambda: self.probe(connection, before), [self.text], wait_seconds)
        with alone(connection, statement_timeout_seconds):
            self._clear(connection, before)

    def _clear(self, connection: Remote, before: Before) -> None:
        for index in sorted(set(texts_of(self.look(connection), "remains")) - set(texts_of(before, "remains"))):
            send(connection, dropping(index))


@frozen(kw_only=True)
class Vacuum:
    """VACUUM of the named tables, or (none named) of the whole database, which is run again when it was interrupted."""

    text: str
    tables: tuple[str, ...]

    reversible = True

    def look(self, connection: Remote) -> dict[str, Json]:
        """For each table and its partitions how often it was vacuumed by hand, and its file node (FULL makes a new one)."""
        with answered(connection, self.text), connection.transaction(force_rollback=True):
            numbers = [rows(connection, _NUMBER["table"], name=table)[0][0] for table in self.tables]
            pin_output(connection)
            found = rows(connection, _VACUUMED, tables=numbers)
        return {"tables": {str(name): f"{count} {node}" for name, count, node in found}}

    def probe(self, connection: Remote, before: Before) -> State:
        """Done when every table that was there before has been vacuumed since."""
        with answered(connection, self.text):
            if at_work(connection, [self.text]):
                return "building"
        return "done" if _all_changed(before.get("tables"), self.look(connection)["tables"]) else "absent"

    def run(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Vacuum. Raises Refused: T320, T324; InDoubt (T321)."""
        if settled(connection, lambda: self.probe(connection, before), [self.text], wait_seconds) != "done":
            with alone(connection, statement_timeout_seconds):
                send(connection, self.text, tick)

    def undo(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Nothing: no row and no definition was changed."""


@frozen(kw_only=True)
class Marked:
    """A statement that a person marked with `-- twinstep: single`; `ask` is its probe from migration.py."""

    text: str
    ask: Probe

    reversible = False

    def look(self, connection: Remote) -> dict[str, Json]:
        """Whether it was done already."""
        return {"done": self._done(connection)}

    def probe(self, connection: Remote, before: Before) -> State:
        """What the migration's own probe says."""
        with answered(connection, self.text):
            if at_work(connection, [self.text]):
                return "building"
        return "done" if self._done(connection) else "absent"

    def run(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Send it unless it is done. Raises Refused: T320, T324, T327 (its probe does not see it afterwards); InDoubt."""
        if settled(connection, lambda: self.probe(connection, before), [self.text], wait_seconds) == "done":
            return
        with alone(connection, statement_timeout_seconds):
            send(connection, self.text, tick)
        if not self._done(connection):
            raise Refused("T327", statement=shortened(self.text))

    def undo(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Raises Refused (T326) where it was done since: only its author knows the way back."""
        if before.get("done"):
            return
        if settled(connection, lambda: self.probe(connection, before), [self.text], wait_seconds) == "done":
            raise Refused("T326", statement=shortened(self.text))

    def _done(self, connection: Remote) -> bool:
        with answered(connection, self.text):
            return bool(self.ask(connection))


def _all_changed(before: Json, now: Json) -> bool:
    """True if there is something to compare, and none of what is still there is as it was."""
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return False
    common: Sequence[str] = [name for name in before if name in now]
    return bool(common) and all(before[name] != now[name] for name in common)


_NUMBER = {
    "index": "SELECT to_regclass(%(name)s::text)::oid::bigint",
    "table": "SELECT to_regclass(%(name)s::text)::oid::bigint",
    "schema": "SELECT to_regnamespace(%(name)s::text)::oid::bigint",
    "database": "SELECT NULL::bigint WHERE %(name)s::text IS NULL OR true",
    "system": "SELECT NULL::bigint WHERE %(name)s::text IS NULL OR true",
}

# An index or a table stands for its partitions too. The fourth column: what a concurrent REINDEX that failed left behind.
_INDEXES = """
WITH target AS (
    SELECT %(scope)s::bigint::oid AS oid UNION SELECT relid FROM pg_partition_tree(%(scope)s::bigint::oid::regclass)
    WHERE %(kind)s::text IN ('index', 'table')
), named AS (
    SELECT i.indexrelid, i.indrelid, i.indisvalid AND i.indisready AS valid, c.relname,
        CASE %(kind)s::text WHEN 'index' THEN i.indexrelid IN (SELECT oid FROM target)
            WHEN 'table' THEN i.indrelid IN (SELECT oid FROM target)
            WHEN 'schema' THEN c.relnamespace = %(scope)s::bigint::oid
            WHEN 'system' THEN n.nspname = 'pg_catalog'
            ELSE n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_(toast|temp)' END AS wanted
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'i'
)
SELECT indexrelid::regclass::text, coalesce(pg_relation_filenode(indexrelid), 0), wanted, remains
FROM (SELECT *, NOT valid AND relname ~ '_cc(new|old)[0-9]*$'
        AND indrelid IN (SELECT indrelid FROM named WHERE wanted) AS remains FROM named) n
WHERE wanted OR remains
"""

_VACUUMED = """
SELECT c.oid::regclass::text, pg_stat_get_vacuum_count(c.oid), coalesce(pg_relation_filenode(c.oid), 0)
FROM pg_class c
WHERE c.relkind IN ('r', 'm', 't') AND EXISTS (SELECT FROM unnest(%(tables)s::bigint[]) AS t (number)
    WHERE c.oid = t.number::oid OR c.oid IN (SELECT relid FROM pg_partition_tree(t.number::oid::regclass)))
"""
