"""A host application at work on both databases, as a process of its own: it inserts, and says what was acknowledged.

Run as a program with the path of a SQLite file and the URL of a PostgreSQL: it writes into `item` (which migrations of the
tests change) and `other` (which they leave alone) on both, until its standard input is closed. Each line that it prints is one
acknowledged row: side, table, id. A row that was refused because somebody was in the way is tried again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psycopg

FIRST_ID = 1000
PAUSE_SECONDS = 0.01


@contextlib.contextmanager
def host_at_work(path: Path, url: str) -> Iterator[dict[tuple[str, str], set[int]]]:
    """Around what is done meanwhile; the ids that were acknowledged, by side and table, are filled in at the end."""
    acknowledged: dict[tuple[str, str], set[int]] = defaultdict(set)
    notes = path.with_name("acknowledged")
    with notes.open("wb") as written:
        command = [sys.executable, __file__, str(path), url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=written, text=True) as host:
            assert host.stdin is not None
            try:
                _wait_for_work(host, notes)
                yield acknowledged
            finally:
                host.stdin.close()
    assert host.returncode == 0
    for line in notes.read_text().splitlines():
        side, table, number = line.split()
        acknowledged[side, table].add(int(number))


def _wait_for_work(host: subprocess.Popen[str], notes: Path) -> None:
    while not {b"local", b"remote"} <= {line.split()[0] for line in notes.read_bytes().splitlines()}:
        assert host.poll() is None
        time.sleep(PAUSE_SECONDS)


def main(path: str, url: str) -> None:
    """Write until there is nobody who wants it any more."""
    stop = threading.Event()
    writers = [
        threading.Thread(target=_write_local, args=(path, stop)),
        threading.Thread(target=_write_remote, args=(url, stop)),
    ]
    for writer in writers:
        writer.start()
    sys.stdin.read()
    stop.set()
    for writer in writers:
        writer.join()


def _write_local(path: str, stop: threading.Event) -> None:
    number = FIRST_ID
    while not stop.wait(PAUSE_SECONDS):
        # A connection for each row, as an application that is opened and closed: a restored file must not be missed.
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0.2)) as connection:
            for table in ("item", "other"):
                with contextlib.suppress(sqlite3.OperationalError):
                    connection.execute(f"INSERT INTO {table} (id, n) VALUES (?, 5)", (number,))
                    _note(f"local {table} {number}")
        number += 1


def _write_remote(url: str, stop: threading.Event) -> None:
    number = FIRST_ID
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '200ms'")
        while not stop.wait(PAUSE_SECONDS):
            for table in ("item", "other"):
                with contextlib.suppress(psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                    connection.execute(f"INSERT INTO {table} (id, n) VALUES (%s, %s)".encode(), (number, number))
                    _note(f"remote {table} {number}")
            number += 1


def _note(line: str) -> None:
    # In one piece: two threads write, and what was not written out when this process is killed was not acknowledged.
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
