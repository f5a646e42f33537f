"""A file that SQLite calls no database: encrypted, or something else altogether."""

from __future__ import annotations

import os
import sqlite3
import sys
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from twinstep.stores.encryption import looks_encrypted


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [512, 1024, 4096, 8192, 5 * 4096])
def test_pages_that_look_like_chance_are_taken_for_an_encrypted_database(tmp_path: Path, size: int) -> None:
    for number in range(20):
        assert looks_encrypted(written(tmp_path / f"{number}.db", os.urandom(size)))


@pytest.mark.parametrize(
    "content",
    [
        lambda: b"",
        lambda: b"\0" * 4096,
        lambda: b"Dear diary,\n" * 512,
        lambda: Path(__file__).read_bytes()[:512].ljust(512),
        lambda: Path(sys.executable).resolve().read_bytes()[: 4096 * 4],
        lambda: os.urandom(4095),
        lambda: os.urandom(256),
        lambda: zlib.compress(os.urandom(5000)),
    ],
    ids=["nothing", "zeros", "text", "a page of text", "a program", "no whole pages", "less than a page", "compressed"],
)
def test_what_is_something_else_is_not(tmp_path: Path, content: Callable[[], bytes]) -> None:
    assert not looks_encrypted(written(tmp_path / "other", content()))


def test_a_database_is_not_and_one_that_is_not_there_neither(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "plain.db")) as connection:
        connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY)")
    assert not looks_encrypted(tmp_path / "plain.db")
    assert not looks_encrypted(tmp_path / "nowhere.db")


def test_looking_drops_no_lock_that_this_process_holds(tmp_path: Path) -> None:
    path = tmp_path / "held.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("CREATE TABLE note (id INTEGER PRIMARY KEY)")
        holder.execute("BEGIN EXCLUSIVE")
        looks_encrypted(path)
        rival = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN EXCLUSIVE')"
        assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", f"{rival}"]) != 0
