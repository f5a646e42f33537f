"""A small application for the reference cases: a table on both sides, and a migration that pins and adds to its rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from attrs import evolve, frozen

from twinstep import Coordinator, LocalOptions, Migration, Side

ID = "0012_pin"
AWAY = "postgresql://nobody@127.0.0.1:1/nowhere"
LOCAL_UP = ("ALTER TABLE item ADD COLUMN pinned INTEGER", "UPDATE item SET n = n + 10")
REMOTE_UP = ("ALTER TABLE item ADD COLUMN pinned boolean", "UPDATE item SET n = n + 100")
PIN = Migration(
    id=ID,
    local=Side(up="; ".join(LOCAL_UP), down="UPDATE item SET n = n - 10; ALTER TABLE item DROP COLUMN pinned"),
    remote=Side(up="; ".join(REMOTE_UP), down="UPDATE item SET n = n - 100; ALTER TABLE item DROP COLUMN pinned"),
    local_options=LocalOptions(user_version_from=(11,), user_version_to=12),
)


@frozen(kw_only=True)
class SmallPair:
    """A device's file, and the remote."""

    path: Path
    url: str

    @classmethod
    def made(cls, folder: Path, url: str) -> SmallPair:
        """A device; what is on the remote already stays."""
        folder.mkdir()
        with closing(sqlite3.connect(folder / "app.db")) as local:
            local.executescript(
                "CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO item VALUES (1, 1), (2, 2);"
                "CREATE INDEX item_n ON item (n); CREATE TABLE pending (id INTEGER PRIMARY KEY); PRAGMA user_version = 11"
            )
        with psycopg.connect(url, autocommit=True) as remote:
            if remote.execute("SELECT to_regclass('item') IS NULL").fetchone() == (True,):
                remote.execute("CREATE TABLE item (id integer PRIMARY KEY, n integer)")
                remote.execute("INSERT INTO item VALUES (1, 1), (2, 2)")
        return cls(path=folder / "app.db", url=url)

    def coordinator(self, migration: Migration = PIN, **options: Any) -> Coordinator:
        """One that gives up soon."""
        given = {"local": self.path, "remote": self.url, "migrations": [migration], "retry_for_seconds": 1}
        return Coordinator(**{**given, **options})

    def local(self, statement: str) -> list[tuple[Any, ...]]:
        """What the file answers, committed."""
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=0.2)) as local:
            return local.execute(statement).fetchall()

    def remote(self, statement: str) -> list[tuple[Any, ...]]:
        """What the server answers, committed."""
        with psycopg.connect(self.url, autocommit=True) as remote:
            cursor = remote.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def user_version(self) -> int:
        """The file's own."""
        found: int = self.local("PRAGMA user_version")[0][0]
        return found

    def world(self) -> tuple[object, ...]:
        """Rows, columns and the file's version on both sides."""
        columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1"
        return (
            self.user_version(),
            self.local("SELECT * FROM item ORDER BY id"),
            self.local("SELECT name FROM sqlite_schema WHERE tbl_name = 'item' ORDER BY 1"),
            self.remote("SELECT * FROM item ORDER BY id"),
            self.remote(columns),
            self.remote("SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"),
        )


def on_the_remote(*statements: str, down: str | None = None) -> Migration:
    """A migration of the remote alone."""
    return evolve(PIN, local=None, local_options=LocalOptions(), remote=Side(up=";\n".join(statements), down=down))
