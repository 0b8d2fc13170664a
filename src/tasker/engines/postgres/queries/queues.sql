-- name: queues
SELECT name, paused, concurrency, concurrency_per_key, rate, shared_keys, pause, tokens, refilled_at, now() AS now,
       (SELECT count(*) FROM {schema}.task WHERE status = 'running' AND task.queue = queue.name) AS running
FROM {schema}.queue WHERE $1::text[] IS NULL OR name = ANY($1) ORDER BY name;

-- name: queue_names
-- Skip from queue to queue by the index, in this database's order of names.
WITH RECURSIVE pending (queue, place) AS (
    (SELECT queue, 1 FROM {schema}.task WHERE status = 'pending' AND queue > $1 ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM {schema}.task WHERE status = 'pending' AND queue > pending.queue
            ORDER BY queue LIMIT 1), place + 1
    FROM pending WHERE queue IS NOT NULL AND place < $2
)
SELECT name FROM (
    SELECT queue AS name FROM pending WHERE queue IS NOT NULL
    UNION SELECT queue FROM {schema}.task WHERE status = 'running' AND queue > $1
    UNION SELECT name FROM {schema}.queue WHERE name > $1) AS open
ORDER BY name LIMIT $2;

-- name: open_queues_of
-- Skip from queue to queue by the index task_own, up to the next owner: given one owner alone, the planner may choose an
-- index without owners and read all that others have there.
WITH RECURSIVE own (owner, queue) AS (
    (SELECT owner, queue FROM {schema}.task
     WHERE status = 'pending' AND owner <> '' AND (owner, queue) > ($1, '') ORDER BY owner, queue LIMIT 1)
    UNION ALL
    SELECT next.owner, next.queue FROM own CROSS JOIN LATERAL (
        SELECT owner, queue FROM {schema}.task
        WHERE status = 'pending' AND owner <> '' AND (task.owner, task.queue) > (own.owner, own.queue)
        ORDER BY owner, queue LIMIT 1) AS next
    WHERE own.owner = $1
)
SELECT queue FROM own WHERE owner = $1
UNION SELECT queue FROM {schema}.task WHERE status = 'running' AND owner = $1;

-- name: open_queues_of_nobody
-- Skip from queue to queue, as queue_names does. No index finds the tasks without an owner: it would cost every task.
-- Looking at a few bounds the cost of a queue.
WITH RECURSIVE pending (queue) AS (
    (SELECT queue FROM {schema}.task WHERE status = 'pending' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM {schema}.task WHERE status = 'pending' AND queue > pending.queue ORDER BY queue LIMIT 1)
    FROM pending WHERE queue IS NOT NULL
)
SELECT queue FROM pending
WHERE queue IS NOT NULL AND EXISTS (SELECT FROM (
    SELECT owner FROM {schema}.task WHERE status = 'pending' AND task.queue = pending.queue
    ORDER BY queue, type, due_at, seq LIMIT 100) AS few
    WHERE owner = '')
UNION SELECT queue FROM {schema}.task WHERE status = 'running' AND owner = '';

