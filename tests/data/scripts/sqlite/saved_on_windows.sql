-- statements: 5
-- Saved by an editor that writes a byte order mark and CRLF.
CREATE TABLE windows (
    id INTEGER PRIMARY KEY,
    body TEXT DEFAULT 'two
lines;'
);
/* a comment;
   over lines */
CREATE TRIGGER windows_one AFTER INSERT ON windows
BEGIN
    -- a comment in the body;
    UPDATE windows SET body = body || ';' WHERE id = NEW.id;
    SELECT 1;
END;
INSERT INTO windows (id) VALUES (1), (2); INSERT INTO windows (id) VALUES (3);
SELECT 'the end; without an end of line'