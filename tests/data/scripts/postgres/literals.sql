-- statements: 12
SELECT 'plain; with a backslash at the end \';
SELECT E'escaped quote \' ; and a backslash \\';
SELECT e'two
lines; of it', N'national;', B'0101', X'1F', U&'d\0061t\+000061;', U&"d\0061;" FROM (SELECT 1 AS "da;") AS x;
SELECT $$dollar; 'quotes' $tag$ inside$$, $tag$ $$ ; $tag$, $Ünï$ ; $Ünï$;
SELECT 1 AS a$b$c, 2 AS "a$b$;", 3 AS d$$;
SELECT 5 - -3, 5 * /* ; */ 3, 5 -- ; 3
    - 3, 2 /1, -1 ;
SELECT '[1, 2]'::jsonb ? 'a;', 1::text || 'b', 4 # 5, @ -5, |/ 25.0, 1.5e3, .5, 7::int4;;;
PREPARE by_number (int) AS SELECT $1 + 1, $1::text || ';';
EXECUTE by_number(1);
DEALLOCATE by_number;
SET search_path = public;
SELECT 'a'
    'b' AS continued
