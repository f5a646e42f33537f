"""What a change takes away from PostgreSQL: relations, columns and rows that are there before it and not after it.

Everything a change takes away it has locked, so that the locks of its transaction say where to look, whatever cascades,
functions or triggers it went through. Relations are held against each other by object identifiers, which outlive renaming.
Rows that were removed are counted by the server's own statistics; a table with other storage than before was truncated or
rewritten, and its rows are counted.

Reads the catalogue, changes nothing. Read next: `postgres_keeping.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen
from psycopg import sql
from psycopg.rows import tuple_row

from .kept import COLUMNS, ROWS, SEQUENCE, TABLE

if TYPE_CHECKING:
    from ..stores.remote_connection import Remote

# Weakest first; what is weaker than the first takes nothing away.
MODES: Final = (
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)


# How PostgreSQL writes a default that is one value: a number, a word or a string, with the type that it is read as.
LITERAL: Final = re.compile(r"(-?[0-9.]+|true|false|'([^'\\]|'')*')(::[a-z ]+(\([0-9, ]+\))?)?")


@frozen(kw_only=True)
class Column:
    """One column: its number, which outlives renaming, its name and type, how it is written into a copy, and its default."""

    number: int
    name: str
    type: str
    copied: str
    computed: bool
    default: str | None

    def filled(self) -> sql.Composed:
        """Whether a row holds anything there that making the column again would not bring back: not null, not its default.

        Only a default that is plainly one value is left out; of any other one nobody knows what it gave.
        """
        named = sql.Identifier(self.name)
        if self.default is None or LITERAL.fullmatch(self.default) is None:
            return sql.SQL("{} IS NOT NULL").format(named)
        given = sql.SQL(self.default)
        return sql.SQL("{0} IS NOT NULL AND {0}::text <> ({1})::text").format(named, given)


@frozen(kw_only=True)
class Relation:
    """A table (r), partitioned table (p), materialized view (m) or sequence (S) at one instant.

    `key` are the numbers of the primary key's columns; `parents` what a partition belongs to, whose rows are its own.
    """

    oid: int
    schema: str
    name: str
    kind: str
    parents: tuple[int, ...]
    key: tuple[int, ...]
    columns: tuple[Column, ...]

    @property
    def shown(self) -> str:
        """Its name with the schema, for people."""
        return f"{self.schema}.{self.name}"

    def named(self) -> sql.Composed:
        """As it is read: a table without those that inherit from it, a partitioned one with all of them."""
        only = sql.SQL("") if self.kind in "pmS" else sql.SQL("ONLY ")
        return only + sql.Identifier(self.schema, self.name)

    def numbered(self) -> dict[int, Column]:
        """Its columns by number."""
        return {column.number: column for column in self.columns}


@frozen(kw_only=True)
class Counted:
    """Rows that this session's statistics have seen inserted and deleted, by table: they run on over transactions."""

    rows: Mapping[int, tuple[int, int]] = field(factory=dict)

    def since(self, earlier: Counted, oid: int) -> tuple[int, int]:
        """Inserted and deleted in between."""
        now, then = self.rows.get(oid, (0, 0)), earlier.rows.get(oid, (0, 0))
        return now[0] - then[0], now[1] - then[1]


@frozen(kw_only=True)
class Looked:
    """What a change has locked, as it leaves it: `locks` the strongest mode by relation, `recounted` the rows of tables that
    have other storage than before, `removed` the tables from which rows were taken."""

    locks: Mapping[int, int]
    relations: Mapping[int, Relation]
    recounted: Mapping[int, int]
    removed: Collection[int]


@frozen(kw_only=True)
class Going:
    """What goes from one relation: `what` in the words of `kept.py`, and the columns, where it is those."""

    relation: Relation
    what: str
    columns: tuple[Column, ...] = ()

    @property
    def key(self) -> tuple[int, str, frozenset[int]]:
        """By which the same going is recognised in two looks."""
        return self.relation.oid, self.what, frozenset(column.number for column in self.columns)


class Watch:
    """Begun before a change, asked after it: what it has done so far in the open transaction."""

    def __init__(self, connection: Remote) -> None:
        self._connection = connection
        self._counted = _counted(connection)
        self._storage: Mapping[int, int] = dict(rows_of(connection, _STORAGE))
        ((tracked,),) = rows_of(connection, "SELECT current_setting('track_counts')")
        self._tracked = tracked == "on"

    def looked(self) -> Looked:
        """What is locked for a change by now, as it is now."""
        connection, counted = self._connection, _counted(self._connection)
        locks = {oid: MODES.index(mode) for mode in MODES for oid in _locked(connection, mode)}
        relations = read_relations(connection, tuple(locks))
        storage = dict(rows_of(connection, _STORAGE))
        tables = {oid: each for oid, each in relations.items() if each.kind == "r" and oid in self._storage}
        rewritten = [oid for oid in tables if storage.get(oid) != self._storage[oid]]
        changed = {oid: counted.since(self._counted, oid) for oid in tables}
        removed = {oid for oid in tables if changed[oid][1] > 0 or not self._tracked}
        # Filled again, it may have as many rows as before, and none of them.
        removed |= {oid for oid in rewritten if changed[oid][0] > 0}
        recounted = {oid: count_of(connection, tables[oid]) for oid in rewritten if oid not in removed}
        return Looked(locks=locks, relations=relations, recounted=recounted, removed=removed)


