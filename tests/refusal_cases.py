"""Every bad input and every bad circumstance: how it is brought about, what is typed, and what must come of it. Data only.

Each case is run for real by `test_refusals.py`, printed by `make refusals`, and listed in `docs/refusals.md`. `says` must be in
what is printed. After a case, the local file is byte for byte as before (or, where a step was undone, its schema and
rows are), the remote's catalogue and rows are, no lock and no temporary file is left, and the log begins as it did.

Read next: `refusal_world.py`, in which they happen; `refusal_circumstances.py`, which brings about the harder ones.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import refusal_circumstances as made
from attrs import field, frozen
from command_line import UP
from refusal_world import World

Prepare: TypeAlias = "Callable[[World], object]"


@frozen(kw_only=True)
class Case:
    """One row of the table.

    `writes`: the call was far enough to make its state folder and its log (the input itself was good). `rights`: it is run by
    somebody who owns nothing. `finishes`: no refusal, but a run that goes on by what it recorded, and so changes something.
    `meanwhile`: the tables that the host itself writes to while the command runs.
    """

    name: str
    prepare: Prepare = field(repr=False)
    code: str
    exit: int
    says: str
    words: str = "migrate"
    writes: bool = False
    rights: bool = True
    finishes: bool = False
    meanwhile: frozenset[str] = frozenset()

    @property
    def may_write(self) -> bool:
        """Whether a state folder may be there afterwards that was not there before."""
        return self.writes or self.exit in (1, 5, 6)


def files(**texts: str) -> Prepare:
    """A migration of these texts; `remote_up` and the like are SQL, `toml` and `py` the other two files."""
    others = {"toml": "migration.toml", "py": "migration.py"}

    def prepare(world: World) -> None:
        named = {others.get(key, f"{key.replace('_', '.')}.sql"): text for key, text in texts.items()}
        world.add("0001_bad", named)

    return prepare


def with_remote(prepare: Prepare, *statements: str) -> Prepare:
    """The same in a world with a remote."""

    def both(world: World) -> None:
        world.with_remote(*statements)
        prepare(world)

    return both


def function(side: str, body: str, toml: str = "", before: str = "") -> Prepare:
    """A migration whose step of that side is a function, after a statement that must not stay."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    py = f"import time\n{before}\ndef {side}_up(connection):\n{lines}\ndef {side}_down(connection):\n    pass\n"
    work = files(py=py, toml=toml, **{f"{side}_up": "CREATE TABLE begun (x int);"})
    return with_remote(work) if side == "remote" else work


def rebuilt(how: str) -> Prepare:
    """A table with a row that refers to nothing is rebuilt with a key."""

    def prepare(world: World) -> None:
        world.sql("CREATE TABLE made (id INTEGER PRIMARY KEY, note INTEGER NOT NULL)", "INSERT INTO made VALUES (1, 99)")
        py = "from twinstep import ForeignKey, rebuild_table\n\n"
        py += "KEY = ForeignKey(columns='note', parent='notes', parent_columns='id')\n"
        py += f"\ndef local_up(connection):\n    rebuild_table(connection, 'made', add_foreign_keys=[KEY], {how})\n"
        py += "\ndef local_down(connection):\n    rebuild_table(connection, 'made', drop_foreign_keys=[KEY])\n"
        world.add("0001_bad", {"migration.py": py})

    return prepare


LOCAL_UP: Final[Mapping[str, str]] = {"local_up": "CREATE TABLE tags (name TEXT);"}
ENDLESS: Final = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"

# Ways in which a function could try to end the transaction that it runs in.
ENDING: Final[Mapping[str, str]] = {
    "commits": "connection.commit()",
    "rolls back": "connection.rollback()",
    "closes": "connection.close(); connection.connection.driver_connection.close()",
    "runs COMMIT": "connection.exec_driver_sql('COMMIT')",
    "runs a hidden COMMIT": "connection.exec_driver_sql('/* quiet */ COMMIT')",
    "runs ROLLBACK": "connection.exec_driver_sql('ROLLBACK')",
    "has the driver commit": "connection.connection.driver_connection.commit()",
    "has the driver roll back": "connection.connection.driver_connection.rollback()",
    "has the driver close": "connection.connection.driver_connection.close()",
    "swallows its refused commit": "try:\n    connection.commit()\nexcept Exception:\n    pass",
}

