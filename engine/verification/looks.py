"""A whole database as values: every row of every table, to be held against another such look.

Values are exact. Of SQLite they are what the driver gives, told apart by storage class; of PostgreSQL the text that the server
writes, under settings that are pinned. Twinstep's own tables are left out.

Must never import SQLAlchemy, and changes nothing. Read next: `losses.py` (what two looks tell).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

from ...events.cut_short import cut_short
from ...migrations.catalogue import Fingerprint
from ...migrations.definition import SideName
from ...migrations.postgres_catalogue import PIN_OUTPUT
from ...migrations.quarantined import ROW, read_quarantined
from ...migrations.row_values import exact_text, from_json
from ...migrations.sqlite_catalogue import foreign_key_violations, integrity_problems, read_fingerprint
from ...migrations.sqlite_text import fold, quoted
from .sqlite_shape import tables_of

if TYPE_CHECKING:
    from ...stores.remote_connection import Remote

Value: TypeAlias = "object"
"""None, or a pair of the storage class and the value: two of them are equal only where the database says the same of both."""

Row: TypeAlias = "tuple[Value, ...]"


@frozen(kw_only=True)
class TableLook:
    """One table. `columns` are folded where the database folds names, `types` are as declared; `key` is the primary key."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()

    def place(self, column: str) -> int:
        """Where the column stands in a row."""
        return self.columns.index(column)

    def by(self, columns: Sequence[str]) -> dict[Row, Row]:
        """The rows by the values of these columns; of equal ones the last."""
        places = [self.place(column) for column in columns]
        return {tuple(row[place] for place in places): row for row in self.rows}


@frozen(kw_only=True)
class Look:
    """One side at one instant. `schema` has the digests of its objects and the marks that an application sets.

    `next_ids` are, by the table whose ids they are, the numbers that are given out next, and `unproved` the constraints and
    indexes that are declared but not valid. `aside` are the rows in quarantine, as pairs of table and primary key, `cleared`
    the references that became NULL, with their columns. `broken` is how many references lead nowhere, `problems` what the
    database says is not sound.
    """

    side: SideName
    tables: Mapping[str, TableLook] = field(factory=dict)
    schema: Fingerprint = field(factory=Fingerprint)
    next_ids: Mapping[str, int] = field(factory=dict)
    unproved: frozenset[str] = frozenset()
    aside: frozenset[tuple[str, Row]] = frozenset()
    cleared: frozenset[tuple[str, Row, str]] = frozenset()
    broken: int = 0
    problems: tuple[str, ...] = ()


def marked(value: object) -> Value:
    """A value of SQLite with its storage class: 1, 1.0 and '1' are three values."""
    return None if value is None else (type(value).__name__, value)


def shown(value: Value) -> str:
    """A value for people.

    >>> shown(marked("a")), shown(None)
    ("'a'", 'NULL')
    """
    if value is None:
        return "NULL"
    said = repr(value[1]) if isinstance(value, tuple) else repr(value)
    return cut_short(said, 60)


def look_at_sqlite(connection: sqlite3.Connection) -> Look:
    """Everything that is committed, or that this connection's transaction has."""
    with exact_text(connection):
        tables = {fold(name): _sqlite_table(connection, name) for name, _ in tables_of(connection)}
        quarantined = [each for each in read_quarantined(connection) if each.put_back_at is None]
    keys = [(fold(each.table), tuple(map(marked, from_json(each.row_key).values())), each) for each in quarantined]
    schema = read_fingerprint(connection, content=False, count_rows=False)
    return Look(
        side="local",
        tables=tables,
        schema=schema.schema_only(),
        next_ids={
            fold(name.removeprefix("sequence ")): number + 1
            for name, number in schema.marks.items()
            if name.startswith("sequence ")
        },
        aside=frozenset((table, key) for table, key, each in keys if each.kind == ROW),
        cleared=frozenset(
            (table, key, fold(column)) for table, key, each in keys if each.kind != ROW for column in from_json(each.content)
        ),
        broken=foreign_key_violations(connection).total(),
        problems=tuple(integrity_problems(connection)),
    )


