-- statements: 15
/* Enums, partitions, policies, rules, views
   /* and a comment in a comment; with a semicolon */
   still the outer comment; */
CREATE TYPE mood AS ENUM ('calm', 'it''s fine', 'a;b');

CREATE TABLE notes (
    id uuid NOT NULL,
    owner name NOT NULL DEFAULT current_user,
    feeling mood,
    tags text[] NOT NULL DEFAULT '{}',
    data jsonb NOT NULL DEFAULT '{"a": [1, 2], "b;": "c"}',
    written date NOT NULL,
    PRIMARY KEY (id, written)
) PARTITION BY RANGE (written);

CREATE TABLE notes_2024 PARTITION OF notes FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE notes_rest PARTITION OF notes DEFAULT;

ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_notes ON notes FOR ALL TO PUBLIC
    USING (owner = current_user)
    WITH CHECK (owner = current_user AND feeling IS DISTINCT FROM 'a;b');

CREATE VIEW calm_notes AS
    SELECT id, data -> 'a' ->> 0 AS first, data #> '{b;}' AS other, tags[1:2] AS some
    FROM notes WHERE feeling = 'calm' AND data @> '{"a": [1]}' AND NOT tags && ARRAY['x;y'];

CREATE TABLE archive (LIKE notes INCLUDING DEFAULTS);
CREATE RULE keep_archive AS ON DELETE TO archive
    DO INSTEAD (UPDATE archive SET tags = tags || '{deleted}' WHERE id = OLD.id; NOTIFY archived);

CREATE INDEX notes_tags ON notes USING gin (tags);
CREATE UNIQUE INDEX "notes; by ""owner""" ON notes (owner, written, id) WHERE feeling <> 'calm';
COMMENT ON INDEX notes_tags IS 'used by the main list;
over two lines';
GRANT SELECT ON calm_notes TO PUBLIC;
INSERT INTO notes (id, written, feeling) VALUES ('00000000-0000-0000-0000-000000000001', '2024-05-05', 'calm');
INSERT INTO notes (id, written, tags) SELECT gen_random_uuid(), date '2026-01-01' + n, ARRAY['n;' || n] FROM generate_series(1, 5) AS n;
-- the last comment has no end of line; and a 'quote
