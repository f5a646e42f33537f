-- statements: 6
-- Saved by an editor that writes a byte order mark and CRLF.
CREATE TABLE windows (
    id int PRIMARY KEY,
    body text DEFAULT 'two
lines;'
);
/* a comment;
   over lines */
CREATE FUNCTION windows_count() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    -- a comment in the body;
    RETURN (SELECT count(*) FROM windows);
END;
$$;
INSERT INTO windows VALUES (1), (2); INSERT INTO windows VALUES (3);
SELECT windows_count();

COMMENT ON TABLE windows IS 'the end; without an end of line'