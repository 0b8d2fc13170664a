-- name: insert_child
INSERT INTO child (parent, seq, number, place, level, is_detached, is_held) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: any_of
SELECT task_id FROM task WHERE task_id {any_id:task_ids} LIMIT 1;

-- name: step_stored
UPDATE step SET stored = stored + ?, in_flight = in_flight + ? WHERE id = ?;

-- name: in_flight
SELECT in_flight, max_in_flight FROM step WHERE id = ?;

-- name: number_stored
SELECT stored FROM step WHERE id = ?;

-- name: child_by_seq
SELECT child.parent, child.number, child.is_held, child.is_detached, task.task_id, task.status, task.expires_at
FROM child JOIN task ON task.seq = child.parent WHERE child.seq = ?;

-- name: count_child
UPDATE step SET completed = completed + (:status = 'completed'), failed = failed + (:status = 'failed'),
    cancelled = cancelled + (:status = 'cancelled'), in_flight = in_flight - :was_in_flight,
    finished_at = CASE WHEN completed + failed + cancelled + 1 >= total THEN :now END
WHERE id = :id
RETURNING is_awaited, completed + failed + cancelled >= total, max_in_flight - in_flight;

-- name: child_runs_again
UPDATE step SET failed = failed - (:status = 'failed'), cancelled = cancelled - (:status = 'cancelled'),
    in_flight = in_flight + 1, finished_at = NULL
WHERE id = :id;

-- name: next_held
SELECT seq FROM child INDEXED BY child_held WHERE parent = ? AND number = ? AND is_held ORDER BY place LIMIT ?;

-- name: not_held
UPDATE child SET is_held = 0 WHERE seq = ?;

-- name: hold_child
UPDATE child SET is_held = 1 WHERE seq = ?;

-- name: one_in_flight
UPDATE step SET in_flight = in_flight + 1 WHERE id = ?;

-- name: child_expires
-- A child goes just before its parent, and later only if its parent is kept for ever. Deleted tasks expire at 0.
UPDATE task SET expires_at = min(coalesce(finished_at + retention, :until), coalesce(:until, finished_at + retention))
WHERE seq = :seq AND status NOT IN ('pending', 'running');

-- name: child_stays
UPDATE task SET expires_at = NULL WHERE seq = ? AND expires_at IS NOT NULL;

-- name: cut_loose
DELETE FROM child WHERE seq = ?;

-- name: unsettled_children
SELECT child.seq, child.is_detached, task.task_id, task.status
FROM child INDEXED BY child_unsettled JOIN task ON task.seq = child.seq
WHERE child.parent = ? AND NOT child.is_settled LIMIT ?;

-- name: child_settled
UPDATE child SET is_settled = 1 WHERE seq = ?;

-- name: parent_goes_on
UPDATE task SET expires_at = NULL WHERE expires_at IS NOT NULL AND seq IN (SELECT seq FROM child WHERE parent = ?);

-- name: children_unsettled
UPDATE child SET is_settled = 0 WHERE parent = ? AND is_settled;

-- name: unsettled_parents
-- One seek for each parent with children that are not settled.
WITH RECURSIVE one (parent) AS (
    SELECT min(parent) FROM child INDEXED BY child_unsettled WHERE NOT is_settled
    UNION ALL
    SELECT (SELECT min(parent) FROM child INDEXED BY child_unsettled WHERE NOT is_settled AND parent > one.parent)
    FROM one WHERE one.parent IS NOT NULL
)
SELECT task_id FROM one JOIN task ON task.seq = one.parent WHERE status NOT IN ('pending', 'running');

-- name: children_at
SELECT child.place, task.task_id, task.status, task.result, task.error
FROM child INDEXED BY child_place JOIN task ON task.seq = child.seq
WHERE child.parent = (SELECT seq FROM task WHERE task_id = :task_id)
  AND child.number = (SELECT number FROM step WHERE key = :key
                      AND task_seq = (SELECT seq FROM task WHERE task_id = :task_id))
  AND child.place >= :first
ORDER BY child.place LIMIT :limit;

-- name: children_to_run_again
SELECT child.seq, task.task_id, child.place FROM child JOIN task ON task.seq = child.seq
WHERE child.parent = ? AND child.number = ? AND child.place > ? AND task.status IN ('failed', 'cancelled')
ORDER BY child.place LIMIT ?;

-- name: ran_again
-- Those that were asked to stop still may, once that they have ended.
UPDATE step SET may_run_again = EXISTS (
    SELECT 1 FROM task INDEXED BY task_running CROSS JOIN child ON child.seq = task.seq
    WHERE task.status = 'running' AND task.cancel_requested_at IS NOT NULL
      AND child.parent = step.task_seq AND child.number = step.number)
WHERE id = ?;

-- name: children_of_step
SELECT child.seq, task.task_id, task.status FROM child JOIN task ON task.seq = child.seq
WHERE child.parent = ? AND child.number = ?;

-- name: any_child
SELECT 1 FROM child WHERE parent = ? LIMIT 1;

-- name: expire_deleted
UPDATE task SET expires_at = 0 WHERE seq = ?;

-- name: forget_children
DELETE FROM child WHERE seq {any:seqs};

-- name: open_task
SELECT task_id, status FROM task WHERE seq = ? AND status IN ('pending', 'running');

-- name: children_steps
SELECT number, is_awaited, completed + failed + cancelled >= total, max_in_flight - in_flight
FROM step INDEXED BY step_children WHERE task_seq = ? AND kind = 'children' ORDER BY number;
