-- statements: 10
/* A comment of SQLite does not nest: /* ; ends here */
CREATE TABLE folders (
    id TEXT PRIMARY KEY,
    parent TEXT REFERENCES folders (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    path TEXT NOT NULL DEFAULT ('/' || '' || '/'),
    depth INTEGER GENERATED ALWAYS AS (length(path) - length(replace(path, '/', '')) - 1) STORED,
    CHECK (path LIKE '/%;%' OR path NOT GLOB '*;*')
) WITHOUT ROWID;
CREATE UNIQUE INDEX folders_path ON folders (path COLLATE NOCASE) WHERE parent IS NOT NULL;
ALTER TABLE folders ADD COLUMN label TEXT DEFAULT 'new; label';
PRAGMA user_version = 12;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5)
INSERT INTO folders (id, path) SELECT 'f' || i, '/' || i || '/' FROM n;
REPLACE INTO folders (id, path) VALUES ('f1', '/one/');
insert into folders (id, path) values ('f9', '/nine/') on conflict (id) do update set path = excluded.path || '+' where 1;
REINDEX folders_path;
ANALYZE;
DELETE FROM folders WHERE id = 'f5' /* and a comment that nobody closes: the last thing, as SQLite allows
