-- name: find_secrets
SELECT data FROM {schema}.task_secret WHERE task_id = :task_id;

-- name: erase_secrets
DELETE FROM {schema}.task_secret WHERE task_id {any_id:task_ids};

-- name: secrets_of_ended
SELECT task_secret.task_id FROM {schema}.task_secret LEFT JOIN {schema}.task USING (task_id)
WHERE task.status IS NULL OR task.status NOT IN ('pending', 'running') LIMIT :limit;
