CREATE TABLE tasks (id bigint PRIMARY KEY, title text, done boolean NOT NULL);
