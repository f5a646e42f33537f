"""Two databases held against two others, row for row and object for object, at a price that can be paid hundreds of times.

A `World` is all of a SQLite file and of a PostgreSQL database but Twinstep's own objects: what each table holds as a digest
over its rows in order, everything else as it is. Only where digests differ are rows listed, from the databases themselves.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from attrs import frozen

from twinstep.migrations.sqlite_text import normal_form

World: TypeAlias = Mapping[str, object]

ROWS = "rows of "


@frozen(kw_only=True)
class Databases:
    """Where both sides are; a side that is None is not looked at."""

    local: Path | None
    remote: str | None

    def world(self) -> World:
        """All of it, by words that say what it is."""
        found: dict[str, object] = {}
        if self.local is not None:
            with closing(sqlite3.connect(self.local)) as local:
                found |= {f"local {name}": value for name, value in _local(local)}
        if self.remote is not None:
            with psycopg.connect(self.remote, autocommit=True) as remote:
                found |= {f"remote {name}": value for name, value in _remote(remote)}
        return found

    def rows(self, name: str) -> Counter[str]:
        """The rows behind one of the world's digests, as text."""
        side, _, table = name.partition(f" {ROWS}")
        if side == "local":
            assert self.local is not None
            with closing(sqlite3.connect(self.local)) as local:
                return Counter(_local_rows(local, table))
        assert self.remote is not None
        with psycopg.connect(self.remote, autocommit=True) as remote:
            return Counter(str(row[0]) for row in remote.execute(f"SELECT t::text FROM {table} t".encode()))


@frozen(kw_only=True)
class Difference:
    """What was found against what had to be: the number of rows that are missing or too many, and all of it in words."""

    rows: int
    told: tuple[str, ...]


def difference(found: Databases, legal: Databases, legal_world: World) -> Difference:
    """Hold two pairs against each other; `legal_world` is the world of the second one, read once."""
    world = found.world()
    rows, told = 0, []
    for name in sorted(world.keys() | legal_world.keys()):
        is_, must_be = world.get(name), legal_world.get(name)
        if is_ == must_be:
            continue
        if ROWS in name and is_ is not None and must_be is not None:
            these, those = found.rows(name), legal.rows(name)
            missing, added = list((those - these).elements()), list((these - those).elements())
            rows += len(missing) + len(added)
            told.append(
                f"{name}: {len(missing)} missing, {len(added)} added; {[each[:100] for each in (*missing[:2], *added[:2])]}"
            )
        else:
            told.append(f"{name}: {_parted(is_, must_be)}")
    return Difference(rows=rows, told=tuple(told))


def _parted(is_: object, must_be: object) -> str:
    if isinstance(is_, list) and isinstance(must_be, list):
        missing, added = [each for each in must_be if each not in is_], [each for each in is_ if each not in must_be]
        return f"missing {missing}, added {added}"
    return f"{is_!r} instead of {must_be!r}"


def _digest(rows: Iterable[str]) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    for row in rows:
        digest.update(f"{row}\n".encode("utf-8", "surrogatepass"))
        count += 1
    return count, digest.hexdigest()


def _local(connection: sqlite3.Connection) -> Iterator[tuple[str, object]]:
    ours = r"name NOT LIKE 'twinstep\_%' ESCAPE '\' AND tbl_name NOT LIKE 'twinstep\_%' ESCAPE '\'"
    objects = connection.execute(f"SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE {ours} ORDER BY 1, 2").fetchall()
    yield "objects", [(kind, name, table, normal_form(sql) if sql else None) for kind, name, table, sql in objects]
    for pragma in ("user_version", "application_id", "journal_mode", "integrity_check", "foreign_key_check"):
        yield pragma, connection.execute(f"PRAGMA {pragma}").fetchall()
    # A view is computed from the tables.
    for kind, name, _, _ in objects:
        if kind == "table":
            yield f"{ROWS}{name}", _digest(_local_rows(connection, name))


