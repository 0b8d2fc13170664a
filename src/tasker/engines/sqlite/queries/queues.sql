-- name: queues
SELECT name, paused, concurrency, concurrency_per_key, rate, shared_keys, pause, tokens, refilled_at FROM queue ORDER BY name;

-- name: next_queue
-- The queue after another, in the order of the index: one seek, however many tasks wait.
SELECT min(queue) FROM task INDEXED BY task_line WHERE status = 'pending' AND queue > ?;

-- name: other_queues
SELECT queue FROM task INDEXED BY task_running WHERE status = 'running' AND queue > :after
UNION SELECT name FROM queue WHERE name > :after;

-- name: running_queues_of
SELECT DISTINCT queue FROM task INDEXED BY task_running WHERE status = 'running' AND owner = ?;

-- name: next_queue_of
-- The same among an owner's tasks.
SELECT min(queue) FROM task INDEXED BY task_own WHERE status = 'pending' AND owner <> '' AND owner = ? AND queue > ?;

-- name: has_pending_of_nobody
-- No index finds the tasks without an owner: it would cost every task. Looking at a few bounds the cost of a queue.
SELECT max(owner = '') FROM (
    SELECT owner FROM task INDEXED BY task_line WHERE status = 'pending' AND queue = ? LIMIT 100);

-- name: queue_by_name
SELECT name, paused, concurrency, concurrency_per_key, rate, shared_keys, pause, tokens, refilled_at FROM queue WHERE name = ?;

-- name: count_queues
SELECT count(*) FROM queue;

-- name: put_queue
INSERT INTO queue (name, paused, concurrency, concurrency_per_key, rate, shared_keys, pause, tokens, refilled_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE
    SET paused = excluded.paused, concurrency = excluded.concurrency,
        concurrency_per_key = excluded.concurrency_per_key, rate = excluded.rate, shared_keys = excluded.shared_keys,
        pause = excluded.pause, tokens = excluded.tokens, refilled_at = excluded.refilled_at;

-- name: delete_queue
DELETE FROM queue WHERE name = ?;

-- name: spend
UPDATE queue SET tokens = ?, refilled_at = ? WHERE name = ?;

-- name: move_refills
UPDATE queue SET refilled_at = refilled_at + :step;

-- name: running_in_queue
SELECT count(*) FROM task INDEXED BY task_running WHERE status = 'running' AND queue = ?;

-- name: running_with_key
SELECT count(*) FROM task INDEXED BY task_key
WHERE status = 'running' AND concurrency_key IS NOT NULL AND queue = :queue AND concurrency_key = :key;

-- name: running_with_own_key
SELECT count(*) FROM task INDEXED BY task_key
WHERE status = 'running' AND concurrency_key IS NOT NULL AND queue = :queue AND concurrency_key = :key
  AND owner = :owner;

-- name: limited_in_level
SELECT -priority, due_at, seq, coalesce(weight, 1), owner, concurrency_key FROM task INDEXED BY task_line
WHERE status = 'pending' AND queue = ? AND type = ? AND priority = ? AND due_at <= ? AND interruptions < 3
ORDER BY due_at, seq LIMIT ?;

-- name: park
-- Sets the bit rows.PARKED: the task leaves its queue partition and keeps its place.
UPDATE task SET reason = 'concurrency_limited', due_at = due_at | 1152921504606846976, has_waited = {waits}
WHERE seq = ? RETURNING owner, type, queue, has_waited;

-- name: unpark
UPDATE task SET reason = 'queued', due_at = min(due_at & 1152921504606846975, :now) WHERE seq IN (
    SELECT seq FROM task INDEXED BY task_parked
    WHERE status = 'pending' AND reason = 'concurrency_limited' AND queue = :queue AND concurrency_key = :key
    ORDER BY priority DESC, due_at, seq LIMIT :limit)
RETURNING queue, type, due_at, interruptions;

-- name: unpark_own
UPDATE task SET reason = 'queued', due_at = min(due_at & 1152921504606846975, :now) WHERE seq IN (
    SELECT seq FROM task INDEXED BY task_parked_own
    WHERE status = 'pending' AND reason = 'concurrency_limited' AND queue = :queue AND concurrency_key = :key
      AND owner = :owner
    ORDER BY priority DESC, due_at, seq LIMIT :limit)
RETURNING queue, type, due_at, interruptions;

-- name: parked_keys
SELECT DISTINCT queue, owner, concurrency_key FROM task INDEXED BY task_parked_own
WHERE status = 'pending' AND reason = 'concurrency_limited';

-- name: any_parked
SELECT 1 FROM task INDEXED BY task_parked WHERE status = 'pending' AND reason = 'concurrency_limited' LIMIT 1;

-- name: place_of
SELECT seq, queue, priority, due_at, coalesce(weight, 1), owner, concurrency_key FROM task
WHERE task_id = ? AND status = 'pending';

-- name: due_before_level
SELECT count(*) FROM (SELECT 1 FROM task INDEXED BY task_line
    WHERE status = 'pending' AND queue = ? AND type = ? AND priority = ? AND due_at <= ? LIMIT ?);

-- name: due_before
SELECT count(*) FROM (SELECT 1 FROM task INDEXED BY task_line
    WHERE status = 'pending' AND queue = ? AND type = ? AND priority = ? AND (due_at, seq) < (?, ?) LIMIT ?);

-- name: own_due_before
SELECT count(*) FROM (SELECT 1 FROM task INDEXED BY task_own
    WHERE status = 'pending' AND owner <> '' AND owner = :owner AND queue = :queue AND due_at <= :now
      AND (priority > :priority OR (priority = :priority AND (due_at, seq) < (:due_at, :seq))) LIMIT :limit);

-- name: run_time
-- Run times of the last few tasks submitted before this one, or before the oldest running one: most have ended.
SELECT avg(finished_at - started_at) FROM (
    SELECT status, started_at, finished_at FROM task INDEXED BY task_type
    WHERE type = (SELECT type FROM task WHERE task_id = :task_id)
      AND seq < min((SELECT seq FROM task WHERE task_id = :task_id),
                    coalesce((SELECT min(running.seq) FROM task AS running INDEXED BY task_running
                              WHERE running.status = 'running'
                                AND running.type = (SELECT type FROM task WHERE task_id = :task_id)), 1 << 62))
    ORDER BY seq DESC LIMIT 100)
WHERE status = 'completed';
