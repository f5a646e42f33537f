"""What an SQLite database looks like: its objects, marks, rows, broken references and damage, read and never changed.

Everything is read on the caller's driver connection, inside the caller's transaction if there is one, so that it sees the
change that is not yet committed. Twinstep's own tables (`twinstep_...`), SQLite's, and the shadow tables of virtual ones are
not objects of their own. A virtual table whose module is missing is an object without rows.

Must never write, and never import SQLAlchemy. Read next: `catalogue.py` (the values), `sqlite_text.py` (the normal form).
"""

from __future__ import annotations

import hashlib
import marshal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from operator import methodcaller
from types import MappingProxyType
from typing import Final, TypeVar

from attrs import frozen

from ..stores.soundness import unsound
from .catalogue import Catalogue, CatalogueObject, Fingerprint, Schema
from .sqlite_text import fold, normal_form, quoted

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_OBJECTS = r"""
    SELECT type, name, tbl_name, rootpage, coalesce(sql, '') FROM main.sqlite_schema
    WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE 'twinstep\_%' ESCAPE '\' ORDER BY rowid
"""
_KEY_COUNTS = """
    SELECT t.name, count(DISTINCT k.id) FROM main.sqlite_schema t, pragma_foreign_key_list(t.name, 'main') k
    WHERE t.type = 'table' GROUP BY t.name
"""
_VIOLATIONS = "SELECT rowid, parent, fkid FROM pragma_foreign_key_check(?, ?)"
_KEY_COLUMNS = 'SELECT id, "from" FROM pragma_foreign_key_list(?, ?) ORDER BY id, seq'

# Version 2 of marshal's format: the last one whose bytes depend on the values alone, not on how often an object is shared. A
# row is "(", its length, then per value N; i and 4 bytes; l and 15-bit digits; g and 8 bytes; u or s, a length and the bytes.
# It tells 1 from 1.0 and text from blobs. repr() was rejected: slower, and for text it changes with each Unicode version.
_ROW_FORMAT = 2

_FROM_BYTES: Callable[[bytes, str], int] = int.from_bytes  # type: ignore[assignment]

Value = TypeVar("Value")


def read_catalogue(connection: sqlite3.Connection, *, count_rows: bool = True) -> Catalogue:
    """All objects with their normal definitions, and the number of rows per table unless `count_rows` is False.

    `storage` of a table is its root page; with auto_vacuum, where root pages move by themselves, it follows the definition
    instead, so that a rebuild into the same definition is not counted there.
    """
    with plain_rows(connection):
        objects = {found.key: found for found in _objects(connection)}
        return Catalogue(objects=objects, rows=_count_rows(connection, objects.values()) if count_rows else {})


def read_fingerprint(
    connection: sqlite3.Connection, *, content: bool = True, count_rows: bool = True, known: Mapping[str, str] = _NOTHING
) -> Fingerprint:
    """Digests of all objects, the marks, and per table the number and (if `content`) the digest of its rows.

    The content digest is the sum, modulo 2**256, of one sha256 per row over its ordinary and generated columns by name:
    rows have no order and no rowid in it, types and storage classes count. The tables of ANALYZE count as content too,
    under their own names. Text that is not UTF-8 is read as it is. `known` are digests by table that need not be made again.
    """
    catalogue = read_catalogue(connection, count_rows=count_rows)
    with plain_rows(connection):
        return Fingerprint(
            objects=catalogue.digests(),
            marks=_marks(connection),
            rows=catalogue.rows,
            content=_content(connection, catalogue.objects.values(), known) if content else {},
        )


def read_schema(connection: sqlite3.Connection) -> Schema:
    """All objects and the marks; no table is read."""
    catalogue = read_catalogue(connection, count_rows=False)
    with plain_rows(connection):
        return Schema(objects=catalogue.objects, marks=_marks(connection))


@frozen(kw_only=True)
class ForeignKeyViolation:
    """A row that refers to one that is not there. The key is named by its columns: SQLite's own numbers of keys shift when
    one is added. `rowid` is None in a table without rowids; an empty `parent` says that the keys of this table could
    not be checked at all, because one of them does not fit its parent table.
    """

    table: str
    rowid: int | None = None
    parent: str = ""
    columns: tuple[str, ...] = ()


def foreign_key_violations(
    connection: sqlite3.Connection, *, tables: Iterable[str] | None = None
) -> Counter[ForeignKeyViolation]:
    """All broken references, or those of some tables, and how often each occurs (rows without rowid look alike).

    Subtract an earlier result to leave old violations out.
    """
    with plain_rows(connection):
        if tables is None:
            tables = [name for name, _ in connection.execute(_KEY_COUNTS).fetchall()]
        found: Counter[ForeignKeyViolation] = Counter()
        for table in tables:
            found.update(_violations(connection, table))
        return found


def integrity_problems(connection: sqlite3.Connection) -> tuple[str, ...]:
    """What SQLite's quick_check finds wrong with the file, in its own words, at most ten; empty when it is sound."""
    with plain_rows(connection):
        return tuple(unsound(connection, "quick_check"))


