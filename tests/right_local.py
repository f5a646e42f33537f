"""Right migrations of a SQLite file, careful about what a file without strict types may hold. See `migration_entries.py`."""

from __future__ import annotations

import re

from migration_entries import Right, change, rebuilt, schema
from sqlalchemy import Connection

from twinstep import Expectation, ForeignKey, LocalOptions, Query, Side

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL, body TEXT);"
ODD_NOTES = (
    "INSERT INTO notes VALUES (-1, '', NULL), (0, ' A''b', ''), (7, x'00ff', 'x')",
    "INSERT INTO notes VALUES (9223372036854775807, 'É', CAST(x'ff' AS TEXT))",
)
TO_NOTES = ForeignKey(columns="note", parent="notes")
TO_FOLDERS = ForeignKey(columns="parent", parent="folders", on_delete="CASCADE")


def slugs(connection: Connection) -> None:
    """Computed from bytes, because a text of SQLite need not be UTF-8, and by nothing but the title."""
    for note, title in connection.exec_driver_sql("SELECT id, CAST(title AS BLOB) FROM notes ORDER BY id").fetchall():
        slug = re.sub(r"[^a-z0-9]+", "-", title.decode("utf-8", "replace").lower())
        connection.exec_driver_sql("UPDATE notes SET slug = ? WHERE id = ?", (slug, note))


