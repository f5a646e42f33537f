-- statements: 4
-- As a dump tool writes it: wrapped as a whole.
BEGIN;
CREATE TABLE wrapped (id int PRIMARY KEY, title text NOT NULL DEFAULT '');
INSERT INTO wrapped SELECT n, n || ';' FROM generate_series(1, 3) AS n;
ALTER TABLE wrapped ADD COLUMN pinned boolean NOT NULL DEFAULT false;
CREATE INDEX wrapped_pinned ON wrapped (pinned DESC, id) WHERE pinned;
COMMIT;
