-- name: clock_move
SELECT step, set_to, moving, moved_due_at, moved_seq FROM clock;

-- name: keep_clock_move
UPDATE clock SET step = ?, set_to = ?, moving = ?, moved_due_at = ?, moved_seq = ?;

-- name: watch_fresh
-- Rows that get a time while a step is followed get it by the new clock. Only this connection writes.
CREATE TEMP TRIGGER fresh_task AFTER INSERT ON task WHEN new.status = 'pending' AND new.reason <> 'queued'
BEGIN INSERT OR IGNORE INTO clock_fresh VALUES (0, new.seq); END;
CREATE TEMP TRIGGER fresh_time AFTER UPDATE OF due_at ON task WHEN new.status = 'pending' AND new.reason <> 'queued'
BEGIN INSERT OR IGNORE INTO clock_fresh VALUES (0, new.seq); END;
CREATE TEMP TRIGGER fresh_delivery AFTER INSERT ON webhook_delivery WHEN new.status = 'pending'
BEGIN INSERT OR IGNORE INTO clock_fresh VALUES (1, new.seq); END;
CREATE TEMP TRIGGER fresh_delivery_time AFTER UPDATE OF due_at ON webhook_delivery WHEN new.status = 'pending'
BEGIN INSERT OR IGNORE INTO clock_fresh VALUES (1, new.seq); END;
CREATE TEMP TRIGGER fresh_step AFTER INSERT ON step WHEN new.until IS NOT NULL AND new.finished_at IS NULL
BEGIN INSERT OR IGNORE INTO clock_fresh VALUES (2, new.id); END;

-- name: unwatch_fresh
DROP TRIGGER fresh_task;
DROP TRIGGER fresh_time;
DROP TRIGGER fresh_delivery;
DROP TRIGGER fresh_delivery_time;
DROP TRIGGER fresh_step;
DELETE FROM clock_fresh;

-- name: later_up
SELECT due_at, seq FROM task INDEXED BY task_later
WHERE status = 'pending' AND reason <> 'queued' AND (due_at, seq) > (:due_at, :seq) AND due_at <= :never
ORDER BY due_at, seq LIMIT :limit;

-- name: later_down
SELECT due_at, seq FROM task INDEXED BY task_later
WHERE status = 'pending' AND reason <> 'queued' AND (due_at, seq) < (:due_at, :seq) AND due_at > :before
ORDER BY due_at DESC, seq DESC LIMIT :limit;

-- name: move_tasks
-- The clock was set by `step`, from `before` to `set_to`. A due task stays due. A task that waits for a duration is
-- moved, so that it waits as long as before. A task that waits for a fixed time stays as it is. A task that waits for
-- other tasks may have a delay to move.
UPDATE task SET
    due_at = CASE WHEN due_at <= :before THEN :set_to WHEN due_at < :never THEN due_at + :step ELSE due_at END,
    run_at = CASE WHEN due_at > :before AND coalesce(json_extract(CAST(extra AS TEXT), '$.delayed'), 0)
        AND run_at > :before THEN run_at + :step ELSE run_at END
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND seq NOT IN (SELECT seq FROM clock_fresh WHERE moving = 0)
  AND (due_at <= :before OR reason NOT IN ('scheduled', 'dependencies')
       OR coalesce(json_extract(CAST(extra AS TEXT), '$.delayed'), 0));

-- name: deliveries_up
SELECT due_at, seq FROM webhook_delivery INDEXED BY webhook_delivery_age
WHERE (due_at, seq) > (:due_at, :seq) ORDER BY due_at, seq LIMIT :limit;

-- name: deliveries_down
SELECT due_at, seq FROM webhook_delivery INDEXED BY webhook_delivery_age
WHERE (due_at, seq) < (:due_at, :seq) AND due_at > :before ORDER BY due_at DESC, seq DESC LIMIT :limit;

-- name: move_deliveries
-- Both times of a taken delivery move, as it is recognised by their distance (see release_deliveries).
UPDATE webhook_delivery SET
    due_at = CASE WHEN due_at <= :before THEN :set_to ELSE due_at + :step END,
    attempted_at = CASE WHEN due_at > :before AND due_at = attempted_at + :lease THEN attempted_at + :step
        ELSE attempted_at END
WHERE status = 'pending' AND seq IN (SELECT value FROM json_each(:seqs))
  AND seq NOT IN (SELECT seq FROM clock_fresh WHERE moving = 1);

-- name: steps_up
SELECT until, id FROM step INDEXED BY step_until
WHERE until IS NOT NULL AND finished_at IS NULL AND (until, id) > (:due_at, :seq) ORDER BY until, id LIMIT :limit;

-- name: steps_down
SELECT until, id FROM step INDEXED BY step_until
WHERE until IS NOT NULL AND finished_at IS NULL AND (until, id) < (:due_at, :seq) AND until > :before
ORDER BY until DESC, id DESC LIMIT :limit;

-- name: move_steps
-- A time that has come stays so.
UPDATE step SET until = CASE WHEN until <= :before THEN :set_to ELSE until + :step END
WHERE id IN (SELECT value FROM json_each(:seqs)) AND id NOT IN (SELECT seq FROM clock_fresh WHERE moving = 2);

-- name: forget_fresh
-- Rows beyond the last moved one are not visited again.
DELETE FROM clock_fresh WHERE moving = ? AND seq IN (SELECT value FROM json_each(?));
