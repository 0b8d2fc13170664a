-- name: clock
SELECT now() AS now, steps, seen_at, erased_until FROM {schema}.clock;

-- name: clock_seen
UPDATE {schema}.clock SET seen_at = now();

-- name: erased_until
UPDATE {schema}.clock SET erased_until = $1;

-- name: clock_was_set
-- Of all processes that see a step the first one follows it. Where another has seen a time within a jump ahead there
-- was none: this process's machine stood still.
UPDATE {schema}.clock SET steps = steps + 1, seen_at = now()
WHERE steps = $1 AND ($2::interval < interval '0' OR seen_at <= now() - $2::interval + $3::interval) RETURNING steps;

-- name: stay_due
-- The clock was set back: what was due before stays due, whatever it had waited for.
UPDATE {schema}.task SET due_at = now()
WHERE status = 'pending' AND reason <> 'dependencies' AND due_at > now() AND due_at <= now() - $1::interval;

-- name: move_waits
-- What waits for a length of time waits as long as it would have. What waits for a moment waits for the clock to show
-- it, and what waits for other tasks may wait for its delay after them.
UPDATE {schema}.task
SET due_at = CASE WHEN due_at < '9999-01-01 00:00:00+00' THEN due_at + $1::interval ELSE due_at END,
    run_at = CASE WHEN coalesce((convert_from(extra, 'UTF8')::jsonb ->> 'delayed')::boolean, false)
                   AND run_at > now() - $1::interval THEN run_at + $1::interval ELSE run_at END
WHERE status = 'pending' AND reason <> 'queued' AND due_at > now() - $1::interval
  AND (reason NOT IN ('scheduled', 'dependencies')
       OR coalesce((convert_from(extra, 'UTF8')::jsonb ->> 'delayed')::boolean, false));

-- name: renew_leases
-- Whoever lives extends its lease soon; one that ended with its process stays so.
UPDATE {schema}.task SET lease_expires_at = now() + $1::interval
WHERE status = 'running' AND lease_expires_at > to_timestamp(0);

-- name: stay_due_deliveries
UPDATE {schema}.webhook_delivery SET due_at = now()
WHERE status = 'pending' AND due_at > now() AND due_at <= now() - $1::interval;

-- name: move_deliveries
UPDATE {schema}.webhook_delivery SET due_at = due_at + $1::interval
WHERE status = 'pending' AND due_at > now() - $1::interval;

-- name: move_refills
UPDATE {schema}.queue SET refilled_at = refilled_at + $1::interval;

-- name: move_signs_of_life
WITH held AS (UPDATE {schema}.webhook_dispatch SET held_until = held_until + $1::interval)
UPDATE {schema}.worker SET heartbeat_at = heartbeat_at + $1::interval;