def _local_rows(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    """Each with its rowid, where it has one, and with the kinds of its values: 7 is not '7'."""
    if table == "sqlite_sequence" or table.startswith("sqlite_stat"):
        query = rf"SELECT * FROM {table} WHERE {_NAMES[table]} NOT LIKE 'twinstep\_%' ESCAPE '\' ORDER BY 1, 2, 3"
        query = query.removesuffix(", 3") if table == "sqlite_sequence" else query
    elif _has_rowids(connection, table):
        query = f'SELECT rowid, * FROM "{table}" ORDER BY rowid'
    else:
        columns = len(connection.execute(f'SELECT * FROM "{table}" LIMIT 0').description)
        query = f'SELECT * FROM "{table}" ORDER BY {", ".join(str(number + 1) for number in range(columns))}'
    return map(repr, connection.execute(query))


_NAMES = {"sqlite_sequence": "name", "sqlite_stat1": "tbl", "sqlite_stat4": "tbl"}


def _has_rowids(connection: sqlite3.Connection, table: str) -> bool:
    try:
        connection.execute(f'SELECT rowid FROM "{table}" LIMIT 0')
    except sqlite3.OperationalError:
        return False
    return True


def _remote(connection: psycopg.Connection[Any]) -> Iterator[tuple[str, object]]:
    connection.execute("SET search_path = ''")
    for name, query in _CATALOGUE.items():
        yield name, connection.execute(query.replace("{own}", _OWN).encode()).fetchall()
    tables = connection.execute(
        "SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'p', 'm') AND {_OWN} ORDER BY 1".replace("%%", "%").encode()
    ).fetchall()
    for (table,) in tables:
        rows = connection.execute(
            "SELECT count(*), encode(sha256(convert_to(coalesce("
            f"string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\"), ''), 'UTF8')), 'hex') FROM {table} t".encode()
        )
        yield f"{ROWS}{table}", rows.fetchone()


# Numbers of objects are none of the application's business, nor is what a dropped column leaves behind.
_OWN = "n.nspname NOT IN ('twinstep', 'information_schema') AND n.nspname !~ '^pg_'"
_CATALOGUE = {
    "schemas": "SELECT n.nspname, n.nspacl::text FROM pg_namespace n WHERE {own} ORDER BY 1",
    "extensions": "SELECT extname FROM pg_extension ORDER BY 1",
    "relations": """
        SELECT n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relrowsecurity, c.relforcerowsecurity,
            c.reloptions, c.relacl::text, c.relreplident::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {own} ORDER BY 1, 2""",
    "columns": """
        SELECT n.nspname, c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
            format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text, a.attgenerated::text,
            a.attcollation, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped AND {own} ORDER BY 1, 2, 3""",
    "constraints": """
        SELECT n.nspname, k.conrelid::regclass::text, k.conname, pg_get_constraintdef(k.oid), k.convalidated
        FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE {own} ORDER BY 1, 2, 3""",
    "indexes": """
        SELECT n.nspname, c.relname, pg_get_indexdef(c.oid), i.indisvalid, i.indisready, i.indislive
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {own} ORDER BY 1, 2""",
    "triggers": """
        SELECT n.nspname, c.relname, pg_get_triggerdef(t.oid), t.tgenabled::text
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT t.tgisinternal AND {own} ORDER BY 1, 2, 3""",
    "views": """
        SELECT n.nspname, c.relname, pg_get_viewdef(c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND {own} ORDER BY 1, 2""",
    "functions": """
        SELECT n.nspname, p.proname, pg_get_functiondef(p.oid)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p.prokind IN ('f', 'p') AND {own} ORDER BY 1, 2, 3""",
    "policies": "SELECT p::text FROM pg_policies p JOIN pg_namespace n ON n.nspname = p.schemaname WHERE {own} ORDER BY 1",
    "sequences": """
        SELECT n.nspname, s.sequencename, s.last_value, s.start_value, s.increment_by
        FROM pg_sequences s JOIN pg_namespace n ON n.nspname = s.schemaname WHERE {own} ORDER BY 1, 2""",
    "types": """
        SELECT n.nspname, t.typname, t.typtype::text, array(
            SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {own} ORDER BY 1, 2""",
}
