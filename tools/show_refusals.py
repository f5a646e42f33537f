"""Run every refusal of `tests/refusal_cases.py` for real, and print a line for each: what was given, exit code, message, and
whether both databases, the log and the folder are as before. Run by `make refusals`; exits 1 where one is not as it must be.

With words, only the cases whose name holds one of them: `make refusals CASES="pooler password"`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from refusal_cases import GROUPS, Case
from refusal_play import Played, fresh_world, play

from twinstep.engine.embedded import EmbeddedPostgres


def main(words: list[str]) -> int:
    """Run them all, and count those that are not as they must be."""
    failed = 0
    with EmbeddedPostgres.started(durable=False, tcp=True) as server:
        for heading, cases in GROUPS.items():
            print(f"\n{heading}")
            for case in cases:
                if not words or any(word in case.name for word in words):
                    with fresh_world(server) as world:
                        failed += show(case, play(case, world))
    print(f"\n{failed} are not as they must be." if failed else "\nAll as they must be.")
    return 1 if failed else 0


def show(case: Case, played: Played) -> bool:
    """Print one; whether it is not as it must be."""
    as_it_must = (played.exit, played.code) == (case.exit, case.code) and (case.finishes or not played.changed)
    changed = "finished" if case.finishes else "unchanged" if not played.changed else f"CHANGED: {'; '.join(played.changed)}"
    print(f"  {case.name} (twinstep {case.words})")
    print(f"      exit {played.exit}, {changed}{'' if as_it_must else ', NOT AS IT MUST BE'}")
    if played.code:
        print(f"      {played.code} {played.message}")
        print(f"      Next: {played.next_step}")
    return not as_it_must


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
