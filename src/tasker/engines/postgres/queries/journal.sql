-- name: journal_ends
-- The first and the last row; all transactions below `xmin` have ended.
SELECT (SELECT name FROM {schema}.journal_name) AS name,
       (SELECT min(id) FROM {schema}.journal) AS first,
       (SELECT max(id) FROM {schema}.journal) AS last,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin;

-- name: journal_rows
SELECT id, notes FROM {schema}.journal WHERE id >= $1 ORDER BY id LIMIT $2;

-- name: subjects
SELECT task_id, seq, type, queue, tags, owner, {head} FROM {schema}.task
WHERE task_id = ANY($1::uuid[]) AND (expires_at IS NULL OR expires_at > now());

-- name: events_between
SELECT event.task_seq, event.sequence, event.attempt, event.type, event.time, event.data
FROM unnest($1::bigint[], $2::int[], $3::int[]) AS wanted (seq, low, high)
JOIN {schema}.task_event AS event ON event.task_seq = wanted.seq AND event.sequence BETWEEN wanted.low AND wanted.high
UNION ALL
SELECT task_seq, sequence, attempt, type, time, data FROM {schema}.task_event
WHERE task_seq = ANY($4::bigint[]) AND type IN ('started', 'completed', 'failed', 'cancelled');

-- name: task_sizes
-- Lengths are known without reading the values.
SELECT task_id, octet_length(params) + coalesce(octet_length(result), 0) AS size FROM {schema}.task
WHERE task_id = ANY($1::uuid[]);

-- name: tasks_by_id
SELECT {task} FROM {schema}.task WHERE task_id = ANY($1::uuid[]);

-- name: journal_row_size
-- The average size of a row, from an evenly spread sample: reading all would take long.
SELECT avg(octet_length(notes))::float8 FROM {schema}.journal WHERE id IN (
    SELECT generate_series(min(id), max(id), greatest(1, (max(id) - min(id)) / 100)) FROM {schema}.journal);

-- name: prune_journal
-- Deletes the oldest rows, up to the first that is kept; the newest row stays.
DELETE FROM {schema}.journal WHERE id < (
    SELECT coalesce(min(id) FILTER (WHERE noted_at >= $4::timestamptz - $1::interval AND id >= $2), max(id))
    FROM (SELECT id, noted_at FROM {schema}.journal ORDER BY id LIMIT $3 + 1) AS oldest);
