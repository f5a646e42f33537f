"""The reference migration measured: the application's queries before and after, what each index is for, and what it costs.

make measure          (or: .venv/bin/python -m benchmarks.reference [notes [users]])

Before and after are two databases side by side, and each query is run on one and the other in turns of a few runs, so that what
the machine does meanwhile falls on both. A time is the median of the runs, rows fetched, caches warm; it holds on the machine
that it was taken on, the ratios travel. Then each index that the application had asked for is built alone on version 11, to see
what it does.
"""

from __future__ import annotations

import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import psycopg
from attrs import frozen

from twinstep import Coordinator, Query
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.migrations import phase3
from twinstep.migrations.measuring import TOO_FAST_MS, names_index

from . import app_list

if TYPE_CHECKING:
    from collections.abc import Iterator

TURNS = 7
RUNS = 5
SECONDS = 2.0
GAIN = 0.4
LOSS = 0.2

Run: TypeAlias = "Callable[[Query], float]"


@frozen(kw_only=True)
class Measured:
    """One query: medians in milliseconds, and the indexes that its plan names afterwards."""

    query: Query
    before: float
    after: float
    plan: str

    @property
    def counts(self) -> bool:
        """Under a tenth of a millisecond before it is neither a gain nor a loss."""
        return self.before >= TOO_FAST_MS

    @property
    def gain(self) -> float:
        """The part of the time that is saved; below 0 it takes longer."""
        return 1 - self.after / self.before

    @property
    def verdict(self) -> str:
        """In a word."""
        if not self.counts:
            return "too fast"
        return "gain" if self.gain >= GAIN else "SLOWER" if self.gain < -LOSS else ""


def in_turns(queries: Sequence[Query], before: Run, after: Run) -> dict[str, tuple[float, float]]:
    """Medians in milliseconds by name; the first run of each turn warms the caches and does not count."""
    found: dict[str, tuple[float, float]] = {}
    for query in queries:
        was: list[float] = []
        now: list[float] = []
        began = time.perf_counter()
        for turn in range(TURNS):
            if turn >= 2 and time.perf_counter() - began > SECONDS:
                break
            was += [before(query) for _ in range(RUNS + 1)][1:]
            now += [after(query) for _ in range(RUNS + 1)][1:]
        found[query.name] = 1000 * statistics.median(was), 1000 * statistics.median(now)
    return found


def looked_at_twice(queries: Sequence[Query], before: Run, after: Run) -> dict[str, tuple[float, float]]:
    """The same, with a second look at what seems slower: once in a while a busy machine says so."""
    found = in_turns(queries, before, after)
    slower = [query for query in queries if found[query.name][1] > (1 + LOSS) * found[query.name][0]]
    second = in_turns(slower, before, after)
    return found | {name: min(found[name], times, key=lambda pair: pair[1] / pair[0]) for name, times in second.items()}


def run_local(connection: sqlite3.Connection) -> Run:
    """Seconds of one run, rows fetched."""

    def run(query: Query) -> float:
        began = time.perf_counter()
        connection.execute(query.sql).fetchall()
        return time.perf_counter() - began

    return run


def run_remote(connection: psycopg.Connection) -> Run:
    """Seconds of one run, rows fetched, in a transaction that is rolled back."""

    def run(query: Query) -> float:
        with connection.transaction(force_rollback=True):
            began = time.perf_counter()
            cursor = connection.execute(query.sql.encode(), binary=True)
            if cursor.description is not None:
                cursor.fetchall()
            return time.perf_counter() - began

    return run


def plan_local(connection: sqlite3.Connection, query: Query) -> str:
    """As SQLite explains it, a step a line."""
    return "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query.sql}"))


def plan_remote(connection: psycopg.Connection, query: Query) -> str:
    """As PostgreSQL explains it, a step a line."""
    return "\n".join(row[0] for row in connection.execute(b"EXPLAIN (COSTS OFF) " + query.sql.encode()))


def show(measured: Sequence[Measured]) -> bool:
    """Print the table; False where something became slower."""
    print(f"  {'query':<34} {'before ms':>10} {'after ms':>9} {'ratio':>7}")
    for each in measured:
        ratio = f"{each.before / each.after:.1f}x"
        print(f"  {each.query.name:<34} {each.before:>10.3f} {each.after:>9.3f} {ratio:>7}  {each.verdict}".rstrip())
    gains = sum(each.verdict == "gain" for each in measured)
    slower = [each.query.name for each in measured if each.verdict == "SLOWER"]
    print(
        f"  {gains} of {len(measured)} take at least {GAIN:.0%} less; slower by over {LOSS:.0%}: {', '.join(slower) or 'none'}"
    )
    return not slower


