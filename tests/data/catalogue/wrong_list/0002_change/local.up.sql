-- The list tells the folder's name too: notes without a folder are in it no more.
DROP VIEW note_list;
CREATE VIEW note_list AS SELECT n.id, n.title, f.name FROM notes n, folders f WHERE f.id = n.folder;
CREATE INDEX notes_folder ON notes (folder);
