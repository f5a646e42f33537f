CREATE TABLE notes (id bigint PRIMARY KEY, title text, deleted boolean);
