-- name: cached_task
-- The newest task that may answer an equal request: an open or completed one.
SELECT task_id, status, finished_at FROM task INDEXED BY task_cached
WHERE cache_key = ? AND (expires_at IS NULL OR expires_at > ?)
    AND (status = 'completed' OR (status IN ('pending', 'running') AND cancel_requested_at IS NULL))
ORDER BY seq DESC LIMIT 1;

-- name: unique_task
SELECT seq, task_id, status FROM task INDEXED BY task_unique
WHERE owner = ? AND type = ? AND unique_key = ? AND unique_key IS NOT NULL AND status IN ('pending', 'running')
  AND cancel_requested_at IS NULL;

-- name: end_of
SELECT owner, status, error FROM task WHERE task_id = ? AND (expires_at IS NULL OR expires_at > ?);

-- name: insert_dependency
INSERT OR IGNORE INTO dependency (task_seq, depends_on) VALUES (?, ?);

-- name: has_dependant
UPDATE task SET has_dependants = 1 WHERE task_id = ?;

-- name: dependants
SELECT task_seq FROM dependency WHERE depends_on = ? LIMIT ?;

-- name: ending_of
SELECT seq, status, error, expires_at <= 0 FROM task WHERE task_id = ? AND status NOT IN ('pending', 'running');

-- name: unsettled
SELECT DISTINCT depends_on FROM dependency WHERE EXISTS (
    SELECT 1 FROM task WHERE task_id = depends_on AND status NOT IN ('pending', 'running'));

-- name: delete_dependency
DELETE FROM dependency WHERE depends_on = ? AND task_seq = ?;

-- name: delete_dependencies
DELETE FROM dependency WHERE task_seq = ?;

-- name: any_dependency
SELECT 1 FROM dependency WHERE task_seq = ? LIMIT 1;

-- name: release
UPDATE task SET reason = CASE WHEN run_at > :now THEN 'scheduled' ELSE 'queued' END,
    due_at = max(:now, coalesce(run_at, 0))
WHERE seq = :seq AND status = 'pending' AND reason = 'dependencies' RETURNING task_id, owner, queue, type, due_at;

-- name: fail_pending
UPDATE task SET status = 'failed', reason = NULL, finished_at = :now, expires_at = :now + retention, error = :error,
    has_waited = {waits}
WHERE seq = :seq AND status = 'pending'
RETURNING type, has_waited, task_id, has_dependants, queue, owner, concurrency_key, {head};

-- name: overdue
SELECT seq, deadline, error FROM task INDEXED BY task_deadline
WHERE status = 'pending' AND deadline IS NOT NULL AND deadline <= ? ORDER BY deadline LIMIT ?;

-- name: next_deadline
SELECT min(deadline) FROM task INDEXED BY task_deadline WHERE status = 'pending' AND deadline IS NOT NULL;

-- name: wait_for
UPDATE task SET reason = 'dependencies', due_at = ?, has_waited = {waits} WHERE seq = ?
RETURNING owner, type, queue, has_waited;

-- name: waiting_task
SELECT seq, owner FROM task WHERE task_id = ? AND status = 'pending' AND reason = 'dependencies';