RIGHT_LOCAL: tuple[Right, ...] = (
    Right(
        name="a table and an index added",
        before=schema(local=NOTES),
        migration=change(
            Side(
                up="CREATE TABLE tags (id INTEGER PRIMARY KEY, note INTEGER NOT NULL REFERENCES notes ON DELETE CASCADE,"
                " tag TEXT NOT NULL); CREATE INDEX tags_note ON tags (note)",
                down="DROP TABLE tags",
            )
        ),
        local_rows=ODD_NOTES,
    ),
    Right(
        name="a column with a default, and a partial index",
        before=schema(local=NOTES),
        migration=change(
            Side(
                up="ALTER TABLE notes ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1));"
                "CREATE INDEX notes_pinned ON notes (title) WHERE pinned = 1",
                down="DROP INDEX notes_pinned; ALTER TABLE notes DROP COLUMN pinned",
            ),
            queries=[
                Query(name="by title", side="local", sql="SELECT id, title FROM notes ORDER BY title, id"),
                Query(name="without a body", side="local", sql="SELECT id FROM notes WHERE body IS NULL ORDER BY id LIMIT 3"),
            ],
        ),
        local_rows=ODD_NOTES,
    ),
    Right(
        name="a table and a column renamed",
        before=schema(
            local=f"""{NOTES} CREATE TABLE tags (note INTEGER REFERENCES notes (id), tag TEXT);
            CREATE INDEX notes_title ON notes (title) WHERE body IS NOT NULL;
            CREATE VIEW titles AS SELECT id, title FROM notes; CREATE TABLE seen (note INTEGER);
            CREATE TRIGGER noticed AFTER INSERT ON notes BEGIN INSERT INTO seen VALUES (new.id); END;"""
        ),
        migration=change(
            Side(
                up="ALTER TABLE notes RENAME TO pages; ALTER TABLE pages RENAME COLUMN title TO heading",
                down="ALTER TABLE pages RENAME COLUMN heading TO title; ALTER TABLE pages RENAME TO notes",
            ),
            queries=[Query(name="titles", side="local", sql="SELECT * FROM titles ORDER BY id")],
        ),
        local_rows=(*ODD_NOTES, "INSERT INTO tags VALUES (0, 'a'), (NULL, 'b'), (99, NULL), ('text', x'00')"),
    ),
    Right(
        name="a table split in two",
        before=schema(local=NOTES),
        migration=change(
            Side(
                up="CREATE TABLE bodies (note INTEGER PRIMARY KEY REFERENCES notes, body TEXT);"
                "INSERT INTO bodies SELECT id, body FROM notes; ALTER TABLE notes DROP COLUMN body",
                down="ALTER TABLE notes ADD COLUMN body TEXT;"
                "UPDATE notes SET body = (SELECT body FROM bodies WHERE note = notes.id); DROP TABLE bodies",
            ),
            expect=Expectation(columns_changed=("notes.body",)),
            queries=[Query(name="titles", side="local", sql="SELECT id, title FROM notes ORDER BY id")],
        ),
        local_rows=ODD_NOTES,
    ),
    Right(
        name="two columns merged, the old ones kept",
        before=schema(local="CREATE TABLE people (id INTEGER PRIMARY KEY, first TEXT, last TEXT);"),
        migration=change(
            Side(
                up="ALTER TABLE people ADD COLUMN name TEXT;"
                "UPDATE people SET name = trim(coalesce(first, '') || ' ' || coalesce(last, ''))",
                down="ALTER TABLE people DROP COLUMN name",
            )
        ),
        local_rows=("INSERT INTO people VALUES (1, 'a', 'b'), (2, NULL, 'b'), (3, NULL, NULL), (4, x'ff', ' ')",),
    ),
    Right(
        name="empty titles filled, and remembered",
        before=schema(local=NOTES),
        migration=change(
            Side(
                up="CREATE TABLE untitled (note INTEGER PRIMARY KEY);"
                "INSERT INTO untitled SELECT id FROM notes WHERE title = '';"
                "UPDATE notes SET title = 'untitled' WHERE id IN (SELECT note FROM untitled)",
                down="UPDATE notes SET title = '' WHERE id IN (SELECT note FROM untitled); DROP TABLE untitled",
            ),
            expect=Expectation(columns_changed=("notes.title",)),
        ),
        local_rows=(*ODD_NOTES, "INSERT INTO notes VALUES (1, 'untitled', NULL)"),
    ),
    Right(
        name="seconds made milliseconds within limits",
        before=schema(
            local="CREATE TABLE tasks"
            " (id INTEGER PRIMARY KEY, due INTEGER NOT NULL CHECK (due BETWEEN 0 AND 4102444800)) STRICT;"
            "CREATE INDEX tasks_due ON tasks (due);"
        ),
        migration=change(
            Side(
                up=rebuilt(
                    "tasks",
                    change_columns={"due": "due INTEGER NOT NULL CHECK (due BETWEEN 0 AND 4102444800000)"},
                    values={"due": "due * 1000"},
                ),
                down=rebuilt(
                    "tasks",
                    change_columns={"due": "due INTEGER NOT NULL CHECK (due BETWEEN 0 AND 4102444800)"},
                    values={"due": "due / 1000"},
                ),
            ),
            expect=Expectation(columns_changed=("tasks.due",)),
            queries=[Query(name="by date", side="local", sql="SELECT id FROM tasks ORDER BY due, id", uses_index="tasks_due")],
        ),
        local_rows=("INSERT INTO tasks VALUES (1, 0), (2, 4102444800), (3, 1), (4, 1)",),
    ),
    Right(
        name="keys over orphans, which are set aside",
        before=schema(
            local=f"{NOTES} CREATE TABLE tags (id INTEGER PRIMARY KEY, note INTEGER NOT NULL, tag TEXT);"
            "CREATE TABLE folders (id INTEGER PRIMARY KEY, parent INTEGER); CREATE INDEX tags_note ON tags (note);"
        ),
        migration=change(
            Side(
                up=(rebuilt("tags", add_foreign_keys=[TO_NOTES]), rebuilt("folders", add_foreign_keys=[TO_FOLDERS])),
                down=(rebuilt("folders", drop_foreign_keys=[TO_FOLDERS]), rebuilt("tags", drop_foreign_keys=[TO_NOTES])),
            )
        ),
        local_rows=(
            *ODD_NOTES,
            "INSERT INTO tags VALUES (1, 0, 'a'), (2, 99, NULL), (3, 'text', x'00'), (4, 7, 'a')",
            "INSERT INTO folders VALUES (1, NULL), (2, 1), (3, 3), (4, 5), (5, 4), (6, 99), (7, 6)",
        ),
    ),
    Right(
        name="NOT NULL after a backfill",
        before=schema(local=NOTES),
        migration=change(
            Side(
                up=(
                    "CREATE TABLE never_written (note INTEGER PRIMARY KEY);"
                    "INSERT INTO never_written SELECT id FROM notes WHERE body IS NULL",
                    rebuilt(
                        "notes",
                        change_columns={"body": "body TEXT NOT NULL DEFAULT ''"},
                        values={"body": "coalesce(body, '')"},
                    ),
                ),
                down=(
                    rebuilt(
                        "notes",
                        change_columns={"body": "body TEXT"},
                        values={"body": "CASE WHEN id NOT IN (SELECT note FROM never_written) THEN body END"},
                    ),
                    "DROP TABLE never_written",
                ),
            ),
            expect=Expectation(columns_changed=("notes.body",)),
        ),
        local_rows=ODD_NOTES,
    ),
    Right(
        name="a column dropped, declared and for good",
        before=schema(local=f"{NOTES} CREATE INDEX notes_body ON notes (body);"),
        migration=change(
            Side(up="DROP INDEX notes_body; ALTER TABLE notes DROP COLUMN body"),
            irreversible=True,
            expect=Expectation(columns_changed=("notes.body",), objects_removed=("index notes_body",)),
        ),
        local_rows=ODD_NOTES,
    ),
    Right(
        name="a view and a trigger replaced",
        before=schema(
            local=f"""{NOTES} CREATE TABLE log (note INTEGER, what TEXT); CREATE VIEW titles AS SELECT id, title FROM notes;
            CREATE TRIGGER noticed AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (new.id, 'new'); END;"""
        ),
        migration=change(
            Side(
                up="""DROP TRIGGER noticed; DROP VIEW titles;
                CREATE VIEW titles AS SELECT id, title, body IS NULL AS empty FROM notes;
                CREATE TRIGGER noticed AFTER INSERT ON notes WHEN new.title <> ''
                    BEGIN INSERT INTO log VALUES (new.id, 'new'); END;""",
                down="""DROP TRIGGER noticed; DROP VIEW titles; CREATE VIEW titles AS SELECT id, title FROM notes;
                CREATE TRIGGER noticed AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (new.id, 'new'); END;""",
            ),
            expect=Expectation(objects_removed=("view titles", "trigger noticed")),
            queries=[Query(name="titles", side="local", sql="SELECT id, title FROM titles ORDER BY id")],
        ),
        local_rows=ODD_NOTES,
    ),
    Right(
        name="a version of the file",
        before=schema(local=f"{NOTES} PRAGMA user_version = 11"),
        migration=change(
            Side(up="CREATE INDEX notes_title ON notes (title)", down="DROP INDEX notes_title"),
            local_options=LocalOptions(user_version_from=(11,), user_version_to=12),
        ),
        local_rows=ODD_NOTES,
    ),
    Right(
        name="slugs computed by a function",
        before=schema(local=NOTES),
        migration=change(
            Side(up=("ALTER TABLE notes ADD COLUMN slug TEXT", slugs), down="ALTER TABLE notes DROP COLUMN slug"),
        ),
        local_rows=ODD_NOTES,
    ),
    Right(
        name="a rebuild that keeps the mark",
        before=schema(
            local="""CREATE TABLE ops (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL COLLATE NOCASE DEFAULT 'note',
            length AS (length(kind))); CREATE INDEX ops_kind ON ops (kind DESC);
            CREATE TABLE log (op INTEGER);
            CREATE TRIGGER logged AFTER DELETE ON ops BEGIN INSERT INTO log VALUES (old.id); END;"""
        ),
        migration=change(
            Side(
                up=rebuilt("ops", add_columns=["payload TEXT", "tries INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0)"]),
                down=rebuilt("ops", drop_columns=["payload", "tries"]),
            ),
            queries=[Query(name="ops", side="local", sql="SELECT id, kind, length FROM ops ORDER BY kind, id")],
        ),
        local_rows=(
            "INSERT INTO ops (id, kind) VALUES (1, 'a'), (2, 'B'), (3, x'00'), (9, '')",
            "DELETE FROM ops WHERE id = 9",
        ),
    ),
    Right(
        name="doubles removed, declared, before a unique index",
        before=schema(local="CREATE TABLE tags (note INTEGER, tag TEXT);"),
        migration=change(
            Side(
                up="DELETE FROM tags WHERE rowid NOT IN (SELECT min(rowid) FROM tags GROUP BY note, tag);"
                "CREATE UNIQUE INDEX tags_once ON tags (note, tag)"
            ),
            expect=Expectation(rows_removed=("tags",)),
            queries=[Query(name="tags", side="local", sql="SELECT DISTINCT tag IS NULL FROM tags ORDER BY 1")],
        ),
        local_rows=(
            "INSERT INTO tags VALUES (1, 'a'), (1, 'a'), ('1', 'a'), (NULL, 'a'), (NULL, 'a'), (1.0, x'61'), (2, NULL)",
        ),
    ),
)
