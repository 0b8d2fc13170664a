-- name: queues
SELECT name, paused, concurrency, concurrency_per_key, rate, tokens, refilled_at, now() AS now,
       (SELECT count(*) FROM {schema}.task WHERE status = 'running' AND task.queue = queue.name) AS running
FROM {schema}.queue ORDER BY name;

-- name: new_queue
-- A row that is there is held: it cannot be taken away between this and what follows.
INSERT INTO {schema}.queue (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name;

-- name: hold_queues
-- In order of names: two that hold several never cross. What others have stored is seen from the next statement on.
SELECT name, paused, concurrency, concurrency_per_key, rate, tokens, refilled_at, now() AS now
FROM {schema}.queue WHERE name = ANY($1::text[]) ORDER BY name FOR UPDATE;

-- name: set_queue
UPDATE {schema}.queue SET paused = $2, concurrency = $3, concurrency_per_key = $4, rate = $5, tokens = $6,
    refilled_at = now()
WHERE name = $1;

-- name: delete_queue
DELETE FROM {schema}.queue WHERE name = $1;

-- name: running_in_queues
SELECT queue, count(*) AS running FROM {schema}.task WHERE status = 'running' AND queue = ANY($1::text[]) GROUP BY queue;

-- name: running_with_keys
SELECT queue, concurrency_key, count(*) AS running FROM {schema}.task
WHERE status = 'running' AND concurrency_key IS NOT NULL AND queue = ANY($1::text[]) AND concurrency_key = ANY($2::text[])
GROUP BY queue, concurrency_key;

-- name: spend
-- A transaction that began before another one committed must not count the time between twice.
UPDATE {schema}.queue SET tokens = spent.tokens, refilled_at = spent.refilled_at
FROM unnest($1::text[], $2::float8[], $3::timestamptz[]) AS spent (name, tokens, refilled_at)
WHERE queue.name = spent.name;

-- name: peek
SELECT job.id, job.priority, job.payload, line.name
FROM unnest($1::text[]) AS line (name) CROSS JOIN LATERAL (
    SELECT id, priority, payload FROM {schema}.pgqueuer
    WHERE entrypoint = line.name AND status = 'queued' ORDER BY priority DESC, id LIMIT $2 FOR UPDATE SKIP LOCKED
) AS job;

-- name: costs
SELECT task_id, queue, coalesce(weight, 1) AS weight, concurrency_key FROM {schema}.task WHERE task_id = ANY($1::uuid[]);

-- name: pick
-- As PgQueuer's own dequeue marks a job that it picks.
WITH picked AS (
    UPDATE {schema}.pgqueuer SET status = 'picked', updated = now(), heartbeat = now(), queue_manager_id = $2
    WHERE id = ANY($1::bigint[]) RETURNING id, status, entrypoint, priority)
INSERT INTO {schema}.pgqueuer_log (job_id, status, entrypoint, priority)
SELECT id, status, entrypoint, priority FROM picked;

-- name: put_back
UPDATE {schema}.pgqueuer SET status = 'queued', updated = now(), queue_manager_id = NULL WHERE id = ANY($1::bigint[]);

-- name: park
-- A parked task's job waits under a name that no worker asks for, and keeps its place.
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
RETURNING task.task_id, task.queue, task.type, task.priority, task.interruptions;

-- name: lift
-- The jobs of a line get another, and keep their places.
UPDATE {schema}.pgqueuer SET entrypoint = $2 WHERE id IN (
    SELECT id FROM {schema}.pgqueuer WHERE entrypoint = $1 AND status = 'queued'
    ORDER BY priority DESC, id LIMIT $3 FOR UPDATE SKIP LOCKED);

-- name: move_jobs
UPDATE {schema}.pgqueuer SET entrypoint = given.line FROM unnest($1::text[], $2::text[]) AS given (key, line)
WHERE dedupe_key = given.key AND status = 'queued';

-- name: parked_with_room
-- Keys of which tasks are parked, and how many more of each may run.
SELECT parked.queue, parked.concurrency_key, least($2, coalesce(set.concurrency_per_key - (
           SELECT count(*) FROM {schema}.task
           WHERE status = 'running' AND concurrency_key IS NOT NULL AND task.queue = parked.queue
             AND task.concurrency_key = parked.concurrency_key), $2))::int AS free
FROM (SELECT DISTINCT queue, concurrency_key FROM {schema}.task
      WHERE status = 'pending' AND reason = 'concurrency_limited' AND ($1::text IS NULL OR queue = $1)) AS parked
LEFT JOIN {schema}.queue AS set ON set.name = parked.queue;

-- name: keys_of
SELECT queue, concurrency_key FROM {schema}.task WHERE task_id = ANY($1::uuid[]) AND concurrency_key IS NOT NULL;

-- name: place_of
-- One that is due and not in line yet will stand at its end.
SELECT task.queue, task.priority, coalesce(task.weight, 1) AS weight, coalesce(job.id, 9223372036854775807) AS id,
       (SELECT count(*) FROM {schema}.task AS other
        WHERE other.status = 'running' AND other.concurrency_key IS NOT NULL AND other.queue = task.queue
          AND other.concurrency_key = task.concurrency_key) AS key_running
FROM {schema}.task LEFT JOIN {schema}.pgqueuer AS job ON job.dedupe_key = $2 AND job.status = 'queued'
WHERE task.task_id = $1 AND task.status = 'pending' AND task.due_at <= now();

-- name: lines
WITH RECURSIVE line AS (
    (SELECT entrypoint FROM {schema}.pgqueuer WHERE status = 'queued' ORDER BY entrypoint LIMIT 1)
    UNION ALL
    SELECT (SELECT entrypoint FROM {schema}.pgqueuer WHERE status = 'queued' AND entrypoint > line.entrypoint
            ORDER BY entrypoint LIMIT 1)
    FROM line WHERE line.entrypoint IS NOT NULL
)
SELECT array(SELECT entrypoint FROM line WHERE entrypoint IS NOT NULL);

-- name: jobs_before
SELECT count(*) FROM (SELECT FROM unnest($1::text[]) AS line (name) CROSS JOIN LATERAL (
    (SELECT FROM {schema}.pgqueuer WHERE entrypoint = line.name AND status = 'queued' AND priority > $2 LIMIT $4)
    UNION ALL
    (SELECT FROM {schema}.pgqueuer
     WHERE entrypoint = line.name AND status = 'queued' AND priority = $2 AND id < $3 LIMIT $4)
) AS job LIMIT $4) AS counted;

-- name: run_time
-- Of the last few that were submitted before this one, or before the first that runs: those before are mostly done.
SELECT extract(epoch FROM avg(finished_at - started_at))::float8 FROM (
    SELECT done.status, done.started_at, done.finished_at FROM {schema}.task AS done, {schema}.task AS this
    WHERE this.task_id = $1 AND done.type = this.type
      AND done.seq < least(this.seq, (SELECT min(seq) FROM {schema}.task AS other
                                      WHERE other.status = 'running' AND other.type = this.type))
    ORDER BY done.seq DESC LIMIT 100) AS last
WHERE status = 'completed';
