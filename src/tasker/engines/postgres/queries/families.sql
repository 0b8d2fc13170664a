-- name: family_of_ended
-- What is known of tasks that have ended or run again: as a child, its step, and as a parent, whether there are children
-- for which its end is not settled. is_alone: a process of an earlier version has erased the parent.
SELECT task.seq, child.parent, child.number, child.is_held,
       parent.status NOT IN ('pending', 'running') OR is_alone AS has_ended_parent,
       (parent.expires_at <= now() AND parent.expires_at > {deleted}) OR is_alone AS has_expired_parent,
       EXISTS (SELECT FROM {schema}.child AS own WHERE own.parent = task.seq AND NOT own.is_settled) AS has_children,
       EXISTS (SELECT FROM {schema}.step WHERE step.task_seq = task.seq AND step.asks IS NOT NULL) AS asks
FROM unnest($1::bigint[]) AS task (seq) LEFT JOIN {schema}.child USING (seq)
LEFT JOIN {schema}.task AS parent ON parent.seq = child.parent
CROSS JOIN LATERAL (SELECT child.parent > 0 AND parent.seq IS NULL AS is_alone) AS erased;

-- name: lock_steps
-- In one order: steps given by number, those of parked tasks that they await or no longer await, and those of tasks
-- whose children may run again.
SELECT task_seq, number, key FROM {schema}.step WHERE (task_seq, number) IN (
    SELECT * FROM unnest($1::bigint[], $2::int[])
    UNION SELECT task_seq, number FROM {schema}.step JOIN unnest($3::bigint[], $4::text[]) AS wanted (task_seq, key)
              USING (task_seq, key)
    UNION SELECT task_seq, number FROM {schema}.step WHERE task_seq = ANY($5::bigint[]) AND is_awaited
    UNION SELECT task_seq, number FROM {schema}.step WHERE task_seq = ANY($6::bigint[]) AND kind = 'children')
ORDER BY task_seq, number FOR NO KEY UPDATE;

-- name: count_children
-- By how much the counts of steps change.
UPDATE {schema}.step SET completed = step.completed + given.completed, failed = step.failed + given.failed,
    cancelled = step.cancelled + given.cancelled, in_flight = step.in_flight + given.in_flight,
    finished_at = CASE WHEN step.completed + step.failed + step.cancelled + given.completed + given.failed
                            + given.cancelled >= total THEN now() END
FROM unnest($1::bigint[], $2::int[], $3::int[], $4::int[], $5::int[], $6::int[])
    AS given (task_seq, number, completed, failed, cancelled, in_flight)
WHERE step.task_seq = given.task_seq AND step.number = given.number
RETURNING step.task_seq, step.number, is_awaited,
    step.completed + step.failed + step.cancelled >= total AS is_there, max_in_flight - step.in_flight AS free;

-- name: await_steps
-- Mark what parked tasks wait for, and nothing else of theirs; return whether each is there already.
UPDATE {schema}.step SET is_awaited = wanted.task_seq IS NOT NULL
FROM {schema}.step AS same LEFT JOIN unnest($1::bigint[], $2::text[]) AS wanted (task_seq, key) USING (task_seq, key)
WHERE step.task_seq = ANY($3::bigint[]) AND same.task_seq = step.task_seq AND same.number = step.number
  AND (same.is_awaited OR wanted.task_seq IS NOT NULL)
RETURNING step.task_seq, step.key, step.is_awaited,
    step.finished_at IS NOT NULL
        OR (step.kind = 'children' AND step.completed + step.failed + step.cancelled >= step.total) AS is_there;

