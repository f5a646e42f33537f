"""The shape of a PostgreSQL database: what its catalogue says of the rows, in five queries.

A partitioned table stands for its partitions. Left out are views, foreign and temporary tables, what belongs to extensions,
and Twinstep's own schema. Names of types and texts of CHECKs are written for any search_path. Domains are taken apart: their
base, their checks, their NOT NULL. Works on PostgreSQL 14 to 18.

Must never write, and never import SQLAlchemy. Read next: `shape.py` (the values).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from attrs import evolve, frozen
from psycopg import sql
from psycopg.rows import tuple_row

from ...migrations.postgres_catalogue import PIN_OUTPUT
from .shape import ColumnShape, KeyShape, Shape, TableShape, parents_first

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.rows import TupleRow

# Columns that younger versions have are read through JSON, where the older ones have nothing.
_TABLES = """
    SELECT c.oid, CASE n.nspname WHEN 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END,
        format('%I.%I', n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ({schemas}::name[]) AND n.nspname <> 'twinstep' AND c.relkind IN ('r', 'p')
        AND NOT c.relispartition AND c.relpersistence <> 't'
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
_COLUMNS = """
    SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        a.atthasdef, a.attgenerated <> '', a.attidentity <> '',
        pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attrelid = ANY ({tables}::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""
_TYPES = """
    WITH RECURSIVE used (oid) AS (
        SELECT DISTINCT atttypid FROM pg_attribute WHERE attrelid = ANY ({tables}::oid[]) AND attnum > 0 AND NOT attisdropped
        UNION
        SELECT inner_type FROM used u JOIN pg_type t ON t.oid = u.oid
            LEFT JOIN pg_range r ON u.oid IN (r.rngtypid, r.rngmultitypid),
            unnest(ARRAY[t.typbasetype, t.typelem, r.rngsubtype]) AS inner_type
        WHERE inner_type IN (SELECT oid FROM pg_type)
    )
    SELECT t.oid, t.typname, t.typtype, t.typcategory = 'A' AND t.typelem <> 0, t.typnotnull, t.typdefault IS NOT NULL,
        t.typbasetype, t.typtypmod, t.typelem, coalesce(r.rngsubtype, 0), format_type(t.oid, NULL),
        ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder),
        ARRAY(SELECT pg_get_expr(conbin, 0) FROM pg_constraint WHERE contypid = t.oid AND contype = 'c' ORDER BY conname)
    FROM pg_type t JOIN used USING (oid) LEFT JOIN pg_range r ON t.oid IN (r.rngtypid, r.rngmultitypid)
"""
_CONSTRAINTS = """
    SELECT c.conrelid, c.contype, format('%I.%I', n.nspname, c.conname), c.conkey, c.confrelid, c.confkey,
        c.condeferrable, c.confmatchtype = 'f', coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true),
        CASE c.contype WHEN 'c' THEN pg_get_expr(c.conbin, c.conrelid) END
    FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
    WHERE c.conrelid = ANY ({tables}::oid[]) AND c.contype IN ('c', 'f', 'p') ORDER BY c.conname
"""
# Constraints are unique indexes too. Not those that hold for some rows only, or are made of expressions.
_UNIQUES = """
    SELECT i.indrelid, ARRAY(SELECT k::smallint FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS each (k, place)
            WHERE place <= i.indnkeyatts ORDER BY place),
        coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = ANY ({tables}::oid[]) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
        AND NOT i.indisprimary ORDER BY c.relname
"""
# The default partition takes what no other one does.
_PARTITIONS = """
    SELECT pg_partition_root(c.oid)::oid, pg_get_partition_constraintdef(c.oid) FROM pg_class c
    WHERE c.relispartition AND c.relkind = 'r' AND pg_partition_root(c.oid) = ANY ({tables}::oid[])
        AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT' ORDER BY c.relname
