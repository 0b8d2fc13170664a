-- name: insert_secrets
INSERT INTO task_secret (task_id, data) VALUES (?, ?);

-- name: find_secrets
SELECT data FROM task_secret WHERE task_id = ?;

-- name: erase_secrets
DELETE FROM task_secret WHERE task_id = ?;

-- name: secrets_of_ended
SELECT task_secret.task_id FROM task_secret LEFT JOIN task USING (task_id)
WHERE task.status IS NULL OR task.status NOT IN ('pending', 'running') LIMIT ?;
