"""Wrong migrations of a PostgreSQL database. `migration_entries.py` says what an entry is."""

from __future__ import annotations

from migration_entries import Look, Wrong, change, next_ids_are_new, schema

from twinstep import Expectation, Query, Side

NOTES = "CREATE TABLE notes (id int PRIMARY KEY, title text NOT NULL, body text);"
FOLDERS = """CREATE TABLE folders (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id int PRIMARY KEY, folder int REFERENCES folders ON DELETE CASCADE);"""

WRONG_REMOTE: tuple[Wrong, ...] = (
    Wrong(
        name="a time zone lost",
        why="The up takes the zone away as that of Istanbul, the down gives it back as that of Greenwich: three hours off.",
        properties=("down-restores", "keeps-rows"),
        before=schema(remote="CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL);"),
        migration=change(
            remote=Side(
                up="ALTER TABLE events ALTER COLUMN at TYPE timestamp USING at AT TIME ZONE 'Europe/Istanbul'",
                down="ALTER TABLE events ALTER COLUMN at TYPE timestamptz USING at AT TIME ZONE 'UTC'",
            )
        ),
        remote_rows=("INSERT INTO events VALUES (1, '2026-05-04 12:00:00+00')",),
        moment="down",
        look=Look(
            side="remote",
            sql="SELECT extract(hour FROM at AT TIME ZONE 'UTC')::int FROM events",
            right=((12,),),
            found=((15,),),
        ),
    ),
    Wrong(
        name="a scale that rounds",
        why="Prices keep one place after the point from now on, and nothing declares it.",
        properties=("keeps-rows", "down-restores"),
        before=schema(remote="CREATE TABLE items (id int PRIMARY KEY, price numeric(10, 2));"),
        migration=change(
            remote=Side(
                up="ALTER TABLE items ALTER COLUMN price TYPE numeric(10, 1)",
                down="ALTER TABLE items ALTER COLUMN price TYPE numeric(10, 2)",
            )
        ),
        remote_rows=("INSERT INTO items VALUES (1, 1.25)",),
        look=Look(side="remote", sql="SELECT price::text FROM items", right=(("1.25",),), found=(("1.3",),)),
    ),
    Wrong(
        name="names cut to fit",
        why="USING left() makes every name fit the shorter type, silently.",
        properties=("keeps-rows", "down-restores"),
        before=schema(remote="CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL);"),
        migration=change(
            remote=Side(
                up="ALTER TABLE people ALTER COLUMN name TYPE varchar(2) USING left(name, 2)",
                down="ALTER TABLE people ALTER COLUMN name TYPE text",
            )
        ),
        remote_rows=("INSERT INTO people VALUES (1, 'Ayse')",),
        look=Look(side="remote", sql="SELECT name FROM people", right=(("Ayse",),), found=(("Ay",),)),
    ),
    Wrong(
        name="orphans deleted before a key is added",
        why="The foreign key would not hold, so that the rows without a parent are deleted; nothing declares it.",
        properties=("keeps-rows", "down-restores"),
        before=schema(remote=f"{NOTES} CREATE TABLE tags (id int PRIMARY KEY, note int NOT NULL);"),
        migration=change(
            remote=Side(
                up="DELETE FROM tags WHERE note NOT IN (SELECT id FROM notes);"
                "ALTER TABLE tags ADD CONSTRAINT tags_note FOREIGN KEY (note) REFERENCES notes",
                down="ALTER TABLE tags DROP CONSTRAINT tags_note",
            )
        ),
        remote_rows=("INSERT INTO notes VALUES (1, 'a', NULL)", "INSERT INTO tags VALUES (1, 1), (2, 9)"),
        look=Look(side="remote", sql="SELECT id FROM tags ORDER BY id", right=((1,), (2,)), found=((1,),)),
    ),
    Wrong(
        name="a DELETE that cascades",
        why="Only folders are declared to lose rows, and the key from notes takes the notes along.",
        properties="keeps-rows",
        before=schema(remote=FOLDERS),
        migration=change(
            remote=Side(up="DELETE FROM folders WHERE name = ''"),
            irreversible=True,
            expect=Expectation(rows_removed=("folders",)),
        ),
        remote_rows=("INSERT INTO folders VALUES (1, ''), (2, 'b')", "INSERT INTO notes VALUES (1, 1), (2, 2), (3, NULL)"),
        look=Look(side="remote", sql="SELECT id FROM notes ORDER BY id", right=((1,), (2,), (3,)), found=((2,), (3,))),
    ),
    Wrong(
        name="TRUNCATE CASCADE",
        why="The cache is declared to be emptied; CASCADE empties the table that refers to it too.",
        properties="keeps-rows",
        before=schema(
            remote="CREATE TABLE cache (id int PRIMARY KEY);"
            "CREATE TABLE hits (id int PRIMARY KEY, entry int REFERENCES cache ON DELETE SET NULL);"
        ),
        migration=change(
            remote=Side(up="TRUNCATE cache CASCADE"), irreversible=True, expect=Expectation(rows_removed=("cache",))
        ),
        remote_rows=("INSERT INTO cache VALUES (1)", "INSERT INTO hits VALUES (1, 1), (2, NULL)"),
        look=Look(side="remote", sql="SELECT count(*) FROM hits", right=((2,),), found=((0,),)),
    ),
    Wrong(
        name="an enum remapped with an ELSE too many",
        why="The word that the author forgot falls into ELSE: what was critical is low.",
        properties=("keeps-rows", "down-restores"),
        before=schema(
            remote="CREATE TYPE priority AS ENUM ('low', 'high', 'critical');"
            "CREATE TABLE jobs (id int PRIMARY KEY, priority priority NOT NULL);"
        ),
        migration=change(
            remote=Side(
                up="ALTER TYPE priority RENAME TO priority_old; "
                "CREATE TYPE priority AS ENUM ('low', 'high', 'critical', 'none');"
                "ALTER TABLE jobs ALTER COLUMN priority TYPE priority"
                " USING CASE priority WHEN 'high' THEN 'high' ELSE 'low' END::priority; DROP TYPE priority_old",
                down="ALTER TYPE priority RENAME TO priority_new; CREATE TYPE priority AS ENUM ('low', 'high', 'critical');"
                "ALTER TABLE jobs ALTER COLUMN priority TYPE priority USING priority::text::priority; DROP TYPE priority_new",
            )
        ),
        remote_rows=("INSERT INTO jobs VALUES (1, 'critical')",),
        look=Look(side="remote", sql="SELECT priority::text FROM jobs", right=(("critical",),), found=(("low",),)),
    ),
    Wrong(
        name="a sequence that does not know the copied ids",
        why="The copied rows bring their ids along, and the new sequence begins at 1: the next insert meets one of them.",
        properties=("invariants", "down-restores"),
        before=schema(remote="CREATE TABLE notes (id serial PRIMARY KEY, title text);"),
        migration=change(
            remote=Side(
                up="CREATE TABLE new (id serial PRIMARY KEY, title text, body text);"
                "INSERT INTO new (id, title) SELECT id, title FROM notes; DROP TABLE notes; ALTER TABLE new RENAME TO notes;"
                "ALTER SEQUENCE new_id_seq RENAME TO notes_id_seq; ALTER INDEX new_pkey RENAME TO notes_pkey",
                down="ALTER TABLE notes DROP COLUMN body",
            )
        ),
        remote_rows=("INSERT INTO notes (title) VALUES ('a'), ('b')",),
        invariants=(next_ids_are_new,),
    ),
    Wrong(
        name="a unique index built beside doubles",
        why="Nothing was unique until now; the concurrent build fails half-way.",
        properties="applies",
        before=schema(remote="CREATE TABLE people (id int PRIMARY KEY, mail text NOT NULL);"),
        migration=change(remote=Side(up="CREATE UNIQUE INDEX CONCURRENTLY people_mail ON people (mail)", down="")),
        remote_rows=("INSERT INTO people VALUES (1, 'a'), (2, 'a')",),
        code="T320",
    ),
    Wrong(
        name="a constraint that was never validated",
        why="NOT VALID looks at new rows only, and no later statement looks at the old ones.",
        properties="constraints",
        before=schema(remote="CREATE TABLE tasks (id int PRIMARY KEY, status int);"),
        migration=change(
            remote=Side(
                up="ALTER TABLE tasks ADD CONSTRAINT status_known CHECK (status IN (0, 1, 2)) NOT VALID",
                down="ALTER TABLE tasks DROP CONSTRAINT status_known",
            )
        ),
        remote_rows=("INSERT INTO tasks VALUES (1, 7)",),
        look=Look(side="remote", sql="SELECT id FROM tasks WHERE NOT status IN (0, 1, 2)", right=(), found=((1,),)),
    ),
    Wrong(
        name="a partition detached with its rows",
        why="The rows are still in the table that was the partition, and in no answer of the application.",
        properties=("keeps-rows", "queries"),
        before=schema(
            remote="CREATE TABLE events (id int NOT NULL, year int NOT NULL) PARTITION BY LIST (year);"
            "CREATE TABLE events_old PARTITION OF events FOR VALUES IN (2024, 2025);"
            "CREATE TABLE events_other PARTITION OF events DEFAULT;"
        ),
        migration=change(
            remote=Side(
                up="ALTER TABLE events DETACH PARTITION events_old",
                down="ALTER TABLE events ATTACH PARTITION events_old FOR VALUES IN (2024, 2025)",
            ),
            queries=[Query(name="events", side="remote", sql="SELECT id, year FROM events ORDER BY id, year")],
        ),
        remote_rows=("INSERT INTO events VALUES (1, 2024), (2, 2026)",),
        look=Look(side="remote", sql="SELECT id FROM events ORDER BY id", right=((1,), (2,)), found=((2,),)),
    ),
    Wrong(
        name="a trigger that fires during a remote backfill",
        why="The backfill updates every note, and the trigger counts each as a change that the user made.",
        properties=("keeps-rows", "down-restores"),
        before=schema(
            remote="""CREATE TABLE notes (id int PRIMARY KEY, title text, changes int NOT NULL DEFAULT 0);
            CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN new.changes := least(old.changes, 1000) + 1; RETURN new; END $$;
            CREATE TRIGGER changed BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION count_change();"""
        ),
        migration=change(
            remote=Side(
                up="ALTER TABLE notes ADD COLUMN slug text; UPDATE notes SET slug = lower(title)",
                down="ALTER TABLE notes DROP COLUMN slug",
            )
        ),
        remote_rows=("INSERT INTO notes VALUES (1, 'A', 3)",),
        look=Look(side="remote", sql="SELECT changes FROM notes", right=((3,),), found=((4,),)),
    ),
    Wrong(
        name="a remote down that takes more away than the up gave",
        why="The up adds a kind unless it is there; the down deletes it also where the user had it before.",
        properties=("down-restores", "refusal"),
        before=schema(remote="CREATE TABLE kinds (id int PRIMARY KEY, name text);"),
        migration=change(
            remote=Side(up="INSERT INTO kinds VALUES (1, 'note') ON CONFLICT DO NOTHING", down="DELETE FROM kinds WHERE id = 1")
        ),
        remote_rows=("INSERT INTO kinds VALUES (1, 'mine')",),
        moment="down",
        look=Look(side="remote", sql="SELECT name FROM kinds", right=(("mine",),), found=()),
    ),
    Wrong(
        name="a remote column whose values the down forgets",
        why="The up takes the column away and declares it; the down makes it again, empty.",
        properties="down-restores",
        before=schema(remote=NOTES),
        migration=change(
            remote=Side(up="ALTER TABLE notes DROP COLUMN body", down="ALTER TABLE notes ADD COLUMN body text"),
            expect=Expectation(columns_changed=("notes.body",)),
        ),
        remote_rows=("INSERT INTO notes VALUES (1, 'a', 'text')",),
        moment="down",
        look=Look(side="remote", sql="SELECT body FROM notes", right=(("text",),), found=((None,),)),
    ),
    Wrong(
        name="a copy that leaves doubles out",
        why="ON CONFLICT DO NOTHING drops all but one of the rows that the new key calls equal, and the old table goes.",
        properties=("keeps-rows", "down-restores"),
        before=schema(remote="CREATE TABLE searches (words text NOT NULL);"),
        migration=change(
            remote=Side(
                up="CREATE TABLE new (words text PRIMARY KEY); INSERT INTO new SELECT * FROM searches ON CONFLICT DO NOTHING;"
                "DROP TABLE searches; ALTER TABLE new RENAME TO searches",
                down="ALTER TABLE searches DROP CONSTRAINT new_pkey; ALTER TABLE searches ALTER COLUMN words SET NOT NULL",
            )
        ),
        remote_rows=("INSERT INTO searches VALUES ('red'), ('red')",),
        look=Look(side="remote", sql="SELECT count(*) FROM searches", right=((2,),), found=((1,),)),
    ),
    Wrong(
        name="texts that are no numbers made NULL",
        why="What does not look like a number is thrown away on the way to the new type.",
        properties=("keeps-rows", "down-restores"),
        before=schema(remote="CREATE TABLE items (id int PRIMARY KEY, code text);"),
        migration=change(
            remote=Side(
                up="ALTER TABLE items ALTER COLUMN code TYPE bigint USING"
                " CASE WHEN code ~ '^[0-9]{1,9}$' THEN code::bigint END",
                down="ALTER TABLE items ALTER COLUMN code TYPE text",
            )
        ),
        remote_rows=("INSERT INTO items VALUES (1, '007'), (2, 'A7')",),
        look=Look(side="remote", sql="SELECT code::text FROM items WHERE id = 2", right=(("A7",),), found=((None,),)),
    ),
    Wrong(
        name="words that sort otherwise as an enum",
        why="An enum sorts in the order of its labels, a text by the alphabet: the list that the application shows is another.",
        properties="queries",
        before=schema(
            remote="CREATE TABLE jobs (id int PRIMARY KEY,"
            " priority text NOT NULL CHECK (priority IN ('low', 'normal', 'critical')));"
        ),
        migration=change(
            remote=Side(
                up="ALTER TABLE jobs DROP CONSTRAINT jobs_priority_check;"
                "CREATE TYPE priority AS ENUM ('low', 'normal', 'critical');"
                "ALTER TABLE jobs ALTER COLUMN priority TYPE priority USING priority::priority",
                down="ALTER TABLE jobs ALTER COLUMN priority TYPE text; DROP TYPE priority;"
                "ALTER TABLE jobs ADD CONSTRAINT jobs_priority_check CHECK (priority IN ('low', 'normal', 'critical'))",
            ),
            expect=Expectation(columns_changed=("jobs.priority",)),
            queries=[Query(name="jobs", side="remote", sql="SELECT id FROM jobs ORDER BY priority DESC, id")],
        ),
        remote_rows=("INSERT INTO jobs VALUES (1, 'critical'), (2, 'low')",),
        look=Look(
            side="remote",
            sql="SELECT id FROM jobs ORDER BY priority DESC, id",
            right=((2,), (1,)),
            found=((1,), (2,)),
        ),
    ),
    Wrong(
        name="a sequence that says that it is done",
        why="nextval is not rolled back: after a dry run, a crash or a refusal the work is skipped, and verified.",
        properties=("dry-run", "crash", "refusal", "down-restores"),
        before=schema(remote=f"{NOTES} CREATE SEQUENCE slugs_done;"),
        migration=change(
            remote=Side(
                up="""ALTER TABLE notes ADD COLUMN slug text;
                DO $$ BEGIN IF nextval('slugs_done') = 1 THEN UPDATE notes SET slug = lower(title); END IF; END $$;""",
                down="ALTER TABLE notes DROP COLUMN slug",
            )
        ),
        remote_rows=("INSERT INTO notes VALUES (1, 'A', NULL)",),
        moment="dry run",
        look=Look(side="remote", sql="SELECT slug FROM notes", right=(("a",),), found=((None,),)),
    ),
    Wrong(
        name="a remote index only where there are rows",
        why="A new install at this version has no index, and is called as far as the others.",
        properties="new-install",
        before=schema(remote=NOTES),
        migration=change(
            remote=Side(
                up="DO $$ BEGIN IF EXISTS (SELECT FROM notes) THEN CREATE INDEX notes_title ON notes (title); END IF; END $$",
                down="DROP INDEX IF EXISTS notes_title",
            )
        ),
        moment="new install",
        look=Look(
            side="remote",
            sql="SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public' AND indexname LIKE '%title'",
            right=(("notes_title",),),
            found=(),
        ),
    ),
    Wrong(
        name="a remote NOT NULL over rows that have none",
        why="Bodies may be NULL until now, and only empty titles were thought of.",
        properties="applies",
        before=schema(remote=NOTES),
        migration=change(
            remote=Side(
                up="ALTER TABLE notes ALTER COLUMN body SET NOT NULL", down="ALTER TABLE notes ALTER COLUMN body DROP NOT NULL"
            )
        ),
        remote_rows=("INSERT INTO notes VALUES (1, 'a', NULL)",),
        code="T331",
    ),
    Wrong(
        name="spaces taken away under a unique key",
        why="Two names that differ by a space only become one.",
        properties="applies",
        before=schema(remote="CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL UNIQUE);"),
        migration=change(
            remote=Side(up="UPDATE people SET name = lower(trim(name))"),
            irreversible=True,
            expect=Expectation(columns_changed=("people.name",)),
        ),
        remote_rows=("INSERT INTO people VALUES (1, 'a'), (2, 'a ')",),
        code="T331",
    ),
)