-- name: wake
-- Make parked tasks due. $1: tasks whose children or answers are there; $2: whether what is there is awaited. A row that
-- another transaction has locked is left to a later one: to wait for it, with steps and other tasks locked, may deadlock.
WITH free AS (
    SELECT seq FROM {schema}.task JOIN unnest($1::bigint[], $2::boolean[]) AS given (seq, is_awaited) USING (seq)
    WHERE is_awaited AND status = 'pending' AND reason IN ('sleeping', 'waiting_for_children', 'input_required')
    ORDER BY seq FOR NO KEY UPDATE OF task SKIP LOCKED
), woken AS (
    UPDATE {schema}.task SET reason = 'queued', due_at = now() FROM free WHERE task.seq = free.seq RETURNING task.seq
)
SELECT task.seq, task.task_id, task.status, task.worker, woken.seq IS NOT NULL AS is_woken,
       is_awaited AND task.status = 'pending'
           AND task.reason IN ('sleeping', 'waiting_for_children', 'input_required') AS is_parked
FROM unnest($1::bigint[], $2::boolean[]) AS given (seq, is_awaited) JOIN {schema}.task USING (seq)
LEFT JOIN woken USING (seq);

-- name: release_children
-- Start held children, in order, where there is room. The step's rows are locked. If a delay has not been moved with the
-- clock yet, it is moved here.
WITH next AS (
    SELECT held.seq, room.parent, room.number
    FROM unnest($1::bigint[], $2::int[], $3::int[]) AS room (parent, number, free) CROSS JOIN LATERAL (
        SELECT task.seq FROM {schema}.child JOIN {schema}.task ON task.seq = child.seq
        WHERE child.parent = room.parent AND child.number = room.number AND child.is_held AND task.status = 'pending'
          AND (child.is_detached OR NOT EXISTS (SELECT FROM {schema}.task AS parent WHERE parent.seq = room.parent
                                                AND parent.status IN ('failed', 'cancelled')))
        ORDER BY child.place LIMIT room.free FOR NO KEY UPDATE OF task SKIP LOCKED) AS held
), no_longer AS (
    UPDATE {schema}.child SET is_held = false FROM next WHERE child.seq = next.seq
), counted AS (
    UPDATE {schema}.step SET in_flight = in_flight + started.number_of
    FROM (SELECT parent, number, count(*) AS number_of FROM next GROUP BY parent, number) AS started
    WHERE step.task_seq = started.parent AND step.number = started.number
)
UPDATE {schema}.task SET reason = CASE WHEN given.at > now() THEN 'scheduled' ELSE 'queued' END,
    due_at = greatest(now(), given.at), run_at = given.at
FROM (SELECT waits.seq, next.parent, next.number, coalesce(left_over.to_run_at, waits.run_at) AS at
      FROM next JOIN {schema}.task AS waits USING (seq)
      LEFT JOIN {schema}.clock_move AS left_over ON left_over.seq = waits.seq AND NOT left_over.of_delivery) AS given
WHERE task.seq = given.seq
RETURNING task.task_id, given.parent, given.number;

-- name: still_held
-- Parents with held children, where no sibling is in flight that will release them.
SELECT DISTINCT step.task_seq FROM unnest($1::bigint[], $2::int[]) AS given (parent, number)
JOIN {schema}.step ON step.task_seq = given.parent AND step.number = given.number
WHERE step.in_flight < step.max_in_flight AND EXISTS (
    SELECT FROM {schema}.child WHERE child.parent = given.parent AND child.number = given.number AND child.is_held);

-- name: may_run_again
-- Also those that were asked to stop, and have not ended yet.
UPDATE {schema}.step SET may_run_again = true
WHERE task_seq = ANY($1::bigint[]) AND kind = 'children' AND (failed + cancelled > 0 OR EXISTS (
    SELECT FROM {schema}.child JOIN {schema}.task ON task.seq = child.seq
    WHERE child.parent = step.task_seq AND child.number = step.number AND task.status = 'running'
      AND task.cancel_requested_at IS NOT NULL));

-- name: unsettled_children
-- Rows that others have locked are left to a later transaction.
SELECT child.seq, child.parent, child.is_detached, child.is_held, task.task_id, task.status, task.cancel_requested_at,
       task.queue, task.owner, task.concurrency_key, task.has_dependants
FROM {schema}.child JOIN {schema}.task ON task.seq = child.seq
WHERE child.parent = ANY($1::bigint[]) AND NOT child.is_settled
ORDER BY child.parent, child.seq LIMIT $2 FOR NO KEY UPDATE OF task SKIP LOCKED;

