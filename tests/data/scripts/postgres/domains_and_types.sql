-- statements: 22
-- Types of one's own, generated columns, exclusion, operators, aggregates: what a schema dump is full of.
CREATE DOMAIN email AS text
    COLLATE "C"
    DEFAULT 'nobody@example.org'
    CONSTRAINT "looks like one; roughly" CHECK (VALUE ~ '^[^@]+@[^@]+$' AND VALUE !~ ';');
CREATE DOMAIN percent AS numeric(5, 2) NOT NULL CHECK (VALUE BETWEEN 0 AND 100);
ALTER DOMAIN percent ADD CONSTRAINT whole CHECK (VALUE = floor(VALUE)) NOT VALID;
CREATE TYPE address AS (street text, "house; number" text, zip varchar(10));
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE SEQUENCE invoice_numbers AS int INCREMENT BY 10 MINVALUE 100 OWNED BY NONE;

CREATE TABLE invoices (
    number int DEFAULT nextval('invoice_numbers') PRIMARY KEY,
    mail email,
    "to" address,
    net numeric(12, 2) NOT NULL,
    rate percent DEFAULT 19,
    gross numeric GENERATED ALWAYS AS (round(net * (1 + rate / 100), 2)) STORED,
    valid span NOT NULL DEFAULT '[0, 1)',
    bits bit varying(8) DEFAULT B'0101',
    raw bytea DEFAULT '\x00ff'::bytea,
    path point[] DEFAULT ARRAY['(1,2)'::point, point '(3,4)'],
    EXCLUDE USING gist (valid WITH &&) WHERE (net > 0)
);
ALTER SEQUENCE invoice_numbers OWNED BY invoices.number;
COMMENT ON COLUMN invoices."to" IS 'where it went; "quoted" and ''quoted''';

CREATE FUNCTION joined(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 || '';'' || $2';
CREATE OPERATOR ||| (LEFTARG = text, RIGHTARG = text, FUNCTION = joined);
CREATE AGGREGATE all_joined(text) (SFUNC = joined, STYPE = text, INITCOND = 'begin;');
CREATE CAST (address AS text) WITH INOUT AS ASSIGNMENT;
CREATE COLLATION numbers (provider = libc, locale = 'C');
CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple);
CREATE STATISTICS invoices_net (dependencies, ndistinct) ON net, rate FROM invoices;

INSERT INTO invoices (mail, "to", net, valid) VALUES
    ('a@b', ROW('It''s; street', '7;', '12345'), 10, '[1, 2)'),
    (DEFAULT, ('x', NULL, '$$')::address, 20, span(5, 6, '[]'));
UPDATE invoices SET "to"."house; number" = '8' WHERE ("to").zip = '12345';
SELECT 'a' ||| 'b' ||| ';', all_joined(mail) FROM invoices WHERE valid @> 1.5::float8;
CREATE MATERIALIZED VIEW sums AS SELECT rate, sum(gross) FILTER (WHERE net > 0) AS total FROM invoices GROUP BY GROUPING SETS ((rate), ()) WITH DATA;
CREATE UNIQUE INDEX sums_rate ON sums (rate) INCLUDE (total) NULLS NOT DISTINCT;
REFRESH MATERIALIZED VIEW CONCURRENTLY sums;
