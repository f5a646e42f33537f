"""ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY, and back: ATTACH with the bound that was recorded.

Detaching is two transactions. One that was cut off between them leaves the partition marked as being detached; FINALIZE
completes it. To keep what the bound promised, PostgreSQL gives the detached table a CHECK constraint of its own; attaching
takes that away again, if it was not there before. Rows that were written meanwhile and break the bound make the way back
impossible: the server refuses, and nothing is lost. This module must never import sqlalchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

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
    text_of,
    texts_of,
)

if TYPE_CHECKING:
    from ..events.types import Json
    from .concurrent_session import Before, Remote, Tick


@frozen(kw_only=True)
class DetachPartition:
    """DETACH PARTITION ... CONCURRENTLY. Names are as written."""

    text: str
    parent: str
    partition: str

    reversible = True

    def look(self, connection: Remote) -> dict[str, Json]:
        """Both names in full, whether the one is a partition of the other, its bound, and its own CHECK constraints."""
        return self._see(connection, self.parent, self.partition)

    def probe(self, connection: Remote, before: Before) -> State:
        """ "half" is a partition that is marked as being detached; "different", one that was none and is one now."""
        with answered(connection, self.text):
            if at_work(connection, self._texts(before)):
                return "building"
        now = self._now(connection, before)
        if now["state"] == "pending":
            return "half"
        if now["state"] == "attached":
            return "absent" if before.get("bound") in (None, now["bound"]) else "different"
        return "done" if before.get("state") in ("attached", "pending") else "absent"

    def run(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Detach it, or finish detaching. Raises Refused: T320, T324; InDoubt (T321)."""
        match settled(connection, lambda: self.probe(connection, before), self._texts(before), wait_seconds):
            case "done":
                return
            case state:
                with alone(connection, statement_timeout_seconds):
                    send(connection, self._finalize(before) if state == "half" else self.text, tick)

    def undo(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Attach it again, in one transaction with what goes with it. Raises Refused: T320, T324; InDoubt (T321)."""
        if before.get("state") != "attached":
            return
        state = settled(connection, lambda: self.probe(connection, before), self._texts(before), wait_seconds)
        if state not in ("half", "done"):
            return
        with alone(connection, statement_timeout_seconds):
            if state == "half":
                send(connection, self._finalize(before), tick)
            with answered(connection, self._attach(before)), connection.transaction():
                send(connection, self._attach(before))
                for statement in self._superfluous(connection, before):
                    send(connection, statement)

    def _texts(self, before: Before) -> list[str]:
        return [self.text, self._finalize(before), self._attach(before)]

    def _finalize(self, before: Before) -> str:
        return f"ALTER TABLE {before.get('parent')} DETACH PARTITION {before.get('partition')} FINALIZE"

    def _attach(self, before: Before) -> str:
        return f"ALTER TABLE {before.get('parent')} ATTACH PARTITION {before.get('partition')} {before.get('bound')}"

    def _superfluous(self, connection: Remote, before: Before) -> list[str]:
        kept = [*texts_of(before, "checks")]
        found = rows(connection, _SUPERFLUOUS, partition=before.get("partition"), kept=kept, implied=before.get("implied"))
        return [str(row[0]) for row in found]

    def _now(self, connection: Remote, before: Before) -> dict[str, Json]:
        return self._see(connection, text_of(before, "parent") or self.parent, text_of(before, "partition") or self.partition)

    def _see(self, connection: Remote, parent: str, partition: str) -> dict[str, Json]:
        with answered(connection, self.text), connection.transaction(force_rollback=True):
            names = rows(connection, _NUMBERS, parent=parent, partition=partition)[0]
            pin_output(connection)
            found = rows(connection, _PARTITION, parent=names[0], partition=names[1])
        if not found:
            return {"parent": None, "partition": None, "state": "missing", "bound": None, "checks": [], "implied": None}
        columns = ("parent", "partition", "state", "bound", "checks", "implied")
        return dict(zip(columns, found[0], strict=True))


_NUMBERS = """
SELECT to_regclass(%(parent)s::text)::oid::bigint, to_regclass(%(partition)s::text)::oid::bigint
"""

_PARTITION = """
SELECT p.oid::regclass::text, c.oid::regclass::text,
    CASE WHEN i.inhrelid IS NULL THEN 'separate' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END,
    pg_get_expr(c.relpartbound, c.oid),
    ARRAY(SELECT conname::text FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c' ORDER BY 1),
    'CHECK (' || pg_get_partition_constraintdef(c.oid) || ')'
FROM pg_class p CROSS JOIN pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = p.oid
WHERE p.oid = %(parent)s::bigint::oid AND c.oid = %(partition)s::bigint::oid
"""

_SUPERFLUOUS = """
SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', %(partition)s::text, conname) FROM pg_constraint
WHERE conrelid = to_regclass(%(partition)s::text) AND contype = 'c' AND conname <> ALL (%(kept)s::text[])
    AND pg_get_constraintdef(oid) = %(implied)s::text
"""
