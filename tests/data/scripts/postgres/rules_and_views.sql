-- statements: 15
-- Rules with one action, several, and none; views over views, recursive ones, and ones that are written through.
CREATE TABLE shoes (name text PRIMARY KEY, kept int NOT NULL DEFAULT 0, sold boolean NOT NULL DEFAULT false);
CREATE TABLE shoes_log (name text, kept int, who text DEFAULT current_user, at timestamp DEFAULT '2026-01-01');
CREATE RULE log_shoes AS ON UPDATE TO shoes WHERE NEW.kept <> OLD.kept
    DO INSERT INTO shoes_log (name, kept) VALUES (NEW.name, NEW.kept);
CREATE RULE "sold; or not" AS ON DELETE TO shoes DO INSTEAD (
    UPDATE shoes SET sold = true WHERE name = OLD.name;
    INSERT INTO shoes_log (name) VALUES (OLD.name || '; sold');
    NOTIFY "shoes; sold", 'one ; more';
);
CREATE OR REPLACE RULE never AS ON INSERT TO shoes_log WHERE NEW.name IS NULL DO INSTEAD NOTHING;
CREATE VIEW shelf AS SELECT name, kept FROM shoes WHERE NOT sold WITH CASCADED CHECK OPTION;
CREATE RULE shelf_put AS ON INSERT TO shelf DO INSTEAD
    INSERT INTO shoes (name, kept) VALUES (NEW.name, coalesce(NEW.kept, 0)) RETURNING shoes.name, shoes.kept;
CREATE RECURSIVE VIEW counted (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counted WHERE n < 5;
CREATE TEMP VIEW mine AS SELECT * FROM shelf;
CREATE OR REPLACE VIEW "shelf; wide" (a, "b;") AS
    SELECT DISTINCT ON (s.name) s.name, lag(l.kept, 1, 0) OVER (PARTITION BY s.name ORDER BY l.at DESC) AS was
    FROM shoes AS s LEFT JOIN LATERAL (SELECT * FROM shoes_log AS g WHERE g.name = s.name FETCH FIRST 1 ROW ONLY) AS l ON true;
ALTER RULE never ON shoes_log RENAME TO "never; ever";
INSERT INTO shelf (name) VALUES ('left'), ('right;');
UPDATE shoes SET kept = kept + 1 WHERE name = 'left';
DELETE FROM shoes WHERE name = 'right;';
WITH gone AS (SELECT * FROM shoes WHERE sold) SELECT count(*) FROM gone;
