-- name: insert_secrets
INSERT INTO {schema}.task_secret (task_id, data) SELECT * FROM unnest($1::uuid[], $2::bytea[]) ON CONFLICT DO NOTHING;

-- name: delete_task_secrets
DELETE FROM {schema}.task_secret WHERE task_id = ANY($1::uuid[]);
