ALTER TABLE tasks ADD COLUMN state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done'));
UPDATE tasks SET state = 'done' WHERE done = 1;
CREATE INDEX tasks_state ON tasks (state);
