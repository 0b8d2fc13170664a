-- name: journal_ends
-- What is there; the transactions below `xmin` have ended.
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
SELECT said.task_seq, said.sequence, said.attempt, said.type, said.time, said.data
FROM unnest($1::bigint[], $2::int[], $3::int[]) AS wanted (seq, low, high)
JOIN {schema}.task_event AS said ON said.task_seq = wanted.seq AND said.sequence BETWEEN wanted.low AND wanted.high
UNION ALL
SELECT task_seq, sequence, attempt, type, time, data FROM {schema}.task_event
WHERE task_seq = ANY($4::bigint[]) AND type IN ('started', 'completed', 'failed', 'cancelled');

-- name: task_sizes
-- Told without reading the values.
SELECT task_id, octet_length(params) + coalesce(octet_length(result), 0) AS size FROM {schema}.task
WHERE task_id = ANY($1::uuid[]);

-- name: tasks_by_id
SELECT {task} FROM {schema}.task WHERE task_id = ANY($1::uuid[]);

-- name: journal_row_size
-- About how large a row is, from some of them, evenly spread: reading all would take long.
SELECT avg(octet_length(notes))::float8 FROM {schema}.journal WHERE id IN (
    SELECT generate_series(min(id), max(id), greatest(1, (max(id) - min(id)) / 100)) FROM {schema}.journal);

-- name: prune_journal
-- The oldest rows up to the first that is kept; the newest one stays.
DELETE FROM {schema}.journal WHERE id < (
    SELECT coalesce(min(id) FILTER (WHERE noted_at >= $4::timestamptz - $1::interval AND id >= $2), max(id))
    FROM (SELECT id, noted_at FROM {schema}.journal ORDER BY id LIMIT $3 + 1) AS oldest);
