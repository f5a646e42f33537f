-- statements: 10
-- Bodies in which a semicolon ends nothing: dollar quotes, tags inside tags, BEGIN ATOMIC, DO.
CREATE SCHEMA shop;

CREATE TABLE shop.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    placed_at timestamptz NOT NULL DEFAULT now(),
    total numeric(12, 2) NOT NULL CHECK (total >= 0)  -- never negative; a refund is another row
);

CREATE FUNCTION shop.touch() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.total IS DISTINCT FROM OLD.total THEN
        NEW.placed_at := now();  -- the body has semicolons; and a 'quote
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER orders_touch BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.touch();

CREATE FUNCTION shop.make_report(name text) RETURNS text LANGUAGE plpgsql AS $outer$
DECLARE
    body text := $inner$SELECT 'a;b' || $$c;d$$;$inner$;
BEGIN
    EXECUTE format($f$COMMENT ON TABLE shop.orders IS %L;$f$, name);
    RETURN body;
END
$outer$;

CREATE OR REPLACE FUNCTION shop.size_of(total numeric) RETURNS text
BEGIN ATOMIC
    SELECT CASE
        WHEN total > 100 THEN CASE WHEN total > 1000 THEN 'huge' ELSE 'large' END
        ELSE 'small'
    END;
END;

CREATE PROCEDURE shop.clean(before timestamptz)
BEGIN ATOMIC
    DELETE FROM shop.orders WHERE placed_at < before AND total = 0;
    DELETE FROM shop.orders WHERE placed_at < before - interval '1 year';
END;

DO $do$
DECLARE
    step integer;
BEGIN
    FOR step IN 1..3 LOOP
        INSERT INTO shop.orders (total) VALUES (step * 10);
    END LOOP;
END
$do$;

CALL shop.clean('2000-01-01');

SELECT shop.make_report('it''s; fine')
