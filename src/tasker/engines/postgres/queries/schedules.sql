-- name: schedules_page
-- The first ones whose tasks come to $5 bytes at the most, one at least; found: how many there are, up to the limit.
SELECT seq, found, {schedules} FROM {schema}.schedule JOIN (
    SELECT seq, size, count(*) OVER () AS found, sum(size) OVER (ORDER BY seq DESC) AS total FROM (
        SELECT seq, octet_length(task) AS size FROM {schema}.schedule
        WHERE seq < $1 AND ($2::text IS NULL OR owner = $2) AND ($3::text IS NULL OR name = $3)
        ORDER BY seq DESC LIMIT $4) AS first_ones) AS page USING (seq)
WHERE total <= $5 OR total = size ORDER BY seq DESC;

-- name: schedule_by_name
SELECT schedule_id FROM {schema}.schedule WHERE owner = $1 AND name = $2;

-- name: schedules_due
-- The first ones behind $5 whose tasks come to $4 bytes at the most, one at least.
SELECT {schedules} FROM {schema}.schedule JOIN (
    SELECT seq, size, sum(size) OVER (ORDER BY next_fire_at, seq) AS total FROM (
        SELECT seq, next_fire_at, octet_length(task) AS size FROM {schema}.schedule
        WHERE next_fire_at <= $1 AND type = ANY($2::text[]) ORDER BY next_fire_at, seq LIMIT $3 OFFSET $5) AS first_ones
    ) AS due USING (seq)
WHERE total <= $4 OR total = size ORDER BY next_fire_at, seq;

-- name: schedules_now
SELECT now() AS now, (SELECT min(next_fire_at) FROM {schema}.schedule WHERE next_fire_at > now()) AS next_at;

-- name: open_of
SELECT task_id FROM {schema}.task WHERE task_id = ANY($1::uuid[]) AND status IN ('pending', 'running') ORDER BY seq;

-- name: count_schedules
SELECT count(*) FROM {schema}.schedule WHERE owner = $1;