def what_goes(before: Mapping[int, Relation], rows_before: Mapping[int, int], after: Looked) -> Iterator[Going]:
    """What was there before and is not after; `rows_before` are the numbers of rows of the recounted tables."""
    gone = before.keys() - after.relations.keys()
    for oid, relation in before.items():
        now = after.relations.get(oid)
        if now is None:
            if not gone & set(relation.parents):
                yield Going(relation=relation, what=SEQUENCE if relation.kind == "S" else TABLE)
            continue
        lost = tuple(each for each in relation.columns if each.number not in now.numbered() and not each.computed)
        if lost and not any(_lost_with(before.get(parent), after, lost) for parent in relation.parents):
            yield Going(relation=relation, what=COLUMNS, columns=lost)
        if oid in after.removed or after.recounted.get(oid, 0) < rows_before.get(oid, 0):
            yield Going(relation=relation, what=ROWS)


def _lost_with(parent: Relation | None, after: Looked, lost: Sequence[Column]) -> bool:
    """Whether the copy of the partitioned table has what these columns of a partition held."""
    now = after.relations.get(parent.oid) if parent is not None else None
    if parent is None or now is None:
        return False
    gone = {each.name for each in parent.columns if each.number not in now.numbered()}
    return gone >= {each.name for each in lost}


def read_relations(connection: Remote, oids: Sequence[int]) -> dict[int, Relation]:
    """Those that exist, and are neither Twinstep's own, nor the system's, nor temporary."""
    found = {}
    for oid, schema, name, kind, parents, key, columns in rows_of(connection, _RELATIONS, list(oids)):
        read = tuple(
            Column(number=number, name=column, type=type_, copied=copied, computed=computed, default=default)
            for number, column, type_, copied, computed, default in columns
        )
        found[oid] = Relation(
            oid=oid, schema=schema, name=name, kind=kind, parents=tuple(parents), key=tuple(key), columns=read
        )
    return found


def count_of(connection: Remote, relation: Relation) -> int:
    """How many rows are in it."""
    ((count,),) = rows_of(connection, sql.SQL("SELECT count(*) FROM {}").format(relation.named()))
    return int(count)


def rows_of(connection: Remote, query: str | sql.Composed, *parameters: object) -> list[tuple[Any, ...]]:
    """All rows of a query, whatever row factory the connection has."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(query.encode() if isinstance(query, str) else query, parameters or None, prepare=False)
        return cursor.fetchall()


def _counted(connection: Remote) -> Counted:
    return Counted(rows={oid: (inserted, deleted) for oid, inserted, deleted in rows_of(connection, _COUNTED)})


def _locked(connection: Remote, mode: str) -> list[int]:
    name = "".join(word.capitalize() for word in mode.split()) + "Lock"
    return [oid for (oid,) in rows_of(connection, _LOCKED, name)]


_COUNTED: Final = """
SELECT relid::bigint, n_tup_ins, n_tup_del FROM pg_catalog.pg_stat_xact_all_tables WHERE n_tup_ins > 0 OR n_tup_del > 0
"""
_STORAGE: Final = "SELECT oid::bigint, relfilenode::bigint FROM pg_catalog.pg_class WHERE relkind = 'r'"
_LOCKED: Final = """
SELECT relation::bigint FROM pg_catalog.pg_locks WHERE locktype = 'relation' AND granted AND pid = pg_backend_pid()
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) AND mode = %s
"""
# A type of the database's own making becomes text, and a collation of its own the default one: a copy depends on neither.
_RELATIONS: Final = """
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text,
    CASE WHEN c.relispartition
        THEN ARRAY(SELECT inhparent::bigint FROM pg_catalog.pg_inherits WHERE inhrelid = c.oid) ELSE '{}' END,
    coalesce((SELECT conkey FROM pg_catalog.pg_constraint WHERE conrelid = c.oid AND contype = 'p'), '{}'),
    coalesce((SELECT json_agg(json_build_array(a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
            concat(quote_ident(a.attname), CASE WHEN t.typnamespace <> 'pg_catalog'::regnamespace THEN '::text' END,
                CASE WHEN l.collnamespace <> 'pg_catalog'::regnamespace THEN ' COLLATE pg_catalog."default"' END,
                ' AS ', quote_ident(a.attname)),
            a.attgenerated <> '', pg_get_expr(d.adbin, d.adrelid)) ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s::bigint[]::oid[]) AND c.relkind IN ('r', 'p', 'm', 'S') AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'twinstep', 'pg_toast')
ORDER BY c.oid
"""
