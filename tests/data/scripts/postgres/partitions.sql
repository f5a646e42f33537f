-- statements: 19
-- Partitioning in every way, with what hangs on it: sub-partitions, attached and detached tables, indexes on each.
CREATE TYPE region AS ENUM ('north', 'south;east', 'it''s west');
ALTER TYPE region ADD VALUE IF NOT EXISTS 'centre' BEFORE 'south;east';
ALTER TYPE region RENAME VALUE 'it''s west' TO 'west';

CREATE TABLE events (
    id bigint NOT NULL,
    area text NOT NULL,
    at timestamptz NOT NULL,
    data jsonb NOT NULL DEFAULT '{}'::jsonb
) PARTITION BY RANGE (at, id);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01 00:00+00', MINVALUE) TO ('2026-01-01 00:00+00', MINVALUE)
    PARTITION BY LIST (area);
CREATE TABLE events_2025_n PARTITION OF events_2025 (CONSTRAINT area_is_short CHECK (length(area) < 9)) FOR VALUES IN ('north', 'n;');
CREATE TABLE events_2025_other PARTITION OF events_2025 DEFAULT WITH (fillfactor = 70);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01 00:00+00', MINVALUE) TO (MAXVALUE, MAXVALUE)
    PARTITION BY HASH (id);
CREATE TABLE events_2026_0 PARTITION OF events_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_2026_1 PARTITION OF events_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 1);

CREATE INDEX events_at ON events USING brin (at) WITH (pages_per_range = 32);
CREATE INDEX events_data ON ONLY events USING gin (data jsonb_path_ops);
CREATE UNIQUE INDEX events_once ON events (at, id, area);

CREATE TABLE events_old (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
ALTER TABLE events_old ADD CONSTRAINT old CHECK (at < '2025-01-01 00:00+00');
ALTER TABLE events ATTACH PARTITION events_old FOR VALUES FROM (MINVALUE, MINVALUE) TO ('2025-01-01 00:00+00', MINVALUE);
INSERT INTO events (id, area, at)
SELECT n, (ARRAY['north', 'south;', 'n;'])[1 + n % 3], timestamptz '2024-06-01 00:00+00' + n * interval '30 days'
FROM generate_series(1, 40) AS n;
ALTER TABLE events DETACH PARTITION events_old;
ANALYZE events;
