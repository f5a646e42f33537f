"""Kill the command at random moments over the reference migration, resume it, and print how each ended and what differs.

`make kills` runs it: KILLS=300 NOTES=10000 SEED=1 are the defaults. The same seed draws the same moments, as parts of the time
that an unkilled run takes on this machine. The exit code is 1 where anything differs from the two legal outcomes or is left
behind; the folder of the first such kill, with what the commands said and a dump of the remote, is kept then. The same code in
small is a test, `tests/test_kills.py`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from kills import ENDED, KINDS, Killed, Place, kills, staged  # noqa: E402

from twinstep.engine.embedded import EmbeddedPostgres  # noqa: E402

ROW = "{:<17} {:<15} {:>5} {:>6} {:>9} {:>12} {:>10} {:>10} {:>9} {:>8}"

HEAD = ("killed", "hit at", "runs", "twice", "verified", "rolled back", "not begun", "lock held", "rows", "seconds")


def main() -> int:
    """Kill them all; 0 where nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--notes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    began = time.monotonic()
    found: list[Killed] = []
    with EmbeddedPostgres.started(durable=False) as server, tempfile.TemporaryDirectory() as folder:
        kept: list[Path] = []

        def failed(one: Killed, place: Place) -> None:
            print(f"kill {one.number} ({one.kind.name}, hit at {', '.join(one.hit)}): " + "\n  ".join(one.differs), flush=True)
            if not kept:
                kept.append(_kept(one, place, server))

        stage = staged(server, Path(folder) / "stage", notes=wanted.notes)
        unkilled = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stage.seconds.items())
        print(f"PostgreSQL {server.version}, {wanted.notes} notes on each side, seed {wanted.seed}; unkilled: {unkilled}")
        for one in kills(stage, count=wanted.kills, seed=wanted.seed, failed=failed):
            found.append(one)
            hit = ", ".join(f"{each} after {after:.2f} s" for each, after in zip(one.hit, one.delays, strict=True))
            print(f"{one.number} {one.kind.name}: {hit}; {one.ends}, {one.seconds:.1f} s", file=sys.stderr, flush=True)
    _show(found)
    wrong = sum(bool(one.differs) for one in found)
    print(f"\n{_killed(found)} runs killed, {sum(len(one.hit) - one.hit.count(ENDED) for one in found)} kills in all", end="")
    print(f" in {time.monotonic() - began:.0f} s; {wrong} of them wrong")
    if kept:
        print(f"the first is kept in {kept[0]}: differences.txt, what each command said, and remote.sql")
    return int(bool(wrong))


def _show(found: list[Killed]) -> None:
    print()
    print(
        ROW.format("killed", "hit at", "runs", "twice", "verified", "rolled back", "not begun", "lock held", "rows", "seconds")
    )
    for kind in KINDS:
        of_kind = [one for one in found if one.kind is kind]
        for hit in sorted({one.hit[0] for one in of_kind}):
            print(_line(kind.name, hit, [one for one in of_kind if one.hit[0] == hit]))
    print(_line("all", "", found))
    held = sum(one.held for one in found)
    print(
        f"\nlock held: `resume` typed at once found it held {held} times, {sum(one.held_by_the_dead for one in found)} of them"
    )
    print("by the process that had just been killed; it was typed again with --wait 10. rows: how many differ.")


def _line(kind: str, hit: str, ones: list[Killed]) -> str:
    ends = Counter(one.ends for one in ones)
    return ROW.format(
        kind,
        hit.replace("_", " "),
        len(ones),
        sum(len(one.hit) > 1 and one.hit[1] != ENDED for one in ones),
        ends["verified"],
        ends["rolled_back"],
        ends["not begun"],
        sum(one.held for one in ones),
        sum(one.rows for one in ones),
        f"{sum(one.seconds for one in ones) / max(1, len(ones)):.1f}",
    )


def _killed(found: list[Killed]) -> int:
    return sum(one.hit[0] != ENDED for one in found)


def _kept(one: Killed, place: Place, server: EmbeddedPostgres) -> Path:
    """The folder as it is, what differs, and the remote as text where this PostgreSQL brings pg_dump."""
    kept = Path(tempfile.mkdtemp(prefix="twinstep-kill-")) / place.folder.name
    shutil.copytree(place.folder, kept)
    (kept / "differences.txt").write_text("\n".join([f"{one.kind.name}, {one.delays}, {one.hit}", *one.differs]))
    dump = server.binaries.folder / "pg_dump"
    if dump.exists():
        with (kept / "remote.sql").open("wb") as file:
            subprocess.run([dump, place.remote], stdout=file, check=True)
    return kept


if __name__ == "__main__":
    sys.exit(main())
