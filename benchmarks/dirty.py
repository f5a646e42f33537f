"""The reference migration on a large dirty file: rows of each table before, after and set aside; and the time per step.

make measure-dirty          (or: .venv/bin/python -m benchmarks.dirty 50000)
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from twinstep import Coordinator
from twinstep.migrations import phase3


def rows(path: Path) -> dict[str, int]:
    """The number of rows of each table of the application."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        own = [name for (name,) in names if not name.startswith(("sqlite_", "twinstep_", "fts_notes_"))]
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in own}


def main(notes: int) -> int:
    """Build, migrate, count, take back and compare; 0 where everything adds up."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notes.db"
        phase3.build_local(path, notes=notes, dirty_every=11)
        with closing(sqlite3.connect(path)) as connection:
            planted = phase3.violations(connection)
        before = rows(path)
        print(f"{notes} notes, {path.stat().st_size / 1e6:.1f} MB; rows that refer to nothing, by key:")
        for name, number in planted.items():
            print(f"  {name:<28} {number:>8}")
        coordinator = Coordinator(local=path, migrations=phase3.FOLDER)
        began = time.perf_counter()
        report = coordinator.migrate()
        seconds = time.perf_counter() - began
        (run,) = report.runs
        print(f"{report.outcome} in {seconds:.2f} s:", ", ".join(f"{step.effect} {step.seconds:.2f} s" for step in run.steps))
        after, aside = rows(path), coordinator.quarantine()
        print(f"  {'table':<16} {'before':>8} {'after':>8} {'rows set aside':>15} {'references':>11}  adds up")
        good = report.outcome == "verified"
        for table in before:
            moved = sum(each.table == table and each.kind == "row" for each in aside)
            cleared = sum(each.table == table and each.kind == "reference" for each in aside)
            adds_up = after[table] + moved == before[table]
            good &= adds_up
            print(f"  {table:<16} {before[table]:>8} {after[table]:>8} {moved:>15} {cleared:>11}  {'yes' if adds_up else 'NO'}")
        began = time.perf_counter()
        back = coordinator.roll_back()
        again = rows(path) == before
        print(f"{back.outcome} in {time.perf_counter() - began:.2f} s; rows as before: {'yes' if again else 'NO'}")
        return 0 if good and again and back.outcome == "rolled_back" else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000))
