-- name: lock_ties
-- Submissions with the same key run one at a time. Locks are taken in one order, and end with the transaction.
SELECT pg_advisory_xact_lock($1, hash) FROM (
    SELECT DISTINCT hashtext(name) AS hash FROM unnest($2::text[]) AS name ORDER BY hash) AS sorted;

-- name: cached_task
-- The newest task that may answer an equal request: an open one, or one that completed recently enough.
SELECT task_id, status <> 'completed' OR finished_at > now() - $2::interval AS fits FROM {schema}.task
WHERE cache_key = $1 AND (expires_at IS NULL OR expires_at > now())
    AND (status = 'completed' OR (status IN ('pending', 'running') AND cancel_requested_at IS NULL))
ORDER BY seq DESC LIMIT 1;

-- name: unique_task
SELECT task_id FROM {schema}.task WHERE owner = $1 AND type = $2 AND unique_key = $3 AND unique_key IS NOT NULL
    AND status IN ('pending', 'running') AND cancel_requested_at IS NULL;

-- name: lock_dependencies
-- Locked in one order. A transaction that ends such a task waits for us, and then finds its dependants.
SELECT seq, task_id, owner, status, error FROM {schema}.task WHERE task_id = ANY($1::uuid[])
    AND (expires_at IS NULL OR expires_at > now()) ORDER BY seq FOR NO KEY UPDATE;

-- name: have_dependants
UPDATE {schema}.task SET has_dependants = true WHERE seq = ANY($1::bigint[]) AND NOT has_dependants;

-- name: insert_dependencies
INSERT INTO {schema}.dependency (task_seq, depends_on) SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING;

-- name: wait_for
UPDATE {schema}.task SET reason = 'dependencies', due_at = '9999-01-01 00:00:00+00', lined = false WHERE seq = $1;

-- name: wait_for_others
UPDATE {schema}.task SET reason = 'dependencies', due_at = '9999-01-01 00:00:00+00', lined = false
WHERE seq = ANY($1::bigint[]);

-- name: lock_dependants
-- Locked before their dependencies are counted: if two of these end at once, the second sees what the first did.
SELECT task.seq, dependency.depends_on FROM {schema}.dependency JOIN {schema}.task ON task.seq = dependency.task_seq
WHERE dependency.depends_on = ANY($1::uuid[]) ORDER BY task.seq LIMIT $2 FOR NO KEY UPDATE OF task;

-- name: lock_ended
SELECT seq, task_id, status, error FROM {schema}.task
WHERE task_id = ANY($1::uuid[]) AND status NOT IN ('pending', 'running') ORDER BY seq FOR NO KEY UPDATE;

-- name: unsettled
SELECT DISTINCT depends_on FROM {schema}.dependency JOIN {schema}.task ON task.task_id = dependency.depends_on
WHERE task.status NOT IN ('pending', 'running') LIMIT $1;

-- name: is_awaited
SELECT EXISTS (SELECT FROM {schema}.dependency WHERE depends_on = $1);

-- name: delete_dependencies
DELETE FROM {schema}.dependency USING unnest($1::bigint[], $2::uuid[]) AS met (task_seq, depends_on)
WHERE dependency.task_seq = met.task_seq AND dependency.depends_on = met.depends_on;

-- name: forget_dependencies
DELETE FROM {schema}.dependency WHERE task_seq = ANY($1::bigint[]);

-- name: release
-- If a delay has not been moved with the clock yet, it is moved here.
UPDATE {schema}.task SET reason = CASE WHEN given.at > now() THEN 'scheduled' ELSE 'queued' END,
    due_at = greatest(now(), given.at), run_at = given.at
FROM (SELECT waits.seq, coalesce(left_over.to_run_at, waits.run_at) AS at FROM {schema}.task AS waits
      LEFT JOIN {schema}.clock_move AS left_over ON left_over.seq = waits.seq AND NOT left_over.of_delivery
      WHERE waits.seq = ANY($1::bigint[])) AS given
WHERE task.seq = given.seq AND status = 'pending' AND reason = 'dependencies'
    AND NOT EXISTS (SELECT FROM {schema}.dependency WHERE dependency.task_seq = task.seq)
RETURNING task.task_id;

-- name: fail_pending
UPDATE {schema}.task SET status = 'failed', reason = NULL, finished_at = now(), expires_at = {expires},
    error = ended.error, lined = false
FROM unnest($1::bigint[], $2::bytea[]) AS ended (seq, error)
WHERE task.seq = ended.seq AND task.status = 'pending'
RETURNING task.seq, task.task_id, task.owner, task.type, task.has_dependants, ended.error, {head};

-- name: overdue
SELECT seq, deadline, error, queue, owner, concurrency_key FROM {schema}.task
WHERE status = 'pending' AND deadline IS NOT NULL AND deadline <= now() AND ($2::uuid[] IS NULL OR task_id = ANY($2))
ORDER BY deadline LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED;

-- name: jobs_of
-- A job that a claim has locked is left alone: that claim finds the task no longer pending, and removes the job.
SELECT id FROM {schema}.pgqueuer WHERE dedupe_key = ANY($1::text[]) AND status IN ('queued', 'picked')
FOR UPDATE SKIP LOCKED;

-- name: pass_key_on
-- The key of a joined submission refers to the task that answers; a refused submission keeps no key.
WITH gone AS (DELETE FROM {schema}.idempotency WHERE key = $1 AND $2::uuid IS NULL)
UPDATE {schema}.idempotency SET task_id = $2, reply = '' WHERE key = $1 AND $2::uuid IS NOT NULL;

-- name: is_stored
SELECT EXISTS (SELECT FROM {schema}.task WHERE task_id = $1)
    OR EXISTS (SELECT FROM {schema}.tombstone WHERE task_id = $1);

-- name: unique_key_of
SELECT owner, unique_key FROM {schema}.task WHERE task_id = $1 AND unique_key IS NOT NULL;

-- name: waiting_task
SELECT seq, owner FROM {schema}.task WHERE task_id = $1 AND status = 'pending' AND reason = 'dependencies' FOR NO KEY UPDATE;
