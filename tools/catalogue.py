"""Judge the whole catalogue by the properties, and print what is found, on which database, and how soon.

`make catalogue` runs it: WRONG=100 and RIGHT=500 are the databases for each. The exit code is 1 where a wrong migration is not
found wrong in a property that it is known to break, or a right one is blamed. A part of it is a test,
`tests/test_judged_catalogue.py`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from judged import found, judged  # noqa: E402
from migration_entries import Right, Wrong  # noqa: E402
from right_migrations import RIGHT  # noqa: E402
from wrong_migrations import WRONG  # noqa: E402

from twinstep.engine.embedded import EmbeddedPostgres  # noqa: E402

ROW = "{:<56} {:<14} {:>9} {:>5} {:>8}"


def main() -> int:
    """Judge them all; 0 where each is judged as it is known to be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wrong", type=int, default=100)
    parser.add_argument("--right", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], help="a part of an entry's name")
    parser.add_argument("--side", choices=["local", "remote", "both"], help="only entries that change these")
    parser.add_argument("--show", action="store_true", help="the smallest database of each wrong one, and what differs")
    wanted = parser.parse_args()
    with EmbeddedPostgres.started(durable=False) as server:
        wrong = [each for each in WRONG if _is_wanted(each, wanted)] if wanted.wrong else []
        right = [each for each in RIGHT if _is_wanted(each, wanted)] if wanted.right else []
        missed = _judge_wrong(wrong, server.url(), examples=wanted.wrong, seed=wanted.seed, show=wanted.show)
        blamed = _judge_right(right, server.url(), examples=wanted.right, seed=wanted.seed)
    return int(bool(missed or blamed))


def _is_wanted(entry: Wrong | Right, wanted: argparse.Namespace) -> bool:
    side = "both" if len(entry.sides) == 2 else entry.sides[0]
    named = not wanted.only or any(part in entry.name for part in wanted.only)
    return named and wanted.side in (None, side)


def _judge_wrong(entries: Sequence[Wrong], server: str, *, examples: int, seed: int, show: bool) -> int:
    print(ROW.format("wrong", "fails", "databases", "rows", "seconds"), flush=True)
    needed: list[int] = []
    seconds: list[float] = []
    for entry in entries:
        began = time.monotonic()
        verification = judged(entry, server, examples=examples, seed=seed, properties=entry.properties)
        seconds.append(time.monotonic() - began)
        failing = found(entry, verification)
        results = [result for result in verification.failures if result.property in failing]
        first = min(results, key=lambda result: result.examples, default=None)
        if first is None or first.counterexample is None:
            print(ROW.format(entry.name, "NOT FOUND", "", "", f"{seconds[-1]:.1f}"), flush=True)
            continue
        needed.append(first.examples)
        told = (str(first.property), first.examples, first.counterexample.rows, f"{seconds[-1]:.1f}")
        print(ROW.format(entry.name, *told), flush=True)
        if show:
            for line in (*first.counterexample.sql.values(), *first.counterexample.told):
                print(f"    {line}".replace("\n", "\n    "), flush=True)
    missed = len(entries) - len(needed)
    if needed:
        print(
            f"\n{len(needed)} of {len(entries)} found; median: database {statistics.median(needed):g} is the first on which",
            end="",
        )
        print(f" it shows, {statistics.median(seconds):.1f} s until it is found, shrunk and shown\n", flush=True)
    return missed


def _judge_right(entries: Sequence[Right], server: str, *, examples: int, seed: int) -> int:
    blamed = 0
    for entry in entries:
        began = time.monotonic()
        verification = judged(entry, server, examples=examples, seed=seed)
        failing = ", ".join(str(result.property) for result in verification.failures)
        blamed += bool(failing)
        told = (failing or "nothing", verification.examples, "", f"{time.monotonic() - began:.1f}")
        print(ROW.format(entry.name, *told), flush=True)
    if entries:
        print(f"\n{len(entries) - blamed} of {len(entries)} right ones are blamed for nothing")
    return blamed


if __name__ == "__main__":
    sys.exit(main())