FOLDER: Final = (
    Case(
        name="the folder of migrations is missing",
        prepare=lambda world: (world.folder / "migrations").rmdir(),
        code="T101",
        exit=2,
        says="There is no folder of migrations at",
    ),
    Case(name="it is empty", prepare=lambda _: None, code="T102", exit=2, says="holds no migration"),
    Case(
        name="two migrations bear one number",
        prepare=lambda world: (world.add("0001_one"), world.add("1_other")),
        code="T103",
        exit=2,
        says="0001_one and 1_other bear the same number",
    ),
    Case(
        name="a migration has no number",
        prepare=lambda world: world.add("tags"),
        code="T104",
        exit=2,
        says="0012_tags",
    ),
    Case(name="a migration is empty", prepare=files(), code="T105", exit=2, says="0001_bad is empty"),
    Case(
        name="it holds nothing but comments",
        prepare=files(local_up="-- later\n"),
        code="T105",
        exit=2,
        says="neither side has anything to apply",
    ),
    Case(
        name="a file's name means nothing",
        prepare=lambda world: world.add("0001_bad", {**UP, "local.upp.sql": "SELECT 1;"}),
        code="T109",
        exit=2,
        says="local.upp.sql is not a name that means anything",
    ),
    Case(
        name="a file is not UTF-8",
        prepare=lambda world: (
            world.add("0001_bad"),
            (world.folder / "migrations/0001_bad/local.up.sql").write_bytes(b"SELECT '\xff';"),
        ),
        code="T108",
        exit=2,
        says="is not UTF-8",
    ),
    Case(
        name="there is a way back and no way there",
        prepare=files(local_down="DROP TABLE tags;", remote_up="SELECT 1;", remote_down=""),
        code="T123",
        exit=2,
        says="nothing to apply on the local side",
    ),
    Case(
        name="a migration's file may not be read",
        prepare=made.unreadable_migration,
        code="T108",
        exit=2,
        says="local.up.sql could not be read: Permission denied",
        rights=False,
    ),
    Case(
        name="the folder of migrations may not be looked into",
        prepare=made.unreadable_folder,
        code="T108",
        exit=2,
        says="migrations could not be read: Permission denied",
        rights=False,
    ),
)

