-- statements: 15
-- Full text search over a table, kept in step by triggers, as the documentation of FTS5 shows it; and what one adds to it.
CREATE TABLE documents (id INTEGER PRIMARY KEY, title TEXT NOT NULL, body TEXT NOT NULL DEFAULT '', tags TEXT);
CREATE VIRTUAL TABLE documents_text USING fts5(title, body, content='documents', content_rowid='id', tokenize="unicode61 remove_diacritics 2");
CREATE TRIGGER documents_ai AFTER INSERT ON documents BEGIN
  INSERT INTO documents_text(rowid, title, body) VALUES (new.id, new.title, new.body);
END;
CREATE TRIGGER documents_ad AFTER DELETE ON documents BEGIN
  INSERT INTO documents_text(documents_text, rowid, title, body) VALUES('delete', old.id, old.title, old.body);
END;
CREATE TRIGGER documents_au AFTER UPDATE ON documents BEGIN
  INSERT INTO documents_text(documents_text, rowid, title, body) VALUES('delete', old.id, old.title, old.body);
  INSERT INTO documents_text(rowid, title, body) VALUES (new.id, new.title, new.body);
END;
CREATE VIRTUAL TABLE words USING fts5vocab('documents_text', 'row');
CREATE VIRTUAL TABLE plain USING fts5(a, b UNINDEXED, prefix='2 3', detail=none);
CREATE VIRTUAL TABLE places USING rtree(id, min_x, max_x, min_y, max_y, +label TEXT);
INSERT INTO documents (title, body, tags) VALUES
  ('First; of all', 'It''s a "quoted" word; and more', '["a;", "b"]'),
  ('Zweite Größe', 'ein; zwei -- drei', json_array('x;', 'y')),
  ('日本', '/* not a comment; */', NULL);
UPDATE documents SET body = body || '; changed' WHERE id = 1;
DELETE FROM documents WHERE title = '日本';
INSERT INTO plain VALUES ('begin; end;', 'case');
INSERT INTO places VALUES (1, 0, 1, 0, 1, 'home; sweet');
INSERT INTO documents_text(documents_text) VALUES('optimize');
SELECT d.title, highlight(documents_text, 1, '<b>;', '</b>'), bm25(documents_text, 10.0, 5.0) FROM documents_text JOIN documents AS d ON d.id = documents_text.rowid WHERE documents_text MATCH 'quoted OR "zwei"' ORDER BY rank;
