-- The secret params of tasks that have not ended; the task's own params have a mask in their place.
CREATE TABLE {schema}.task_secret (task_id uuid PRIMARY KEY, data bytea NOT NULL);
