-- statements: 9
-- Triggers: bodies with several statements, CASE ... END inside, names that look like keywords.
CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL DEFAULT 'a;b', "end" INTEGER, [begin; x] TEXT, `case` TEXT);
CREATE TABLE changes (note INTEGER, what TEXT, at INTEGER DEFAULT (strftime('%s', 'now')));

CREATE TRIGGER notes_changed AFTER UPDATE OF title ON notes
WHEN NEW.title <> OLD.title
BEGIN
    INSERT INTO changes (note, what)
    VALUES (NEW.id, CASE WHEN NEW.title = '' THEN 'emptied;' ELSE CASE NEW."end" WHEN 1 THEN 'ended' ELSE 'renamed' END END);
    UPDATE notes SET "end" = CASE "end" WHEN 1 THEN 0 ELSE 1 END WHERE id = NEW.id; -- END; of a comment
    SELECT CASE WHEN NEW.id < 0 THEN RAISE(ABORT, 'negative; id') END;
END;

CREATE TEMP TRIGGER IF NOT EXISTS notes_gone AFTER DELETE ON main.notes BEGIN DELETE FROM changes WHERE note = OLD.id; END;

CREATE VIEW latest AS SELECT note, max(at) AS "at;" FROM changes GROUP BY note;
CREATE TRIGGER latest_set INSTEAD OF UPDATE ON latest BEGIN
    INSERT INTO changes (note, what) VALUES (NEW.note, 'end'); /* ; END; */
END;
INSERT INTO notes (id, title) VALUES (1, 'it''s; here'), (2, 'back\');
UPDATE notes SET title = 'x' WHERE id = 1;
SELECT '--no comment', "end", [begin; x], `case`, x'00ff', 0x1F, 1e5, 3 -- ; a comment
FROM notes;
