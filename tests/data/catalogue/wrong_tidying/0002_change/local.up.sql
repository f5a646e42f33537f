CREATE INDEX notes_alive ON notes (title) WHERE deleted = 0;
