DROP INDEX tasks_state;
ALTER TABLE tasks DROP COLUMN state;
