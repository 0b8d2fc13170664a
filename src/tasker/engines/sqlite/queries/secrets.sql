-- name: insert_secrets
INSERT INTO task_secret (task_id, data) VALUES (?, ?);
