"""How the harder circumstances of `refusal_cases.py` are brought about: real ones wherever a machine can have them.

Simulated, at the one place where it is read, is what no machine here has: an old PostgreSQL, an old SQLite, and how much
space a disk has left. A disk that is full is SQLite's own doing, by its limit of pages.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
from filelock import FileLock
from pooling_proxy import pooling
from refusal_world import World

from twinstep.stores import local_connection, remote_fitness, sqlite_file

FUNCTION = """
def remote_up(connection):
    connection.exec_driver_sql("{statement}")

def remote_down(connection):
    pass
"""


def patched(world: World, owner: object, name: str, value: object) -> None:
    """Have something be another one until the world ends."""
    world.stack.enter_context(patch.object(owner, name, value))


# What was applied before


def a_late_operation(world: World) -> None:
    """The host holds the writer lock, and commits an operation only after the migration has begun to wait for it."""
    toml = "[local]\npending = 'SELECT count(*) FROM pending'"
    world.sql("CREATE TABLE pending (x)")
    world.add("0001_bad", {"local.up.sql": "CREATE TABLE tags (x);", "migration.toml": toml})
    host = sqlite3.connect(world.local, isolation_level=None, check_same_thread=False)
    host.execute("BEGIN IMMEDIATE")
    host.execute("INSERT INTO pending VALUES (1)")

    def commit() -> None:
        deadline = time.monotonic() + 20
        while not (world.state / "log.db").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        host.execute("COMMIT")
        host.close()

    thread = threading.Thread(target=commit)
    thread.start()
    world.stack.callback(thread.join)


def a_changed_function(world: World) -> None:
    world.with_remote()
    world.add("0001_bad", {"migration.py": FUNCTION.format(statement="SELECT 1")}, local_up="CREATE TABLE tags (x);")
    world.killed_at("APPLY_REMOTE:before")
    world.add("0001_bad", {"migration.py": FUNCTION.format(statement="SELECT 2")})


# The remote


def an_unknown_role(world: World) -> None:
    world.add()
    url = world.with_remote()
    world.environ["TWINSTEP_REMOTE"] = url.replace("postgresql://postgres@", "postgresql://nobody_knows@")


def a_role_that_may_not_connect(world: World) -> None:
    world.add()
    name = world.with_remote().partition("?")[0].rpartition("/")[2]
    world.remote_sql(f"REVOKE CONNECT ON DATABASE {name} FROM public")
    world.role()


def a_transaction_pooler(world: World) -> None:
    world.add()
    path, _, rest = world.with_remote().partition("?")
    database = path.rpartition("/")[2]
    port = rest.rpartition("port=")[2]
    port_of_pooler = world.stack.enter_context(pooling(f"{world.server.folder}/.s.PGSQL.{port}", database))
    world.environ["TWINSTEP_REMOTE"] = f"postgresql://postgres@127.0.0.1:{port_of_pooler}/{database}"


def a_readonly_session(world: World) -> None:
    world.add()
    name = world.with_remote().partition("?")[0].rpartition("/")[2]
    world.remote_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")


def an_old_postgres(world: World) -> None:
    world.add()
    world.with_remote()
    patched(world, remote_fitness, "server_version", lambda connection: 130012)


def a_ledger(world: World) -> None:
    """Another migration has made the ledger, as the database's owner."""
    world.add("0001_first", remote_up="SELECT 1;", remote_down="")
    world.migrated()
    world.add("0002_bad", remote_up="CREATE TABLE tags (x int);", remote_down="DROP TABLE tags;")


def not_the_owner(world: World) -> None:
    """A role with every right for the ledger, and none for the application's table."""
    world.with_remote()
    a_ledger(world)
    shutil.rmtree(world.folder / "migrations/0002_bad")
    world.add("0002_bad", remote_up="ALTER TABLE item ADD COLUMN more int;", remote_down="ALTER TABLE item DROP COLUMN more;")
    world.role("GRANT USAGE ON SCHEMA twinstep TO {role}", "GRANT SELECT, INSERT, UPDATE ON twinstep.ledger TO {role}")


def half_applied_elsewhere(world: World) -> None:
    """Another device was killed between the two groups of a migration."""
    world.with_remote()
    texts = {
        "remote_up": "CREATE TABLE one (x int);\n-- twinstep: group\nCREATE TABLE two (x int);",
        "remote_down": "DROP TABLE two;\n-- twinstep: group\nDROP TABLE one;",
    }
    world.add("0001_bad", local_up="CREATE TABLE tags (x);", **texts)
    shutil.copy(world.local, world.folder / "other.db")
    world.killed_at("remote:group:after-commit", local=world.folder / "other.db")


def a_standby(world: World) -> None:
    """A second server on a copy of the first one's data, told to follow and never to lead."""
    world.add()
    server = world.server
    folder = Path(tempfile.mkdtemp(prefix="twinstep-standby-", dir="/tmp"))
    world.stack.callback(shutil.rmtree, folder, ignore_errors=True)
    server.stop()
    shutil.copytree(server.folder / "data", folder / "data")
    server.restart()
    (folder / "data/standby.signal").touch()
    (folder / "data/postmaster.pid").unlink(missing_ok=True)
    with (folder / "data/postgresql.conf").open("a") as settings:
        settings.write(f"unix_socket_directories = '{folder}'\nport = 5499\nlisten_addresses = ''\n")
    owner = (server.folder / "data").stat()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    program = next(iter(server.folder.glob("program/**/bin/postgres")), server.binaries.folder / "postgres")
    process = subprocess.Popen(
        [program, "-D", folder / "data"], stderr=subprocess.DEVNULL, cwd="/", user=owner.st_uid, group=owner.st_gid
    )
    world.stack.callback(lambda: (process.terminate(), process.wait()))
    url = f"postgresql://postgres@/postgres?host={folder}&port=5499"
    world.environ["TWINSTEP_REMOTE"] = url
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(psycopg.OperationalError), psycopg.connect(url):
            return
        time.sleep(0.05)
    raise AssertionError("the standby did not start")


