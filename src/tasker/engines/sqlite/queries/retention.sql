-- name: expired_tasks
-- With the number of their rows, and the size of the wide ones: the length of a blob is known without reading it.
-- Tasks whose dependants are not settled yet are left out, and those that have children: these expire before them.
SELECT seq, task_id, 1 + attempt + CASE tags WHEN '[]' THEN 0 ELSE json_array_length(tags) END,
       length(params) + coalesce(length(result), 0)
FROM task INDEXED BY task_expires
WHERE expires_at <= ? AND NOT (has_dependants AND (EXISTS (SELECT 1 FROM dependency WHERE depends_on = task_id)
                                                   OR EXISTS (SELECT 1 FROM child WHERE parent = task.seq)))
ORDER BY expires_at LIMIT ?;

-- name: delete_some_events
DELETE FROM task_event WHERE (task_seq, sequence) IN (
    SELECT task_seq, sequence FROM task_event WHERE task_seq {any:seqs} LIMIT :limit);

-- name: bury
-- Those that expire at 0 or before were deleted, or the task that they belong to.
INSERT OR REPLACE INTO tombstone (task_id, owner, expired_at, forgotten_at)
SELECT task_id, owner, iif(expires_at > 0, expires_at, NULL),
       iif(expires_at > 0, expires_at + max(coalesce(retention, 0), :at_least),
           :now + max(coalesce(retention, :forever), :at_least))
FROM task WHERE seq {any:seqs};

-- name: bury_deleted
INSERT OR REPLACE INTO tombstone (task_id, owner, expired_at, forgotten_at)
SELECT task_id, owner, NULL, :now + max(coalesce(retention, :forever), :at_least) FROM task WHERE seq = :seq;

-- name: outlive_tasks
-- A kept key shows that its task has expired: sending the request again must not create another task.
UPDATE idempotency SET reply = x'', expires_at = min(expires_at, (SELECT forgotten_at FROM tombstone
                                                                  WHERE tombstone.task_id = idempotency.task_id))
WHERE task_id {any_id:task_ids};

-- name: erase_tags
DELETE FROM task_tag WHERE (tag, seq) IN (
    SELECT tag.value, task.seq FROM task, json_each(task.tags) AS tag WHERE task.seq {any:seqs});

-- name: forget_failures
DELETE FROM task_failure WHERE seq {any:seqs};

-- name: forget_schedules
DELETE FROM task_schedule WHERE seq {any:seqs};

-- name: erase_attempts
DELETE FROM attempt WHERE task_seq {any:seqs};

-- name: erase_events
DELETE FROM task_event WHERE task_seq {any:seqs};

-- name: erase_deliveries
DELETE FROM webhook_delivery WHERE task_id {any_id:task_ids};

-- name: erase_webhooks
DELETE FROM webhook WHERE task_id {any_id:task_ids};

-- name: references
-- The results that may be references to files; others are not read. RETURNING in `erase_tasks` takes four times as long.
SELECT result FROM task WHERE seq {any:seqs} AND length(result) < 100 AND substr(result, 1, 1) = x'00';

-- name: erase_tasks
DELETE FROM task WHERE seq {any:seqs};

-- name: when_expired
SELECT owner, expires_at FROM task WHERE task_id = :task_id AND expires_at <= :now AND expires_at > 0
UNION ALL
SELECT owner, expired_at FROM tombstone WHERE task_id = :task_id AND expired_at IS NOT NULL AND forgotten_at > :now
LIMIT 1;

-- name: is_buried
SELECT 1 FROM tombstone WHERE task_id = ? AND forgotten_at > ?;

-- name: prune_tombstones
DELETE FROM tombstone WHERE task_id IN (
    SELECT task_id FROM tombstone WHERE forgotten_at <= ? ORDER BY forgotten_at LIMIT ?);

-- name: result_references
-- References to the files of large results; other results are not read.
SELECT result FROM task WHERE CASE WHEN length(result) < 100 THEN substr(result, 1, 1) = x'00' END;
-- name: tasks_by_status
SELECT status, count(*) FROM task GROUP BY status;
-- name: result_by_id
-- The result if it may be a reference to a file; others are not read.
SELECT CASE WHEN length(result) < 100 THEN result END FROM task WHERE task_id = ?;
