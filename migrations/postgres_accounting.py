"""The remote side of the accounting: what a transactional group took away from the named schemas without naming it.

CASCADE is how a view is lost that nobody thought of, and DROP COLUMN how an index over two columns is. What is gone after a
group, and in none of its statements that drop or rename, refuses it before it commits; so does an index that was valid and is
not. What others dropped meanwhile is gone outside of the transaction as well, and not ours.

Rows of a remote are others' to write: they are counted before and after, within a limit of time, and told of.

Read next: `accounting/` (the local side), `postgres_target.py` (who asks).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from .accounting.loss import Loss
from .catalogue import Catalogue, CatalogueObject

if TYPE_CHECKING:
    from ..stores.remote_connection import Remote

COUNT_SECONDS = 2.0

_DROPPING = re.compile(r"\b(drop|rename|schema|replace|detach)\b", re.IGNORECASE)
_WHOLE = re.compile(r"\bdrop\s+(foreign\s+table|table|materialized\s+view|view|type|domain)\b|\brename\s+to\b", re.IGNORECASE)
_WORD = re.compile(r'"((?:[^"]|"")+)"|([^\W\d][\w$]*)')
# What belongs to an object, and goes with it.
_PARTS = frozenset({"comment", "grant", "default"})
_NAMES = b"""
    SELECT relname FROM pg_class UNION SELECT conname FROM pg_constraint UNION SELECT tgname FROM pg_trigger
    UNION SELECT proname FROM pg_proc UNION SELECT typname FROM pg_type UNION SELECT polname FROM pg_policy
    UNION SELECT rulename FROM pg_rewrite UNION SELECT stxname FROM pg_statistic_ext
    UNION SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped
"""


def losses(
    before: Catalogue,
    after: Catalogue,
    heard: Sequence[str],
    *,
    declared: Collection[str],
    outside: Callable[[], frozenset[str]],
) -> list[Loss]:
    """What is gone, or not valid any more, and named by none of the statements, nor `declared`.

    `outside` gives all names that another session sees; it is asked only where something is missing.
    """
    said = [(statement, _words(statement)) for statement in heard if _DROPPING.search(statement)]
    known = {" ".join(name.split()).lower() for name in declared}
    missing = [
        found
        for key, found in before.objects.items()
        if key not in after.objects and found.kind not in _PARTS and not _is_declared(found, known)
    ]
    gone = [found for found in missing if not _is_explained(found, said)]
    if gone:
        there = outside()
        gone = [found for found in gone if _bare(found.name) in there]
    broken = [
        found.key
        for key, found in before.objects.items()
        if found.kind == "index" and found.valid and key in after.objects and not after.objects[key].valid
    ]
    return [
        *(Loss(sentence=f"{found.key} is gone", key="objects_removed", value=found.key) for found in gone),
        *(Loss(sentence=f"{key} is not valid any more", key="objects_removed", value=key) for key in broken),
    ]


def names_outside(remote: Remote) -> frozenset[str]:
    """All names of objects that this session sees."""
    return frozenset(name for (name,) in remote.execute(_NAMES).fetchall())


def count_rows(remote: Remote, catalogue: Catalogue, *, seconds: float = COUNT_SECONDS) -> dict[str, int]:
    """The number of rows per table, as far as the time reaches; tables that are locked or too large are left out."""
    deadline = time.monotonic() + seconds
    found: dict[str, int] = {}
    for name in sorted(each.name for each in catalogue.objects.values() if each.kind == "table"):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            with remote.transaction():
                limit = sql.SQL("SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = '100ms'")
                remote.execute(limit.format(sql.Literal(max(1, int(1000 * left)))), prepare=False)
                row = remote.execute(f"SELECT count(*) FROM {name}".encode()).fetchone()
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege):
            continue
        if row is not None:
            found[name] = int(row[0])
    return found


def rows_changed(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """The change per table that was counted both times."""
    both = sorted(before.keys() & after.keys())
    return {table: after[table] - before[table] for table in both if after[table] != before[table]}


def row_findings(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    """A sentence for each table that has fewer rows."""
    for table, change in rows_changed(before, after).items():
        if change < 0:
            fewer = f"{-change} rows fewer than the {before[table]} before the change"
            yield f"{table} on the remote has {fewer}; others may have written too"


def _is_declared(found: CatalogueObject, known: Collection[str]) -> bool:
    return bool({found.key.lower(), found.name.lower(), _bare(found.name).lower()} & set(known))


def _is_explained(found: CatalogueObject, said: Sequence[tuple[str, frozenset[str]]]) -> bool:
    name, table = _bare(found.name), _bare(found.table)
    inside = {word.lower() for pair in _WORD.findall(found.definition) for word in pair if word}
    for statement, words in said:
        if name in words:
            return True
        # It went with its table (or bears its new name), or with a column that it is on.
        if table in words and (_WHOLE.search(statement) or (words - {table}) & inside & _columns_dropped(statement)):
            return True
        if _schema(found.name) in words and re.search(r"\bdrop\s+schema\b", statement, re.IGNORECASE):
            return True
    return False


def _columns_dropped(statement: str) -> frozenset[str]:
    parts = re.split(r"\b(?:drop|rename)\b", statement, flags=re.IGNORECASE)[1:]
    return frozenset().union(*(_words(part) for part in parts)) if parts else frozenset()


def _words(statement: str) -> frozenset[str]:
    """The names in a text: quoted as they stand, others folded as the server folds them."""
    return frozenset(quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in _WORD.findall(statement))


def _bare(name: str) -> str:
    """The last part of a name, without schema, quotes and arguments."""
    parts = re.findall(r'"(?:[^"]|"")+"|[^."(]+', name.partition("(")[0])
    last = parts[-1] if parts else name
    return last[1:-1].replace('""', '"') if last.startswith('"') else last


def _schema(name: str) -> str:
    parts = re.findall(r'"(?:[^"]|"")+"|[^."(]+', name.partition("(")[0])
    return parts[0].strip('"') if len(parts) > 1 else ""