SQL: Final = (
    Case(
        name="local text that is no SQL",
        prepare=files(local_up="CREATE TABLE tags (x);\n\nhelo world;"),
        code="T125",
        exit=2,
        says="0001_bad/local.up.sql is not SQL at line 3: no statement begins with HELO. It is: helo world.",
    ),
    Case(
        name="a misspelt word at the start of a remote statement",
        prepare=files(remote_up="CRAETE TABLE tags (x int);", remote_down=""),
        code="T125",
        exit=2,
        says="CREATE may be what was meant",
    ),
    Case(
        name="a way back that is no SQL",
        prepare=files(local_up="CREATE TABLE tags (x);", local_down="undo it"),
        code="T125",
        exit=2,
        says="local.down.sql is not SQL at line 1",
    ),
    Case(
        name="a local statement that reads well and is wrong",
        prepare=files(local_up="CREATE TABLE begun (x); SELECT x FROM nowhere;"),
        code="T331",
        exit=1,
        says="no such table: nowhere",
    ),
    Case(
        name="a remote statement that reads well and is wrong, after the local side was changed",
        prepare=with_remote(lambda world: world.add("0001_bad", {**UP, "remote.up.sql": "SELECT 1 / 0;"})),
        code="T331",
        exit=1,
        says="division by zero",
    ),
    Case(
        name="a statement cut off", prepare=files(local_up="CREATE TABLE tags (x"), code="T114", exit=2, says="from line 1 on"
    ),
    Case(
        name="a trigger without its END",
        prepare=files(local_up="CREATE TRIGGER t AFTER INSERT ON notes BEGIN SELECT 1;"),
        code="T114",
        exit=2,
        says="ends inside a statement",
    ),
    Case(
        name="a string that is never closed",
        prepare=files(local_up="SELECT 1;\nSELECT 'x;"),
        code="T111",
        exit=2,
        says="at line 2: ' is never closed",
    ),
    *(
        Case(
            name=f"{statement} inside a text",
            prepare=files(local_up=f"CREATE TABLE tags (x);\n{statement};\nSELECT 1;"),
            code="T112",
            exit=2,
            says=f"controls the transaction itself at line 2: {statement}",
        )
        for statement in ("COMMIT", "ROLLBACK", "SAVEPOINT here", "BEGIN")
    ),
    Case(
        name="a command of the psql program",
        prepare=files(remote_up="\\set x 1\nSELECT 1;", remote_down=""),
        code="T113",
        exit=2,
        says="\\set x 1",
    ),
    Case(
        name="COPY FROM STDIN",
        prepare=files(remote_up="COPY item FROM STDIN;\n1\t2\n\\.\n", remote_down=""),
        code="T113",
        exit=2,
        says="COPY item FROM STDIN",
    ),
    Case(
        name="a statement that has no place in the local transaction",
        prepare=files(local_up="VACUUM;"),
        code="T122",
        exit=2,
        says="SQLite refuses it inside a transaction",
    ),
    Case(
        name="a statement that can be neither probed nor undone",
        prepare=files(remote_up="CREATE DATABASE x;", remote_down=""),
        code="T115",
        exit=2,
        says="Split this migration",
    ),
    Case(
        name="a concurrent index without a name",
        prepare=files(remote_up="CREATE INDEX CONCURRENTLY ON item (n);"),
        code="T124",
        exit=2,
        says="without a name",
    ),
    Case(
        name="a concurrent index in what takes back",
        prepare=files(remote_up="SELECT 1;", remote_down="DROP INDEX CONCURRENTLY x;"),
        code="T120",
        exit=2,
        says="cannot run in one",
    ),
    Case(
        name="a way back in other groups than the way there",
        prepare=files(remote_up="SELECT 1;\n-- twinstep: group\nSELECT 2;", remote_down="SELECT 1;"),
        code="T116",
        exit=2,
        says="has 1 transactional groups, its up text has 2",
    ),
    Case(
        name="a remote change without a way back that is not declared irreversible",
        prepare=files(remote_up="CREATE TABLE tags (x int);"),
        code="T117",
        exit=2,
        says="say irreversible = true",
    ),
    Case(
        name="an irreversible one of two steps",
        prepare=files(remote_up="SELECT 1;\n-- twinstep: group\nSELECT 2;", toml="irreversible = true"),
        code="T118",
        exit=2,
        says="has 2 remote steps; it may have one",
    ),
    Case(
        name="a mark that cannot be followed",
        prepare=files(remote_up="-- twinstep: grup\nSELECT 1;", remote_down=""),
        code="T119",
        exit=2,
        says="it is neither 'group' nor 'single [NAME]'",
    ),
    Case(
        name="a probe that is not defined",
        prepare=files(remote_up="-- twinstep: single probe_it\nREINDEX TABLE item;", remote_down=""),
        code="T121",
        exit=2,
        says="probe_it, which is not defined",
    ),
    Case(
        name="a remote statement that ends the transaction by itself",
        prepare=with_remote(files(remote_up="DO $$ BEGIN COMMIT; END $$;", remote_down="")),
        code="T340",
        exit=1,
        says="-- twinstep: single probe_NAME",
    ),
)

TOML: Final = (
    Case(
        name="an unknown key",
        prepare=files(toml="colour = 'red'", **LOCAL_UP),
        code="T106",
        exit=2,
        says="there is no key colour.",
    ),
    Case(
        name="a mistyped key",
        prepare=files(toml="[local]\npendign = 'SELECT 0'", **LOCAL_UP),
        code="T106",
        exit=2,
        says="there is no key local.pendign; did you mean local.pending?",
    ),
    Case(
        name="a value of the wrong kind",
        prepare=files(toml="irreversible = 'yes'", **LOCAL_UP),
        code="T106",
        exit=2,
        says="irreversible must be true or false",
    ),
    Case(name="broken TOML", prepare=files(toml="[local\n", **LOCAL_UP), code="T129", exit=2, says="at line 1"),
)

