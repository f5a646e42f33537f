-- NOT NULL needs a value, and NULL was never meant to be one.
DELETE FROM notes WHERE deleted IS NULL;
ALTER TABLE notes ALTER COLUMN deleted SET NOT NULL;
CREATE INDEX CONCURRENTLY notes_alive ON notes (title) WHERE NOT deleted;
