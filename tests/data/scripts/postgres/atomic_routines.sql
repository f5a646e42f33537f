-- statements: 13
-- Bodies in SQL itself (BEGIN ATOMIC), RETURN, and routines whose names and arguments are words that begin or end something.
CREATE TABLE ledger (id int PRIMARY KEY, "end" int, "case" text, begin date);

CREATE FUNCTION begin_of(date) RETURNS date LANGUAGE sql IMMUTABLE RETURN date_trunc('month', $1)::date;

CREATE FUNCTION totals(OUT entries bigint, OUT "end" bigint) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT count(*), sum(CASE WHEN l."end" IS NULL THEN 0 WHEN l."end" > 9 THEN CASE l."case" WHEN 'x;' THEN 1 ELSE 2 END ELSE 3 END)
    FROM ledger AS l;
END;

CREATE OR REPLACE PROCEDURE keep(n int, why text DEFAULT 'none; given')
LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO ledger (id, "case") VALUES (n, why) ON CONFLICT (id) DO UPDATE SET "case" = excluded."case" || ';';
    UPDATE ledger SET begin = CASE WHEN begin IS NULL THEN current_date ELSE begin END WHERE id = n;
    DELETE FROM ledger WHERE id < 0;  /* END; of a comment /* nested; */ */
END;

CREATE FUNCTION named(ledger) RETURNS TABLE (a int, b text) LANGUAGE sql
BEGIN ATOMIC
    SELECT l.end AS case, l.case AS end FROM ledger AS l WHERE l.id = $1.id AND l.begin IS DISTINCT FROM CASE WHEN true THEN $1.begin END;
    SELECT 1 AS begin, 'x;' AS end;
END;
CREATE FUNCTION nothing() RETURNS void BEGIN ATOMIC END;
CREATE FUNCTION "BEGIN ATOMIC; or not"() RETURNS text LANGUAGE sql AS 'SELECT ''BEGIN ATOMIC SELECT 1; END''::text;';
CREATE FUNCTION rows_of(int) RETURNS TABLE (id int, "case" text) LANGUAGE sql
BEGIN ATOMIC
    WITH first AS (SELECT * FROM ledger WHERE ledger.id <= $1)
    SELECT first.id, CASE WHEN first."end" > 0 THEN 'positive' END FROM first;
END;
CALL keep(1);
CALL keep(1, 'a; second time');
CREATE VIEW ended AS SELECT id, CASE WHEN "end" > 0 THEN 'yes' ELSE 'no' END AS "end" FROM ledger;
SELECT begin_of(date '2026-11-26'), (totals()).*, nothing();
DROP FUNCTION begin_of, nothing;
