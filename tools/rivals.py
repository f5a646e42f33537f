"""Start eight coordinators at the same instant on one pair, again and again, and print who migrated and what the others got.

`make rivals` runs it, with ROUNDS=50 of each form; every second round is given --wait. The exit code is 1 where anything was
applied twice, or anybody was told something else than that it is done or locked. The same code in small is a test,
`tests/test_rivals.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from rivals import FORMS, Form, Ground, Round, fought  # noqa: E402

from twinstep.engine.embedded import EmbeddedPostgres  # noqa: E402

ROW = "{:<45} {:<7} {:>6} {:>9} {:>11} {:>7} {:>8} {:>6} {:>8}"
HEAD = ("form", "--wait", "rounds", "migrated", "up to date", "exit 4", "unnamed", "wrong", "seconds")


def main() -> int:
    """All rounds of all forms, two lines each; 0 where none is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--rivals", type=int, default=8)
    parser.add_argument("--form", choices=FORMS, action="append", help="only this one")
    wanted = parser.parse_args()
    wrong = 0
    with EmbeddedPostgres.started(durable=False) as server, tempfile.TemporaryDirectory() as folder:
        print(f"PostgreSQL {server.version}, {wanted.rivals} at once, {wanted.rounds} rounds of each form\n")
        print(ROW.format(*HEAD), flush=True)
        for form in wanted.form or FORMS:
            began = time.monotonic()
            rounds = [_round(form, number, wanted.rivals, server, Path(folder)) for number in range(1, wanted.rounds + 1)]
            seconds = (time.monotonic() - began) / max(1, len(rounds))
            for waits in (False, True):
                _show(form, [each for each in rounds if each.waits is waits], waits=waits, seconds=seconds)
            wrong += sum(bool(each.wrong or each.unnamed) for each in rounds)
    print("\nexit 4: another one holds the lock (T401). unnamed: without saying host, process, since when and doing what.")
    print(f"seconds: of a round. {wrong} rounds are wrong")
    return int(bool(wrong))


def _round(form: Form, number: int, rivals: int, server: EmbeddedPostgres, folder: Path) -> Round:
    name = f"{form}_{number}"
    compiled = folder / "compiled"
    ground = Ground(form=form, folder=folder / name, remote=server.create_database(name), rivals=rivals, compiled=compiled)
    found = fought(ground.made(), waits=number % 2 == 0)
    server.drop_database(name)
    for each in found.wrong:
        print(f"round {number} of {FORMS[form]}: {each}", flush=True)
    return found


def _show(form: Form, rounds: list[Round], *, waits: bool, seconds: float) -> None:
    ends = Counter(answer.outcome for each in rounds for answer in each.answers)
    told = (ends["verified"], ends["up_to_date"], ends["locked T401"])
    unnamed = sum(len(each.unnamed) for each in rounds)
    wrong = sum(bool(each.wrong) for each in rounds)
    word = "yes" if waits else "no"
    print(ROW.format(FORMS[form], word, len(rounds), *told, unnamed, wrong, f"{seconds:.1f}"), flush=True)


if __name__ == "__main__":
    sys.exit(main())
