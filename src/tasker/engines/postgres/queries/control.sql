-- name: draft_by_id
SELECT task_id, type, params, queue, priority, created_at, policy, max_attempts, tags, metadata, owner, retention,
       concurrency_key, coalesce(weight, 1) AS weight
FROM {schema}.task WHERE task_id = $1;

-- name: existing_tasks
SELECT task_id FROM {schema}.task WHERE task_id = ANY($1::uuid[]);

-- name: lock_one
SELECT task_id FROM {schema}.task WHERE task_id = $1 FOR UPDATE;

-- name: lock_free
-- Only rows that no other transaction has locked: waiting for a row while many are locked may deadlock.
SELECT task_id FROM {schema}.task WHERE task_id = ANY($1::uuid[]) ORDER BY seq FOR UPDATE SKIP LOCKED;