def show_indexes(sizes: Mapping[str, int], measured: Sequence[Measured], keys: Mapping[str, str]) -> None:
    """Print what each new index takes and whom it serves."""
    print(f"  {'new index':<38} {'kB':>7}  serves")
    for name, bytes_ in sorted(sizes.items()):
        serves = [each.query.name.split()[0] for each in measured if names_index(each.plan, name)]
        serves += [f"key {keys[name]}"] if name in keys else []
        print(f"  {name:<38} {bytes_ / 1000:>7.0f}  {', '.join(serves) or 'NOTHING'}")
    print(f"  {len(sizes)} indexes, {sum(sizes.values()) / 1e6:.1f} MB")


def local_indexes(connection: sqlite3.Connection) -> dict[str, int]:
    """Bytes by name, of those that somebody wrote; all 0 where this SQLite was built without dbstat."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")]
    try:
        sizes = dict(connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name").fetchall())
    except sqlite3.OperationalError:
        sizes = {}
    return {name: sizes.get(name, 0) for name in names}


def remote_indexes(connection: psycopg.Connection) -> dict[str, int]:
    """Bytes of the valid ones by name."""
    rows = connection.execute(
        "SELECT c.relname, pg_relation_size(c.oid) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND i.indisvalid"
    )
    return dict(rows.fetchall())


def local_keys(connection: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    """The foreign keys: (table, column)."""
    rows = connection.execute(
        "SELECT t.name, f.\"from\" FROM sqlite_schema t JOIN pragma_foreign_key_list(t.name) f WHERE t.type = 'table'"
    ).fetchall()
    return {f"{table}.{column}": (table, column) for table, column in rows}


def local_key_indexes(connection: sqlite3.Connection) -> dict[str, str]:
    """The key that each index begins with."""
    keys = set(local_keys(connection).values())
    rows = connection.execute(
        "SELECT t.name, l.name, i.name FROM sqlite_schema t JOIN pragma_index_list(t.name) l JOIN pragma_index_info(l.name) i"
        " WHERE t.type = 'table' AND i.seqno = 0"
    ).fetchall()
    return {index: f"{table}.{column}" for table, index, column in rows if (table, column) in keys}


def remote_key_indexes(connection: psycopg.Connection) -> dict[str, str]:
    """The same of PostgreSQL."""
    rows = connection.execute(
        "SELECT x.relname, t.relname || '.' || a.attname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid"
        " JOIN pg_class t ON t.oid = i.indrelid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]"
        " JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum]"
    )
    return dict(rows.fetchall())


def analysed(connection: psycopg.Connection) -> dict[str, object]:
    """When each table's statistics were last made by command."""
    connection.execute("SELECT pg_stat_clear_snapshot()")
    rows = connection.execute("SELECT relname, last_analyze FROM pg_stat_user_tables WHERE schemaname = 'public'")
    return dict(rows.fetchall())


def try_local(path: Path, queries: Sequence[Query]) -> None:
    """Build each index of the application's list alone on version 11, beside the same without, and say what it does."""
    for name, definition in app_list.LOCAL.items():
        alone = path.with_name("alone.db")
        shutil.copyfile(path, alone)
        with closing(sqlite3.connect(path)) as plain, closing(sqlite3.connect(alone, isolation_level=None)) as connection:
            taken = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
            try:
                twin = _twin_local(connection, definition)
                connection.execute(f"CREATE INDEX app_index ON {definition}")
                connection.execute("ANALYZE")
            except sqlite3.OperationalError as error:
                print(f"  {name:<38} impossible: {error}")
                continue
            plans = {query.name: plan_local(connection, query) for query in queries}
            using = [query for query in queries if names_index(plans[query.name], "app_index")]
            told = _told(in_turns(using, run_local(plain), run_local(connection)))
            size = local_indexes(connection)["app_index"]
        print(f"  {name:<38} {size / 1000:>6.0f} kB; {_note(taken, twin)}{told}")
        alone.unlink()


def try_remote(connection: psycopg.Connection, queries: Sequence[Query]) -> None:
    """The same on PostgreSQL, each in a transaction that is rolled back."""
    for name, definition in app_list.REMOTE.items():
        taken = connection.execute("SELECT to_regclass(%s)", (f"public.{name}",)).fetchone() != (None,)
        before = {query.name: [run_remote(connection)(query) for _ in range(8)][1:] for query in queries}
        with connection.transaction(force_rollback=True):
            existing = _definitions(connection)
            connection.execute(f"CREATE INDEX app_index ON {definition}".encode())
            mine = _definitions(connection)["app_index"]
            twin = next((other for other, text in existing.items() if text == mine), None)
            using = [query for query in queries if names_index(plan_remote(connection, query), "app_index")]
            after = {query.name: [run_remote(connection)(query) for _ in range(8)][1:] for query in using}
            size = remote_indexes(connection)["app_index"]
        times = {
            query.name: (1000 * statistics.median(before[query.name]), 1000 * statistics.median(after[query.name]))
            for query in using
        }
        print(f"  {name:<38} {size / 1000:>6.0f} kB; {_note(taken, twin)}{_told(times)}")


