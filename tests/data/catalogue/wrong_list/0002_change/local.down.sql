DROP INDEX notes_folder;
DROP VIEW note_list;
CREATE VIEW note_list AS SELECT id, title FROM notes;
