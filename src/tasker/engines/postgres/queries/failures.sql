-- name: note_failures
-- Groups of failures that are new are stored, up to $5 of each owner since the hour began. Rows of hours are added, never
-- changed. A group of an earlier failure of the task may be left: a process of an earlier version has retried it.
WITH given AS (
    SELECT task.seq, task.owner, task.type, task.queue, failed.failure, failed.problem, failed.exception
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS failed (task_id, failure, problem, exception)
    JOIN {schema}.task ON task.task_id = failed.task_id
), fresh AS (
    SELECT DISTINCT ON (failure) * FROM given
    WHERE NOT EXISTS (SELECT FROM {schema}.failure WHERE failure.failure = given.failure) ORDER BY failure
), placed AS (
    SELECT fresh.*, row_number() OVER (PARTITION BY owner ORDER BY failure)
        + (SELECT count(*) FROM {schema}.failure WHERE failure.owner = fresh.owner
           AND failure.first_at >= date_trunc('hour', now(), 'UTC')) AS place
    FROM fresh
), made AS (
    INSERT INTO {schema}.failure (failure, owner, type, problem, exception, first_at, last_at)
    SELECT failure, owner, type, problem, exception, now(), now() FROM placed WHERE place <= $5
    ORDER BY failure ON CONFLICT DO NOTHING
), grouped AS (
    SELECT given.seq, given.owner, given.type, given.queue,
           CASE WHEN placed.place > $5 THEN $6 ELSE given.failure END AS failure
    FROM given LEFT JOIN placed ON placed.failure = given.failure
), before AS (
    DELETE FROM {schema}.task_failure USING grouped
    WHERE task_failure.seq = grouped.seq AND task_failure.failure <> grouped.failure
), noted AS (
    INSERT INTO {schema}.task_failure (failure, seq) SELECT failure, seq FROM grouped ON CONFLICT DO NOTHING
)
INSERT INTO {schema}.failure_hour (owner, hour, failure, type, queue, count, last_at)
SELECT owner, date_trunc('hour', now(), 'UTC'), failure, type, queue, count(*), now() FROM grouped GROUP BY owner, failure, type, queue;

-- name: forget_failures
DELETE FROM {schema}.task_failure WHERE seq = ANY($1::bigint[]);

-- name: merge_failures
-- Returns how many rows it has merged. One process does it at a time.
WITH gone AS (
    DELETE FROM {schema}.failure_hour WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {schema}.failure_hour WHERE NOT merged LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING *
), sums AS (
    SELECT owner, hour, failure, type, queue, sum(count) AS count, max(last_at) AS last_at
    FROM gone GROUP BY owner, hour, failure, type, queue
), kept AS (
    INSERT INTO {schema}.failure_hour AS kept (owner, hour, failure, type, queue, count, last_at, merged)
    SELECT owner, hour, failure, type, queue, count, last_at, true FROM sums
    ON CONFLICT (owner, hour, failure, type, queue) WHERE merged DO UPDATE SET
        count = kept.count + excluded.count, last_at = greatest(kept.last_at, excluded.last_at)
), seen AS (
    UPDATE {schema}.failure SET last_at = greatest(failure.last_at, latest.last_at)
    FROM (SELECT failure, max(last_at) AS last_at FROM sums GROUP BY failure) AS latest
    WHERE failure.failure = latest.failure
)
SELECT count(*) FROM gone;
