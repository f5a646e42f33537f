ALTER TABLE tasks DROP CONSTRAINT tasks_state_known;
-- twinstep: group
ALTER TABLE tasks DROP COLUMN state;
