"""Twenty migrations are tested by pytest-alembic, and verified by `pytest --twinstep`: what is found, and how long it takes.

make measure-verification          (or: .venv/bin/python -m benchmarks.pytest_alembic [migrations])

The same schema, changes and downs in both forms, on SQLite and on PostgreSQL. pytest-alembic makes its four checks (single
head, up, models match, up and down) on empty databases. Ours are the four properties that ask for the same and more (`applies`,
`new-install`, `down-restores`, `keeps-rows`) of every migration, on one drawn database with rows, and on twenty. One migration
is then made wrong: it drops a column and makes it anew, so that its values are gone and its schema is right. Both are asked
again. Times are of whole processes; that of a pytest with one empty test is shown, and taken off for the ratio. pytest-alembic
0.13 does not run under pytest 9, and gets a pytest 8 beside it, in `.venv/peers`.
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

from twinstep.engine.embedded import EmbeddedPostgres

ROUNDS = 3
WRONG = 7
OURS = "applies or new-install or down-restores or keeps-rows"
QUIET = ("-q", "-p", "no:cacheprovider")
PEERS = Path(sys.prefix) / "peers"

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


def timed(folder: Path, words: Sequence[str], *, peer: bool) -> tuple[float, str]:
    """Seconds of the whole process, and its last line."""
    command = [sys.executable, "-m", "pytest", *QUIET, *(["-p", "no:twinstep"] if peer else []), *words]
    environment = {**os.environ, "PYTHONPATH": f"{PEERS}{os.pathsep}." if peer else "."}
    began = time.perf_counter()
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    said = [line for line in ended.stdout.splitlines() if line.strip()]
    return seconds, said[-1].strip("= ") if said else ended.stderr[-200:]


def main(many: int) -> int:
    """Both, on either database, in turns."""
    top = Path(tempfile.mkdtemp(prefix="twinstep-benchmark-"))
    try:
        with EmbeddedPostgres.started(durable=False) as server:
            for side, database in (("local", "SQLite"), ("remote", "PostgreSQL")):
                url = None if side == "local" else server.create_database()
                _compare(top / side, many, side, database, url, server.url())
    finally:
        shutil.rmtree(top)
    return 0


def _compare(top: Path, many: int, side: str, database: str, url: str | None, server: str) -> None:
    for wrong in (False, True):
        folder = top / str(wrong)
        folder.mkdir(parents=True)
        ours(folder, many, side, wrong=wrong)
        theirs(folder, many, url and url.replace("postgresql://", "postgresql+psycopg://"), wrong=wrong)
        (folder / "test_empty.py").write_text("def test_nothing():\n    pass\n", encoding="utf-8")
        given = ["--twinstep=migrations", "-k", OURS, "--hypothesis-seed=0", "--twinstep-server", server]
        runs = {
            "pytest 8 alone": (["-p", "no:pytest_alembic", "test_empty.py"], True),
            "pytest-alembic": (["--test-alembic", "--alembic-tests-path=conftest.py", "conftest.py"], True),
            "pytest alone": (["test_empty.py"], False),
            "twinstep, 1 database": ([*given, "--twinstep-examples=1", "test_empty.py"], False),
            "twinstep, 20 databases": ([*given, "--twinstep-examples=20", "test_empty.py"], False),
        }
        print(f"\n{database}, {many} migrations{', one of them wrong' if wrong else ''}: medians of {ROUNDS} runs")
        taken: dict[str, list[float]] = {name: [] for name in runs}
        last: dict[str, str] = {}
        for _ in range(ROUNDS):
            for name, (words, is_peer) in runs.items():
                seconds, last[name] = timed(folder, words, peer=is_peer)
                taken[name].append(seconds)
        found = {name: statistics.median(times) for name, times in taken.items()}
        peer = found["pytest-alembic"] - found["pytest 8 alone"]
        for name, seconds in found.items():
            beyond = seconds - found["pytest 8 alone" if runs[name][1] else "pytest alone"]
            ratio = f"{beyond / peer:.2f} x" if beyond else ""
            print(f"  {name:<24} {seconds:6.2f} s  {ratio:>8}  {last[name]}", flush=True)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
