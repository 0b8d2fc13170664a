-- name: insert_task
INSERT INTO task (task_id, type, queue, status, reason, priority, created_at, run_at, due_at, max_attempts, policy,
                  tags, metadata, params, owner, deadline, retention, unique_key, concurrency_key, weight, cache_key,
                  extra)
VALUES (?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_running
-- A task that a waiting claim takes at once is stored as running, and is never pending.
INSERT INTO task (task_id, type, queue, status, priority, created_at, run_at, due_at, max_attempts, policy,
                  tags, metadata, params, owner, deadline, retention, unique_key, concurrency_key, weight, cache_key,
                  extra, attempt, worker, started_at, lease_expires_at)
VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?);

-- name: note_spans
-- A span is a minute longer than its tasks need, and grows by as much as it covers, so that few commits change it.
INSERT INTO task_span (block, first, last) VALUES (?, ?, ? + 60000000)
ON CONFLICT (block) DO UPDATE SET
    first = min(first, excluded.first), last = max(last, excluded.last + max(0, excluded.last - first))
WHERE excluded.first < first OR excluded.last - 60000000 > last;

-- name: forget_spans
-- Those of blocks whose tasks are all erased.
DELETE FROM task_span WHERE block < (SELECT seq FROM task ORDER BY seq LIMIT 1) >> 9;

-- name: insert_tag
INSERT OR IGNORE INTO task_tag (tag, seq) VALUES (?, ?);

-- name: find_key
SELECT task_id, fingerprint, reply FROM idempotency WHERE key = ? AND expires_at > ?;

-- name: insert_key
INSERT OR REPLACE INTO idempotency (key, task_id, fingerprint, expires_at, reply) VALUES (?, ?, ?, ?, ?);

-- name: task_by_id
SELECT {task}, has_dependants FROM task WHERE task_id = ?;

-- name: next_partition
-- The partition after (queue, type), in the order of the index: one seek in its queue and one after it, however many
-- tasks wait. One comparison of the pair would scan the whole partition that it starts at.
SELECT * FROM (SELECT queue, type FROM task INDEXED BY task_line
               WHERE status = 'pending' AND queue = ?1 AND type > ?2 ORDER BY type LIMIT 1)
UNION ALL
SELECT * FROM (SELECT queue, type FROM task INDEXED BY task_line
               WHERE status = 'pending' AND queue > ?1 ORDER BY queue, type LIMIT 1)
LIMIT 1;

-- name: next_partition_head
-- The same, with the first task of the partition, due or not.
SELECT * FROM (SELECT queue, type, priority, due_at, seq FROM task INDEXED BY task_line
               WHERE status = 'pending' AND queue = ?1 AND type > ?2
               ORDER BY type, priority DESC, due_at, seq LIMIT 1)
UNION ALL
SELECT * FROM (SELECT queue, type, priority, due_at, seq FROM task INDEXED BY task_line
               WHERE status = 'pending' AND queue > ?1
               ORDER BY queue, type, priority DESC, due_at, seq LIMIT 1)
LIMIT 1;

-- name: next_level
SELECT max(priority) FROM task INDEXED BY task_line
WHERE status = 'pending' AND queue = ? AND type = ? AND priority < ?;

-- name: due_in_level
-- One priority at a time, so that tasks of a higher priority that are due later cost nothing.
SELECT -priority, due_at, seq FROM task INDEXED BY task_line
WHERE status = 'pending' AND queue = ? AND type = ? AND priority = ? AND due_at <= ? AND interruptions < 3
ORDER BY due_at, seq LIMIT ?;

-- name: due_suspects
SELECT -priority, due_at, seq, coalesce(weight, 1), owner, concurrency_key, queue, type
FROM task INDEXED BY task_suspect
WHERE status = 'pending' AND interruptions >= 3 AND due_at <= :now
  AND type IN (SELECT value FROM json_each(:types)) AND queue NOT IN (SELECT value FROM json_each(:shut))
  AND (:queues IS NULL OR queue IN (SELECT value FROM json_each(:queues)))
ORDER BY priority DESC, due_at, seq LIMIT :limit;

-- name: next_due
SELECT due_at FROM task INDEXED BY task_later
WHERE status = 'pending' AND reason <> 'queued' AND due_at > ? AND due_at < 253370764800000000
ORDER BY due_at LIMIT 1;  -- from the year 9999 on: tasks that wait for others

-- name: due_partitions
SELECT DISTINCT queue, type FROM task INDEXED BY task_later
WHERE status = 'pending' AND reason <> 'queued' AND due_at > ? AND due_at <= ?;

-- name: level_after
-- The next tasks of a priority that are due later than (due_at, seq), for whatever reason.
SELECT due_at, seq, reason FROM task INDEXED BY task_line
WHERE status = 'pending' AND queue = ? AND type = ? AND priority = ? AND (due_at, seq) > (?, ?)
ORDER BY due_at, seq LIMIT ?;

-- name: stay_due
UPDATE task SET due_at = :now
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND status = 'pending' AND reason = 'queued' AND due_at > :now;

