"""A table of SQLite gets a foreign key: by hand, by Alembic's batch mode, by rebuild_table, and by a whole migration.

make measure-rebuild          (or: .venv/bin/python -m benchmarks.rebuild [rows])

Each works on a copy of the same file, in turns; the floor is the least that has to be done: INSERT ... SELECT, then the indexes
again. Afterwards the catalogue, the rows and the mark of AUTOINCREMENT are held against those before.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from twinstep import Coordinator, ForeignKey, Migration, Side, rebuild_table
from twinstep.migrations.rebuild import rebuilding

ROUNDS = 3
KEY = ForeignKey(columns="owner", parent="owners", parent_columns="id", on_delete="CASCADE")
COLUMNS = """id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL, -- whose it is
    title TEXT COLLATE NOCASE NOT NULL DEFAULT '',
    amount REAL,
    state INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1)),
    due INTEGER"""
INDEXES = (
    "CREATE INDEX items_owner ON items (owner, due DESC)",
    "CREATE INDEX items_title ON items (lower(title))",
    "CREATE INDEX items_due ON items (due) WHERE state = 0",
)
OTHERS = (
    "CREATE TRIGGER items_closed AFTER UPDATE OF state ON items"
    " BEGIN UPDATE owners SET closed = closed + 1 WHERE id = NEW.owner; END",
    "CREATE TRIGGER owners_gone AFTER DELETE ON owners BEGIN DELETE FROM items WHERE owner = OLD.id; END",
    "CREATE VIEW open_items AS SELECT id, title FROM items WHERE state = 0",
)


def build(path: Path, rows: int) -> None:
    """So many rows, with what is easily lost: an index on an expression, a trigger elsewhere, a view, a mark above the rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE owners (id INTEGER PRIMARY KEY, closed INTEGER NOT NULL DEFAULT 0)")
        connection.executemany("INSERT INTO owners (id) VALUES (?)", ((number,) for number in range(1, 1001)))
        connection.execute(f"CREATE TABLE items ({COLUMNS})")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO items SELECT i, 1 + i % 1000, 'title ' || (i * 7919 % 1000003), i / 3.0, i % 2, i * 7919 % 1000003"
            " FROM n",
            (rows,),
        )
        connection.execute("INSERT INTO items (owner) SELECT 1 FROM owners LIMIT 10")
        connection.execute("DELETE FROM items WHERE id > ?", (rows,))
        for statement in INDEXES + OTHERS:
            connection.execute(statement)
        connection.execute("ANALYZE")
        connection.execute("COMMIT")


def by_hand(path: Path) -> float:
    """The floor: nothing is compared, triggers and views are not looked after."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        began = time.perf_counter()
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA legacy_alter_table = ON")
        connection.execute("BEGIN IMMEDIATE")
        key = "FOREIGN KEY (owner) REFERENCES owners (id) ON DELETE CASCADE"
        connection.execute(f"CREATE TABLE items_new ({COLUMNS}, {key})")
        connection.execute("INSERT INTO items_new SELECT * FROM items")
        connection.execute("DROP TABLE items")
        connection.execute("ALTER TABLE items_new RENAME TO items")
        for statement in INDEXES:
            connection.execute(statement)
        connection.execute("COMMIT")
        return time.perf_counter() - began


def by_alembic(path: Path) -> float:
    """Batch mode, as its documentation shows it: the table is reflected."""
    warnings.simplefilter("ignore")  # it says what it leaves out; so does the last column
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        began = time.perf_counter()
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("items", recreate="always") as batch:
            batch.create_foreign_key("items_owner_key", "owners", ["owner"], ["id"], ondelete="CASCADE")
        connection.commit()
        seconds = time.perf_counter() - began
    engine.dispose()
    return seconds


def by_alembic_alone(path: Path) -> float:
    """The same where no other object names the table."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in OTHERS:
            _, kind, name, *_ = statement.split()
            connection.execute(f"DROP {kind} {name}")
    return by_alembic(path)


def by_rebuild_table(path: Path) -> float:
    """Each row compared with its copy; no migration around it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        began = time.perf_counter()
        with rebuilding(connection):
            rebuild_table(connection, "items", add_foreign_keys=[KEY])
        return time.perf_counter() - began


def by_migration(path: Path) -> float:
    """The local change of a migration: rebuilt, and accounted for against the backup. The backup is not in the time."""
    side = Side(
        up=lambda connection: rebuild_table(connection, "items", add_foreign_keys=[KEY]),
        down=lambda connection: rebuild_table(connection, "items", drop_foreign_keys=[KEY]),
    )
    report = Coordinator(local=path, migrations=[Migration(id="0001_key", local=side)]).migrate()
    if report.outcome != "verified":
        raise SystemExit(str(report.error))
    (run,) = report.runs
    return next(step.seconds for step in run.steps if step.effect == "APPLY_LOCAL")


def look(path: Path) -> dict[str, str]:
    """Rows, marks, and the text of each object of the application."""
    with closing(sqlite3.connect(path)) as connection:
        found = {
            f"{kind} {name}": str(sql)
            for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
            if not name.startswith(("sqlite_", "twinstep_", "alembic_"))
        }
        (found["AUTOINCREMENT mark"],) = connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'items'"
        ).fetchone() or ("none",)
        digest = hashlib.sha256()
        for row in connection.execute("SELECT * FROM items ORDER BY id"):
            digest.update(repr(row).encode())
        found["rows"] = digest.hexdigest()
        found["statistics"] = str(connection.execute("SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'items'").fetchone())
        (text,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'items'").fetchone()
    for word in ("COLLATE NOCASE", "CHECK (", "AUTOINCREMENT", "-- whose it is"):
        found[word] = str(word.lower() in text.lower().replace('"', ""))
    del found["table items"]
    return found


def main(rows: int) -> int:
    """Time all of them in turns, and say what each lost; 0 where rebuild_table and the migration lost nothing."""
    ways: Mapping[str, Callable[[Path], float]] = {
        "by hand (the floor)": by_hand,
        "Alembic batch": by_alembic,
        "Alembic batch, no triggers": by_alembic_alone,
        "rebuild_table": by_rebuild_table,
        "a migration, accounted for": by_migration,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    lost: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "original.db"
        build(original, rows)
        before = look(original)
        print(f"SQLite {sqlite3.sqlite_version}; {rows} rows, {original.stat().st_size / 1e6:.0f} MB, 3 indexes")
        for _ in range(ROUNDS):
            for name, way in ways.items():
                path = Path(folder) / "one" / "app.db"
                path.parent.mkdir()
                shutil.copyfile(original, path)
                try:
                    times[name].append(way(path))
                    after = look(path)
                    lost[name] = [each for each in before if after.get(each) != before[each]]
                except ModuleNotFoundError as error:
                    lost[name] = [f"not measured: {error}; pip install alembic"]
                except DBAPIError as error:
                    lost[name] = [f"it failed: {error.orig}"]
                shutil.rmtree(path.parent)
    floor = statistics.median(times["by hand (the floor)"])
    for name in ways:
        median = statistics.median(times[name]) if times[name] else 0.0
        told = f"{median:>7.2f} s  {median / floor:>5.2f}x" if times[name] else f"{'':>17}"
        print(f"  {name:<28} {told}  lost or changed: {', '.join(lost[name]) or 'nothing'}")
    return 1 if lost["rebuild_table"] or lost["a migration, accounted for"] else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
