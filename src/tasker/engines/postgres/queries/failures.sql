-- name: note_failures
-- Groups of failures that are new are stored, up to $6 of each owner since the hour began. Rows of hours are added, never
-- changed. A group of an earlier failure of the task may be left: a process of an earlier version has retried it.
WITH given AS (
    SELECT task.seq, task.task_id, task.owner, task.type, task.queue, failed.failure, failed.problem, failed.exception,
           failed.message
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
        AS failed (task_id, failure, problem, exception, message)
    JOIN {schema}.task ON task.task_id = failed.task_id
), fresh AS (
    SELECT DISTINCT ON (owner, failure) * FROM given
    WHERE NOT EXISTS (SELECT FROM {schema}.failure WHERE failure.failure = given.failure AND failure.owner = given.owner)
    ORDER BY owner, failure
), placed AS (
    SELECT fresh.*, row_number() OVER (PARTITION BY owner ORDER BY failure)
        + (SELECT count(*) FROM {schema}.failure WHERE failure.owner = fresh.owner
           AND failure.first_at >= date_trunc('hour', now(), 'UTC')) AS place
    FROM fresh
), made AS (
    INSERT INTO {schema}.failure (failure, owner, type, problem, exception, message, first_at, last_at)
    SELECT failure, owner, type, problem, exception, message, now(), now() FROM placed WHERE place <= $6
    ORDER BY owner, failure ON CONFLICT DO NOTHING
), grouped AS (
    SELECT given.seq, given.task_id, given.owner, given.type, given.queue,
           CASE WHEN placed.place > $6 THEN $7 ELSE given.failure END AS failure
    FROM given LEFT JOIN placed ON placed.owner = given.owner AND placed.failure = given.failure
), before AS (
    DELETE FROM {schema}.task_failure USING grouped
    WHERE task_failure.seq = grouped.seq AND task_failure.failure <> grouped.failure
), noted AS (
    INSERT INTO {schema}.task_failure (failure, seq) SELECT failure, seq FROM grouped ON CONFLICT DO NOTHING
)
INSERT INTO {schema}.failure_hour (owner, hour, failure, type, queue, count, last_at, task_id)
SELECT owner, date_trunc('hour', now(), 'UTC'), failure, type, queue, count(*), now(),
       (array_agg(task_id ORDER BY seq DESC))[1]
FROM grouped GROUP BY owner, failure, type, queue;

-- name: forget_failure
DELETE FROM {schema}.task_failure WHERE seq = $1;

-- name: merge_failures
-- Returns how many rows it has merged. One process does it at a time.
WITH gone AS (
    DELETE FROM {schema}.failure_hour WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {schema}.failure_hour WHERE NOT merged LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING *
), sums AS (
    SELECT owner, hour, failure, type, queue, sum(count) AS count, max(last_at) AS last_at,
           (array_agg(task_id ORDER BY last_at DESC))[1] AS task_id
    FROM gone GROUP BY owner, hour, failure, type, queue
), kept AS (
    INSERT INTO {schema}.failure_hour AS kept (owner, hour, failure, type, queue, count, last_at, task_id, merged)
    SELECT owner, hour, failure, type, queue, count, last_at, task_id, true FROM sums
    ON CONFLICT (owner, hour, failure, type, queue) WHERE merged DO UPDATE SET
        count = kept.count + excluded.count, last_at = greatest(kept.last_at, excluded.last_at),
        task_id = CASE WHEN excluded.last_at >= kept.last_at THEN excluded.task_id ELSE kept.task_id END
), seen AS (
    UPDATE {schema}.failure SET last_at = greatest(failure.last_at, latest.last_at)
    FROM (SELECT owner, failure, max(last_at) AS last_at FROM sums GROUP BY owner, failure) AS latest
    WHERE failure.owner = latest.owner AND failure.failure = latest.failure
)
SELECT count(*) FROM gone;