-- name: suspect_queues
SELECT DISTINCT queue FROM task INDEXED BY task_suspect WHERE status = 'pending' AND interruptions >= 3;

-- name: any_suspect
SELECT 1 FROM task INDEXED BY task_suspect WHERE status = 'pending' AND interruptions >= 3 LIMIT 1;

-- name: start_attempt
UPDATE task SET status = 'running', reason = NULL, attempt = attempt + 1, worker = :worker, started_at = :now,
    lease_expires_at = :lease_ends, finished_at = NULL, ending = NULL, progress = NULL, has_waited = {waits}
WHERE seq = :seq AND (deadline IS NULL OR deadline > :now) RETURNING {claim}, due_at, has_waited;

-- name: extend_lease
UPDATE task SET lease_expires_at = ? WHERE task_id = ? AND attempt = ? AND status = 'running'
RETURNING cancel_requested_at;

-- name: end_attempt
-- For terminal statuses: one update, fenced by the attempt.
UPDATE task SET {ended} WHERE task_id = ? AND attempt = ? AND status = 'running'
RETURNING seq, has_dependants, queue, owner, concurrency_key;

-- name: end_lone_attempt
-- The same for a task that no other depends on. RETURNING would take almost as long as the update itself.
UPDATE task SET {ended} WHERE task_id = ? AND attempt = ? AND status = 'running' AND has_dependants = 0;

-- name: running_attempt
SELECT seq, cancel_requested_at, type, owner, usage, {head} FROM task
WHERE task_id = ? AND attempt = ? AND status = 'running';

-- name: keep_attempt
INSERT INTO attempt (task_seq, attempt, worker, started_at, finished_at, ending, error, peak_memory)
SELECT seq, attempt, worker, started_at, ?, ?, ?, ? FROM task WHERE seq = ?;

-- name: requeue_task
UPDATE task SET status = 'pending', reason = ?, due_at = ?, tries = ?, crashes = ?, interruptions = ?, error = ?,
    sequence = ?, worker = NULL, lease_expires_at = NULL, started_at = NULL
WHERE seq = ? RETURNING queue, type, deadline, owner, concurrency_key, has_dependants;

-- name: insert_event
INSERT INTO task_event (task_seq, sequence, attempt, type, time, data) VALUES (?, ?, ?, ?, ?, ?);

-- name: set_progress
UPDATE task SET progress = ? WHERE seq = ?;

-- name: set_usage
UPDATE task SET usage = ? WHERE seq = ?;

-- name: status_by_id
SELECT seq, status, worker, finished_at, ending, error, peak_memory, expires_at FROM task WHERE task_id = ?;

-- name: head_by_seq
SELECT {head} FROM task WHERE seq = ?;

-- name: head_by_id
SELECT seq, expires_at, {head} FROM task WHERE task_id = ?;

-- name: cancel_pending
UPDATE task SET status = 'cancelled', reason = NULL, finished_at = :now, cancel_requested_at = :now,
    expires_at = :now + retention, has_waited = {waits}
WHERE seq = :seq RETURNING has_dependants, type, has_waited, queue, owner, concurrency_key, {head};

-- name: request_cancel
UPDATE task SET cancel_requested_at = coalesce(cancel_requested_at, ?) WHERE seq = ?;

-- name: retry_task
UPDATE task SET status = 'pending', reason = 'queued', due_at = ?, tries = 0, crashes = 0, interruptions = 0,
    worker = NULL, started_at = NULL, finished_at = NULL, ending = NULL, cancel_requested_at = NULL, error = NULL,
    progress = NULL, peak_memory = NULL, sequence = ?, expires_at = NULL
WHERE seq = ?;

-- name: delete_keys
DELETE FROM idempotency WHERE task_id = ?;

-- name: expired
-- Leases are in microseconds of the process's monotonic clock, and end with the process.
SELECT {claim} FROM task INDEXED BY task_running
WHERE status = 'running' AND lease_expires_at <= ? ORDER BY lease_expires_at LIMIT ?;

-- name: expire_all
-- When a store is opened: the workers with these leases are gone, as this process has the lock on the file.
UPDATE task SET lease_expires_at = 0 WHERE status = 'running';

-- name: prune_keys
DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?);

-- name: attempts
SELECT attempt, worker, started_at, finished_at, ending, error, peak_memory FROM attempt
WHERE task_seq = (SELECT seq FROM task WHERE task_id = :task_id AND (expires_at IS NULL OR expires_at > :now))
UNION ALL
SELECT attempt, worker, started_at, finished_at, ending, error, peak_memory FROM task
WHERE task_id = :task_id AND worker IS NOT NULL AND (expires_at IS NULL OR expires_at > :now)
ORDER BY attempt;

-- name: events
SELECT sequence, attempt, type, time, data FROM task_event
WHERE task_seq = ? AND sequence > ? ORDER BY sequence LIMIT ?;

-- name: running_by_worker
SELECT worker, task_id, attempt, type, queue, started_at, owner FROM task INDEXED BY task_running
WHERE status = 'running' ORDER BY started_at, seq;

-- name: probe
INSERT INTO probe (id, checked_at) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at;
