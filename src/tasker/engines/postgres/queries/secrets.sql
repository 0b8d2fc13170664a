-- name: insert_secrets
INSERT INTO {schema}.task_secret (task_id, data) SELECT * FROM unnest($1::uuid[], $2::bytea[]) ON CONFLICT DO NOTHING;

-- name: find_secrets
SELECT data FROM {schema}.task_secret WHERE task_id = $1;

-- name: erase_secrets
DELETE FROM {schema}.task_secret WHERE task_id = ANY($1::uuid[]);

-- name: secrets_of_ended
SELECT task_secret.task_id FROM {schema}.task_secret LEFT JOIN {schema}.task USING (task_id)
WHERE task.status IS NULL OR task.status NOT IN ('pending', 'running') LIMIT $1;
