-- statements: 16
-- Names and strings that look like something else. Ä, 日本, 😀; and a comment with 'quotes" and $$dollars$$.
CREATE TABLE "select; from" ("a""b;" int, "--c" text, "/*d*/" text, "$$e$$" text, "日本;" text, _f$g int, ünïcode text);
CREATE TABLE "weird'name" (LIKE "select; from" INCLUDING ALL);
INSERT INTO "select; from" VALUES (1, '--no comment', '/* none; */', '$$;$$', '語;😀', 2, E'\u00e9\x41\101;\'\\');
INSERT INTO "select; from" ("a""b;", "--c") VALUES (-1--1;
    , 'after a comment'), (+ 2, 'a'
    'b;'
    -- between the parts of one literal;
    'c'), (3, E'it''s'
    ' continued;');
INSERT INTO "weird'name" SELECT * FROM "select; from" WHERE "--c" <> '\' AND "/*d*/" IS DISTINCT FROM '\\;';
SET standard_conforming_strings = on;
SELECT U&'d!0061t!+000061;' UESCAPE '!', U&"--c" FROM "select; from";
SELECT 'a' AS "B", 1 AS select, 2 AS "end;", N'n;', 1e-5, 0.5e+3, .1, 1. FROM (VALUES (1)) AS "v;" ("x;");
SELECT '{"a": "b;", "c''": [1, {"d": ";"}]}'::jsonb -> 'c''' -> 0, '{1,2}'::int[] @> '{1}', 'a' ~ '^a;?$', 'b' !~~ '%;';
SELECT (1 + (2 * (3 - (4)))), (ARRAY[[1, 2], [3, 4]])[1][2], 'x' IN (';', 'y'), 5 % 3, 2 ^ 3, @ -1, |/ 4.0;
SELECT 1;;; SELECT 2 ; ; /* nothing */ ; SELECT 3--
;
COMMENT ON TABLE "weird'name" IS E'first line;\nsecond; \'quoted\' and \\';
COMMENT ON COLUMN "weird'name"."日本;" IS $ü$ $ ; $$ ; $u$ ; $ü$;
DROP TABLE IF EXISTS "not there;", "nor ""this"""
