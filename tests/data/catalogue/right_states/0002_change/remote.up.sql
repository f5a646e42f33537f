ALTER TABLE tasks ADD COLUMN state text NOT NULL DEFAULT 'open';
UPDATE tasks SET state = 'done' WHERE done;

CREATE INDEX CONCURRENTLY tasks_state ON tasks (state);

ALTER TABLE tasks ADD CONSTRAINT tasks_state_known CHECK (state IN ('open', 'done'));