def _definitions(connection: psycopg.Connection) -> dict[str, str]:
    rows = connection.execute(
        "SELECT c.relname, split_part(pg_get_indexdef(c.oid), ' ON ', 2) FROM pg_class c JOIN pg_index i"
        " ON i.indexrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace"
    )
    return dict(rows.fetchall())


def _twin_local(connection: sqlite3.Connection, definition: str) -> str | None:
    """An index that is there with the same columns and condition, the keys' own among them."""
    table, _, rest = definition.partition(" ")
    columns = rest.partition(")")[0].strip("( ").replace(" DESC", "").split(", ")
    where = rest.partition(" WHERE ")[2]
    for name, sql in connection.execute(
        "SELECT l.name, s.sql FROM pragma_index_list(?) l JOIN sqlite_schema s ON s.name = l.name", (table,)
    ).fetchall():
        found = [column for (column,) in connection.execute("SELECT name FROM pragma_index_info(?)", (name,)).fetchall()]
        if found == columns and (sql or "").partition(" WHERE ")[2] in (where, ""):
            return str(name)
    return None


def _note(taken: object, twin: str | None) -> str:
    said = "its name is taken by another; " if taken else ""
    return said + (f"{twin} does the same; " if twin else "")


def _told(times: Mapping[str, tuple[float, float]]) -> str:
    told = [f"{name.split()[0]} {was:.2f} to {now:.2f} ms" for name, (was, now) in times.items()]
    return "used by " + ", ".join(told) if told else "used by no query"


@contextmanager
def migrated(notes: int, users: int) -> Iterator[tuple[Path, Path, str, str]]:
    """Two files and two databases of PostgreSQL, at 11 and migrated to 12 from the same rows."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(EmbeddedPostgres.started())
        old, new = folder / "old.db", folder / "new.db"
        phase3.build_local(old, notes=notes)
        shutil.copyfile(old, new)
        was, now = server.create_database("was"), server.create_database("now")
        for url in (was, now):
            phase3.build_remote(url, users=users)
        print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, PostgreSQL {server.version}")
        print(f"local: {notes} notes; remote: {users} users of 500 notes")
        report = Coordinator(local=new, remote=now, migrations=phase3.FOLDER).migrate()
        (run,) = report.runs
        print(f"{report.outcome}:", ", ".join(f"{step.effect} {step.seconds:.2f} s" for step in run.steps))
        if report.outcome != "verified":
            raise SystemExit(str(report.error))
        yield old, new, was, now


def main(notes: int, users: int) -> int:
    """Everything; 0 where no query became slower."""
    queries = list(phase3.queries().values())
    local = [query for query in queries if query.side == "local"]
    remote = [query for query in queries if query.side == "remote"]
    with migrated(notes, users) as (old, new, was, now), ExitStack() as stack:
        a, b = (stack.enter_context(closing(sqlite3.connect(path))) for path in (old, new))
        c, d = (stack.enter_context(psycopg.connect(url, autocommit=True)) for url in (was, now))
        print("\nLocal queries")
        times = looked_at_twice(local, run_local(a), run_local(b))
        found = [Measured(query=q, before=times[q.name][0], after=times[q.name][1], plan=plan_local(b, q)) for q in local]
        good = show(found)
        print("\nLocal indexes")
        sizes = {name: size for name, size in local_indexes(b).items() if name not in local_indexes(a)}
        show_indexes(sizes, found, local_key_indexes(b))
        keys = local_keys(b).keys() - local_keys(a).keys()
        print(f"Optimisations, counted from the catalogue: {len(sizes)} indexes, {len(keys)} foreign keys, statistics renewed")
        print("\nRemote queries")
        times = looked_at_twice(remote, run_remote(c), run_remote(d))
        found = [Measured(query=q, before=times[q.name][0], after=times[q.name][1], plan=plan_remote(d, q)) for q in remote]
        good &= show(found)
        print("\nRemote indexes")
        there = {name: size for name, size in remote_indexes(d).items() if name not in remote_indexes(c)}
        show_indexes(there, found, remote_key_indexes(d))
        built, again = analysed(c), analysed(d)
        renewed = sum(each is not None for each in again.values())
        print(f"Optimisations, counted from the catalogue: {len(there)} valid indexes, statistics of {renewed} tables", end="")
        print(f" = {len(there) + renewed} (of {len(built)} tables)")
        print("\nThe application's own list, each index alone on version 11: local")
        try_local(old, local)
        print("and remote")
        try_remote(c, remote)
    if not good:
        print("FAILED: queries marked SLOWER take over 20% longer than before, twice measured")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*(int(each) for each in (sys.argv[1:] + ["20000", "100"][len(sys.argv) - 1 :]))))