PYTHON: Final = (
    Case(
        name="migration.py raises",
        prepare=files(py="raise RuntimeError('no such host')"),
        code="T107",
        exit=2,
        says="RuntimeError: no such host",
    ),
    Case(
        name="migration.py is no Python",
        prepare=files(py="x = 1\ndef local_up(connection:\n"),
        code="T126",
        exit=2,
        says="is not Python at line 2",
    ),
    Case(
        name="migration.py hangs",
        prepare=files(py="while True: pass", toml="load_timeout = '200ms'"),
        code="T127",
        exit=2,
        says="was not loaded within 0.2 seconds",
    ),
    Case(
        name="migration.py ends the program",
        prepare=files(py="import sys\nsys.exit(7)"),
        code="T128",
        exit=2,
        says="SystemExit: 7",
    ),
    Case(
        name="a function whose name is nearly right",
        prepare=files(py="def local_upp(connection): pass", **LOCAL_UP),
        code="T107",
        exit=2,
        says="local_upp would never be called",
    ),
    *(
        Case(
            name=f"a local function {how}",
            prepare=function("local", f"connection.exec_driver_sql('CREATE TABLE more (x)')\n{body}"),
            code="T219",
            exit=1,
            says="which belongs to Twinstep",
        )
        for how, body in ENDING.items()
    ),
    *(
        Case(
            name=f"a remote function {how}",
            prepare=function("remote", f"connection.exec_driver_sql('CREATE TABLE more (x int)')\n{body}"),
            code="T219",
            exit=1,
            says="which belongs to Twinstep",
        )
        for how, body in ENDING.items()
        if "clos" not in how
    ),
    Case(
        name="a local function raises",
        prepare=function("local", "raise ValueError('no such note')"),
        code="T331",
        exit=1,
        says="no such note",
    ),
    Case(
        name="a local function never ends",
        prepare=function("local", "while True: pass", toml="[local]\ntimeout = '200ms'"),
        code="T269",
        exit=1,
        says="took longer than 0.2 seconds on the local side, and was ended: local_up()",
    ),
    Case(
        name="a local statement runs for too long",
        prepare=files(local_up=f"CREATE TABLE begun AS {ENDLESS};", toml="[local]\ntimeout = '200ms'"),
        code="T269",
        exit=1,
        says="[local] timeout in migration.toml",
    ),
    Case(
        name="a remote statement runs for too long",
        prepare=with_remote(
            files(remote_up="SELECT pg_sleep(20);", remote_down="", toml="[remote]\nstatement_timeout = '200ms'")
        ),
        code="T269",
        exit=1,
        says="[remote] statement_timeout in migration.toml",
    ),
    Case(
        name="a remote function keeps everybody waiting",
        prepare=function("remote", "time.sleep(0.7)", toml="[remote]\nstatement_timeout = '200ms'"),
        code="T269",
        exit=1,
        says="took longer than 0.2 seconds on the remote side",
    ),
    Case(
        name="the migration's own check fails",
        prepare=files(py="def check_local(connection): raise ValueError('not so')", **LOCAL_UP, local_down="DROP TABLE tags;"),
        code="T332",
        exit=1,
        says="The local check of 0001_bad failed",
    ),
)

