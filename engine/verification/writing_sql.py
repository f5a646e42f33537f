"""A content as a text of INSERT statements that makes exactly that database, for the programs and drivers of either side.

What a text file cannot hold as it is (a NUL, a carriage return, half a character) is written as bytes for SQLite, and as an
escape for PostgreSQL. Foreign keys are not checked meanwhile on SQLite, triggers fire. Pure: no database. Read next:
`filling.py`, which does the same to a connection.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import groupby
from typing import Final

from ...migrations.row_values import RawText
from ...migrations.sqlite_text import quoted
from .postgres_filling import insert_statement, literal, put_off, sequence_statements, update_statement
from .shape import SEQUENCES, Content, Shape, TableShape

# The command-line program reads line by line, and takes a carriage return for a part of the end.
_NOT_IN_A_FILE: Final = re.compile("[\0-\x08\x0b-\x1f\x7f\ud800-\udfff\ufeff]")
_ROWS_OF_A_STATEMENT: Final = 500


def as_sql(shape: Shape, content: Content) -> str:
    """The statements, in one transaction; for the tables as they are, which are not made here.

    PostgreSQL's values come from their texts, as they were drawn. Raises TypeError for a value that SQLite does not have.
    """
    statements = _local(shape, content) if shape.side == "local" else _remote(shape, content)
    return "".join(f"{statement};\n" for statement in statements)


def _local(shape: Shape, content: Content) -> Iterator[str]:
    yield "PRAGMA foreign_keys = OFF"
    yield "BEGIN"
    for table in shape.tables:
        for names, rows in groupby(content.get(table.name, ()), key=tuple):
            if not names:
                yield from (f"INSERT INTO {table.sql_name} DEFAULT VALUES" for _ in rows)
                continue
            lines = ",\n".join(f"  ({', '.join(map(sqlite_literal, row.values()))})" for row in rows)
            yield f"INSERT INTO {table.sql_name} ({', '.join(map(quoted, names))}) VALUES\n{lines}"
    for mark in content.get(SEQUENCES, ()):
        name, number = sqlite_literal(mark["name"]), sqlite_literal(mark["seq"])
        yield f"UPDATE main.sqlite_sequence SET seq = max(seq, {number}) WHERE name = {name}"
        yield (
            f"INSERT INTO main.sqlite_sequence (name, seq) SELECT {name}, {number}"
            f" WHERE NOT EXISTS (SELECT 1 FROM main.sqlite_sequence WHERE name = {name})"
        )
    yield "COMMIT"


def sqlite_literal(value: object) -> str:
    """One value as SQLite reads it back, of the same type and to the last bit.

    >>> [sqlite_literal(value) for value in (None, 1, 1.0, "it's", b"a", "a\\0", float("-inf"))]
    ['NULL', '1', '1.0', "'it''s'", "X'61'", "CAST(X'6100' AS TEXT)", '-9e999']
    """
    match value:
        case None:
            return "NULL"
        case RawText():
            return f"CAST(X'{value.hex()}' AS TEXT)"
        case bytes():
            return f"X'{value.hex()}'"
        case str():
            return _local_text(value)
        case float():
            return _local_real(value)
        case int():
            return str(int(value))
    raise TypeError(f"not a value of SQLite: {value!r}")


def _local_text(text: str) -> str:
    if _NOT_IN_A_FILE.search(text):
        return f"CAST(X'{text.encode('utf-8', 'surrogatepass').hex()}' AS TEXT)"
    return "'" + text.replace("'", "''") + "'"


def _local_real(number: float) -> str:
    if math.isnan(number):
        return "NULL"
    if math.isinf(number):
        return "9e999" if number > 0 else "-9e999"
    _, digits, exponent = Decimal(repr(number)).as_tuple()
    assert isinstance(exponent, int)
    # Within these no text was found that SQLite 3.40 reads as the neighbour of the number; beyond them, one in thousands is.
    if exponent >= -5 and len(digits) <= 15 and abs(number) < 2**53:
        return repr(number)
    return _exact_real(number)


def _exact_real(number: float) -> str:
    """As a product or a quotient of powers of two and one whole number, of which nothing is lost."""
    fraction, power = math.frexp(number)
    whole, power = int(fraction * 2**53), power - 53
    while whole % 2 == 0:
        whole, power = whole // 2, power + 1
    steps, rest = divmod(abs(power), 50)
    sign = " * " if power > 0 else " / "
    return f"({sign.join([f'{whole}.0', *[f'{2**50}.0'] * steps, f'{2**rest}.0'])})"


def _remote(shape: Shape, content: Content) -> Iterator[str]:
    waits = put_off(shape)
    yield "SET client_encoding = 'UTF8'"
    yield "BEGIN"
    deferred = [key.name for each in waits.values() for key in each.keys]
    if deferred:
        yield f"SET CONSTRAINTS {', '.join(deferred)} DEFERRED"
    for table in shape.tables:
        rows = content.get(table.name, ())
        if rows and waits[table.name].unchecked:
            yield "SET LOCAL session_replication_role = replica"
        yield from _inserted(table, rows, waits[table.name].columns)
        if rows and waits[table.name].unchecked:
            yield "SET LOCAL session_replication_role = origin"
    for table in shape.tables:
        for row in content.get(table.name, ()):
            given = [name for name in waits[table.name].columns if row.get(name) is not None]
            if given:
                yield update_statement(table, given, row, _remote_value)
    yield from sequence_statements(shape, content)
    yield "COMMIT"


def _inserted(table: TableShape, rows: tuple[Mapping[str, object], ...], withheld: tuple[str, ...]) -> Iterator[str]:
    first = [{**row, **{name: None for name in withheld if name in row}} for row in rows]
    for start in range(0, len(first), _ROWS_OF_A_STATEMENT):
        part = first[start : start + _ROWS_OF_A_STATEMENT]
        names = [column.name for column in table.columns if any(column.name in row for row in part)]
        yield insert_statement(table, names, part, _remote_value)


def _remote_value(value: object, kind: str) -> str:
    return "NULL" if value is None else literal(str(value))
