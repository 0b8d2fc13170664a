-- The secret params of tasks that have not ended; the task's own params have a mask in their place.
CREATE TABLE task_secret (task_id BLOB PRIMARY KEY, data BLOB NOT NULL) STRICT, WITHOUT ROWID;