DATA: Final = (
    Case(
        name="rows would be lost that no declaration names",
        prepare=files(local_up="DELETE FROM notes;"),
        code="T334",
        exit=1,
        says="notes had 1 rows, would have 0",
    ),
    Case(
        name="rows would be left without the row that they refer to",
        prepare=files(local_up="CREATE TABLE x (n INTEGER REFERENCES notes (id)); INSERT INTO x VALUES (99);"),
        code="T333",
        exit=1,
        says="1 rows without the row that they refer to",
    ),
    Case(
        name="a rebuild by hand forgets an index and changes values",
        prepare=lambda world: (
            world.sql(
                "CREATE TABLE made (a INTEGER PRIMARY KEY, b TEXT)",
                "CREATE INDEX made_b ON made (b)",
                "INSERT INTO made VALUES (1, 'x')",
            ),
            world.add(
                "0001_bad",
                local_up="CREATE TABLE made_2 (a INTEGER PRIMARY KEY, b TEXT); INSERT INTO made_2 SELECT a, upper(b) FROM made;"
                " DROP TABLE made; ALTER TABLE made_2 RENAME TO made;",
            ),
        ),
        code="T347",
        exit=1,
        says='[expect] objects_removed = ["index made_b"], columns_changed = ["made.b"]',
    ),
    Case(
        name="a rebuilt table refuses rows that its new key would not have",
        prepare=rebuilt("violations='refuse'"),
        code="T314",
        exit=1,
        says="Rows of made refer to rows that are not there",
    ),
    Case(
        name="a table cannot be rebuilt as asked",
        prepare=rebuilt("drop_columns=['none']"),
        code="T311",
        exit=1,
        says="The table made cannot be rebuilt as asked",
    ),
    Case(
        name="a query becomes slower that must not",
        prepare=lambda world: (
            world.sql(
                "CREATE TABLE made AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
                " SELECT i, hex(zeroblob(50)) filler FROM n",
                "CREATE INDEX made_i ON made (i)",
            ),
            world.add(
                "0001_bad",
                {
                    "local.up.sql": "DROP INDEX made_i;",
                    "local.down.sql": "CREATE INDEX made_i ON made (i);",
                    "migration.toml": '[[query]]\nname = "one"\nside = "local"\nfail_on_slowdown = true\n'
                    'sql = "SELECT * FROM made WHERE i = 7919"',
                },
            ),
        ),
        code="T372",
        exit=1,
        says="Three more measurements agree",
    ),
    Case(
        name="rows out of quarantine that are not in it",
        prepare=lambda world: (world.add(), world.with_remote(), world.migrated()),
        words="quarantine restore 7",
        code="T291",
        exit=5,
        says="There is no row 7 in quarantine",
    ),
    Case(
        name="rows out of quarantine while a run is in flight",
        prepare=lambda world: (
            world.with_remote(),
            rebuilt("")(world),
            world.killed_at("local:group:after-commit"),
        ),
        words="quarantine restore 1",
        code="T292",
        exit=5,
        says="A run of 0001_bad is in flight",
    ),
    Case(
        name="a wrong user_version",
        prepare=files(toml="[local]\nuser_version = { from = [1, 2], to = 4 }", **LOCAL_UP),
        code="T201",
        exit=5,
        says="needs user_version 1 or 2 of the local database, and it is 3",
    ),
    Case(
        name="pending operations",
        prepare=files(toml="[local]\npending = 'SELECT count(*) FROM notes'", **LOCAL_UP),
        code="T202",
        exit=5,
        says="1 operations are pending",
    ),
    Case(
        name="an operation that arrives between the look and the lock",
        prepare=made.a_late_operation,
        code="T202",
        exit=5,
        says="1 operations are pending in the local database (SELECT count(*) FROM pending)",
        meanwhile=frozenset({"pending"}),
    ),
    Case(
        name="the question for pending operations is wrong",
        prepare=files(toml="[local]\npending = 'SELECT count(*) FROM nowhere'", **LOCAL_UP),
        code="T341",
        exit=2,
        says="no such table: nowhere",
        writes=True,
    ),
)

HISTORY: Final = (
    Case(
        name="a migration edited after it was applied",
        prepare=lambda world: (
            world.add(),
            world.migrated(),
            world.add("0001_tags", {"local.up.sql": "CREATE TABLE other (x);"}),
        ),
        code="T255",
        exit=5,
        says="0001_tags was edited after it was applied",
    ),
    Case(
        name="a migration deleted after it was applied",
        prepare=lambda world: (
            world.add(),
            world.add("0002_more", local_up="CREATE TABLE more (x);"),
            world.migrated(),
            shutil.rmtree(world.folder / "migrations/0001_tags"),
        ),
        code="T254",
        exit=5,
        says="0001_tags is applied on the local side, and the folder of migrations does not have it",
    ),
    Case(
        name="a database newer than the folder",
        prepare=lambda world: (
            world.add(),
            world.add("0002_more", local_up="CREATE TABLE more (x);"),
            world.migrated(),
            shutil.rmtree(world.folder / "migrations/0002_more"),
        ),
        code="T254",
        exit=5,
        says="Use the version of the application that brought it",
    ),
    Case(
        name="a migration edited while in flight",
        prepare=with_remote(
            lambda world: (
                world.add(),
                world.killed_at("APPLY_REMOTE:before"),
                world.add("0001_tags", remote_up="CREATE TABLE tags (cut off"),
            )
        ),
        words="resume",
        code="",
        exit=0,
        says="",
        finishes=True,
    ),
    Case(
        name="a migration deleted while in flight",
        prepare=with_remote(
            lambda world: (
                world.add(),
                world.killed_at("APPLY_REMOTE:before"),
                shutil.rmtree(world.folder / "migrations"),
            )
        ),
        words="resume",
        code="",
        exit=0,
        says="",
        finishes=True,
    ),
    Case(
        name="a function that the run in flight needs was changed",
        prepare=made.a_changed_function,
        words="resume",
        code="T241",
        exit=6,
        says="needs the function remote_up as it was",
    ),
)

