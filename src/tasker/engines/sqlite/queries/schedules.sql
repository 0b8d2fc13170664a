-- name: schedules_page
SELECT seq, {schedule} FROM schedule
WHERE seq < :before AND (:owner IS NULL OR owner = :owner) AND (:name IS NULL OR name = :name)
ORDER BY seq DESC LIMIT :limit;

-- name: schedule_by_name
SELECT schedule_id FROM schedule WHERE owner = ? AND name = ?;

-- name: count_schedules
SELECT count(*) FROM schedule WHERE owner = ?;

-- name: schedules_due
SELECT {schedule} FROM schedule INDEXED BY schedule_next
WHERE next_fire_at <= :now AND type IN (SELECT value FROM json_each(:types)) ORDER BY next_fire_at, seq
LIMIT :limit OFFSET :skip;

-- name: schedules_next
SELECT min(next_fire_at) FROM schedule INDEXED BY schedule_next WHERE next_fire_at > ?;

-- name: open_of
SELECT task_id FROM task WHERE task_id IN (SELECT unhex(value) FROM json_each(?)) AND status IN ('pending', 'running')
ORDER BY seq;
