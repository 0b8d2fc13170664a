-- A unique key is of one type: tasks of two types never answer for each other.
DROP INDEX {schema}.task_unique;
CREATE UNIQUE INDEX task_unique ON {schema}.task (owner, type, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running') AND cancel_requested_at IS NULL;
