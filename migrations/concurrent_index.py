"""CREATE INDEX CONCURRENTLY and DROP INDEX CONCURRENTLY: each is the other's inverse.

An index is done when it is there, valid, and *the wanted one*: its definition, not its name, is compared, in the server's
own words. For that the server builds the wanted index on an empty temporary copy of the table, in a transaction that is
rolled back. So IF NOT EXISTS hides neither an index of another definition nor an invalid one.

What is left invalid by a build that was cut off or refused is dropped concurrently; an index that is there under the name
and is another one is never touched. This module must never import sqlalchemy. Read next: `concurrent_session.py`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from ..events.errors import InDoubt, Refused, TwinstepError
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
    text_of,
    texts_of,
)

if TYPE_CHECKING:
    from ..events.types import Json
    from .concurrent_session import Before, Remote, Tick

CLEARING_SECONDS = 5.0


@frozen(kw_only=True)
class CreateIndex:
    """CREATE [UNIQUE] INDEX CONCURRENTLY. Names are as written; `rest` is the text from the columns (or USING) on."""

    text: str
    name: str
    table: str
    unique: bool
    guarded: bool
    rest: str
    tablespace: str | None = None

    reversible = True

    def look(self, connection: Remote) -> dict[str, Json]:
        """What is there under the name, and the definition that is wanted (None where the table is not there yet)."""
        return self._see(connection, {})

    def probe(self, connection: Remote, before: Before) -> State:
        """Where the index stands. A recorded `wanted` is trusted, so that a table changed later does not change the answer."""
        with answered(connection, self.text):
            found = rows(connection, _NAMES, table=text_of(before, "table") or self.table, name=self.name)
            index = str(found[0][0]) if found else None
            # Who is at it is asked first: one that ends in between has then left its result for the second question.
            if at_work(connection, self._texts(index), index):
                return "building"
        now = self._see(connection, before)
        if now["definition"] is None:
            return "absent"
        if now["definition"] != now["wanted"]:
            return "different"
        return "done" if now["valid"] else "half"

    def run(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Build it, or finish what was begun. Valid and as wanted once this returns.

        Raises Refused: T320 (the server said no; what it left is dropped), T324 (others are still at it after the wait),
        T325 (another index has the name); InDoubt (T321).
        """
        index = self._index(connection, before)
        match self._settled(connection, before, wait_seconds):
            case "done":
                return
            case "different":
                raise self._taken(connection, before)
            case state:
                with alone(connection, statement_timeout_seconds, tablespace=self.tablespace):
                    if state == "half" and index is not None:
                        send(connection, dropping(index), tick)
                    self._build(connection, before, tick)
        # IF NOT EXISTS is satisfied by any index; one that came between the probe and the statement is seen here.
        if self.probe(connection, before) != "done":
            raise self._taken(connection, before)

    def undo(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Drop what was built. Left alone: what was there before and valid, and what is another index by now."""
        if before.get("definition") is not None and before.get("valid"):
            return
        index = self._index(connection, before)
        if self._settled(connection, before, wait_seconds) in ("done", "half") and index is not None:
            with alone(connection, statement_timeout_seconds):
                send(connection, dropping(index), tick)

    def rehearse(self, connection: Remote) -> None:
        """Build it on an empty copy of the table, inside the open transaction, and leave nothing. Raises Refused (T320).

        So the statement itself is tried; whether the rows that are there would allow it (a unique one), its size and its
        time are not.
        """
        with answered(connection, self.text), connection.transaction(force_rollback=True):
            query = "SELECT quote_ident(relname) FROM pg_class WHERE oid = %(table)s::text::regclass"
            (bare,) = rows(connection, query, table=self.table)[0]
            connection.execute(f"CREATE TEMPORARY TABLE pg_temp.{bare} (LIKE {self.table} INCLUDING ALL)".encode())
            unique = "UNIQUE " if self.unique else ""
            connection.execute(f"CREATE {unique}INDEX twinstep_rehearsed ON pg_temp.{bare} {self.rest}".encode())

    def _build(self, connection: Remote, before: Before, tick: Tick) -> None:
        try:
            send(connection, self.text, tick)
        except InDoubt:
            raise  # nobody is there any more who could drop anything
        except Refused:
            # A refused build leaves an invalid index, which may cost every write. The first error is what the caller sees.
            with suppress(TwinstepError):
                self._drop_what_is_left(connection, before)
            raise
        except BaseException as stopped:
            # Somebody has interrupted it, and does not want to wait: what is in the drop's way may be in it for hours.
            try:
                with alone(connection, CLEARING_SECONDS):
                    self._drop_what_is_left(connection, before)
            except TwinstepError:
                stopped.add_note(
                    f"The index {self.name} is left invalid: what keeps others from dropping it was still there after "
                    f"{CLEARING_SECONDS:.0f} seconds. The next call drops it."
                )
            raise

    def _drop_what_is_left(self, connection: Remote, before: Before) -> None:
        index = self._index(connection, before)
        if index is not None and self.probe(connection, before) == "half":
            send(connection, dropping(index))

    def _settled(self, connection: Remote, before: Before, wait_seconds: float) -> State:
        index = self._index(connection, before)
        return settled(connection, lambda: self.probe(connection, before), self._texts(index), wait_seconds)

    def _texts(self, index: str | None) -> list[str]:
        return [self.text] if index is None else [self.text, dropping(index)]

    def _index(self, connection: Remote, before: Before) -> str | None:
        """The index's qualified name: as recorded, else (the table came later) as it is now."""
        recorded = text_of(before, "index")
        return recorded if recorded is not None else text_of(self.look(connection), "index")

    def _taken(self, connection: Remote, before: Before) -> Refused:
        now = self._see(connection, before)
        return Refused("T325", index=now["index"] or self.name, found=now["definition"] or "nothing", wanted=now["wanted"])

    def _see(self, connection: Remote, before: Before) -> dict[str, Json]:
        table = text_of(before, "table") or self.table
        wanted = text_of(before, "wanted")
        # Rolled back whatever happens: the temporary table, and the pinned settings.
        with answered(connection, self.text), connection.transaction(force_rollback=True):
            found = rows(connection, _NAMES, table=table, name=self.name)
            if not found:
                return {"index": None, "table": None, "wanted": wanted, "definition": None, "valid": False}
            index, qualified, kind, bare_index, bare_table = found[0]
            if wanted is None:
                wanted = self._wanted(connection, qualified, bare_index, bare_table)
            pin_output(connection)
            definition, valid = None, False
            if kind in ("i", "I"):
                definition, valid = rows(connection, _INDEX, index=index)[0][:2]
            elif kind is not None:
                definition, valid = rows(connection, _DESCRIPTION, name=index)[0][0], True
        return {"index": index, "table": qualified, "wanted": wanted, "definition": definition, "valid": valid}

    def _wanted(self, connection: Remote, table: str, bare_index: str, bare_table: str) -> str:
        # The copy bears the table's own name, since an expression may qualify its columns with it; on an empty one the
        # build takes no time. In a savepoint, so that the pins end with it.
        unique = "UNIQUE " if self.unique else ""
        with connection.transaction(force_rollback=True):
            connection.execute(f"CREATE TEMPORARY TABLE pg_temp.{bare_table} (LIKE {table})".encode())
            connection.execute(f"CREATE {unique}INDEX twinstep_wanted ON pg_temp.{bare_table} {self.rest}".encode())
            pin_output(connection)
            definition = str(rows(connection, _INDEX, index="pg_temp.twinstep_wanted")[0][0])
        _, _, body = definition.partition(f".{bare_table} USING ")
        return f"CREATE {unique}INDEX {bare_index} ON {table} USING {body}"


@frozen(kw_only=True)
class DropIndex:
    """DROP INDEX CONCURRENTLY of one index."""

    text: str
    name: str
    guarded: bool

    reversible = True

    def look(self, connection: Remote) -> dict[str, Json]:
        """The index as it must be built again: definition, tablespace, and what else is said of it (`after`)."""
        return self._see(connection, self.name)

    def probe(self, connection: Remote, before: Before) -> State:
        """ "absent" is an index that is there as before; "half", one that a drop has left invalid."""
        index = text_of(before, "index")
        with answered(connection, self.text):
            if at_work(connection, self._texts(before), index):
                return "building"
        now = self._see(connection, index or self.name)
        if now["index"] is None:
            return "done" if index is not None or self.guarded else "absent"
        if now["definition"] != before.get("definition"):
            return "different"
        return "absent" if now["valid"] == before.get("valid") else "half"

    def run(
        self,
        connection: Remote,
        before: Before,
        *,
        statement_timeout_seconds: float,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
        tick: Tick = no_tick,
    ) -> None:
        """Drop it. Raises Refused: T320, T324, T325 (another index than the recorded one has the name); InDoubt (T321)."""
        match self._settled(connection, before, wait_seconds):
            case "done":
                return
            case "different":
                raise self._taken(connection, before)
            case _:
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
        """Build it again from what was recorded. An index that was invalid before is not made again: nobody could use it.

        Raises Refused: T320, T324, T325 (another index has the name by now); InDoubt (T321).
        """
        index, table, definition = (text_of(before, name) for name in ("index", "table", "definition"))
        if index is None or table is None or definition is None or not before.get("valid"):
            return
        match self._settled(connection, before, wait_seconds):
            case "absent":
                pass
            case "different":
                raise self._taken(connection, before)
            case _:
                rebuild = evolve(_rebuilding(definition, index, table), tablespace=text_of(before, "tablespace"))
                wanted: dict[str, Json] = {"index": index, "table": table, "wanted": definition}
                rebuild.run(
                    connection,
                    wanted,
                    statement_timeout_seconds=statement_timeout_seconds,
                    wait_seconds=wait_seconds,
                    tick=tick,
                )
        for statement in texts_of(before, "after"):
            send(connection, statement)

    def _settled(self, connection: Remote, before: Before, wait_seconds: float) -> State:
        return settled(connection, lambda: self.probe(connection, before), self._texts(before), wait_seconds)

    def _texts(self, before: Before) -> list[str]:
        definition = text_of(before, "definition")
        return [self.text] if definition is None else [self.text, _concurrently(definition)]

    def _taken(self, connection: Remote, before: Before) -> Refused:
        now = self._see(connection, text_of(before, "index") or self.name)
        return Refused("T325", index=now["index"], found=now["definition"], wanted=before.get("definition") or "none")

    def _see(self, connection: Remote, name: str) -> dict[str, Json]:
        with answered(connection, self.text), connection.transaction(force_rollback=True):
            # By number: once the output is pinned, an unqualified name would mean something else.
            found = rows(connection, "SELECT to_regclass(%(name)s::text)::oid::bigint", name=name)[0][0]
            if found is None:
                return {"index": None}
            pin_output(connection)
            seen = rows(connection, _INDEX_BY_NUMBER, index=found)
        if not seen:
            raise Refused("T320", statement=shortened(self.text), reason=f"{name} is not an index", sqlstate="42809")
        definition, valid, index, table, tablespace, after = seen[0]
        return {
            "index": index,
            "table": table,
            "definition": definition,
            "valid": valid,
            "tablespace": tablespace,
            "after": list(after),
        }


def dropping(index: str) -> str:
    """The statement that drops it; always the same text, so that a backend that runs it is recognised."""
    return f"DROP INDEX CONCURRENTLY IF EXISTS {index}"


def _concurrently(definition: str) -> str:
    return definition.replace("INDEX ", "INDEX CONCURRENTLY ", 1)


def _rebuilding(definition: str, index: str, table: str) -> CreateIndex:
    head, _, rest = definition.partition(f" ON {table} ")
    name = head.removeprefix("CREATE ").removeprefix("UNIQUE ").removeprefix("INDEX ")
    return CreateIndex(
        text=_concurrently(definition),
        name=name,
        table=table,
        unique=head.startswith("CREATE UNIQUE "),
        guarded=False,
        rest=rest,
    )


# An index lies in its table's schema, and its name is written without one. No row: there is no such table.
_NAMES = """
SELECT format('%%I.%%I', n.nspname, wanted.name), format('%%I.%%I', n.nspname, t.relname), c.relkind::text,
    quote_ident(wanted.name), quote_ident(t.relname)
FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN (SELECT (parse_ident(%(name)s::text))[1]::name::text AS name) wanted
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
WHERE t.oid = to_regclass(%(table)s::text)
"""

_INDEX_BY_NUMBER = """
SELECT pg_get_indexdef(c.oid), i.indisvalid AND i.indisready AND i.indislive, c.oid::regclass::text, i.indrelid::regclass::text,
    coalesce((SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace), ''),
    array_remove(ARRAY[
        'COMMENT ON INDEX ' || c.oid::regclass || ' IS ' || quote_literal(obj_description(c.oid, 'pg_class')),
        CASE WHEN i.indisclustered THEN format('ALTER TABLE %%s CLUSTER ON %%I', i.indrelid::regclass, c.relname) END,
        CASE WHEN i.indisreplident
            THEN format('ALTER TABLE %%s REPLICA IDENTITY USING INDEX %%I', i.indrelid::regclass, c.relname) END
    ] || (SELECT array_agg(format('ALTER INDEX %%s ALTER COLUMN %%s SET STATISTICS %%s',
            c.oid::regclass, attnum, attstattarget))
        FROM pg_attribute WHERE attrelid = c.oid AND attstattarget >= 0), NULL)
FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.oid = %(index)s::bigint::oid
"""

_DESCRIPTION = "SELECT pg_describe_object('pg_class'::regclass, to_regclass(%(name)s::text), 0)"

_INDEX = _INDEX_BY_NUMBER.replace("%(index)s::bigint::oid", "to_regclass(%(index)s::text)")