-- name: parents_that_ended
SELECT seq, task_id, status IN ('failed', 'cancelled') OR {is_deleted} AS cancels,
       {is_deleted} AS is_deleted FROM {schema}.task
WHERE seq = ANY($1::bigint[]) AND status NOT IN ('pending', 'running')
  AND EXISTS (SELECT FROM {schema}.child WHERE child.parent = task.seq AND NOT child.is_settled);

-- name: cancel_children
UPDATE {schema}.task SET status = 'cancelled', reason = NULL, finished_at = now(), cancel_requested_at = now(),
    lined = false, expires_at = NULL
WHERE seq = ANY($1::bigint[]) AND status = 'pending' RETURNING task.seq, task.task_id, {head};

-- name: stop_children
UPDATE {schema}.task SET cancel_requested_at = now() WHERE seq = ANY($1::bigint[]) AND cancel_requested_at IS NULL;

-- name: settle_children
-- Those that have ended expire when their own time is over, at the latest just before their parent. Their own children
-- follow.
WITH settled AS (
    UPDATE {schema}.child SET is_settled = true WHERE seq = ANY($1::bigint[])
)
UPDATE {schema}.task SET expires_at = {child_expires}
FROM {schema}.child JOIN {schema}.task AS parent ON parent.seq = child.parent
WHERE child.seq = ANY($1::bigint[]) AND task.seq = child.seq AND task.status NOT IN ('pending', 'running')
  AND task.expires_at IS DISTINCT FROM {child_expires}
RETURNING task.seq, EXISTS (SELECT FROM {schema}.child AS own WHERE own.parent = task.seq) AS has_children;

-- name: unsettle_children
UPDATE {schema}.child SET is_settled = false WHERE parent = ANY($1::bigint[]) AND is_settled;

-- name: left_unsettled
SELECT task_id FROM {schema}.task WHERE seq = ANY($1::bigint[]) AND EXISTS (
    SELECT FROM {schema}.child WHERE child.parent = task.seq AND NOT child.is_settled);

-- name: expire_children
-- Of ended parents: see settle_children. Not of those that others have locked: they may run again.
WITH parent AS (
    SELECT seq, expires_at FROM {schema}.task
    WHERE seq IN (SELECT parent FROM {schema}.child WHERE child.seq = ANY($1::bigint[]))
      AND status NOT IN ('pending', 'running') FOR SHARE SKIP LOCKED
)
UPDATE {schema}.task SET expires_at = {child_expires}
FROM {schema}.child JOIN parent ON parent.seq = child.parent
WHERE child.seq = ANY($1::bigint[]) AND task.seq = child.seq AND task.status NOT IN ('pending', 'running')
RETURNING task.seq;

-- name: unsettle
UPDATE {schema}.child SET is_settled = false WHERE seq = ANY($1::bigint[]);

-- name: keep_children
-- Of parents that run again.
UPDATE {schema}.task SET expires_at = NULL FROM {schema}.child
WHERE child.parent = ANY($1::bigint[]) AND task.seq = child.seq AND task.expires_at IS NOT NULL;

-- name: not_held
UPDATE {schema}.child SET is_held = false WHERE seq = ANY($1::bigint[]) AND is_held;

-- name: hold_children
UPDATE {schema}.child SET is_held = true WHERE seq = ANY($1::bigint[]);

-- name: children_to_run_again
SELECT child.seq, child.place, task.task_id, task.status, task.has_dependants
FROM {schema}.child JOIN {schema}.task ON task.seq = child.seq
WHERE child.parent = $1 AND child.number = $2 AND child.place > $3 AND task.status IN ('failed', 'cancelled')
ORDER BY child.place LIMIT $4 FOR UPDATE OF task;

-- name: ran_again
-- Those that were asked to stop still may, once that they have ended.
UPDATE {schema}.step SET may_run_again = EXISTS (
    SELECT FROM {schema}.child JOIN {schema}.task ON task.seq = child.seq
    WHERE child.parent = $1 AND child.number = $2 AND task.status = 'running' AND task.cancel_requested_at IS NOT NULL)
