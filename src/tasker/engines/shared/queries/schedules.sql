-- name: schedules_page
-- The first due schedules whose tasks have at most :size bytes together, but at least one. found: the number of due
-- schedules, up to :limit.
SELECT seq, found, {schedule} FROM {schema}.schedule JOIN (
    SELECT seq, size, count(*) OVER () AS found, sum(size) OVER (ORDER BY seq DESC) AS total FROM (
        SELECT seq, length(task) AS size FROM {schema}.schedule
        WHERE seq < :before AND (CAST(:owner AS text) IS NULL OR owner = :owner)
          AND (CAST(:name AS text) IS NULL OR name = :name)
        ORDER BY seq DESC LIMIT :limit) AS first_ones) AS page USING (seq)
WHERE total <= :size OR total = size ORDER BY seq DESC;

-- name: schedule_by_name
SELECT schedule_id FROM {schema}.schedule WHERE owner = :owner AND name = :name;

-- name: count_schedules
SELECT count(*) FROM {schema}.schedule WHERE owner = :owner;

-- name: schedules_now
SELECT {now}, (SELECT min(next_fire_at) FROM {schema}.schedule {index:schedule_next} WHERE next_fire_at > {now});

-- name: schedules_due
-- After the first :skip, the first ones whose tasks have at most :size bytes together, but at least one.
SELECT {schedule} FROM {schema}.schedule JOIN (
    SELECT seq, size, sum(size) OVER (ORDER BY next_fire_at, seq) AS total FROM (
        SELECT seq, next_fire_at, length(task) AS size FROM {schema}.schedule {index:schedule_next}
        WHERE next_fire_at <= :at AND type {any:types}
        ORDER BY next_fire_at, seq LIMIT :limit OFFSET :skip) AS first_ones) AS due USING (seq)
WHERE total <= :size OR total = size ORDER BY next_fire_at, seq;

-- name: open_of
SELECT task_id FROM {schema}.task WHERE task_id {any_id:task_ids} AND status IN ('pending', 'running') ORDER BY seq;
