"""Right migrations of a PostgreSQL database. `migration_entries.py` says what an entry is."""

from __future__ import annotations

import re

from migration_entries import Right, change, next_ids_are_new, schema
from sqlalchemy import Connection

from twinstep import Expectation, Query, RemoteOptions, Side

NOTES = "CREATE TABLE notes (id int PRIMARY KEY, title text NOT NULL, body text);"
ODD_NOTES = ("INSERT INTO notes VALUES (-1, '', NULL), (0, ' A''b', ''), (2147483647, 'É', E'\\n')",)


def slugs(connection: Connection) -> None:
    """Computed by nothing but the title, in batches of two."""
    while rows := connection.exec_driver_sql("SELECT id, title FROM notes WHERE slug IS NULL ORDER BY id LIMIT 2").fetchall():
        for note, title in rows:
            slug = re.sub(r"[^a-z0-9]+", "-", title.lower())
            connection.exec_driver_sql("UPDATE notes SET slug = %s WHERE id = %s", (slug, note))


RIGHT_REMOTE: tuple[Right, ...] = (
    Right(
        name="a wider integer",
        before=schema(remote="CREATE TABLE hits (id serial PRIMARY KEY, pages int); CREATE INDEX hits_pages ON hits (pages);"),
        migration=change(
            remote=Side(
                up="ALTER TABLE hits ALTER COLUMN pages TYPE bigint", down="ALTER TABLE hits ALTER COLUMN pages TYPE int"
            ),
            queries=[Query(name="hits", side="remote", sql="SELECT id, pages FROM hits ORDER BY pages, id")],
        ),
        remote_rows=("INSERT INTO hits (pages) VALUES (-2147483648), (NULL), (2147483647), (0), (0)",),
    ),
    Right(
        name="a wider text",
        before=schema(remote="CREATE TABLE people (id int PRIMARY KEY, name varchar(3) NOT NULL UNIQUE);"),
        migration=change(
            remote=Side(
                up="ALTER TABLE people ALTER COLUMN name TYPE varchar(60)",
                down="ALTER TABLE people ALTER COLUMN name TYPE varchar(3)",
            ),
            queries=[Query(name="people", side="remote", sql="SELECT id FROM people ORDER BY name")],
        ),
        remote_rows=("INSERT INTO people VALUES (1, ''), (2, 'abc'), (3, 'ÉÉ '), (4, 'ÉÉ')",),
    ),
    Right(
        name="words made an enum",
        before=schema(
            remote="CREATE TABLE jobs (id int PRIMARY KEY, state text NOT NULL DEFAULT 'open'"
            " CONSTRAINT state_known CHECK (state IN ('open', 'done')));"
        ),
        migration=change(
            remote=Side(
                up="CREATE TYPE job_state AS ENUM ('done', 'open'); ALTER TABLE jobs DROP CONSTRAINT state_known;"
                "ALTER TABLE jobs ALTER COLUMN state DROP DEFAULT;"
                "ALTER TABLE jobs ALTER COLUMN state TYPE job_state USING state::job_state;"
                "ALTER TABLE jobs ALTER COLUMN state SET DEFAULT 'open'",
                down="ALTER TABLE jobs ALTER COLUMN state DROP DEFAULT; ALTER TABLE jobs ALTER COLUMN state TYPE text;"
                "ALTER TABLE jobs ALTER COLUMN state SET DEFAULT 'open'; DROP TYPE job_state;"
                "ALTER TABLE jobs ADD CONSTRAINT state_known CHECK (state IN ('open', 'done'))",
            ),
            expect=Expectation(columns_changed=("jobs.state",), objects_removed=("constraint public.jobs.state_known",)),
            queries=[Query(name="jobs", side="remote", sql="SELECT id FROM jobs WHERE state = 'open' ORDER BY state, id")],
        ),
        remote_rows=("INSERT INTO jobs VALUES (1, 'open'), (2, 'done'), (3, 'open')",),
    ),
    Right(
        name="a remote NOT NULL after a backfill",
        before=schema(remote=NOTES),
        migration=change(
            remote=Side(
                up="CREATE TABLE never_written (note int PRIMARY KEY);"
                "INSERT INTO never_written SELECT id FROM notes WHERE body IS NULL;"
                "UPDATE notes SET body = '' WHERE body IS NULL; ALTER TABLE notes ALTER COLUMN body SET NOT NULL",
                down="ALTER TABLE notes ALTER COLUMN body DROP NOT NULL;"
                "UPDATE notes SET body = NULL WHERE id IN (SELECT note FROM never_written); DROP TABLE never_written",
            ),
            expect=Expectation(columns_changed=("notes.body",)),
        ),
        remote_rows=ODD_NOTES,
    ),
    Right(
        name="an index and a check, each without a long lock",
        before=schema(remote=NOTES),
        migration=change(
            remote=Side(
                up="ALTER TABLE notes ADD COLUMN state text NOT NULL DEFAULT 'open';"
                "CREATE INDEX CONCURRENTLY notes_state ON notes (state, title);"
                "ALTER TABLE notes ADD CONSTRAINT state_known CHECK (state IN ('open', 'done')) NOT VALID;"
                "ALTER TABLE notes VALIDATE CONSTRAINT state_known",
                down="ALTER TABLE notes DROP CONSTRAINT state_known;\n-- twinstep: group\nALTER TABLE notes DROP COLUMN state",
            ),
            remote_options=RemoteOptions(lock_timeout_seconds=2.0),
            queries=[Query(name="notes", side="remote", sql="SELECT id, title FROM notes ORDER BY id")],
        ),
        remote_rows=ODD_NOTES,
    ),
    Right(
        name="an index replaced concurrently",
        before=schema(remote=f"{NOTES} CREATE INDEX notes_title ON notes (title);"),
        migration=change(
            remote=Side(
                up="CREATE INDEX CONCURRENTLY notes_title_body ON notes (title) INCLUDE (id) WHERE body IS NOT NULL;"
                "DROP INDEX CONCURRENTLY notes_title",
                down="",
            )
        ),
        remote_rows=ODD_NOTES,
    ),
    Right(
        name="a new partition",
        before=schema(
            remote="CREATE TABLE events (id int NOT NULL, year int NOT NULL, PRIMARY KEY (id, year)) PARTITION BY LIST (year);"
            "CREATE TABLE events_old PARTITION OF events FOR VALUES IN (2024, 2025);"
        ),
        migration=change(
            remote=Side(
                up="CREATE TABLE events_new PARTITION OF events FOR VALUES IN (2026, 2027)", down="DROP TABLE events_new"
            ),
            queries=[Query(name="events", side="remote", sql="SELECT id, year FROM events ORDER BY id, year")],
        ),
        remote_rows=("INSERT INTO events VALUES (1, 2024), (1, 2025), (2, 2025)",),
    ),
    Right(
        name="a domain in place of a check",
        before=schema(
            remote="CREATE TABLE shares (id int PRIMARY KEY, share int CONSTRAINT a_share CHECK (share BETWEEN 0 AND 100));"
        ),
        migration=change(
            remote=Side(
                up="CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);"
                "ALTER TABLE shares ALTER COLUMN share TYPE percent; ALTER TABLE shares DROP CONSTRAINT a_share",
                down="ALTER TABLE shares ADD CONSTRAINT a_share CHECK (share BETWEEN 0 AND 100);"
                "ALTER TABLE shares ALTER COLUMN share TYPE int; DROP DOMAIN percent",
            ),
            expect=Expectation(objects_removed=("constraint public.shares.a_share",)),
        ),
        remote_rows=("INSERT INTO shares VALUES (1, 0), (2, 100), (3, NULL)",),
    ),
    Right(
        name="an array beside the text that it is read from",
        before=schema(remote="CREATE TABLE notes (id int PRIMARY KEY, tags text, found int[]);"),
        migration=change(
            remote=Side(
                up="ALTER TABLE notes ADD COLUMN labels text[]; UPDATE notes SET labels = string_to_array(tags, ',');"
                "CREATE INDEX notes_labels ON notes USING gin (labels)",
                down="ALTER TABLE notes DROP COLUMN labels",
            )
        ),
        remote_rows=("INSERT INTO notes VALUES (1, NULL, NULL), (2, '', '{}'), (3, 'a,,b', '{1,NULL}')",),
    ),
    Right(
        name="a remote column dropped, declared and for good",
        before=schema(remote=f"{NOTES} CREATE VIEW titles AS SELECT id, title FROM notes;"),
        migration=change(
            remote=Side(up="ALTER TABLE notes DROP COLUMN body"),
            irreversible=True,
            expect=Expectation(columns_changed=("notes.body",)),
            queries=[Query(name="titles", side="remote", sql="SELECT * FROM titles ORDER BY id")],
        ),
        remote_rows=ODD_NOTES,
    ),
    Right(
        name="orphans moved aside before a key is added",
        before=schema(remote=f"{NOTES} CREATE TABLE tags (id int PRIMARY KEY, note int, tag text);"),
        migration=change(
            remote=Side(
                up="CREATE TABLE tags_without_note AS SELECT * FROM tags t"
                " WHERE note IS NOT NULL AND NOT EXISTS (SELECT FROM notes n WHERE n.id = t.note);"
                "DELETE FROM tags WHERE id IN (SELECT id FROM tags_without_note);"
                "ALTER TABLE tags ADD CONSTRAINT tags_note FOREIGN KEY (note) REFERENCES notes",
                down="ALTER TABLE tags DROP CONSTRAINT tags_note; INSERT INTO tags SELECT * FROM tags_without_note;"
                "DROP TABLE tags_without_note",
            ),
            expect=Expectation(rows_removed=("tags",)),
        ),
        remote_rows=(*ODD_NOTES, "INSERT INTO tags VALUES (1, 0, 'a'), (2, NULL, NULL), (3, 9, 'b')"),
    ),
    Right(
        name="a view and a trigger's function replaced",
        before=schema(
            remote=f"""{NOTES} CREATE VIEW titles AS SELECT id, title FROM notes;
            CREATE FUNCTION trim_title() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN new.title := trim(new.title); RETURN new; END $$;
            CREATE TRIGGER trimmed BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION trim_title();"""
        ),
        migration=change(
            remote=Side(
                up="""CREATE OR REPLACE VIEW titles AS SELECT id, title, body IS NULL AS empty FROM notes;
                CREATE OR REPLACE FUNCTION trim_title() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN new.title := btrim(new.title, E' \\t'); RETURN new; END $$""",
                down="""DROP VIEW titles; CREATE VIEW titles AS SELECT id, title FROM notes;
                CREATE OR REPLACE FUNCTION trim_title() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN new.title := trim(new.title); RETURN new; END $$""",
            ),
            queries=[Query(name="titles", side="remote", sql="SELECT id, title FROM titles ORDER BY id")],
        ),
        remote_rows=ODD_NOTES,
    ),
    Right(
        name="a remote table renamed with all that bears its name",
        before=schema(
            remote="CREATE TABLE notes (id serial PRIMARY KEY, title text NOT NULL);"
            "CREATE INDEX notes_title ON notes (title); CREATE VIEW titles AS SELECT id, title FROM notes;"
        ),
        migration=change(
            remote=Side(
                up="ALTER TABLE notes RENAME TO pages; ALTER INDEX notes_pkey RENAME TO pages_pkey;"
                "ALTER SEQUENCE notes_id_seq RENAME TO pages_id_seq; ALTER TABLE pages RENAME COLUMN title TO heading",
                down="ALTER TABLE pages RENAME COLUMN heading TO title; ALTER SEQUENCE pages_id_seq RENAME TO notes_id_seq;"
                "ALTER INDEX pages_pkey RENAME TO notes_pkey; ALTER TABLE pages RENAME TO notes",
            ),
            queries=[Query(name="titles", side="remote", sql="SELECT id, title FROM titles ORDER BY id")],
        ),
        remote_rows=("INSERT INTO notes (title) VALUES (''), ('É'), ('')",),
    ),
    Right(
        name="remote slugs computed by a function",
        before=schema(remote=NOTES),
        migration=change(
            remote=Side(up=("ALTER TABLE notes ADD COLUMN slug text", slugs), down="ALTER TABLE notes DROP COLUMN slug")
        ),
        remote_rows=ODD_NOTES,
    ),
    Right(
        name="an identity that goes on after the highest id",
        before=schema(remote="CREATE TABLE notes (id int PRIMARY KEY CHECK (id BETWEEN 1 AND 1000000), title text);"),
        migration=change(
            remote=Side(
                up="ALTER TABLE notes ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY;"
                "SELECT setval(pg_get_serial_sequence('notes', 'id'), coalesce(max(id), 0) + 1, false) FROM notes",
                down="ALTER TABLE notes ALTER COLUMN id DROP IDENTITY",
            )
        ),
        remote_rows=("INSERT INTO notes VALUES (1, NULL), (1000000, 'last')",),
        invariants=(next_ids_are_new,),
    ),
)