WHERE task_seq = $1 AND number = $2;

-- name: recount
-- Processes of earlier versions end children without counting them. Where some are erased, their ends are known no more.
UPDATE {schema}.step SET completed = counted.completed, failed = counted.failed, cancelled = counted.cancelled,
    in_flight = counted.in_flight,
    finished_at = CASE WHEN counted.completed + counted.failed + counted.cancelled >= total
                       THEN coalesce(step.finished_at, now()) END
FROM (SELECT child.parent, child.number, count(*) AS there, count(*) FILTER (WHERE task.status = 'completed') AS completed,
             count(*) FILTER (WHERE task.status = 'failed') AS failed,
             count(*) FILTER (WHERE task.status = 'cancelled') AS cancelled,
             count(*) FILTER (WHERE task.status IN ('pending', 'running') AND NOT child.is_held) AS in_flight
      FROM {schema}.child JOIN {schema}.task ON task.seq = child.seq
      WHERE child.parent = ANY($1::bigint[]) GROUP BY child.parent, child.number) AS counted
WHERE step.task_seq = counted.parent AND step.number = counted.number AND step.stored = counted.there
  AND (step.completed, step.failed, step.cancelled, step.in_flight)
      IS DISTINCT FROM (counted.completed, counted.failed, counted.cancelled, counted.in_flight);

-- name: await_no_more
-- The steps are locked: no attempt parks meanwhile.
UPDATE {schema}.step SET is_awaited = false FROM {schema}.task
WHERE step.task_seq = ANY($1::bigint[]) AND is_awaited AND task.seq = step.task_seq
  AND task.status NOT IN ('pending', 'running');

-- name: parents_to_attend
-- The next parents that wait for something, or have held children (one seek for each): as many as have $3 children, and
-- at most $2.
WITH RECURSIVE holding (parent, place) AS (
    (SELECT parent, 1 FROM {schema}.child WHERE is_held AND parent > $1 ORDER BY parent LIMIT 1)
    UNION ALL
    SELECT (SELECT parent FROM {schema}.child WHERE is_held AND parent > holding.parent ORDER BY parent LIMIT 1), place + 1
    FROM holding WHERE holding.parent IS NOT NULL AND place < $2
), next AS (
    SELECT task_seq, (SELECT sum(stored) FROM {schema}.step
                      WHERE step.task_seq = given.task_seq AND kind = 'children') AS stored
    FROM (SELECT task_seq FROM (
              (SELECT DISTINCT task_seq FROM {schema}.step WHERE is_awaited AND task_seq > $1 ORDER BY task_seq LIMIT $2)
              UNION SELECT parent FROM holding WHERE parent IS NOT NULL
          ) AS either ORDER BY task_seq LIMIT $2) AS given
)
SELECT task_seq FROM (SELECT task_seq, sum(coalesce(stored, 0)) OVER (ORDER BY task_seq) - coalesce(stored, 0) AS before
                      FROM next) AS counted
WHERE before < $3 ORDER BY task_seq;

-- name: unsettled_parents
-- The next parents with children that are not settled: one seek for each. Whether they have ended; no task_id: a process
-- of an earlier version has erased it.
WITH RECURSIVE one (parent, place) AS (
    (SELECT parent, 1 FROM {schema}.child WHERE NOT is_settled AND parent > $1 ORDER BY parent LIMIT 1)
    UNION ALL
    SELECT (SELECT parent FROM {schema}.child WHERE NOT is_settled AND parent > one.parent ORDER BY parent LIMIT 1),
           place + 1
    FROM one WHERE one.parent IS NOT NULL AND place < $2
)
SELECT one.parent AS seq, task.task_id, task.status NOT IN ('pending', 'running') AS has_ended
FROM one LEFT JOIN {schema}.task ON task.seq = one.parent WHERE one.parent IS NOT NULL ORDER BY one.parent;

