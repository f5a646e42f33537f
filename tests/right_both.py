"""Right migrations of a file and a server together. `migration_entries.py` says what an entry is."""

from __future__ import annotations

from migration_entries import Right, agree, change, schema

from twinstep import LocalOptions, Query, Side

NOTES = schema(
    local="CREATE TABLE notes (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, title TEXT NOT NULL) STRICT;"
    "CREATE INDEX notes_n ON notes (n); PRAGMA user_version = 4",
    remote="CREATE TABLE notes (id bigint PRIMARY KEY, n bigint NOT NULL, title text NOT NULL);"
    "CREATE INDEX notes_n ON notes (n);",
)
LOCAL_ROWS = (
    "INSERT INTO notes VALUES (-1, -3, ''), (1, 0, 'É'), (2, 1, ' '), (9223372036854775807, -9223372036854775808, 'a')",
)
REMOTE_ROWS = (*LOCAL_ROWS, "INSERT INTO notes VALUES (5, 5, 'of another device')")

RIGHT_BOTH: tuple[Right, ...] = (
    Right(
        name="a table and a column renamed on both sides",
        before=NOTES,
        migration=change(
            Side(
                up="ALTER TABLE notes RENAME TO pages; ALTER TABLE pages RENAME COLUMN n TO number",
                down="ALTER TABLE pages RENAME COLUMN number TO n; ALTER TABLE pages RENAME TO notes",
            ),
            Side(
                up="ALTER TABLE notes RENAME TO pages; ALTER TABLE pages RENAME COLUMN n TO number",
                down="ALTER TABLE pages RENAME COLUMN number TO n; ALTER TABLE pages RENAME TO notes",
            ),
            local_options=LocalOptions(user_version_from=(4,), user_version_to=5),
        ),
        local_rows=LOCAL_ROWS,
        remote_rows=REMOTE_ROWS,
    ),
    Right(
        name="halves that agree",
        before=NOTES,
        migration=change(
            Side(
                up="ALTER TABLE notes ADD COLUMN half INTEGER; UPDATE notes SET half = n / 2",
                down="ALTER TABLE notes DROP COLUMN half",
            ),
            Side(
                up="ALTER TABLE notes ADD COLUMN half bigint; UPDATE notes SET half = n / 2",
                down="ALTER TABLE notes DROP COLUMN half",
            ),
            queries=[
                Query(name="here", side="local", sql="SELECT id, n FROM notes ORDER BY n, id"),
                Query(name="there", side="remote", sql="SELECT id, n FROM notes ORDER BY n, id"),
            ],
        ),
        local_rows=LOCAL_ROWS,
        remote_rows=REMOTE_ROWS,
        invariants=(agree("SELECT n, half FROM notes"),),
    ),
    Right(
        name="states on both sides, one index built concurrently",
        before=NOTES,
        migration=change(
            Side(
                up="ALTER TABLE notes ADD COLUMN state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done'));"
                "UPDATE notes SET state = 'done' WHERE n > 0; CREATE INDEX notes_state ON notes (state)",
                down="DROP INDEX notes_state; ALTER TABLE notes DROP COLUMN state",
            ),
            Side(
                up="ALTER TABLE notes ADD COLUMN state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done'));"
                "UPDATE notes SET state = 'done' WHERE n > 0; CREATE INDEX CONCURRENTLY notes_state ON notes (state)",
                down="ALTER TABLE notes DROP COLUMN state",
            ),
        ),
        local_rows=LOCAL_ROWS,
        remote_rows=REMOTE_ROWS,
        invariants=(agree("SELECT n, state FROM notes"),),
    ),
    Right(
        name="tags in a table of their own on both sides",
        before=NOTES,
        migration=change(
            Side(
                up="CREATE TABLE tags (note INTEGER NOT NULL REFERENCES notes ON DELETE CASCADE, tag TEXT NOT NULL,"
                " PRIMARY KEY (note, tag)) WITHOUT ROWID; INSERT INTO tags SELECT id, 'old' FROM notes WHERE n < 0",
                down="DROP TABLE tags",
            ),
            Side(
                up="CREATE TABLE tags (note bigint NOT NULL REFERENCES notes ON DELETE CASCADE, tag text NOT NULL,"
                " PRIMARY KEY (note, tag)); INSERT INTO tags SELECT id, 'old' FROM notes WHERE n < 0",
                down="DROP TABLE tags",
            ),
        ),
        local_rows=LOCAL_ROWS,
        remote_rows=REMOTE_ROWS,
        invariants=(agree("SELECT n.id, n.n, t.tag FROM notes n LEFT JOIN tags t ON t.note = n.id"),),
    ),
)