REMOTE: Final = (
    Case(
        name="the remote is down",
        prepare=lambda world: (world.add(), world.environ.update(TWINSTEP_REMOTE="postgresql://u@127.0.0.1:1/x")),
        code="T221",
        exit=5,
        says="cannot be reached: connection to server",
    ),
    Case(
        name="a wrong password",
        prepare=lambda world: (world.add(), world.tcp(password="not-the-right-one")),
        code="T226",
        exit=5,
        says="does not accept this password",
    ),
    Case(
        name="no password",
        prepare=lambda world: (world.add(), world.tcp(password="")),
        code="T226",
        exit=5,
        says="does not accept this password",
    ),
    Case(
        name="an unknown role, where passwords are asked for",
        prepare=lambda world: (world.add(), world.tcp(user="nobody_knows")),
        code="T226",
        exit=5,
        says="The server says the same of a user that does not exist",
    ),
    Case(
        name="an unknown role, where none are",
        prepare=made.an_unknown_role,
        code="T227",
        exit=5,
        says="does not let this user into",
    ),
    Case(
        name="a role that may not connect to the database",
        prepare=made.a_role_that_may_not_connect,
        code="T227",
        exit=5,
        says="grant it CONNECT on the database",
    ),
    Case(
        name="an unknown database",
        prepare=lambda world: (world.add(), world.tcp(database="not_made_yet")),
        code="T228",
        exit=5,
        says="has no such database",
    ),
    Case(
        name="a host whose name cannot be looked up",
        prepare=lambda world: (world.add(), world.environ.update(TWINSTEP_REMOTE="postgresql://u@no-such-host.invalid/x")),
        code="T229",
        exit=5,
        says="has a name that cannot be looked up",
    ),
    Case(
        name="encryption that the server does not offer",
        prepare=lambda world: (world.add(), world.tcp(more="?sslmode=require")),
        code="T263",
        exit=5,
        says="No encrypted connection",
    ),
    Case(
        name="an address that is none",
        prepare=lambda world: (world.add(), world.environ.update(TWINSTEP_REMOTE="mysql://u@h/x")),
        code="T225",
        exit=2,
        says="mysql is not PostgreSQL",
    ),
    Case(
        name="a transaction pooler",
        prepare=made.a_transaction_pooler,
        code="T264",
        exit=5,
        says="stands a pooler that hands each transaction to another session",
    ),
    Case(name="a standby", prepare=made.a_standby, code="T222", exit=5, says="it is a standby"),
    Case(
        name="sessions that begin read-only",
        prepare=made.a_readonly_session,
        code="T222",
        exit=5,
        says="sessions begin read-only there",
    ),
    Case(name="a PostgreSQL that is too old", prepare=made.an_old_postgres, code="T265", exit=5, says="is PostgreSQL 13.12"),
    Case(
        name="a role that may not create the ledger",
        prepare=lambda world: (world.add(), world.with_remote(), world.role()),
        code="T223",
        exit=5,
        says="lacks a right that Twinstep's ledger needs",
    ),
    Case(
        name="a role that may not read the ledger",
        prepare=lambda world: (world.with_remote(), made.a_ledger(world), world.role()),
        code="T224",
        exit=5,
        says="may not read Twinstep's ledger",
    ),
    Case(
        name="a role that may only read the ledger",
        prepare=lambda world: (
            world.with_remote(),
            made.a_ledger(world),
            world.role("GRANT USAGE ON SCHEMA twinstep TO {role}", "GRANT SELECT ON twinstep.ledger TO {role}"),
        ),
        code="T223",
        exit=5,
        says="GRANT SELECT, INSERT, UPDATE ON twinstep.ledger TO",
    ),
    Case(
        name="a role that does not own what it changes",
        prepare=made.not_the_owner,
        code="T268",
        exit=1,
        says="must be owner of table item",
    ),
    Case(
        name="a migration that another device has half applied",
        prepare=made.half_applied_elsewhere,
        code="T203",
        exit=5,
        says="is half applied on the remote by run",
    ),
    Case(
        name="a remote that is required and not there yet",
        prepare=with_remote(lambda world: world.add()),
        words="migrate --remote-role require",
        code="T205",
        exit=5,
        says="is required on the remote",
    ),
)

