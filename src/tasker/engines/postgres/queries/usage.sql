-- name: add_usage
INSERT INTO {schema}.usage_by_day AS kept (day, owner, type, writer, attempts, completed, failed, cancelled, run_time,
                                           input_tokens, output_tokens, cached_tokens, cost)
SELECT (now() AT TIME ZONE 'UTC')::date, said.owner, said.type, $1, said.attempts, said.completed, said.failed,
       said.cancelled, said.run_time, said.input_tokens, said.output_tokens, said.cached_tokens, said.cost
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
            $10::bigint[], $11::bigint[], $12::bigint[])
    AS said (owner, type, attempts, completed, failed, cancelled, run_time, input_tokens, output_tokens, cached_tokens,
             cost)
ON CONFLICT (day, owner, type, writer) DO UPDATE SET attempts = kept.attempts + excluded.attempts,
    completed = kept.completed + excluded.completed, failed = kept.failed + excluded.failed,
    cancelled = kept.cancelled + excluded.cancelled, run_time = kept.run_time + excluded.run_time,
    input_tokens = kept.input_tokens + excluded.input_tokens,
    output_tokens = kept.output_tokens + excluded.output_tokens,
    cached_tokens = kept.cached_tokens + excluded.cached_tokens, cost = kept.cost + excluded.cost;

-- name: find_usage
SELECT CASE WHEN $5 THEN day END, CASE WHEN $6 THEN owner END COLLATE "C", CASE WHEN $7 THEN type END COLLATE "C",
       sum(attempts)::bigint, sum(completed)::bigint, sum(failed)::bigint, sum(cancelled)::bigint,
       sum(run_time)::bigint, sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(cached_tokens)::bigint,
       sum(cost)::bigint
FROM {schema}.usage_by_day
WHERE day BETWEEN $1 AND $2 AND ($3::text IS NULL OR owner = $3) AND ($4::text IS NULL OR type = $4)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT $8;

-- name: put_usage
INSERT INTO {schema}.usage_by_day (day, owner, type, writer, attempts, completed, failed, cancelled, run_time,
                                   input_tokens, output_tokens, cached_tokens, cost)
SELECT $1::date, $2::text, $3::text, '', $4, $5, $6, $7, $8, $9, $10, $11, $12
WHERE NOT EXISTS (SELECT FROM {schema}.usage_by_day WHERE day = $1 AND owner = $2 AND type = $3)
ON CONFLICT DO NOTHING;

-- name: spent_today
SELECT coalesce(sum(cost), 0)::bigint FROM {schema}.usage_by_day
WHERE day = (now() AT TIME ZONE 'UTC')::date AND owner = $1;

-- name: merge_usage
-- Rows of days gone by, put together; what a process still adds to such a day gets a row again, and is merged later.
WITH gone AS (
    DELETE FROM {schema}.usage_by_day WHERE (day, owner, type, writer) IN (
        SELECT day, owner, type, writer FROM {schema}.usage_by_day
        WHERE day < (now() AT TIME ZONE 'UTC')::date AND writer <> '' LIMIT $1)
    RETURNING *
)
INSERT INTO {schema}.usage_by_day AS kept (day, owner, type, writer, attempts, completed, failed, cancelled, run_time,
                                           input_tokens, output_tokens, cached_tokens, cost)
SELECT day, owner, type, '', sum(attempts), sum(completed), sum(failed), sum(cancelled), sum(run_time),
       sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(cost)
FROM gone GROUP BY day, owner, type
ON CONFLICT (day, owner, type, writer) DO UPDATE SET attempts = kept.attempts + excluded.attempts,
    completed = kept.completed + excluded.completed, failed = kept.failed + excluded.failed,
    cancelled = kept.cancelled + excluded.cancelled, run_time = kept.run_time + excluded.run_time,
    input_tokens = kept.input_tokens + excluded.input_tokens,
    output_tokens = kept.output_tokens + excluded.output_tokens,
    cached_tokens = kept.cached_tokens + excluded.cached_tokens, cost = kept.cost + excluded.cost;
