-- name: draft_by_id
SELECT task_id, type, params, queue, priority, created_at, policy, max_attempts, tags, metadata, owner, retention,
       concurrency_key, weight
FROM task WHERE task_id = ?;
