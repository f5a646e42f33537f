"""Print every way back as a table: where a run was stopped, how the calls ended, and what differs from before.

`make ways-back` runs it, on SQLite files in a temporary folder and an embedded PostgreSQL; `-k TEXT` takes only those whose
name has the text. The exit code is 1 where any of them differs from what it must be. The same cases are tests, in
`tests/test_ways_back.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from ways_back import Case, cases, walk  # noqa: E402

from twinstep.engine.embedded import EmbeddedPostgres  # noqa: E402

ROW = "{:<36} {:<13} {:<9} {:<7} {:<16} {:<12} {}"


def main() -> int:
    """Walk them all, one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="only the ways whose name has this text")
    wanted = parser.parse_args().k
    chosen = [case for case in cases() if wanted in case.name]
    print(ROW.format("stopped", "downs", "others", "journal", "exit, error", "ends", "differs from before"))
    with EmbeddedPostgres.started(durable=False) as server, tempfile.TemporaryDirectory() as folder:
        wrong = sum(_walked(case, Path(folder) / str(number), server) for number, case in enumerate(chosen))
    print(f"\n{len(chosen)} ways back, {wrong} of them wrong")
    return int(bool(wrong))


def _walked(case: Case, folder: Path, server: EmbeddedPostgres) -> bool:
    """Print its line; whether it is wrong."""
    folder.mkdir()
    name = f"way_{folder.name}"
    walked = walk(case, folder, server.create_database(name))
    server.drop_database(name)
    others = "at work" if case.at_work else "quiet"
    ends, differs = ", then ".join(walked.ends), "; ".join(walked.differs) or "nothing"
    wrong = bool(walked.differs) or walked.ends != case.wanted() or walked.state != case.rests()
    line = ROW.format(case.point.name, case.downs, others, case.journal_mode, ends, walked.state, differs)
    print(f"{line}{' <- WRONG' if wrong else ''}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
