-- name: clock
SELECT now() AS now, steps, is_moving, seen_at, erased_until FROM {schema}.clock;

-- name: clock_seen
UPDATE {schema}.clock SET seen_at = now();

-- name: erased_until
UPDATE {schema}.clock SET erased_until = $1;

-- name: clock_was_set
-- The first process that sees a step follows it. If another process has seen a time within a jump ahead, there was no
-- step: this process's machine stood still.
-- A step that is being followed is finished first; processes that see another meanwhile do not wait for the row.
UPDATE {schema}.clock SET steps = steps + 1, seen_at = now(), is_moving = true
WHERE id IN (SELECT id FROM {schema}.clock WHERE steps = $1 AND NOT is_moving FOR UPDATE SKIP LOCKED)
  AND ($2::interval < interval '0' OR seen_at <= now() - $2::interval + $3::interval) RETURNING steps;

-- name: note_moves
-- The clock was set by $1. Due rows stay due. Rows that wait for a duration are moved, so that they wait as long as
-- before. Rows that wait for a fixed time stay as they are. Tasks that wait for other tasks may have a delay to move.
INSERT INTO {schema}.clock_move (of_delivery, seq, due_at, to_due_at, to_run_at)
SELECT false, seq, due_at, CASE WHEN due_at < '9999-01-01 00:00:00+00' THEN due_at + $1::interval ELSE due_at END,
       CASE WHEN coalesce((convert_from(extra, 'UTF8')::jsonb ->> 'delayed')::boolean, false)
             AND run_at > now() - $1::interval THEN run_at + $1::interval END
FROM {schema}.task
WHERE status = 'pending' AND reason <> 'queued' AND due_at > now() - $1::interval
  AND (reason NOT IN ('scheduled', 'dependencies')
       OR coalesce((convert_from(extra, 'UTF8')::jsonb ->> 'delayed')::boolean, false))
UNION ALL
SELECT false, seq, due_at, now(), NULL FROM {schema}.task
WHERE status = 'pending' AND reason <> 'dependencies' AND due_at > now() AND due_at <= now() - $1::interval
UNION ALL
SELECT true, seq, due_at, CASE WHEN due_at <= now() - $1::interval THEN now() ELSE due_at + $1::interval END, NULL
FROM {schema}.webhook_delivery
WHERE status = 'pending' AND due_at > least(now(), now() - $1::interval);

-- name: move_tasks
-- Moves the next batch; returns its size.
WITH next AS (
    DELETE FROM {schema}.clock_move WHERE NOT of_delivery AND seq IN (
        SELECT seq FROM {schema}.clock_move WHERE NOT of_delivery ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING seq, due_at, to_due_at, to_run_at
), moved AS (
    UPDATE {schema}.task SET due_at = next.to_due_at, run_at = coalesce(next.to_run_at, task.run_at)
    FROM next WHERE task.seq = next.seq AND task.status = 'pending' AND task.due_at = next.due_at
)
SELECT count(*) FROM next;

-- name: move_deliveries
WITH next AS (
    DELETE FROM {schema}.clock_move WHERE of_delivery AND seq IN (
        SELECT seq FROM {schema}.clock_move WHERE of_delivery ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING seq, due_at, to_due_at
), moved AS (
    UPDATE {schema}.webhook_delivery AS delivery SET due_at = next.to_due_at
    FROM next WHERE delivery.seq = next.seq AND delivery.status = 'pending' AND delivery.due_at = next.due_at
)
SELECT count(*) FROM next;

-- name: clock_followed
UPDATE {schema}.clock SET is_moving = false WHERE is_moving AND NOT EXISTS (SELECT FROM {schema}.clock_move);

-- name: renew_leases
-- Living workers extend their leases soon; a lease that ended with its process stays ended.
UPDATE {schema}.task SET lease_expires_at = now() + $1::interval
WHERE status = 'running' AND lease_expires_at > to_timestamp(0);

-- name: move_refills
UPDATE {schema}.queue SET refilled_at = refilled_at + $1::interval;

-- name: move_steps
-- Ends of sleeps, and of the time of questions. In order, as all changes of steps. A time that has come stays so.
UPDATE {schema}.step SET until = CASE WHEN step.until <= now() - $1::interval THEN least(step.until, now())
                                      ELSE step.until + $1::interval END
FROM (SELECT task_seq, number FROM {schema}.step
      WHERE until IS NOT NULL AND finished_at IS NULL AND until > least(now(), now() - $1::interval)
      ORDER BY task_seq, number FOR NO KEY UPDATE) AS waiting
WHERE step.task_seq = waiting.task_seq AND step.number = waiting.number;

-- name: move_signs_of_life
WITH held AS (UPDATE {schema}.webhook_dispatch SET held_until = held_until + $1::interval)
UPDATE {schema}.worker SET heartbeat_at = heartbeat_at + $1::interval;