LOCAL: Final = (
    Case(
        name="a folder as the local database",
        prepare=lambda world: (world.add(), (world.folder / "folder").mkdir()),
        words="migrate --local folder",
        code="T210",
        exit=2,
        says="it is a folder",
    ),
    Case(
        name="a device as the local database",
        prepare=lambda world: world.add(),
        words="migrate --local /dev/null",
        code="T210",
        exit=2,
        says="it is a device or pipe",
    ),
    Case(
        name="a database in memory",
        prepare=lambda world: world.add(),
        words="migrate --local :memory:",
        code="T143",
        exit=2,
        says="which ends with its connection",
    ),
    Case(
        name="a local file that is missing",
        prepare=lambda world: world.add(),
        words="migrate --local other.db",
        code="T211",
        exit=2,
        says="none was created",
    ),
    Case(
        name="a file that is no database",
        prepare=lambda world: (world.add(), world.local.write_text("Dear diary,\n" * 500)),
        code="T212",
        exit=2,
        says="is not an SQLite database",
    ),
    Case(
        name="an encrypted database",
        prepare=lambda world: (world.add(), made.encrypt(world.local)),
        code="T267",
        exit=2,
        says="looks like an encrypted database",
    ),
    Case(
        name="a damaged database",
        prepare=lambda world: (world.add(), made.damage(world)),
        code="T216",
        exit=5,
        says="could not read or write the local database",
    ),
    Case(
        name="a local database that another program holds",
        prepare=made.a_busy_database,
        code="T214",
        exit=5,
        says="another connection holds a lock on it",
    ),
    Case(
        name="an SQLite that is too old",
        prepare=lambda world: (world.add(), made.patched(world, sqlite3, "sqlite_version_info", (3, 31, 1))),
        code="T266",
        exit=5,
        says="Twinstep needs 3.40 or newer",
    ),
    Case(
        name="a read-only file",
        prepare=made.readonly_file,
        code="T213",
        exit=5,
        says="the file may not be written to",
        rights=False,
    ),
    Case(
        name="a file that may not be read",
        prepare=made.unreadable_file,
        code="T213",
        exit=5,
        says="the file may not be read",
        rights=False,
    ),
    Case(
        name="a read-only folder",
        prepare=made.readonly_folder,
        words="migrate --state-dir state",
        code="T213",
        exit=5,
        says="its folder may not be written to, and the journal must be kept there",
        rights=False,
    ),
    Case(
        name="a state folder that may not be made",
        prepare=made.no_state_folder,
        code="T261",
        exit=5,
        says="cannot be used: Permission denied",
        rights=False,
    ),
    Case(
        name="a read-only state folder",
        prepare=made.readonly_state_folder,
        words="migrate --state-dir state",
        code="T261",
        exit=5,
        says="cannot be used: Permission denied",
        rights=False,
    ),
    Case(
        name="too little space for the backup",
        prepare=made.no_space,
        code="T231",
        exit=5,
        says="bytes are needed, 4096 are free",
    ),
    Case(
        name="a local database whose disk is full",
        prepare=made.a_full_local_disk,
        code="T215",
        exit=5,
        says="There was no space left for the local database",
    ),
    Case(name="a log whose disk is full", prepare=made.a_full_log_disk, code="T506", exit=5, says="the disk is full"),
)

