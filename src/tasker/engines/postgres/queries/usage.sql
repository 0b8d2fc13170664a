-- name: add_usage
INSERT INTO {schema}.usage_by_day AS kept (day, owner, type, writer, {counted})
SELECT (now() AT TIME ZONE 'UTC')::date, owner, type, $1, {counted}
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
            $10::bigint[], $11::bigint[], $12::bigint[]) AS given (owner, type, {counted})
ON CONFLICT (day, owner, type, writer) DO UPDATE SET {counted_added};

-- name: put_usage
INSERT INTO {schema}.usage_by_day (day, owner, type, writer, {counted})
SELECT :day::date, :owner::text, :type::text, '', {counted_values}
WHERE NOT EXISTS (SELECT FROM {schema}.usage_by_day WHERE day = :day AND owner = :owner AND type = :type)
ON CONFLICT DO NOTHING;

-- name: spent_today
SELECT coalesce(sum(cost), 0)::bigint FROM {schema}.usage_by_day
WHERE day = (now() AT TIME ZONE 'UTC')::date AND owner = :owner;

-- name: merge_usage
-- Merge the rows of past days. If a process still adds usage to such a day, that gets a new row and is merged later.
WITH gone AS (
    DELETE FROM {schema}.usage_by_day WHERE (day, owner, type, writer) IN (
        SELECT day, owner, type, writer FROM {schema}.usage_by_day
        WHERE day < (now() AT TIME ZONE 'UTC')::date AND writer <> '' LIMIT $1)
    RETURNING *
)
INSERT INTO {schema}.usage_by_day AS kept (day, owner, type, writer, {counted})
SELECT day, owner, type, '', {counted_sums} FROM gone GROUP BY day, owner, type
ON CONFLICT (day, owner, type, writer) DO UPDATE SET {counted_added};
