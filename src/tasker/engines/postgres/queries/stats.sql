-- name: window
-- The kept sums of a window by step (-1: all of the window before) and group, and with a minute what is not in them yet.
-- One statement sees both as they were at one time.
SELECT CASE WHEN bucket < $1 THEN -1 ELSE (bucket - $1) / $4 END AS step,
       CASE $6::text WHEN 'type' THEN type WHEN 'queue' THEN queue ELSE '' END AS name, ARRAY[{summed_sums}] AS sums,
       NULL::bigint AS minute, NULL::text AS owner, NULL::text AS type, NULL::text AS queue, NULL::smallint[] AS runs,
       NULL::smallint[] AS waits
FROM {schema}.rollup
WHERE unit = $5 AND owner = $7 AND bucket >= $2 AND bucket < $3 AND ($8::text IS NULL OR type = $8)
  AND ($9::text IS NULL OR queue = $9)
GROUP BY 1, 2
UNION ALL
SELECT NULL, NULL,
       ARRAY[submitted, started, completed, failed, cancelled, retried, run_time, wait_time], minute, owner, type, queue,
       runs, waits
FROM {schema}.task_change;

-- name: open_counts
-- What was pending for a time that has come is found by an index; the others are counted already.
WITH counted AS (
    SELECT queue, type, sum(pending)::bigint AS pending, sum(waiting)::bigint AS waiting, sum(running)::bigint AS running
    FROM (SELECT owner, queue, type, pending, waiting, running FROM {schema}.open_task
          UNION ALL SELECT owner, queue, type, pending, waiting, running FROM {schema}.task_change) AS known
    WHERE $1::text[] IS NULL OR queue = ANY($1)
    GROUP BY queue, type
), by_time AS (
    SELECT queue, type, count(*) AS number FROM {schema}.task
    WHERE status = 'pending' AND NOT lined AND due_at <= now() GROUP BY queue, type
)
SELECT queue, type, pending - waiting + coalesce(number, 0) AS pending, waiting - coalesce(number, 0) AS scheduled,
       running, (SELECT due_at FROM {schema}.task
                 WHERE status = 'pending' AND task.queue = counted.queue AND task.type = counted.type
                   AND due_at <= now()
                 ORDER BY task.queue, task.type, due_at LIMIT 1) AS oldest
FROM counted LEFT JOIN by_time USING (queue, type) WHERE pending <> 0 OR running <> 0;

-- name: own_open_counts
-- The same for an owner's tasks. The oldest one is looked for in each priority, by the index task_own.
WITH counted AS (
    SELECT queue, type, sum(pending)::bigint AS pending, sum(waiting)::bigint AS waiting, sum(running)::bigint AS running
    FROM (SELECT owner, queue, type, pending, waiting, running FROM {schema}.open_task
          UNION ALL SELECT owner, queue, type, pending, waiting, running FROM {schema}.task_change) AS known
    WHERE owner = $2 AND ($1::text[] IS NULL OR queue = ANY($1))
    GROUP BY queue, type
), by_time AS (
    SELECT queue, type, count(*) AS number FROM {schema}.task
    WHERE status = 'pending' AND NOT lined AND due_at <= now() AND owner = $2 GROUP BY queue, type
)
SELECT queue, type, pending - waiting + coalesce(number, 0) AS pending, waiting - coalesce(number, 0) AS scheduled,
       running, (WITH RECURSIVE level (priority, due_at) AS (
                     (SELECT priority, due_at FROM {schema}.task
                      WHERE status = 'pending' AND owner <> '' AND owner = $2 AND task.queue = counted.queue
                        AND task.type = counted.type
                      ORDER BY owner, task.queue, task.type, priority, due_at LIMIT 1)
                     UNION ALL
                     SELECT next.priority, next.due_at FROM level CROSS JOIN LATERAL (
                         SELECT priority, due_at FROM {schema}.task
                         WHERE status = 'pending' AND owner <> '' AND owner = $2 AND task.queue = counted.queue
                           AND task.type = counted.type AND task.priority > level.priority
                         ORDER BY owner, task.queue, task.type, priority, due_at LIMIT 1) AS next
                 ) SELECT min(due_at) FROM level WHERE due_at <= now()) AS oldest
FROM counted LEFT JOIN by_time USING (queue, type) WHERE pending <> 0 OR running <> 0;

-- name: take_changes
DELETE FROM {schema}.task_change
WHERE ctid = ANY(ARRAY(SELECT ctid FROM {schema}.task_change LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING minute, owner, type, queue, pending, waiting, running, submitted, started, completed, failed, cancelled, retried,
          run_time, wait_time, runs, waits;

-- name: begin_import
SELECT set_config('tasker.imports', 'on', true);
