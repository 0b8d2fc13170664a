-- name: find_arrivals
-- The first $1 submissions whose type is known ($2) or that have waited for $3, up to $4 bytes in all; at least one. Of one
-- with more than $5 bytes neither params nor options. $6: only those that have waited for so long.
SELECT seq, task_id, owner, type, submitted_at, submitted_at <= clock_timestamp() - $3::interval AS is_overdue,
       CASE WHEN size <= $5 THEN params END AS params, CASE WHEN size <= $5 THEN options END AS options
FROM (SELECT *, sum(least(size, $5)) OVER (ORDER BY seq) AS total
      FROM (SELECT *, octet_length(params)::bigint + octet_length(options) AS size FROM {schema}.inbox
            WHERE submitted_at <= clock_timestamp() - $6::interval
              AND (type = ANY($2::text[]) OR submitted_at <= clock_timestamp() - $3::interval)
            ORDER BY seq LIMIT $1) AS first) AS summed
WHERE total <= $4 OR total = least(size, $5)
ORDER BY seq;

-- name: find_arrival
SELECT seq, task_id, owner, type, submitted_at, submitted_at <= clock_timestamp() - $3::interval AS is_overdue,
       CASE WHEN octet_length(params)::bigint + octet_length(options) <= $2 THEN params END AS params,
       CASE WHEN octet_length(params)::bigint + octet_length(options) <= $2 THEN options END AS options
FROM {schema}.inbox WHERE task_id = $1;

-- name: take_arrivals
-- Sorted: two processes that take the same ones never deadlock. The second one waits, and finds them gone.
DELETE FROM {schema}.inbox WHERE seq IN (
    SELECT seq FROM {schema}.inbox WHERE task_id = ANY($1::uuid[]) ORDER BY seq FOR UPDATE)
RETURNING task_id;

-- name: stay_awake
UPDATE {schema}.inbox_watch SET awake_until = clock_timestamp() + $1::interval;

-- name: set_error
UPDATE {schema}.task SET error = $2 WHERE seq = $1;