-- name: go_on_alone
-- The children of parents that were erased before them.
WITH cut AS (DELETE FROM {schema}.child WHERE parent = ANY($1::bigint[]) RETURNING seq, is_held)
UPDATE {schema}.task SET
    expires_at = CASE WHEN status IN ('pending', 'running') THEN expires_at ELSE finished_at + retention END,
    reason = CASE WHEN is_held AND status = 'pending' THEN 'queued' ELSE reason END,
    due_at = CASE WHEN is_held AND status = 'pending' THEN now() ELSE due_at END
FROM cut WHERE task.seq = cut.seq;

-- name: attend
-- What there is to do for parents: whether something is there that a parked one awaits, and where there is room.
SELECT task_seq, number, is_awaited AND (finished_at IS NOT NULL
           OR (kind = 'children' AND completed + failed + cancelled >= total)) AS is_there,
       max_in_flight - in_flight AS free
FROM {schema}.step WHERE task_seq = ANY($1::bigint[]) AND (is_awaited OR kind = 'children');

-- name: lock_parent
SELECT status FROM {schema}.task WHERE seq = $1 FOR NO KEY UPDATE;

-- name: children_to_forget
SELECT child.seq, task.task_id, task.status, task.queue, task.owner, task.concurrency_key
FROM {schema}.child JOIN {schema}.task ON task.seq = child.seq
JOIN unnest($1::bigint[], $2::int[]) AS given (parent, number) USING (parent, number)
ORDER BY child.seq FOR NO KEY UPDATE OF task;

-- name: cut_loose
WITH cut AS (DELETE FROM {schema}.child WHERE seq = ANY($1::bigint[]))
UPDATE {schema}.task SET expires_at = finished_at + retention
WHERE seq = ANY($1::bigint[]) AND status NOT IN ('pending', 'running') AND retention IS NOT NULL;

-- name: forget_steps
DELETE FROM {schema}.step USING unnest($1::bigint[], $2::int[]) AS given (task_seq, number)
WHERE step.task_seq = given.task_seq AND step.number = given.number;

-- name: total_children
SELECT coalesce(sum(total), 0) FROM {schema}.step WHERE task_seq = $1 AND kind = 'children';

-- name: insert_children_step
INSERT INTO {schema}.step (task_seq, number, key, name, kind, attempt, started_at, total, max_in_flight)
SELECT $1, 1 + coalesce((SELECT max(number) FROM {schema}.step WHERE task_seq = $1), 0), $2, $3, 'children', $4, $5, $6, $7
ON CONFLICT (task_seq, key) DO NOTHING;

-- name: lock_step
SELECT number, stored, in_flight, max_in_flight FROM {schema}.step WHERE task_seq = $1 AND key = $2 FOR NO KEY UPDATE;

-- name: insert_children
INSERT INTO {schema}.child (seq, parent, number, place, level, is_detached, is_held)
SELECT seq, $1, $2, place, $3, $4, is_held FROM unnest($5::bigint[], $6::int[], $7::boolean[]) AS new (seq, place, is_held);

-- name: step_stored
UPDATE {schema}.step SET stored = stored + $3, in_flight = in_flight + $4 WHERE task_seq = $1 AND number = $2;

-- name: children_at
-- Sizes first: a value's length is known without reading it, and then whole rows are fetched.
WITH next AS (
    SELECT child.place, task.seq, coalesce(octet_length(task.result), 0) + coalesce(octet_length(task.error), 0) AS size
    FROM {schema}.child JOIN {schema}.task ON task.seq = child.seq
    WHERE child.parent = (SELECT seq FROM {schema}.task WHERE task_id = $1)
      AND child.number = (SELECT number FROM {schema}.step WHERE key = $2
                          AND task_seq = (SELECT seq FROM {schema}.task WHERE task_id = $1))
      AND child.place >= $3
    ORDER BY child.place LIMIT $4
), counted AS (
    SELECT place, seq, sum(size) OVER (ORDER BY place) - size AS before FROM next
)
SELECT place, task_id, status, result, error FROM counted JOIN {schema}.task USING (seq)
WHERE before < $5 ORDER BY place;
