-- name: draft_by_id
SELECT task_id, type, params, queue, priority, created_at, policy, max_attempts, tags, metadata, owner, retention,
       concurrency_key, coalesce(weight, 1) AS weight
FROM {schema}.task WHERE task_id = $1;

-- name: lock_free
-- Those that nobody else holds just now: to wait for a row while many are held is how deadlocks begin.
SELECT task_id FROM {schema}.task WHERE task_id = ANY($1::uuid[]) ORDER BY seq FOR UPDATE SKIP LOCKED;