@contextmanager
def plain_rows(connection: sqlite3.Connection) -> Iterator[None]:
    """Rows are tuples and text is str inside, whatever the host has set on its connection; its settings come back after."""
    row_factory, text_factory = connection.row_factory, connection.text_factory
    connection.row_factory, connection.text_factory = None, str
    try:
        yield
    finally:
        connection.row_factory, connection.text_factory = row_factory, text_factory


def _objects(connection: sqlite3.Connection) -> Iterator[CatalogueObject]:
    shadows = {fold(name) for name in _names_of_type(connection, "shadow")}
    key_counts: Mapping[str, int] = dict(connection.execute(_KEY_COUNTS).fetchall())
    (moving_pages,) = connection.execute("PRAGMA main.auto_vacuum").fetchone()
    for kind, name, table, page, sql in connection.execute(_OBJECTS).fetchall():
        if fold(table) in shadows:
            continue
        definition = normal_form(sql)
        storage = hashlib.sha256(definition.encode()).hexdigest()[:16] if moving_pages else str(page)
        yield CatalogueObject(
            kind=kind,
            name=name,
            table=table,
            definition=definition,
            storage=storage if kind == "table" and page else "",
            foreign_keys=key_counts.get(name, 0) if kind == "table" else 0,
        )


def _names_of_type(connection: sqlite3.Connection, wanted: str) -> list[str]:
    # As a statement: SQLite before 3.37 answers it with no rows, where the table-valued form is an error.
    return [row[1] for row in connection.execute("PRAGMA main.table_list").fetchall() if row[2] == wanted]


def _count_rows(connection: sqlite3.Connection, objects: Iterable[CatalogueObject]) -> dict[str, int]:
    def count(table: str) -> int:
        (number,) = connection.execute(f"SELECT count(*) FROM main.{quoted(table)}").fetchone()
        return int(number)

    return _of_tables(objects, count)


def _content(connection: sqlite3.Connection, objects: Iterable[CatalogueObject], known: Mapping[str, str]) -> dict[str, str]:
    statistics = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name GLOB 'sqlite_stat[1-4]'"
    found = {name: _content_digest(connection, name) for (name,) in connection.execute(statistics).fetchall()}
    return _of_tables(objects, lambda table: known.get(table) or _content_digest(connection, table)) | found


def _of_tables(objects: Iterable[CatalogueObject], read: Callable[[str], Value]) -> dict[str, Value]:
    values = {}
    for found in objects:
        if found.kind != "table":
            continue
        try:
            values[found.name] = read(found.name)
        except sqlite3.DatabaseError:
            # A virtual table that cannot be read (no module, no content of its own) has no rows to account for.
            if found.storage:
                raise
    return values


def _content_digest(connection: sqlite3.Connection, table: str) -> str:
    """One digest over all rows of a table. A second pass, much slower, reads a table with text that is not UTF-8."""
    columns = connection.execute("SELECT name FROM pragma_table_xinfo(?, 'main') WHERE hidden <> 1", (table,)).fetchall()
    named = ", ".join(quoted(name) for name in sorted(name for (name,) in columns))
    query = f"SELECT {named} FROM main.{quoted(table)}"
    try:
        total = _sum_of_rows(connection, query)
    except sqlite3.OperationalError:
        # The driver has no narrower error for it; any other trouble comes again, and out.
        connection.text_factory = _any_text
        try:
            total = _sum_of_rows(connection, query)
        finally:
            connection.text_factory = str
    return f"{total % 2**256:064x}"


def _any_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _sum_of_rows(connection: sqlite3.Connection, query: str) -> int:
    # Every step is a call from C into C: a loop in Python costs more than reading and hashing together.
    rows = map(marshal.dumps, connection.execute(query), repeat(_ROW_FORMAT))
    return sum(map(_FROM_BYTES, map(methodcaller("digest"), map(hashlib.sha256, rows)), repeat("big")))


def _marks(connection: sqlite3.Connection) -> dict[str, int]:
    marks = {name: int(connection.execute(f"PRAGMA main.{name}").fetchone()[0]) for name in ("user_version", "application_id")}
    if connection.execute("SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'").fetchone():
        sequences = r"SELECT name, CAST(seq AS INTEGER) FROM main.sqlite_sequence WHERE name NOT LIKE 'twinstep\_%' ESCAPE '\'"
        marks |= {f"sequence {name}": number or 0 for name, number in connection.execute(sequences).fetchall()}
    return marks


def _violations(connection: sqlite3.Connection, table: str) -> Iterator[ForeignKeyViolation]:
    columns: dict[int, tuple[str, ...]] = {}
    for number, column in connection.execute(_KEY_COLUMNS, (table, "main")).fetchall():
        columns[number] = (*columns.get(number, ()), column)
    try:
        rows = connection.execute(_VIOLATIONS, (table, "main")).fetchall()
    except sqlite3.OperationalError:
        yield ForeignKeyViolation(table=table)
        return
    for rowid, parent, number in rows:
        yield ForeignKeyViolation(table=table, rowid=rowid, parent=parent, columns=columns[number])
