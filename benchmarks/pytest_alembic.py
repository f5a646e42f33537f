"""Twenty migrations are tested by pytest-alembic, and verified by `pytest --twinstep`: what is found, and how long it takes.

make measure-verification          (or: .venv/bin/python -m benchmarks.pytest_alembic [migrations] [rounds])

The same schema, changes and downs in both forms, on SQLite and on PostgreSQL. pytest-alembic makes its four checks (single
head, up, models match, up and down) on empty databases. Ours are the four properties that ask for the same and more (`applies`,
`new-install`, `down-restores`, `keeps-rows`) of every migration, on one drawn database with rows, and on twenty. One migration
is then made wrong: it drops a column and makes it anew, so that its values are gone and its schema is right. Both are asked
again. Two times: of the whole process, less that of a pytest with one empty test, so that what is imported counts; and of the
tests alone, as pytest's report has it. pytest-alembic 0.13 does not run under pytest 9, and gets a pytest 8 beside it, in
`.venv/peers`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from twinstep.engine.embedded import EmbeddedPostgres

WRONG = 7
OURS = "applies or new-install or down-restores or keeps-rows"
QUIET = ("-q", "-p", "no:cacheprovider")
PEERS = Path(sys.prefix) / "peers"
# A pytest with one empty test: as the peer has it, and as we do.
EMPTY = {True: "pytest 8 alone", False: "pytest alone"}

COLUMNS = 'sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text, nullable=False)'

REVISION = """from alembic import op
import sqlalchemy as sa

revision = "{number:04}"
down_revision = {before!r}


def upgrade():
    {up}


def downgrade():
    {down}
"""
ENV = """from alembic import context
from models import metadata

with context.config.attributes["connection"].connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
"""
CONFTEST = """import pytest
import sqlalchemy as sa


@pytest.fixture
def alembic_engine(tmp_path):
    engine = sa.create_engine({url})
    yield engine
    engine.dispose()


@pytest.fixture
def alembic_config():
    return {{"script_location": "alembic"}}
"""
EMPTY_AGAIN = """engine = sa.create_engine({url!r})
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")"""


def ours(folder: Path, many: int, side: str, *, wrong: bool) -> None:
    """A folder of migrations: each adds a column, and fills it where there are rows."""
    for number in range(1, many + 1):
        own = folder / "migrations" / f"{number:04}_step"
        own.mkdir(parents=True)
        if number == 1:
            up, down = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL);", "DROP TABLE item;"
        else:
            up = f"ALTER TABLE item ADD COLUMN c{number} TEXT;"
            down = f"ALTER TABLE item DROP COLUMN c{number};"
        if wrong and number == WRONG:
            up = f"ALTER TABLE item DROP COLUMN c{number - 1}; ALTER TABLE item ADD COLUMN c{number - 1} TEXT; {up}"
        (own / f"{side}.up.sql").write_text(up + "\n", encoding="utf-8")
        (own / f"{side}.down.sql").write_text(down + "\n", encoding="utf-8")


def theirs(folder: Path, many: int, url: str | None, *, wrong: bool) -> None:
    """The same as a project of Alembic's, with models."""
    versions = folder / "alembic" / "versions"
    versions.mkdir(parents=True)
    for number in range(1, many + 1):
        if number == 1:
            up = f'op.create_table("item", {COLUMNS})'
            down = 'op.drop_table("item")'
        else:
            up = f'op.add_column("item", sa.Column("c{number}", sa.Text))'
            down = f'op.drop_column("item", "c{number}")'
        if wrong and number == WRONG:
            again = f'op.drop_column("item", "c{number - 1}")', f'op.add_column("item", sa.Column("c{number - 1}", sa.Text))'
            up = "\n    ".join((*again, up))
        text = REVISION.format(number=number, before=f"{number - 1:04}" if number > 1 else None, up=up, down=down)
        (versions / f"{number:04}_step.py").write_text(text, encoding="utf-8")
    (folder / "alembic" / "env.py").write_text(ENV, encoding="utf-8")
    columns = "".join(f', sa.Column("c{number}", sa.Text)' for number in range(2, many + 1))
    (folder / "models.py").write_text(
        f'import sqlalchemy as sa\n\nmetadata = sa.MetaData()\nsa.Table("item", metadata, {COLUMNS}{columns})\n',
        encoding="utf-8",
    )
    text = CONFTEST.format(url='f"sqlite:///{tmp_path}/x.db"' if url is None else repr(url))
    if url is not None:
        text = text.replace(f"engine = sa.create_engine({url!r})", EMPTY_AGAIN.format(url=url))
    (folder / "conftest.py").write_text(text, encoding="utf-8")