-- name: new_queue
-- An existing row is locked: it cannot be deleted before the transaction ends.
INSERT INTO {schema}.queue (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name;

-- name: hold_queues
-- Locked in the order of names, so that two transactions never deadlock. Later statements see what others have stored.
SELECT name, paused, concurrency, concurrency_per_key, rate, shared_keys, pause, tokens, refilled_at, now() AS now
FROM {schema}.queue WHERE name = ANY($1::text[]) ORDER BY name FOR UPDATE;

-- name: count_other_queues
SELECT count(*) FROM {schema}.queue WHERE name <> $1;

-- name: sharing_queues
SELECT name FROM {schema}.queue WHERE name = ANY($1::text[]) AND shared_keys;

-- name: set_queue
UPDATE {schema}.queue SET paused = $2, concurrency = $3, concurrency_per_key = $4, rate = $5, tokens = $6,
    shared_keys = $7, pause = $8, refilled_at = now()
WHERE name = $1;

-- name: delete_queue
DELETE FROM {schema}.queue WHERE name = $1;

-- name: running_in_queues
SELECT queue, count(*) AS running FROM {schema}.task WHERE status = 'running' AND queue = ANY($1::text[])
GROUP BY queue;

-- name: running_with_keys
-- Without an owner, those of all owners.
SELECT slot.owner, slot.key, (
    SELECT count(*) FROM {schema}.task
    WHERE status = 'running' AND concurrency_key IS NOT NULL AND task.queue = $1 AND concurrency_key = slot.key
      AND (slot.owner IS NULL OR task.owner = slot.owner)) AS running
FROM unnest($2::text[], $3::text[]) AS slot (owner, key);

-- name: spend
-- A transaction that began before another committed must not count the time between them twice.
UPDATE {schema}.queue SET tokens = spent.tokens, refilled_at = spent.refilled_at
FROM unnest($1::text[], $2::float8[], $3::timestamptz[]) AS spent (name, tokens, refilled_at)
WHERE queue.name = spent.name;

-- name: peek
SELECT job.id, job.priority, job.payload, part.name
FROM unnest($1::text[]) AS part (name) CROSS JOIN LATERAL (
    SELECT id, priority, payload FROM {schema}.pgqueuer
    WHERE entrypoint = part.name AND status = 'queued' ORDER BY priority DESC, id LIMIT $2 FOR UPDATE SKIP LOCKED
) AS job;

-- name: costs
SELECT task_id, queue, coalesce(weight, 1) AS weight, owner, concurrency_key FROM {schema}.task
WHERE task_id = ANY($1::uuid[]);

-- name: pick
-- Mark jobs as PgQueuer's own dequeue does.
WITH picked AS (
    UPDATE {schema}.pgqueuer SET status = 'picked', updated = now(), heartbeat = now(), queue_manager_id = $2
    WHERE id = ANY($1::bigint[]) RETURNING id, status, entrypoint, priority)
INSERT INTO {schema}.pgqueuer_log (job_id, status, entrypoint, priority)
SELECT id, status, entrypoint, priority FROM picked;

-- name: put_back
UPDATE {schema}.pgqueuer SET status = 'queued', updated = now(), queue_manager_id = NULL WHERE id = ANY($1::bigint[]);

-- name: park
-- A parked task's job waits in a partition that no worker claims from, and keeps its position.
WITH job AS (
    UPDATE {schema}.pgqueuer SET entrypoint = $3 WHERE id = ANY($1::bigint[]))
UPDATE {schema}.task SET reason = 'concurrency_limited' WHERE task_id = ANY($2::uuid[]) AND status = 'pending';

-- name: unpark
UPDATE {schema}.task SET reason = 'queued'
FROM unnest($1::text[], $2::text[], $3::int[]) AS slot (queue, key, free) CROSS JOIN LATERAL (
    SELECT seq FROM {schema}.task
    WHERE status = 'pending' AND reason = 'concurrency_limited' AND task.queue = slot.queue
      AND concurrency_key = slot.key
    ORDER BY priority DESC, due_at, seq LIMIT slot.free FOR UPDATE SKIP LOCKED) AS parked
WHERE task.seq = parked.seq
RETURNING task.task_id, task.queue, task.type, task.priority, task.interruptions, {has_steps} AS has_steps;

-- name: unpark_own
UPDATE {schema}.task SET reason = 'queued'
FROM unnest($1::text[], $2::text[], $3::text[], $4::int[]) AS slot (queue, owner, key, free) CROSS JOIN LATERAL (
    SELECT seq FROM {schema}.task
    WHERE status = 'pending' AND reason = 'concurrency_limited' AND task.queue = slot.queue
      AND concurrency_key = slot.key AND task.owner = slot.owner
    ORDER BY priority DESC, due_at, seq LIMIT slot.free FOR UPDATE SKIP LOCKED) AS parked
WHERE task.seq = parked.seq
RETURNING task.task_id, task.queue, task.type, task.priority, task.interruptions, {has_steps} AS has_steps;

-- name: lift
-- Move jobs to another partition, where they keep their places.
UPDATE {schema}.pgqueuer SET entrypoint = $2 WHERE id IN (
    SELECT id FROM {schema}.pgqueuer WHERE entrypoint = $1 AND status = 'queued'
    ORDER BY priority DESC, id LIMIT $3 FOR UPDATE SKIP LOCKED);

-- name: partitions_in_use
SELECT part.name FROM unnest($1::text[]) AS part (name)
WHERE EXISTS (SELECT FROM {schema}.pgqueuer WHERE entrypoint = part.name AND status = 'queued');

-- name: move_jobs
UPDATE {schema}.pgqueuer SET entrypoint = given.name FROM unnest($1::text[], $2::text[]) AS given (key, name)
WHERE dedupe_key = given.key AND status = 'queued';

-- name: parked_with_slots
-- Keys with parked tasks, and how many more tasks of each may start. owner: NULL where owners share the key.
SELECT parked.queue, parked.owner, parked.concurrency_key, least($2, coalesce(parked.most - (
           SELECT count(*) FROM {schema}.task
           WHERE status = 'running' AND concurrency_key IS NOT NULL AND task.queue = parked.queue
             AND task.concurrency_key = parked.concurrency_key
             AND (parked.owner IS NULL OR task.owner = parked.owner)), $2))::int AS free
FROM (SELECT DISTINCT task.queue, CASE WHEN set.shared_keys THEN NULL ELSE task.owner END AS owner,
             task.concurrency_key, set.concurrency_per_key AS most
      FROM {schema}.task LEFT JOIN {schema}.queue AS set ON set.name = task.queue
      WHERE task.status = 'pending' AND task.reason = 'concurrency_limited'
        AND ($1::text IS NULL OR task.queue = $1)) AS parked;

-- name: keys_of
SELECT queue, owner, concurrency_key FROM {schema}.task
WHERE task_id = ANY($1::uuid[]) AND concurrency_key IS NOT NULL;

-- name: place_of
-- A due task without a job yet counts as last.
SELECT task.queue, task.priority, task.due_at, task.seq, coalesce(task.weight, 1) AS weight,
       coalesce(job.id, 9223372036854775807) AS id,
       (SELECT count(*) FROM {schema}.task AS other
        WHERE other.status = 'running' AND other.concurrency_key IS NOT NULL AND other.queue = task.queue
          AND other.concurrency_key = task.concurrency_key
          AND (other.owner = task.owner
               OR (SELECT shared_keys FROM {schema}.queue WHERE queue.name = task.queue))) AS key_running
FROM {schema}.task LEFT JOIN {schema}.pgqueuer AS job ON job.dedupe_key = $2 AND job.status = 'queued'
WHERE task.task_id = $1 AND task.status = 'pending' AND task.due_at <= now();

-- name: types_in_queue
WITH RECURSIVE found (type) AS (
    (SELECT type FROM {schema}.task WHERE status = 'pending' AND queue = $1 ORDER BY type LIMIT 1)
    UNION ALL
    SELECT (SELECT type FROM {schema}.task WHERE status = 'pending' AND queue = $1 AND type > found.type
            ORDER BY type LIMIT 1)
    FROM found WHERE found.type IS NOT NULL
)
SELECT type FROM found WHERE type IS NOT NULL;

-- name: types_in_limited_queues
SELECT queue.name AS queue, found.type FROM {schema}.queue CROSS JOIN LATERAL (
    WITH RECURSIVE found (type) AS (
        (SELECT type FROM {schema}.task WHERE status = 'pending' AND task.queue = queue.name ORDER BY type LIMIT 1)
        UNION ALL
        SELECT (SELECT type FROM {schema}.task WHERE status = 'pending' AND task.queue = queue.name
                AND type > found.type ORDER BY type LIMIT 1)
        FROM found WHERE found.type IS NOT NULL
    )
    SELECT type FROM found WHERE type IS NOT NULL) AS found;

-- name: jobs_before
SELECT count(*) FROM (SELECT FROM unnest($1::text[]) AS part (name) CROSS JOIN LATERAL (
    (SELECT FROM {schema}.pgqueuer WHERE entrypoint = part.name AND status = 'queued' AND priority > $2 LIMIT $4)
    UNION ALL
    (SELECT FROM {schema}.pgqueuer
     WHERE entrypoint = part.name AND status = 'queued' AND priority = $2 AND id < $3 LIMIT $4)
) AS job LIMIT $4) AS counted;

-- name: own_before
-- Without parked ones. The redundant owner >= $1 AND owner <= $1 tells the planner that few rows are left. Without it a
-- generic plan, made where one owner has nearly all tasks, walks over the tasks of all others.
SELECT count(*) FROM (SELECT FROM {schema}.task
    WHERE status = 'pending' AND reason IS DISTINCT FROM 'concurrency_limited' AND owner <> '' AND owner = $1
      AND owner >= $1 AND owner <= $1 AND queue = $2 AND due_at <= now()
      AND (priority > $3 OR (priority = $3 AND (due_at, seq) < ($4, $5))) LIMIT $6) AS counted;

-- name: run_time
-- Run times of the last 100 tasks submitted before this one, or before the oldest running one: most have ended.
SELECT extract(epoch FROM avg(finished_at - started_at))::float8 FROM (
    SELECT done.status, done.started_at, done.finished_at FROM {schema}.task AS done, {schema}.task AS this
    WHERE this.task_id = $1 AND done.type = this.type
      AND done.seq < least(this.seq, (SELECT min(seq) FROM {schema}.task AS other
                                      WHERE other.status = 'running' AND other.type = this.type))
    ORDER BY done.seq DESC LIMIT 100) AS last
WHERE status = 'completed';
