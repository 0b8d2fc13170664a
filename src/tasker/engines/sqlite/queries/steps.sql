-- name: insert_step
INSERT INTO step (id, task_seq, number, key, name, kind, attempt, started_at, finished_at, until, asks, question, value,
                  secret_value, total, max_in_flight)
SELECT seq << 20 | number, seq, number, :key, :name, :kind, :attempt, :started_at, :finished_at, :until, :asks, :question,
       :value, :secret_value, :total, :max_in_flight
FROM (SELECT :seq AS seq, 1 + coalesce((SELECT max(id) & 1048575 FROM step
                                        WHERE id > :seq << 20 AND id < (:seq + 1) << 20), 0) AS number) WHERE true
ON CONFLICT (task_seq, key) DO NOTHING;

-- name: end_sleep
UPDATE step SET finished_at = ? WHERE task_seq = ? AND key = ? AND kind = 'sleep' AND finished_at IS NULL;

-- name: step_by_key
SELECT id, {step} FROM step WHERE task_seq = ? AND key = ?;

-- name: steps_by_seq
SELECT {step} FROM step WHERE id > ?1 << 20 AND id < (?1 + 1) << 20 ORDER BY id;

-- name: concerns_others
UPDATE task SET has_dependants = 1 WHERE seq = ? AND has_dependants = 0;

-- name: asked_of
SELECT {step} FROM step INDEXED BY step_asked
WHERE task_seq = :seq AND asks IS NOT NULL AND (until IS NULL OR until > :now) ORDER BY number LIMIT 1;

-- name: child_counts
SELECT sum(stored), sum(completed), sum(failed), sum(cancelled) FROM step INDEXED BY step_children
WHERE task_seq = ? AND kind = 'children';

-- name: running_children
-- From the running tasks, which are few, however many children there are.
SELECT count(*) FROM task INDEXED BY task_running CROSS JOIN child ON child.seq = task.seq
WHERE status = 'running' AND child.parent = ?;

-- name: total_children
SELECT coalesce(sum(total), 0) FROM step INDEXED BY step_children WHERE task_seq = ? AND kind = 'children';

-- name: not_awaited
UPDATE step SET is_awaited = 0 WHERE task_seq = ? AND is_awaited;

-- name: await_steps
UPDATE step SET is_awaited = 1 WHERE task_seq = :seq AND key IN (SELECT value FROM json_each(:keys));

-- name: any_there
-- Whether any of these steps is there already: answered or closed, or all its children have ended; or is not stored.
SELECT EXISTS (SELECT 1 FROM json_each(:keys) AS wanted LEFT JOIN step ON task_seq = :seq AND step.key = wanted.value
               WHERE step.id IS NULL OR finished_at IS NOT NULL
                  OR (kind = 'children' AND completed + failed + cancelled >= total));

-- name: wake
UPDATE task SET reason = 'queued', due_at = :now, has_waited = {waits}
WHERE seq = :seq AND status = 'pending' AND reason IN ('sleeping', 'waiting_for_children', 'input_required')
RETURNING task_id, owner, queue, type, interruptions;

-- name: is_awaited
SELECT is_awaited FROM step WHERE id = ?;

-- name: note_answer
UPDATE step SET value = ?, finished_at = ?, answered_by = ?, asks = NULL WHERE id = ? AND finished_at IS NULL;

-- name: asks_no_more
UPDATE step SET asks = NULL WHERE task_seq = ? AND asks IS NOT NULL;

-- name: asks_again
UPDATE step SET asks = (SELECT owner FROM task WHERE seq = task_seq)
WHERE task_seq = ? AND kind = 'input' AND finished_at IS NULL;

-- name: set_sequence
UPDATE task SET sequence = ? WHERE seq = ? AND status = 'pending';

-- name: children_may_run_again
-- Also those that were asked to stop, and have not ended yet.
UPDATE step SET may_run_again = 1
WHERE id IN (SELECT id FROM step INDEXED BY step_children
             WHERE task_seq = ?1 AND kind = 'children' AND failed + cancelled > 0
             UNION
             SELECT child.parent << 20 | child.number
             FROM task INDEXED BY task_running CROSS JOIN child ON child.seq = task.seq
             WHERE status = 'running' AND cancel_requested_at IS NOT NULL AND child.parent = ?1);

-- name: copy_steps
-- A step whose secret value is erased is not copied: it runs again.
INSERT INTO step (id, task_seq, number, key, name, kind, attempt, started_at, finished_at, until, answered_by, question,
                  value, secret_value)
SELECT :seq << 20 | number, :seq, number, key, name, kind, 0, started_at, finished_at, until, answered_by, question, value,
       secret_value
FROM step WHERE task_seq = (SELECT seq FROM task WHERE task_id = :other AND (expires_at IS NULL OR expires_at > :now))
  AND kind <> 'children' AND (kind <> 'input' OR finished_at IS NOT NULL)
  AND (secret_value IS NULL OR secret_value <> x'');

-- name: forget_steps
DELETE FROM step WHERE id IN (SELECT value FROM json_each(:ids));

-- name: steps_to_erase
SELECT id, 200 + coalesce(octet_length(value), 0) + coalesce(octet_length(secret_value), 0) FROM step
WHERE task_seq {any:seqs} LIMIT :limit;

-- name: erase_steps
DELETE FROM step WHERE task_seq {any:seqs};

-- name: insert_archived_step
INSERT INTO step (id, task_seq, number, key, name, kind, attempt, started_at, finished_at, until, asks, answered_by,
                  is_awaited, may_run_again, max_in_flight, total, stored, in_flight, completed, failed, cancelled,
                  question, value, secret_value)
SELECT seq << 20 | :number, seq, :number, :key, :name, :kind, :attempt, :started_at, :finished_at, :until,
       CASE WHEN :asks THEN owner END, :answered_by, :is_awaited, :may_run_again, :max_in_flight, :total, :stored,
       :in_flight, :completed, :failed, :cancelled, :question, :value, CASE WHEN :is_secret THEN x'' END
FROM task WHERE task_id = :task_id;