def timed(folder: Path, words: Sequence[str], *, peer: bool) -> tuple[float, float, str]:
    """Seconds of the whole process and of its tests, and its last line."""
    report = folder / "report.xml"
    own = ["-p", "no:twinstep"] if peer else []
    command = [sys.executable, "-m", "pytest", *QUIET, f"--junitxml={report}", *own, *words]
    environment = {**os.environ, "PYTHONPATH": f"{PEERS}{os.pathsep}." if peer else "."}
    began = time.perf_counter()
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    said = [line for line in ended.stdout.splitlines() if line.strip()]
    tests = sum(float(case.get("time", 0)) for case in ElementTree.parse(report).iter("testcase"))
    return seconds, tests, said[-1].strip("= ") if said else ended.stderr[-200:]


def main(many: int, rounds: int) -> int:
    """Both, on either database, in turns."""
    top = Path(tempfile.mkdtemp(prefix="twinstep-benchmark-"))
    try:
        with EmbeddedPostgres.started(durable=False) as server:
            for side, database in (("local", "SQLite"), ("remote", "PostgreSQL")):
                url = None if side == "local" else server.create_database()
                _compare(top / side, many, rounds, side, database, url, server.url())
    finally:
        shutil.rmtree(top)
    return 0


def _compare(top: Path, many: int, rounds: int, side: str, database: str, url: str | None, server: str) -> None:
    for wrong in (False, True):
        folder = top / str(wrong)
        folder.mkdir(parents=True)
        ours(folder, many, side, wrong=wrong)
        theirs(folder, many, url and url.replace("postgresql://", "postgresql+psycopg://"), wrong=wrong)
        (folder / "test_empty.py").write_text("def test_nothing():\n    pass\n", encoding="utf-8")
        given = ["--twinstep=migrations", "-k", OURS, "--hypothesis-seed=0", "--twinstep-server", server]
        runs = {
            EMPTY[True]: (["-p", "no:pytest_alembic", "test_empty.py"], True),
            "pytest-alembic": (["--test-alembic", "--alembic-tests-path=conftest.py", "conftest.py"], True),
            EMPTY[False]: (["test_empty.py"], False),
            "twinstep, 1 database": ([*given, "--twinstep-examples=1", "test_empty.py"], False),
            "twinstep, 20 databases": ([*given, "--twinstep-examples=20", "test_empty.py"], False),
        }
        print(f"\n{database}, {many} migrations{', one of them wrong' if wrong else ''}: median of {rounds}")
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        last: dict[str, str] = {}
        for _ in range(rounds):
            for name, (words, is_peer) in runs.items():
                whole, tests, last[name] = timed(folder, words, peer=is_peer)
                taken[name].append((whole, tests))
        medians = {name: [statistics.median(times) for times in zip(*pairs, strict=True)] for name, pairs in taken.items()}
        peer, peer_tests = medians["pytest-alembic"][0] - medians[EMPTY[True]][0], medians["pytest-alembic"][1]
        for name, (whole, tests) in medians.items():
            is_empty = name in EMPTY.values()
            ratio = "" if is_empty else f"{(whole - medians[EMPTY[runs[name][1]]][0]) / peer:.2f} x"
            of_tests = "" if is_empty else f"{tests:6.2f} s {tests / peer_tests:6.2f} x"
            print(f"  {name:<24} {whole:6.2f} s {ratio:>8}   tests alone {of_tests:<17}  {last[name]}", flush=True)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*given, *(20, 3)[len(given) :]))