LOG: Final = (
    Case(
        name="databases whose log is lost",
        prepare=lambda world: (world.add(), world.migrated(), shutil.rmtree(world.state)),
        code="T251",
        exit=5,
        says="belongs to another log",
    ),
    Case(
        name="a log that belongs to other databases",
        prepare=made.a_foreign_log,
        words="migrate --log sqlite:///other.db.twinstep/log.db",
        code="T251",
        exit=5,
        says="Name the right log with --log",
    ),
    Case(
        name="a local file of another day under a newer log",
        prepare=made.an_older_file,
        code="T253",
        exit=5,
        says="and its ledger does not",
    ),
    Case(
        name="a local file from before it was taken back",
        prepare=made.a_file_from_before_the_take_back,
        code="T296",
        exit=5,
        says="the log says that it was taken back",
    ),
    Case(
        name="a log that is no log",
        prepare=lambda world: (world.add(), (world.folder / "log.db").write_text("Dear diary,\n" * 500)),
        words="migrate --log sqlite:///log.db",
        code="T507",
        exit=5,
        says="is not a log of Twinstep",
    ),
    Case(
        name="another database as the log",
        prepare=lambda world: (world.add(), shutil.copy(world.local, world.folder / "log.db")),
        words="migrate --log sqlite:///log.db",
        code="T507",
        exit=5,
        says="it has other tables than a log",
    ),
    Case(
        name="a folder as the log",
        prepare=lambda world: (world.add(), (world.folder / "logs").mkdir()),
        words="migrate --log sqlite:///logs",
        code="T506",
        exit=5,
        says="cannot be used now: it is a folder",
    ),
    Case(
        name="a log that was edited",
        prepare=made.an_edited_log,
        code="T501",
        exit=5,
        says="The log is damaged: event",
    ),
    Case(
        name="a log that a newer Twinstep made",
        prepare=made.a_newer_log,
        code="T508",
        exit=5,
        says="Update Twinstep to the version that made it",
    ),
    Case(
        name="a log of a kind that there is not",
        prepare=lambda world: world.add(),
        words="migrate --log file:x",
        code="T144",
        exit=2,
        says="A log of kind file:x cannot be used",
    ),
)

SETTINGS: Final = (
    Case(
        name="no database at all",
        prepare=lambda world: (world.add(), world.environ.update(TWINSTEP_LOCAL="")),
        code="T142",
        exit=2,
        says="Name them with --local PATH and --remote URL",
    ),
    Case(
        name="an unknown setting in the file",
        prepare=lambda world: (world.add(), (world.folder / "twinstep.toml").write_text("migration = 'm'")),
        code="T153",
        exit=2,
        says="not known: migration (did you mean migrations?)",
    ),
    Case(
        name="a settings file that is broken",
        prepare=lambda world: (world.add(), (world.folder / "twinstep.toml").write_text("local = ")),
        code="T154",
        exit=2,
        says="it must be TOML",
    ),
    Case(
        name="a value that is none",
        prepare=lambda world: world.add(),
        words="migrate --wait soon",
        code="T152",
        exit=2,
        says="--wait cannot be used: it must be a number of seconds",
    ),
    Case(
        name="an unknown role for the remote",
        prepare=lambda world: world.add(),
        words="migrate --remote-role master",
        code="T152",
        exit=2,
        says="it must be apply, require or skip",
    ),
    Case(
        name="an unknown command",
        prepare=lambda world: world.add(),
        words="migrat",
        code="T151",
        exit=2,
        says="No such command 'migrat'",
    ),
    Case(
        name="an unknown option",
        prepare=lambda world: world.add(),
        words="migrate --skip-remot",
        code="T151",
        exit=2,
        says="No such option",
    ),
    Case(
        name="a migration that there is not",
        prepare=lambda world: world.add(),
        words="migrate --to 0009_later",
        code="T145",
        exit=2,
        says="There is no migration 0009_later",
    ),
    Case(
        name="another coordinator at work",
        prepare=made.another_coordinator,
        code="T401",
        exit=4,
        says="Another coordinator works on this local database",
        writes=True,
    ),
)

GROUPS: Final[Mapping[str, tuple[Case, ...]]] = {
    "The folder of migrations": FOLDER,
    "SQL": SQL,
    "migration.toml": TOML,
    "Functions": PYTHON,
    "The data": DATA,
    "What was applied before": HISTORY,
    "The remote": REMOTE,
    "The local database": LOCAL,
    "The log": LOG,
    "Settings and the command line": SETTINGS,
}
CASES: Final = tuple(case for group in GROUPS.values() for case in group)
