-- name: insert_secrets
INSERT INTO task_secret (task_id, data) VALUES (?, ?);

-- name: delete_task_secrets
DELETE FROM task_secret WHERE task_id = ?;
