-- name: clock
SELECT seen_at, erased_until FROM clock;

-- name: clock_seen
UPDATE clock SET seen_at = ?;

-- name: erased_until
UPDATE clock SET seen_at = ?, erased_until = ?;

-- name: draft_by_id
SELECT task_id, type, params, queue, priority, created_at, policy, max_attempts, tags, metadata, owner, retention,
       concurrency_key, weight
FROM task WHERE task_id = ?;
