"""SQLite's own check of a file, without its false alarms.

SQLite 3.40 looks for NULL and for values of a wrong type in the wrong column of a table WITHOUT ROWID whose key does not come
first, and calls a sound file unsound. Where it complains of a value of such a table, the values are asked for by queries.

Only reads. Read next: `copies.py`.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Literal, TypeAlias

Check: TypeAlias = Literal["quick_check", "integrity_check"]

_NAMED = 10
# As many as it looks for when it is not told: a file may be so damaged that it then cannot say how.
_FIRST = 100
_ALL = 1_000_000
_ABOUT_A_VALUE = re.compile(r"(?:NULL|NUMERIC|TEXT|non-[A-Z]+) value in (.+)", re.DOTALL)
_STORAGE = {"INT": "integer", "INTEGER": "integer", "REAL": "real", "TEXT": "text", "BLOB": "blob"}


def unsound(connection: sqlite3.Connection, check: Check) -> list[str]:
    """What the check finds wrong with the main database, in SQLite's words, at most ten; empty where it is sound."""
    found = _lines(connection, check, _FIRST)
    if not any(_ABOUT_A_VALUE.fullmatch(line) for line in found):
        return found[:_NAMED]
    columns = {f"{table}.{column}" for table, column, _ in _columns(connection)}
    real = [line for line in _lines(connection, check, _ALL) if not _is_about(line, columns)]
    return [*real, *_wrong_values(connection)][:_NAMED]


def _lines(connection: sqlite3.Connection, check: Check, limit: int) -> list[str]:
    found = [str(line) for (line,) in connection.execute(f"PRAGMA main.{check}({limit})").fetchall()]
    return [] if found == ["ok"] else found


def _is_about(line: str, columns: set[str]) -> bool:
    said = _ABOUT_A_VALUE.fullmatch(line)
    return said is not None and said[1] in columns


def _columns(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str]]:
    """Of the tables without rowids: table, column, and the condition under which a value of it is wrong ("" for none)."""
    for _, table, kind_of, _, without_rowid, strict in connection.execute("PRAGMA main.table_list").fetchall():
        if kind_of != "table" or not without_rowid:
            continue
        columns = "SELECT name, type, \"notnull\" OR pk > 0 FROM pragma_table_xinfo(?, 'main')"
        for column, kind, required in connection.execute(columns, (table,)).fetchall():
            name, storage = _quoted(column), _STORAGE.get(str(kind).upper())
            # Not "IS NULL": SQLite answers that with no, unread, where the column must not be.
            wrong = [f"typeof({name}) = 'null'"] if required else []
            if storage is not None and strict:
                wrong.append(f"typeof({name}) NOT IN ('null', '{storage}')")
            yield table, column, " OR ".join(wrong)


def _wrong_values(connection: sqlite3.Connection) -> Iterator[str]:
    for table, column, wrong in _columns(connection):
        query = f"SELECT typeof({_quoted(column)}) FROM main.{_quoted(table)} WHERE {wrong} LIMIT 1"
        found = connection.execute(query).fetchone() if wrong else None
        if found is not None:
            yield f"{found[0].upper()} value in {table}.{column}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
