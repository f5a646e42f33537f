-- statements: 9
-- DO blocks that change what is there, with dollar quotes in dollar quotes in dollar quotes, and loops over the catalogue.
CREATE TABLE a (id int PRIMARY KEY, note text);
CREATE TABLE "B; c" (id int PRIMARY KEY, note text);
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT quote_ident(relname) AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1
    LOOP
        EXECUTE 'ALTER TABLE ' || one.name || ' ADD COLUMN IF NOT EXISTS touched timestamptz; ';
        EXECUTE format('COMMENT ON TABLE %s IS %L', one.name, 'touched; by a loop');
    END LOOP;
END
$$;

DO LANGUAGE plpgsql $migration$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_proc WHERE proname = 'made') THEN
        EXECUTE $create$
            CREATE FUNCTION made(n int) RETURNS text LANGUAGE plpgsql AS $body$
            BEGIN
                RETURN format($f$%s; $$ and %s$f$, n, $q$it's$q$);
            END;
            $body$;
        $create$;
    END IF;
EXCEPTION
    WHEN duplicate_function THEN
        RAISE NOTICE 'was there; %', SQLERRM;
END;
$migration$;

do 'begin perform made(1); insert into a values (1, made(2)); end;';
DO $Ü$ BEGIN RAISE DEBUG '$$ ; $Ü'; END $Ü$;
DO $_1$BEGIN NULL; END$_1$ LANGUAGE plpgsql;
SELECT note, $$$ not a tag; $ $$ AS dollars, $x$$y$;$$y$x$ AS more FROM a;
INSERT INTO "B; c" SELECT id, note FROM a;
