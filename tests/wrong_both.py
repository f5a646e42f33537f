"""Wrong migrations of a file and a server together. `migration_entries.py` says what an entry is."""

from __future__ import annotations

from migration_entries import Look, Wrong, agree, change, schema
from sqlalchemy import Connection

from twinstep import Side

NOTES = schema(
    local="CREATE TABLE notes (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, title TEXT NOT NULL) STRICT;",
    remote="CREATE TABLE notes (id bigint PRIMARY KEY, n bigint NOT NULL, title text NOT NULL);",
)
ROW = ("INSERT INTO notes VALUES (1, 1, 'A'), (2, 2, 'b')",)


def same_tables(local: Connection | None, remote: Connection | None) -> None:
    """Both sides have tables of the same names."""
    assert local is not None
    assert remote is not None
    here = local.exec_driver_sql("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'twinstep%'").scalars()
    there = remote.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").scalars()
    assert set(here) == set(there), "one side was forgotten"


def handed_over() -> tuple[Side, Side]:
    """Sides of which the second works on what the first has left in memory."""
    notes: list[int] = []

    def local_up(connection: Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE notes ADD COLUMN long INTEGER")
        notes[:] = connection.exec_driver_sql("SELECT id FROM notes").scalars().all()

    def remote_up(connection: Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE notes ADD COLUMN synced boolean NOT NULL DEFAULT false")
        while notes:
            connection.exec_driver_sql("UPDATE notes SET synced = true WHERE id = %s", (notes.pop(),))

    return (
        Side(up=local_up, down="ALTER TABLE notes DROP COLUMN long"),
        Side(up=remote_up, down="ALTER TABLE notes DROP COLUMN synced"),
    )


WRONG_BOTH: tuple[Wrong, ...] = (
    Wrong(
        name="a half that is rounded on one side",
        why="An integer divided is cut in SQLite; the server's text divides a numeric, and rounds.",
        properties="invariants",
        before=NOTES,
        migration=change(
            Side(
                up="ALTER TABLE notes ADD COLUMN half INTEGER; UPDATE notes SET half = n / 2",
                down="ALTER TABLE notes DROP COLUMN half",
            ),
            Side(
                up="ALTER TABLE notes ADD COLUMN half bigint; UPDATE notes SET half = round(n / 2.0)",
                down="ALTER TABLE notes DROP COLUMN half",
            ),
        ),
        local_rows=ROW,
        remote_rows=ROW,
        invariants=(agree("SELECT n, half FROM notes"),),
    ),
    Wrong(
        name="numbers that mean other words on the other side",
        why="The device calls 1 done, the server calls it cancelled.",
        properties="invariants",
        before=NOTES,
        migration=change(
            Side(
                up="ALTER TABLE notes ADD COLUMN state TEXT;"
                "UPDATE notes SET state = CASE n WHEN 0 THEN 'open' WHEN 1 THEN 'done' ELSE 'cancelled' END",
                down="ALTER TABLE notes DROP COLUMN state",
            ),
            Side(
                up="ALTER TABLE notes ADD COLUMN state text;"
                "UPDATE notes SET state = CASE n WHEN 0 THEN 'open' WHEN 2 THEN 'done' ELSE 'cancelled' END",
                down="ALTER TABLE notes DROP COLUMN state",
            ),
        ),
        local_rows=ROW,
        remote_rows=ROW,
        invariants=(agree("SELECT n, state FROM notes"),),
    ),
    Wrong(
        name="two defaults",
        why="Old notes are shown on the device and archived on the server.",
        properties="invariants",
        before=NOTES,
        migration=change(
            Side(
                up="ALTER TABLE notes ADD COLUMN archived INTEGER NOT NULL DEFAULT 0",
                down="ALTER TABLE notes DROP COLUMN archived",
            ),
            Side(
                up="ALTER TABLE notes ADD COLUMN archived int NOT NULL DEFAULT 1",
                down="ALTER TABLE notes DROP COLUMN archived",
            ),
        ),
        local_rows=ROW,
        remote_rows=ROW,
        invariants=(agree("SELECT id, archived FROM notes"),),
    ),
    Wrong(
        name="milliseconds on one side",
        why="The device stores the new time in milliseconds, the server takes the seconds over.",
        properties="invariants",
        before=NOTES,
        migration=change(
            Side(
                up="ALTER TABLE notes ADD COLUMN at INTEGER; UPDATE notes SET at = n % 1000000 * 1000",
                down="ALTER TABLE notes DROP COLUMN at",
            ),
            Side(
                up="ALTER TABLE notes ADD COLUMN at bigint; UPDATE notes SET at = n % 1000000",
                down="ALTER TABLE notes DROP COLUMN at",
            ),
        ),
        local_rows=ROW,
        remote_rows=ROW,
        invariants=(agree("SELECT n, at FROM notes"),),
    ),
    Wrong(
        name="a table renamed on one side only",
        why="The server's text adds the column and forgets the new name.",
        properties="invariants",
        before=NOTES,
        migration=change(
            Side(
                up="ALTER TABLE notes ADD COLUMN slug TEXT; ALTER TABLE notes RENAME TO pages",
                down="ALTER TABLE pages RENAME TO notes; ALTER TABLE notes DROP COLUMN slug",
            ),
            Side(up="ALTER TABLE notes ADD COLUMN slug text", down="ALTER TABLE notes DROP COLUMN slug"),
        ),
        local_rows=ROW,
        remote_rows=ROW,
        invariants=(same_tables,),
    ),
    Wrong(
        name="a down that drops another column of the server",
        why="The down was written for the device and copied: what it drops on the server was there before.",
        properties=("down-restores", "refusal"),
        before=NOTES,
        migration=change(
            Side(up="ALTER TABLE notes ADD COLUMN slug TEXT", down="ALTER TABLE notes DROP COLUMN slug"),
            Side(
                up="ALTER TABLE notes ADD COLUMN slug text",
                down="ALTER TABLE notes DROP COLUMN title; ALTER TABLE notes DROP COLUMN slug",
            ),
        ),
        local_rows=ROW,
        remote_rows=ROW,
        moment="down",
        code="T335",
    ),
    Wrong(
        name="titles made small on the server only",
        why="The server's text does one thing more than it declares, and the device's does not.",
        properties=("keeps-rows", "down-restores"),
        before=NOTES,
        migration=change(
            Side(
                up="ALTER TABLE notes ADD COLUMN slug TEXT; UPDATE notes SET slug = lower(title)",
                down="ALTER TABLE notes DROP COLUMN slug",
            ),
            Side(
                up="ALTER TABLE notes ADD COLUMN slug text; UPDATE notes SET title = lower(title);"
                "UPDATE notes SET slug = title",
                down="ALTER TABLE notes DROP COLUMN slug",
            ),
        ),
        local_rows=ROW,
        remote_rows=ROW,
        look=Look(side="remote", sql="SELECT title FROM notes WHERE id = 1", right=(("A",),), found=(("a",),)),
    ),
    Wrong(
        name="rows handed over in memory",
        why="The remote step takes from a list what the local one has put there: after a crash the list is empty.",
        properties="crash",
        before=NOTES,
        migration=change(*handed_over()),
        local_rows=ROW,
        remote_rows=ROW,
        moment="crash",
        killed_at="remote:group:before-commit",
        look=Look(side="remote", sql="SELECT count(*) FROM notes WHERE synced", right=((2,),), found=((0,),)),
    ),
    Wrong(
        name="a check that only the server has",
        why="The device goes on writing what the server refuses from now on, and the server has such rows already.",
        properties="applies",
        before=NOTES,
        migration=change(
            Side(up="ALTER TABLE notes ADD COLUMN state TEXT", down="ALTER TABLE notes DROP COLUMN state"),
            Side(
                up="ALTER TABLE notes ADD CONSTRAINT n_known CHECK (n IN (0, 1))",
                down="ALTER TABLE notes DROP CONSTRAINT n_known",
            ),
        ),
        local_rows=ROW,
        remote_rows=ROW,
        code="T331",
    ),
)
