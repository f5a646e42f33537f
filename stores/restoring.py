"""Putting an image of a database into the live file while nobody can write, and nothing in between can be lost.

Copying over the file is never done: a stale -wal would bring the old content back. The image goes in as one transaction of
SQLite's own, so that a process killed anywhere leaves the file as it was or as the image says. Who else wrote is looked at
after everybody is shut out, and before the first page is final.

Shutting out differs. With a rollback journal the connection takes the file for itself (`locking_mode=EXCLUSIVE`). In WAL mode
that fails as long as anybody else merely has the file open; there, the backup API's own write transaction is the lock, and
the look happens from a second connection while it is held. This module must never import migrations or engine.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

from ..events.errors import Defect
from .copies import copy_pages
from .local_connection import begin_exclusive
from .seam import Probe

# Called with a connection that sees the state to be replaced, while nobody can write; raises to stop.
Inspect: TypeAlias = "Callable[[sqlite3.Connection], None]"

# The crossings of a restore. What stops it at the first leaves the old state, at the second the new one.
BEFORE = "restore:before"
AFTER = "restore:after"


def overwrite(
    live: sqlite3.Connection,
    image: sqlite3.Connection,
    *,
    beside: Callable[[], AbstractContextManager[sqlite3.Connection]],
    inspect: Inspect,
    confirm: Callable[[sqlite3.Connection], bool],
    wait_seconds: float,
    probe: Probe,
) -> bool:
    """Replace what `live` is open on by the image, durably; the journal mode stays. Says whether it reads back as the image.

    The caller closes `live` afterwards, also after an error: until then others may be shut out. `beside` opens a second
    connection to the same file. Whatever `inspect` raises leaves the file as it was; so does Blocked, where others did not
    let go of it in time. Where somebody wrote between the restore and the reading back, which only WAL mode allows, the
    answer is True: what was read is not what was restored, and no sign of a fault.
    """
    in_wal = live.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    (pages,) = image.execute("PRAGMA page_count").fetchone()
    if in_wal and pages > 1:  # an image of one page is over in one step: nobody could look half-way
        with beside() as onlooker:
            return _under_its_own_lock(
                live, onlooker, image, inspect=inspect, confirm=confirm, wait_seconds=wait_seconds, probe=probe
            )
    return _with_the_file_to_itself(live, image, inspect=inspect, confirm=confirm, wait_seconds=wait_seconds, probe=probe)


def _with_the_file_to_itself(
    live: sqlite3.Connection,
    image: sqlite3.Connection,
    *,
    inspect: Inspect,
    confirm: Callable[[sqlite3.Connection], bool],
    wait_seconds: float,
    probe: Probe,
) -> bool:
    _take(live, wait_seconds)
    inspect(live)
    probe(BEFORE)
    copy_pages(image, live, wait_seconds=wait_seconds)
    probe(AFTER)
    return confirm(live)


def _take(live: sqlite3.Connection, wait_seconds: float) -> None:
    """Lock the file beyond the end of a transaction: the backup API refuses a target with an open one.

    The mode is set only once the lock is held. A connection in that mode never lets go of a lock, so that a BEGIN that failed
    would keep a reader's, and the writer that it waits for could not commit either. The second round is for WAL mode, where
    the file's own lock is taken with the next BEGIN after the mode was set.
    """
    begin_exclusive(live, wait_seconds)
    live.execute("PRAGMA locking_mode = EXCLUSIVE")
    live.execute("COMMIT")
    begin_exclusive(live, wait_seconds)
    live.execute("COMMIT")


def _under_its_own_lock(
    live: sqlite3.Connection,
    onlooker: sqlite3.Connection,
    image: sqlite3.Connection,
    *,
    inspect: Inspect,
    confirm: Callable[[sqlite3.Connection], bool],
    wait_seconds: float,
    probe: Probe,
) -> bool:
    looked = False

    def look_once(remaining: int, total: int) -> None:
        nonlocal looked
        if not looked:
            looked = True
            inspect(onlooker)
            probe(BEFORE)

    live.execute("PRAGMA busy_timeout = 0")  # copy_pages waits, within its limit
    before = _writes_of_others(live)
    # One page a step: the look comes after the first, when no page of ours has reached the WAL file yet.
    copy_pages(image, live, wait_seconds=wait_seconds, pages=1, progress=look_once)
    if not looked:
        raise Defect("T230", problem="a database was restored without a look at what it replaced")
    probe(AFTER)
    return confirm(live) or _writes_of_others(live) != before


def _writes_of_others(connection: sqlite3.Connection) -> int:
    """A number that changes with every commit of another connection, and not with our own."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
