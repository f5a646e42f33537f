"""Wrong migrations of a SQLite file. `migration_entries.py` says what an entry is."""

from __future__ import annotations

from pathlib import Path

from migration_entries import Look, Wrong, change, rebuilt, schema
from sqlalchemy import Connection

from twinstep import Expectation, Query, Side

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL, body TEXT);"
TASKS = "CREATE TABLE tasks (id INTEGER PRIMARY KEY, title TEXT, status TEXT);"


def backfilled_once(connection: Connection) -> None:
    file = connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar_one()
    marker = Path(f"{file}.slugs")
    if not marker.exists():
        marker.write_text("done")
        connection.exec_driver_sql("UPDATE notes SET slug = lower(title)")


def indexed_if_filled(connection: Connection) -> None:
    if connection.exec_driver_sql("SELECT EXISTS (SELECT 1 FROM notes)").scalar_one():
        connection.exec_driver_sql("CREATE INDEX notes_title ON notes (title)")


WRONG_LOCAL: tuple[Wrong, ...] = (
    Wrong(
        name="an UPDATE whose WHERE was forgotten",
        why="Titles that are there are overwritten, not only the empty ones; an UPDATE explains the column to the engine.",
        properties="keeps-rows",
        before=schema(local=NOTES),
        migration=change(Side(up="UPDATE notes SET title = 'untitled'")),
        local_rows=("INSERT INTO notes VALUES (1, '', NULL), (2, 'mine', 'x')",),
        look=Look(side="local", sql="SELECT title FROM notes WHERE id = 2", right=(("mine",),), found=(("untitled",),)),
    ),
    Wrong(
        name="NULL made an empty text",
        why="What was never written cannot be told from what was emptied, and no column was declared to change.",
        properties="keeps-rows",
        before=schema(local=NOTES),
        migration=change(Side(up="UPDATE notes SET body = coalesce(body, '')")),
        local_rows=("INSERT INTO notes VALUES (1, 'a', NULL), (2, 'b', '')",),
        look=Look(side="local", sql="SELECT id FROM notes WHERE body IS NULL", right=((1,),), found=()),
    ),
    Wrong(
        name="a view that forgets NULL",
        why="`<>` is not `IS NOT`: rows without a status are no longer among those that are not done.",
        properties="queries",
        before=schema(local=f"{TASKS} CREATE VIEW open_tasks AS SELECT id, title FROM tasks WHERE status IS NOT 'done';"),
        migration=change(
            Side(
                up="DROP VIEW open_tasks; CREATE VIEW open_tasks AS SELECT id, title FROM tasks WHERE status <> 'done'",
                down="DROP VIEW open_tasks;CREATE VIEW open_tasks AS SELECT id, title FROM tasks WHERE status IS NOT 'done'",
            ),
            queries=[Query(name="open", side="local", sql="SELECT id FROM open_tasks ORDER BY id")],
        ),
        local_rows=("INSERT INTO tasks VALUES (1, 'a', NULL), (2, 'b', 'new'), (3, 'c', 'done')",),
        look=Look(side="local", sql="SELECT id FROM open_tasks ORDER BY id", right=((1,), (2,)), found=((2,),)),
    ),
    Wrong(
        name="NOT IN over NULLs",
        why="One NULL in the list, and NOT IN is true of no row at all.",
        properties="queries",
        before=schema(
            local=f"""{NOTES} CREATE TABLE filed (note INTEGER, folder INTEGER NOT NULL);
            CREATE VIEW unfiled AS SELECT id FROM notes WHERE NOT EXISTS (SELECT 1 FROM filed WHERE note = notes.id);"""
        ),
        migration=change(
            Side(
                up="DROP VIEW unfiled;CREATE VIEW unfiled AS SELECT id FROM notes WHERE id NOT IN (SELECT note FROM filed)",
                down="DROP VIEW unfiled; CREATE VIEW unfiled AS"
                " SELECT id FROM notes WHERE NOT EXISTS (SELECT 1 FROM filed WHERE note = notes.id)",
            ),
            queries=[Query(name="unfiled", side="local", sql="SELECT id FROM unfiled ORDER BY id")],
        ),
        local_rows=("INSERT INTO notes VALUES (1, 'a', NULL), (2, 'b', '')", "INSERT INTO filed VALUES (1, 1), (NULL, 1)"),
        look=Look(side="local", sql="SELECT id FROM unfiled", right=((2,),), found=()),
    ),
    Wrong(
        name="INSERT OR IGNORE into a stricter table",
        why="Of two equal rows the second is dropped without an error.",
        properties="applies",
        before=schema(local="CREATE TABLE tags (note INTEGER NOT NULL, tag TEXT NOT NULL);"),
        migration=change(
            Side(
                up="CREATE TABLE new (note INTEGER NOT NULL, tag TEXT NOT NULL, UNIQUE (note, tag));"
                "INSERT OR IGNORE INTO new SELECT * FROM tags; DROP TABLE tags; ALTER TABLE new RENAME TO tags"
            )
        ),
        local_rows=("INSERT INTO tags VALUES (1, 'red'), (1, 'red'), (2, 'red')",),
        code="T334",
    ),
    Wrong(
        name="numbers made texts",
        why="Comparisons turn alphabetical: 9 is not before 10 any more, nor what was due earlier before what is due later.",
        properties="queries",
        before=schema(local="CREATE TABLE tasks (id INTEGER PRIMARY KEY, due INTEGER NOT NULL) STRICT;"),
        migration=change(
            Side(
                up=rebuilt("tasks", change_columns={"due": "due TEXT NOT NULL"}, values={"due": "CAST(due AS TEXT)"}),
                down=rebuilt("tasks", change_columns={"due": "due INTEGER NOT NULL"}, values={"due": "CAST(due AS INTEGER)"}),
            ),
            expect=Expectation(columns_changed=("tasks.due",)),
            queries=[Query(name="soon", side="local", sql="SELECT id FROM tasks WHERE due < 10 ORDER BY id")],
        ),
        local_rows=("INSERT INTO tasks VALUES (1, 9), (2, 10)",),
        look=Look(side="local", sql="SELECT id FROM tasks WHERE due < 10", right=((1,),), found=()),
    ),
    Wrong(
        name="a number cut by CAST",
        why="rebuild_table was asked for other values, but nothing declares that prices lose their cents.",
        properties="keeps-rows",
        before=schema(local="CREATE TABLE items (id INTEGER PRIMARY KEY, price REAL NOT NULL) STRICT;"),
        migration=change(
            Side(
                up=rebuilt(
                    "items", change_columns={"price": "price INTEGER NOT NULL"}, values={"price": "CAST(price AS INTEGER)"}
                )
            )
        ),
        local_rows=("INSERT INTO items VALUES (1, 1.0), (2, 2.5)",),
        look=Look(side="local", sql="SELECT price FROM items WHERE id = 2", right=((2.5,),), found=((2,),)),
    ),
    Wrong(
        name="a collation lost with the new type",
        why="The new definition of the column leaves COLLATE NOCASE out: who is called A is not found as a any more.",
        properties="queries",
        before=schema(local="CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE);"),
        migration=change(
            Side(
                up=rebuilt("people", change_columns={"name": "name TEXT NOT NULL DEFAULT ''"}),
                down=rebuilt("people", change_columns={"name": "name TEXT NOT NULL COLLATE NOCASE"}),
            ),
            queries=[Query(name="by name", side="local", sql="SELECT id FROM people WHERE name = 'a' ORDER BY id")],
        ),
        local_rows=("INSERT INTO people VALUES (1, 'a'), (2, 'A')",),
        look=Look(side="local", sql="SELECT id FROM people WHERE name = 'a'", right=((1,), (2,)), found=((1,),)),
    ),
    Wrong(
        name="a division that the multiplication does not give back",
        why="Cents are divided as integers: 150 becomes 1, and the down makes 100 of it.",
        properties="down-restores",
        before=schema(local="CREATE TABLE bills (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL) STRICT;"),
        migration=change(
            Side(up="UPDATE bills SET amount = amount / 100", down="UPDATE bills SET amount = amount * 100"),
            expect=Expectation(columns_changed=("bills.amount",)),
        ),
        local_rows=("INSERT INTO bills VALUES (1, 150)",),
        moment="down",
        code="T335",
    ),
    Wrong(
        name="letters made small under a unique key",
        why="Two addresses that differ in case only become one.",
        properties="applies",
        before=schema(local="CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT NOT NULL UNIQUE);"),
        migration=change(Side(up="UPDATE people SET mail = lower(mail)"), expect=Expectation(columns_changed=("people.mail",))),
        local_rows=("INSERT INTO people VALUES (1, 'a'), (2, 'A')",),
        code="T331",
    ),
    Wrong(
        name="columns swapped by position",
        why="INSERT SELECT goes by position: the new table has its columns in another order, and the texts change places.",
        properties="applies",
        before=schema(local="CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL, body TEXT NOT NULL);"),
        migration=change(
            Side(
                up="CREATE TABLE new (id INTEGER PRIMARY KEY, body TEXT NOT NULL, title TEXT NOT NULL);"
                "INSERT INTO new SELECT * FROM notes; DROP TABLE notes; ALTER TABLE new RENAME TO notes"
            )
        ),
        local_rows=("INSERT INTO notes VALUES (1, 'a', 'b')",),
        code="T347",
    ),
    Wrong(
        name="a copy through an inner join",
        why="Notes without a folder, or whose folder is gone, are not in the join, and so not in the copy.",
        properties="applies",
        before=schema(
            local="CREATE TABLE folders (id INTEGER PRIMARY KEY, name TEXT NOT NULL);"
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, folder INTEGER);"
        ),
        migration=change(
            Side(
                up="CREATE TABLE new (id INTEGER PRIMARY KEY, folder INTEGER, folder_name TEXT);"
                "INSERT INTO new SELECT n.id, n.folder, f.name FROM notes n JOIN folders f ON f.id = n.folder;"
                "DROP TABLE notes; ALTER TABLE new RENAME TO notes"
            )
        ),
        local_rows=("INSERT INTO folders VALUES (1, 'a')", "INSERT INTO notes VALUES (1, 1), (2, NULL), (3, 9)"),
        code="T334",
    ),
    Wrong(
        name="a view in place of a table, through an inner join",
        why="The table goes on under another name with all its rows, and what the application reads has lost some.",
        properties="queries",
        before=schema(
            local="CREATE TABLE folders (id INTEGER PRIMARY KEY, name TEXT NOT NULL);"
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, folder INTEGER);"
        ),
        migration=change(
            Side(
                up="ALTER TABLE notes RENAME TO stored_notes; CREATE VIEW notes AS"
                " SELECT n.id, n.folder, f.name FROM stored_notes n JOIN folders f ON f.id = n.folder",
                down="DROP VIEW notes; ALTER TABLE stored_notes RENAME TO notes",
            ),
            queries=[Query(name="notes", side="local", sql="SELECT id, folder FROM notes ORDER BY id")],
        ),
        local_rows=("INSERT INTO folders VALUES (1, 'a')", "INSERT INTO notes VALUES (1, 1), (2, NULL), (3, 9)"),
        look=Look(side="local", sql="SELECT id FROM notes ORDER BY id", right=((1,), (2,), (3,)), found=((1,),)),
    ),
    Wrong(
        name="a join that doubles rows",
        why="A table without a key is copied through a join: an entry with two tags is there twice, and nothing is lost.",
        properties=("queries", "keeps-rows", "down-restores"),
        before=schema(
            local="CREATE TABLE entries (note INTEGER NOT NULL, text TEXT); CREATE TABLE tags (note INTEGER, tag TEXT);"
        ),
        migration=change(
            Side(
                up="CREATE TABLE new (note INTEGER NOT NULL, text TEXT, tag TEXT);"
                "INSERT INTO new SELECT e.note, e.text, t.tag FROM entries e LEFT JOIN tags t ON t.note = e.note;"
                "DROP TABLE entries; ALTER TABLE new RENAME TO entries",
                down="ALTER TABLE entries DROP COLUMN tag",
            ),
            queries=[Query(name="entries", side="local", sql="SELECT note, text FROM entries ORDER BY note, text")],
        ),
        local_rows=("INSERT INTO entries VALUES (1, 'x'), (2, 'y')", "INSERT INTO tags VALUES (1, 'red'), (1, 'blue')"),
        look=Look(side="local", sql="SELECT count(*) FROM entries", right=((2,),), found=((3,),)),
    ),
    Wrong(
        name="rowids given out anew by a sorted copy",
        why="Others refer to the rowids of notes, which have no other key; the copy is sorted, and every rowid is another.",
        properties="queries",
        before=schema(
            local="CREATE TABLE notes (title TEXT NOT NULL); CREATE TABLE tags (note INTEGER NOT NULL, tag TEXT NOT NULL);"
        ),
        migration=change(
            Side(
                up="CREATE TABLE new (title TEXT NOT NULL, body TEXT);"
                "INSERT INTO new (title) SELECT title FROM notes ORDER BY title;"
                "DROP TABLE notes; ALTER TABLE new RENAME TO notes",
                down="ALTER TABLE notes DROP COLUMN body",
            ),
            queries=[
                Query(
                    name="tagged",
                    side="local",
                    sql="SELECT n.title, t.tag FROM tags t JOIN notes n ON n.rowid = t.note ORDER BY 1, 2",
                )
            ],
        ),
        local_rows=("INSERT INTO notes VALUES ('b'), ('a')", "INSERT INTO tags VALUES (1, 'red')"),
        look=Look(
            side="local",
            sql="SELECT n.title, t.tag FROM tags t JOIN notes n ON n.rowid = t.note",
            right=(("b", "red"),),
            found=(("a", "red"),),
        ),
    ),
    Wrong(
        name="an AUTOINCREMENT that starts anew",
        why="The table made by hand has the highest id that is left as its mark: ids of deleted rows are given out again.",
        properties="applies",
        before=schema(local="CREATE TABLE ops (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL);"),
        migration=change(
            Side(
                up="CREATE TABLE new (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, payload TEXT);"
                "INSERT INTO new (id, kind) SELECT id, kind FROM ops; DROP TABLE ops; ALTER TABLE new RENAME TO ops"
            )
        ),
        local_rows=("INSERT INTO ops VALUES (1, 'a'), (9, 'b')", "DELETE FROM ops WHERE id = 9"),
        code="T347",
    ),
    Wrong(
        name="a trigger that fires during the backfill",
        why="The backfill updates every note, and the application's trigger writes a new time into each of them.",
        properties="applies",
        before=schema(
            local="""CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT, changes INTEGER NOT NULL DEFAULT 0) STRICT;
            CREATE TRIGGER changed AFTER UPDATE ON notes BEGIN UPDATE notes SET changes = 77 WHERE id = new.id; END;"""
        ),
        migration=change(Side(up="ALTER TABLE notes ADD COLUMN slug TEXT; UPDATE notes SET slug = lower(title)")),
        local_rows=("INSERT INTO notes VALUES (1, 'A', 3)",),
        code="T347",
    ),
    Wrong(
        name="an outbox that the backfill fills",
        why="A trigger queues every changed note to be sent; the backfill queues all of them, and the down leaves them queued.",
        properties="down-restores",
        before=schema(
            local="""CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT); CREATE TABLE outbox (note INTEGER NOT NULL);
            CREATE TRIGGER queued AFTER UPDATE ON notes BEGIN INSERT INTO outbox VALUES (new.id); END;"""
        ),
        migration=change(
            Side(
                up="ALTER TABLE notes ADD COLUMN slug TEXT; UPDATE notes SET slug = lower(title)",
                down="ALTER TABLE notes DROP COLUMN slug",
            )
        ),
        local_rows=("INSERT INTO notes VALUES (1, 'A'), (2, NULL)",),
        moment="down",
        code="T335",
    ),
    Wrong(
        name="an index that the down forgets",
        why="The down drops the column with the index on it, which the up had put in the place of an older one.",
        properties="down-restores",
        before=schema(local=f"{TASKS} CREATE INDEX tasks_status ON tasks (status);"),
        migration=change(
            Side(
                up="ALTER TABLE tasks ADD COLUMN place INTEGER NOT NULL DEFAULT 0; DROP INDEX tasks_status;"
                "CREATE INDEX tasks_status_place ON tasks (status, place)",
                down="DROP INDEX tasks_status_place; ALTER TABLE tasks DROP COLUMN place",
            )
        ),
        local_rows=("INSERT INTO tasks VALUES (1, 'a', 'new')",),
        moment="down",
        code="T335",
    ),
    Wrong(
        name="a down in the order of the up",
        why="The column is dropped before the index that is on it, which SQLite refuses.",
        properties="down-restores",
        before=schema(local=TASKS),
        migration=change(
            Side(
                up="ALTER TABLE tasks ADD COLUMN due INTEGER; CREATE INDEX tasks_due ON tasks (due)",
                down="ALTER TABLE tasks DROP COLUMN due; DROP INDEX tasks_due",
            )
        ),
        local_rows=("INSERT INTO tasks VALUES (1, 'a', 'new')",),
        moment="down",
        code="T338",
    ),
    Wrong(
        name="a column whose values the down forgets",
        why="The down makes the dropped column again, empty.",
        properties="down-restores",
        before=schema(local=TASKS),
        migration=change(
            Side(up="ALTER TABLE tasks DROP COLUMN status", down="ALTER TABLE tasks ADD COLUMN status TEXT"),
            expect=Expectation(columns_changed=("tasks.status",)),
        ),
        local_rows=("INSERT INTO tasks VALUES (1, 'a', 'new')",),
        moment="down",
        code="T335",
    ),
    Wrong(
        name="a down that takes more away than the up gave",
        why="The up adds a task of its own unless it is there; the down deletes it also where the user had it before.",
        properties="down-restores",
        before=schema(local=TASKS),
        migration=change(
            Side(
                up="INSERT INTO tasks SELECT 1, 'welcome', NULL WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE id = 1)",
                down="DELETE FROM tasks WHERE id = 1",
            )
        ),
        local_rows=("INSERT INTO tasks VALUES (1, 'mine', 'new'), (2, 'b', NULL)",),
        moment="down",
        code="T335",
    ),
    Wrong(
        name="a working table left behind",
        why="The copy that was made to be safe is dropped by neither the up nor the down.",
        properties="down-restores",
        before=schema(local=NOTES),
        migration=change(
            Side(
                up="CREATE TABLE notes_old AS SELECT * FROM notes; ALTER TABLE notes ADD COLUMN slug TEXT",
                down="ALTER TABLE notes DROP COLUMN slug",
            )
        ),
        local_rows=("INSERT INTO notes VALUES (1, 'a', NULL)",),
        moment="down",
        code="T335",
    ),
    Wrong(
        name="a trigger that deletes while rows are put in anew",
        why="Notes are deleted and inserted again, sorted; the trigger that tidies up after one has deleted its tags by then.",
        properties="applies",
        before=schema(
            local=f"""{NOTES} CREATE TABLE tags (id INTEGER PRIMARY KEY, note INTEGER NOT NULL REFERENCES notes);
            CREATE TRIGGER tidied AFTER DELETE ON notes BEGIN DELETE FROM tags WHERE note = old.id; END;"""
        ),
        migration=change(
            Side(
                up="CREATE TABLE kept AS SELECT * FROM notes; DELETE FROM notes;"
                "INSERT INTO notes SELECT * FROM kept ORDER BY title; DROP TABLE kept"
            )
        ),
        local_rows=("INSERT INTO notes VALUES (1, 'a', NULL)", "INSERT INTO tags VALUES (1, 1)"),
        code="T334",
    ),
    Wrong(
        name="a tree copied two levels deep",
        why="Roots are copied, and their children; folders further down, in a cycle, or under a folder that is gone are not.",
        properties="applies",
        before=schema(local="CREATE TABLE folders (id INTEGER PRIMARY KEY, parent INTEGER);"),
        migration=change(
            Side(
                up="CREATE TABLE new (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES new (id) ON DELETE CASCADE);"
                "INSERT INTO new SELECT id, parent FROM folders WHERE parent IS NULL;"
                "INSERT INTO new SELECT f.id, f.parent FROM folders f JOIN new p ON p.id = f.parent WHERE p.parent IS NULL;"
                "DROP TABLE folders; ALTER TABLE new RENAME TO folders"
            )
        ),
        local_rows=("INSERT INTO folders VALUES (1, NULL), (2, 1), (3, 2), (4, 4)",),
        code="T334",
    ),
    Wrong(
        name="a check that old rows break",
        why="Titles were of any length until now.",
        properties="applies",
        before=schema(local=NOTES),
        migration=change(
            Side(
                up=rebuilt("notes", add_constraints=["CONSTRAINT has_title CHECK (length(title) > 0)"]),
                down=rebuilt("notes", drop_constraints=["has_title"]),
            )
        ),
        local_rows=("INSERT INTO notes VALUES (1, '', NULL)",),
        code="T313",
    ),
    Wrong(
        name="NOT NULL over rows that have none",
        why="Bodies may be NULL until now, and nothing fills them first.",
        properties="applies",
        before=schema(local=NOTES),
        migration=change(
            Side(
                up=rebuilt("notes", change_columns={"body": "body TEXT NOT NULL"}),
                down=rebuilt("notes", change_columns={"body": "body TEXT"}),
            )
        ),
        local_rows=("INSERT INTO notes VALUES (1, 'a', NULL)",),
        code="T313",
    ),
    Wrong(
        name="a partial unique index made whole",
        why="One main address per person was unique; the new index leaves the condition out.",
        properties="applies",
        before=schema(
            local="CREATE TABLE addresses (id INTEGER PRIMARY KEY, person INTEGER NOT NULL, main INTEGER NOT NULL);"
            "CREATE UNIQUE INDEX one_main ON addresses (person) WHERE main = 1;"
        ),
        migration=change(
            Side(
                up="DROP INDEX one_main; CREATE UNIQUE INDEX one_main ON addresses (person)",
                down="DROP INDEX one_main; CREATE UNIQUE INDEX one_main ON addresses (person) WHERE main = 1",
            )
        ),
        local_rows=("INSERT INTO addresses VALUES (1, 1, 0), (2, 1, 0)",),
        code="T331",
    ),
    Wrong(
        name="a foreign key over orphans",
        why="Enforcement was off, so that tags of notes that are gone are still there.",
        properties="applies",
        before=schema(local=f"{NOTES} CREATE TABLE tags (id INTEGER PRIMARY KEY, note INTEGER NOT NULL, tag TEXT);"),
        migration=change(
            Side(
                up="CREATE TABLE new (id INTEGER PRIMARY KEY, note INTEGER NOT NULL REFERENCES notes, tag TEXT);"
                "INSERT INTO new SELECT * FROM tags; DROP TABLE tags; ALTER TABLE new RENAME TO tags"
            )
        ),
        local_rows=("INSERT INTO tags VALUES (1, 9, 'red')",),
        code="T333",
    ),
    Wrong(
        name="a generated column made a plain one",
        why="The copied table stores the sum as it was, and no later change of a price reaches it.",
        properties="applies",
        before=schema(
            local="CREATE TABLE lines (id INTEGER PRIMARY KEY, price INTEGER, pieces INTEGER, total AS (price * pieces));"
        ),
        migration=change(
            Side(
                up="CREATE TABLE new (id INTEGER PRIMARY KEY, price INTEGER, pieces INTEGER, total INTEGER);"
                "INSERT INTO new SELECT id, price, pieces, total FROM lines; DROP TABLE lines; ALTER TABLE new RENAME TO lines"
            )
        ),
        local_rows=("INSERT INTO lines (id, price, pieces) VALUES (1, 2, 3)",),
        code="T347",
    ),
    Wrong(
        name="a document written anew without its other keys",
        why="Only the keys that the author knew are written back.",
        properties=("keeps-rows", "applies"),
        before=schema(
            local="CREATE TABLE notes (id INTEGER PRIMARY KEY, extra TEXT NOT NULL"
            """ CHECK (extra IN ('{}', '{"a":1}', '{"a":1,"b":2}')));"""
        ),
        migration=change(Side(up="UPDATE notes SET extra = json_object('a', 1) WHERE json_extract(extra, '$.a') = 1")),
        local_rows=("""INSERT INTO notes VALUES (1, '{"a":1,"b":2}')""",),
        look=Look(side="local", sql="SELECT extra FROM notes", right=(('{"a":1,"b":2}',),), found=(('{"a":1}',),)),
    ),
    Wrong(
        name="seconds made milliseconds, and too large",
        why="A time far away does not fit any more once it is multiplied: it becomes a fraction.",
        properties="applies",
        before=schema(
            local="CREATE TABLE tasks (id INTEGER PRIMARY KEY, due INTEGER NOT NULL CHECK (typeof(due) = 'integer'));"
        ),
        migration=change(
            Side(up="UPDATE tasks SET due = due * 1000", down="UPDATE tasks SET due = due / 1000"),
            expect=Expectation(columns_changed=("tasks.due",)),
        ),
        local_rows=("INSERT INTO tasks VALUES (1, 9223372036854775807)",),
        code="T331",
    ),
    Wrong(
        name="a down that divides what was not multiplied",
        why="The up leaves alone what looks like milliseconds already; the down divides everything.",
        properties="down-restores",
        before=schema(local="CREATE TABLE tasks (id INTEGER PRIMARY KEY, due INTEGER NOT NULL) STRICT;"),
        migration=change(
            Side(
                up="UPDATE tasks SET due = due * 1000 WHERE due < 100000000000",
                down="UPDATE tasks SET due = due / 1000",
            ),
            expect=Expectation(columns_changed=("tasks.due",)),
        ),
        local_rows=("INSERT INTO tasks VALUES (1, 7), (2, 1758600000123)",),
        moment="down",
        code="T335",
    ),
    Wrong(
        name="a file that says that it is done",
        why="The function writes a file beside the database before anything is committed, and skips its work when it is there.",
        properties=("crash", "refusal"),
        before=schema(local=NOTES),
        migration=change(
            Side(up=("ALTER TABLE notes ADD COLUMN slug TEXT", backfilled_once), down="ALTER TABLE notes DROP COLUMN slug"),
        ),
        local_rows=("INSERT INTO notes VALUES (1, 'A', NULL)",),
        moment="refusal",
        look=Look(side="local", sql="SELECT slug FROM notes", right=(("a",),), found=((None,),)),
    ),
    Wrong(
        name="an index only where there are rows",
        why="A new install at this version gets no index, and is called as far as the others.",
        properties="new-install",
        before=schema(local=NOTES),
        migration=change(Side(up=indexed_if_filled, down="DROP INDEX IF EXISTS notes_title")),
        moment="new install",
        look=Look(
            side="local",
            sql="SELECT name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'notes%'",
            right=(("notes_title",),),
            found=(),
        ),
    ),
)
