DROP INDEX notes_alive;
