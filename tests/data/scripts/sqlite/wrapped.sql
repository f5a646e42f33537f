-- statements: 4
-- As a dump tool writes it: wrapped as a whole, with a table made anew under another name.
BEGIN IMMEDIATE TRANSACTION;
CREATE TABLE notes_new (id INTEGER PRIMARY KEY, title TEXT NOT NULL DEFAULT '', pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)));
INSERT INTO notes_new (id, title) SELECT 1, 'one; two' UNION ALL SELECT 2, 'three';
ALTER TABLE notes_new RENAME TO notes;
CREATE INDEX notes_pinned ON notes (pinned DESC, id) WHERE pinned;
COMMIT;