"""


def reflect_postgres(connection: Connection[TupleRow], schemas: Sequence[str]) -> Shape:
    """Every table of the schemas that can be filled. Inside a transaction, of that transaction. Raises psycopg.Error."""
    # Undone at the end: the settings are those of the session again.
    with connection.transaction(force_rollback=True), connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(PIN_OUTPUT.encode())
        tables = cursor.execute(sql.SQL(_TABLES).format(schemas=list(schemas))).fetchall()
        asked = [
            cursor.execute(sql.SQL(query).format(tables=[oid for oid, _, _ in tables])).fetchall()
            for query in (_TYPES, _COLUMNS, _CONSTRAINTS, _UNIQUES, _PARTITIONS)
        ]
    types = {row[0]: _Type(*row[1:]) for row in asked[0]}
    found = _Found(names={oid: name for oid, name, _ in tables}, columns={})
    for oid, number, *column in asked[1]:
        found.columns.setdefault(oid, {})[number] = _column(*column, types=types)
    constraints = [_Constraint(*row) for row in asked[2]]
    return Shape(
        side="remote",
        tables=parents_first(
            _table(oid, name, sql_name, found, [each for each in constraints if each.table == oid], *asked[3:])
            for oid, name, sql_name in tables
        ),
    )


class _Type(NamedTuple):
    name: str
    typtype: str
    is_array: bool
    not_null: bool
    has_default: bool
    base: int
    base_modifier: int
    element: int
    subtype: int
    written: str
    labels: list[str]
    checks: list[str]


class _Constraint(NamedTuple):
    table: int
    kind: str
    name: str
    columns: list[int]
    parent: int
    parent_columns: list[int]
    deferrable: bool
    match_full: bool
    enforced: bool
    check: str | None


@frozen(kw_only=True)
class _Found:
    """Names of tables, and columns by number, by the identifier of the table."""

    names: Mapping[int, str]
    columns: dict[int, dict[int, ColumnShape]]

    def listed(self, table: int, numbers: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.columns[table][number].name for number in numbers)


def _table(
    oid: int,
    name: str,
    sql_name: str,
    found: _Found,
    constraints: list[_Constraint],
    uniques: list[TupleRow],
    partitions: list[TupleRow],
) -> TableShape:
    own = [(found.listed(oid, numbers), alike) for table, numbers, alike in uniques if table == oid]
    primary = next((found.listed(oid, each.columns) for each in constraints if each.kind == "p"), ())
    return TableShape(
        name=name,
        sql_name=sql_name,
        columns=tuple(found.columns.get(oid, {}).values()),
        primary_key=primary,
        uniques=tuple(dict.fromkeys(columns for columns, _ in own if columns != primary)),
        nulls_not_distinct=frozenset(columns for columns, alike in own if alike),
        checks=tuple(each.check for each in constraints if each.check is not None and each.enforced),
        partitions=tuple(holds for root, holds in partitions if root == oid and holds),
        foreign_keys=tuple(
            KeyShape(
                columns=found.listed(oid, each.columns),
                # A parent in another schema than those that were asked for has no rows here.
                parent=found.names.get(each.parent, f"another table ({each.parent})"),
                parent_columns=found.listed(each.parent, each.parent_columns) if each.parent in found.names else (),
                enforced=each.enforced,
                deferrable=each.deferrable,
                match_full=each.match_full,
                name=each.name,
            )
            for each in constraints
            if each.kind == "f"
        ),
    )


def _column(
    name: str,
    type_of: int,
    modifier: int,
    written: str,
    not_null: bool,
    has_default: bool,
    generated: bool,
    identity: bool,
    sequence: str | None,
    *,
    types: Mapping[int, _Type],
) -> ColumnShape:
    known = _typed(type_of, modifier, types)
    return evolve(
        known,
        name=name,
        type=written,
        nullable=known.nullable and not not_null,
        has_default=not generated and (has_default or identity or known.has_default),
        generated=generated,
        identity=identity,
        sequence=sequence or "",
    )


def _typed(oid: int, modifier: int, types: Mapping[int, _Type]) -> ColumnShape:
    """A column without a name, of that type: a domain as its base with its checks."""
    found = types[oid]
    if found.typtype == "d":
        base = _typed(found.base, found.base_modifier, types)
        return evolve(
            base,
            type=found.written,
            nullable=base.nullable and not found.not_null,
            has_default=base.has_default or found.has_default,
            checks=(*base.checks, *found.checks),
        )
    kinds = {"e": "enum", "r": "range", "m": "multirange", "c": "composite"}
    inner = found.element if found.is_array else found.subtype
    limit, precision, scale = _limits(found.name, modifier)
    return ColumnShape(
        name="",
        type=found.written,
        kind="array" if found.is_array else kinds.get(found.typtype, found.name),
        labels=tuple(found.labels),
        element=_typed(inner, modifier if found.is_array else -1, types) if inner else None,
        limit=limit,
        precision=precision,
        scale=scale,
    )


def _limits(name: str, modifier: int) -> tuple[int | None, int | None, int | None]:
    """What the type's modifier says: the limit of a text or bit string; precision and scale of a number."""
    if modifier < 0:
        return None, None, None
    match name:
        case "varchar" | "bpchar":
            return modifier - 4, None, None
        case "bit" | "varbit":
            return modifier, None, None
        case "numeric":
            # The scale is a signed number of 11 bits since 15; before, it was never negative and never so great.
            return None, (modifier - 4) >> 16 & 0xFFFF, (((modifier - 4) & 0x7FF) ^ 0x400) - 0x400
        case "time" | "timetz" | "timestamp" | "timestamptz":
            return None, modifier, None
    return None, None, None