def _sqlite_table(connection: sqlite3.Connection, name: str) -> TableLook:
    query = "SELECT name, type, pk FROM pragma_table_xinfo(?, 'main') WHERE hidden <> 1 ORDER BY cid"
    columns = connection.execute(query, (name,)).fetchall()
    listed = ", ".join(quoted(column) for column, _, _ in columns)
    rows = connection.execute(f"SELECT {listed} FROM main.{quoted(name)}").fetchall()
    return TableLook(
        name=name,
        columns=tuple(fold(column) for column, _, _ in columns),
        types=tuple(declared for _, declared, _ in columns),
        key=tuple(fold(column) for column, _, place in sorted(columns, key=lambda each: each[2]) if place),
        rows=tuple(tuple(map(marked, row)) for row in rows),
    )


def all_schemas(connection: Remote) -> list[str]:
    """Those of the database's own making: a migration may change, and a key lead to, any of them."""
    return [str(name) for (name,) in connection.execute(_SCHEMAS).fetchall()]


_SCHEMAS = r"""
    SELECT nspname FROM pg_namespace
    WHERE nspname NOT LIKE 'pg\_%' AND nspname NOT IN ('information_schema', 'twinstep') ORDER BY nspname
"""


def look_at_postgres(connection: Remote) -> Look:
    """The tables of all schemas, in one transaction; the connection is in none before and after."""
    from ...migrations.postgres_catalogue import read_catalogue

    schemas = all_schemas(connection)
    catalogue = read_catalogue(connection, schemas)
    with connection.transaction():
        connection.execute(PIN_OUTPUT.encode())
        found = connection.execute(_POSTGRES_TABLES, (schemas,)).fetchall()
        tables = {str(row[0]): _postgres_table(connection, *row) for row in found}
        sequences = connection.execute(_SEQUENCES, (schemas,)).fetchall()
    return Look(
        side="remote",
        tables=tables,
        schema=Fingerprint(objects=catalogue.digests()),
        next_ids={str(table): int(str(number)) for table, number in sequences},
        unproved=frozenset(key for key, each in catalogue.objects.items() if not each.valid),
    )


# The root of a partitioned table has the rows of its partitions.
_POSTGRES_TABLES = """
    SELECT format(CASE n.nspname WHEN 'public' THEN '%%2$I' ELSE '%%1$I.%%2$I' END, n.nspname, c.relname),
        format('%%I.%%I', n.nspname, c.relname),
        array_agg(a.attname::text ORDER BY a.attnum), array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum),
        (SELECT array_agg(k.attname::text ORDER BY array_position(i.indkey, k.attnum)) FROM pg_index i
            JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = ANY (i.indkey) WHERE i.indrelid = c.oid AND i.indisprimary)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    GROUP BY c.oid, n.nspname, c.relname ORDER BY 1
"""
_SEQUENCES = """
    SELECT format(CASE n.nspname WHEN 'public' THEN '%%2$I' ELSE '%%1$I.%%2$I' END, n.nspname, c.relname),
        coalesce(pg_sequence_last_value(s.oid) + 1, q.seqstart)
    FROM pg_class s JOIN pg_sequence q ON q.seqrelid = s.oid
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND i.indnatts = 1 AND i.indkey[0] = d.refobjsubid
    WHERE n.nspname = ANY (%s) AND s.relkind = 'S' AND q.seqincrement > 0
"""


def _postgres_table(
    connection: Remote, shown_name: object, name: object, columns: object, types: object, key: object
) -> TableLook:
    assert isinstance(columns, list)
    assert isinstance(types, list)
    listed = ", ".join(f"{quoted(column)}::text" for column in columns)
    rows = connection.execute(f"SELECT {listed} FROM {name}".encode()).fetchall()
    return TableLook(
        name=str(shown_name),
        columns=tuple(map(str, columns)),
        types=tuple(map(str, types)),
        key=tuple(map(str, key)) if isinstance(key, list) else (),
        rows=tuple(tuple(map(marked, row)) for row in rows),
    )
