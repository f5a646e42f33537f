"""Putting the new table of a rebuild in the old one's place, with all that hung on the old one.

From here on nothing is refused that could have been refused before. Read next: `rebuilding.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from ...events.errors import DefinitionError, Refused
from ..create_table import CreateTable
from ..sqlite_table import Table, read_table, run
from ..sqlite_text import in_main, normal_form, quoted

# Kind and name of an object, to the table that it is of and its text.
SchemaTexts: TypeAlias = "Mapping[tuple[str, str], tuple[str, str | None]]"


def take_place(driver: sqlite3.Connection, old: Table, new: Table) -> None:
    """Drop the old table, give the new one its name, its indexes and triggers in their order, its mark and statistics."""
    with _marks_kept(driver, old, new):
        run(driver, f"DROP TABLE {old.sql_name}")
        if new.text.names_itself:
            _rename_by_hand(driver, new, old.name)
        else:
            _rename(driver, new, old.name)
        # Now, not before the copy: an index that is filled row by row takes five times as long.
        for kind, name, text in old.dependents:
            _make_again(driver, old.name, kind, name, text)


def _make_again(driver: sqlite3.Connection, table: str, kind: str, name: str, text: str) -> None:
    try:
        run(driver, in_main(kind, text))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        problem = f"{kind} {name} cannot be made again ({error}); name it in drop_objects"
        raise DefinitionError("T311", table=table, problem=problem) from error
    except sqlite3.IntegrityError as error:
        raise Refused("T313", table=table, problem=f"the new values break {kind} {name} ({error})") from error


def schema_texts(driver: sqlite3.Connection, table: str) -> SchemaTexts:
    """All objects of the database but this table, as they stand."""
    query = "SELECT type, name, tbl_name, sql FROM main.sqlite_schema"
    found = {(kind, name): (of, sql) for kind, name, of, sql in driver.execute(query).fetchall()}
    del found["table", table]
    return found


def refuse_unless_unchanged(
    driver: sqlite3.Connection, old: Table, wanted: CreateTable, before: SchemaTexts, *, only_keys: bool
) -> None:
    """Compare the whole schema with what it was. Raises Refused (T317).

    Unless `only_keys` were asked for, SQLite's own indexes and tables may follow the new definition.
    """
    now = schema_texts(driver, old.name)
    keys = [key for key in sorted(before.keys() | now.keys()) if only_keys or not key[1].startswith("sqlite_")]
    changed = [" ".join(key) for key in keys if before.get(key) != now.get(key)]
    if normal_form(read_table(driver, old.name).text.sql) != normal_form(wanted.sql):
        changed.append("its own definition")
    if changed:
        raise Refused("T317", table=old.name, problem=f"{', '.join(changed)} differ")


@contextmanager
def _marks_kept(driver: sqlite3.Connection, before: Table, after: Table) -> Iterator[None]:
    """Park the mark of AUTOINCREMENT and the statistics under a name that DROP and RENAME do not know, and take them back.

    So they keep their own rowids too, and a table that never drew a number has no mark afterwards either.
    """
    old, new = before.name, after.name
    parked = f"twinstep_kept_{old}"
    query = "SELECT name FROM main.sqlite_schema WHERE name = 'sqlite_sequence' OR name GLOB 'sqlite_stat[1-4]'"
    columns = {name: "name" if name == "sqlite_sequence" else "tbl" for (name,) in driver.execute(query).fetchall()}
    for table, column in columns.items():
        run(driver, f"UPDATE main.{table} SET {column} = ? WHERE {column} = ?", parked, old)
    yield
    for table, column in columns.items():
        if table == "sqlite_sequence" and after.counts and not before.counts:
            # It begins to count, from its rows on. RENAME TO renames the mark too; renamed by hand, it is done here.
            run(driver, "UPDATE main.sqlite_sequence SET name = ? WHERE name = ?", old, new)
            continue
        run(driver, f"DELETE FROM main.{table} WHERE {column} IN (?, ?)", old, new)
        run(driver, f"UPDATE main.{table} SET {column} = ? WHERE {column} = ?", old, parked)
        if table == "sqlite_sequence" and not after.counts:
            run(driver, "DELETE FROM main.sqlite_sequence WHERE name = ?", old)
        if table != "sqlite_sequence":
            indexes = "SELECT name FROM main.sqlite_schema WHERE type = 'index'"
            gone = f"idx IS NOT NULL AND idx <> tbl AND idx NOT IN ({indexes})"
            run(driver, f"DELETE FROM main.{table} WHERE tbl = ? AND {gone}", old)
    if "tbl" in columns.values():
        # Gathers nothing: lets this connection plan with the statistics at once.
        run(driver, "ANALYZE main.sqlite_master")


def _rename(driver: sqlite3.Connection, new: Table, name: str) -> None:
    (before,) = driver.execute("PRAGMA legacy_alter_table").fetchone()
    run(driver, "PRAGMA legacy_alter_table = ON")
    try:
        run(driver, f"ALTER TABLE {new.sql_name} RENAME TO {quoted(name)}")
    finally:
        run(driver, f"PRAGMA legacy_alter_table = {before}")


def _rename_by_hand(driver: sqlite3.Connection, new: Table, name: str) -> None:
    """RENAME TO is refused where the text says table.column: with `legacy_alter_table` it does not rename that too."""
    run(driver, "PRAGMA writable_schema = ON")
    try:
        table = "UPDATE main.sqlite_schema SET name = ?, tbl_name = ?, sql = ? WHERE type = 'table' AND name = ?"
        run(driver, table, name, name, new.text.sql, new.name)
        index = (
            "UPDATE main.sqlite_schema SET name = 'sqlite_autoindex_' || ? || substr(name, ?), tbl_name = ?"
            " WHERE type = 'index' AND tbl_name = ?"
        )
        run(driver, index, name, len(f"sqlite_autoindex_{new.name}") + 1, name, new.name)
        # A new number makes every connection, this one too, read the schema again.
        (version,) = driver.execute("PRAGMA main.schema_version").fetchone()
        run(driver, f"PRAGMA main.schema_version = {version + 1}")
    finally:
        run(driver, "PRAGMA writable_schema = OFF")