# The local database


def encrypt(path: Path) -> None:
    """What a file whose pages are encrypted looks like to everybody without the key."""
    path.write_bytes(os.urandom(path.stat().st_size))


def damage(world: World) -> None:
    """The page of the application's table is overwritten; the first page, with the schema, is whole."""
    content = bytearray(world.local.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    world.local.write_bytes(content)


def a_busy_database(world: World) -> None:
    world.add()
    patched(world, __import__("twinstep.migrations.sqlite_target", fromlist=["x"]), "BUSY_SECONDS", 0.1)
    host = world.stack.enter_context(closing(sqlite3.connect(world.local, isolation_level=None)))
    host.execute("BEGIN IMMEDIATE")
    host.execute("INSERT INTO notes (title) VALUES ('unsaved')")


def _rights(*modes: tuple[Path, int]) -> None:
    for path, mode in modes:
        path.chmod(mode)


def unreadable_migration(world: World) -> None:
    world.add("0001_bad")
    _rights((world.folder / "migrations/0001_bad/local.up.sql", 0o000))


def unreadable_folder(world: World) -> None:
    world.add("0001_bad")
    _rights((world.folder / "migrations", 0o711 & ~0o044 & ~0o011))


def readonly_file(world: World) -> None:
    world.add()
    _rights((world.local, 0o444), (world.folder, 0o777))


def unreadable_file(world: World) -> None:
    world.add()
    _rights((world.local, 0o000))


def readonly_folder(world: World) -> None:
    world.add()
    (world.folder / "state").mkdir()
    _rights((world.local, 0o666), (world.folder / "state", 0o777), (world.folder, 0o555))


def no_state_folder(world: World) -> None:
    world.add()
    _rights((world.local, 0o666), (world.folder, 0o555))


def readonly_state_folder(world: World) -> None:
    world.add()
    (world.folder / "state").mkdir()
    _rights((world.local, 0o666), (world.folder / "state", 0o555), (world.folder, 0o777))


# Disks


def no_space(world: World) -> None:
    world.add()
    patched(world, shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 4096, 4096))


def a_full_local_disk(world: World) -> None:
    """The local database may not grow by a page; its log may."""
    world.add("0001_bad", local_up="CREATE TABLE more AS SELECT zeroblob(100000) AS x;")
    _may_not_grow(world, local_connection, "_make_ready", lambda arguments: arguments[0])


def a_full_log_disk(world: World) -> None:
    world.add()
    _may_not_grow(world, sqlite_file.SQLiteLogFile, "_use_write_ahead_log", lambda arguments: arguments[1])


def _may_not_grow(world: World, owner: Any, name: str, connection_of: Callable[[tuple[Any, ...]], sqlite3.Connection]) -> None:
    original = getattr(owner, name)

    def limited(*arguments: Any, **named: Any) -> Any:
        done = original(*arguments, **named)
        connection_of(arguments).execute("PRAGMA max_page_count = 1")  # SQLite makes of it as many as there are
        return done

    patched(world, owner, name, limited)


# The log


def a_foreign_log(world: World) -> None:
    """Two applications in one folder, each with a log; the one is run with the log of the other."""
    world.add()
    world.migrated()
    shutil.copy(world.local, world.folder / "other.db")
    with closing(sqlite3.connect(world.folder / "other.db")) as other:
        other.execute("DROP TABLE twinstep_ledger")
        other.execute("DROP TABLE tags")
    answer = world.run("migrate", "--local", str(world.folder / "other.db"))
    assert answer.code == 0, answer.err


def an_older_file(world: World) -> None:
    world.add()
    shutil.copy(world.local, world.folder / "yesterday.db")
    world.migrated()
    shutil.copy(world.folder / "yesterday.db", world.local)


def a_file_from_before_the_take_back(world: World) -> None:
    world.add()
    world.migrated()
    shutil.copy(world.local, world.folder / "yesterday.db")
    world.run("rollback")
    shutil.copy(world.folder / "yesterday.db", world.local)


def an_edited_log(world: World) -> None:
    world.add()
    world.migrated()
    _in_the_log(world, "UPDATE twinstep_events SET payload = replace(payload, '0001_tags', '0001_togs') WHERE version = 1")


def a_newer_log(world: World) -> None:
    world.add()
    world.migrated()
    _in_the_log(world, "UPDATE twinstep_log SET schema_version = 99")


def _in_the_log(world: World, statement: str) -> None:
    """Past the triggers that guard it, as somebody with another tool could."""
    with closing(sqlite3.connect(world.state / "log.db", isolation_level=None)) as log:
        for (name,) in log.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            log.execute(f"DROP TRIGGER {name}")
        log.execute(statement)


def another_coordinator(world: World) -> None:
    world.add()
    world.state.mkdir()
    lock = FileLock(world.state / "lock")
    lock.acquire()
    world.stack.callback(lock.release)
