"""Putting a backup of the local database back by a person's word, with today's ledger carried over.

Everything else of it is the store's: the backup is verified, the image is prepared in a scratch copy, and who wrote since is
looked at when nobody can write any more (`stores/restoring.py`). What is written into the image here is the ledger alone.

Must never import engine. Read next: `restored.py` (which rows), `stores/backups.py` (how).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ..events.errors import Blocked, LostLock
from ..stores.backups import Backup, BackupFolder
from ..stores.local_connection import OnConnect, open_to_read
from ..stores.seam import Probe
from . import sqlite_ledger as sql
from .restored import explained, ledger_after
from .sqlite_catalogue import read_fingerprint
from .work import RestoreOrder


def restore_backup(
    path: Path, backups: BackupFolder, order: RestoreOrder, *, on_connect: OnConnect | None, probe: Probe
) -> None:
    """Put it back; see `Target.restore` for what is promised. No connection of this process may be open on the file."""
    reader = open_to_read(path, on_connect=on_connect)
    try:
        today = sql.read_rows(reader)
    finally:
        reader.close()
    held: list[str] = []

    def carry_the_ledger_over(scratch: sqlite3.Connection) -> None:
        then = sql.read_rows(scratch)
        held.append(read_fingerprint(scratch).to_text())
        sql.write(scratch, ledger_after(today, then, order, held[0]))

    def look_who_wrote(live: sqlite3.Connection) -> None:
        if sql.read_rows(live) != today:
            raise LostLock("T402", side="local")
        if not order.discard_writes and not explained(held[0], read_fingerprint(live).to_text(), order.ours):
            raise Blocked("T282", backup=order.id)

    backups.restore(
        Backup.from_json(order.backup, folder=backups.folder),
        path,
        check=look_who_wrote,
        prepare=carry_the_ledger_over,
        replaced=order.replaced,
        on_connect=on_connect,
        probe=probe,
    )
