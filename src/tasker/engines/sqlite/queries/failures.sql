-- name: failed_task
SELECT seq, owner, type, queue FROM task WHERE task_id = ?;

-- name: is_known_failure
SELECT 1 FROM failure WHERE failure = ?;

-- name: new_failures
SELECT count(*) FROM (SELECT 1 FROM failure INDEXED BY failure_first WHERE owner = ? AND first_at >= ? LIMIT ?);

-- name: insert_failure
INSERT INTO failure (failure, owner, type, problem, exception, first_at, last_at) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: count_failure
UPDATE failure_hour SET count = count + 1, last_at = :now
WHERE owner = :owner AND hour = :hour AND failure = :failure AND type = :type AND queue = :queue;

-- name: first_failure_of_hour
INSERT INTO failure_hour (owner, hour, failure, type, queue, count, last_at)
VALUES (:owner, :hour, :failure, :type, :queue, 1, :now);

-- name: still_fails
UPDATE failure SET last_at = :now WHERE failure = :failure;

-- name: insert_task_failure
INSERT OR IGNORE INTO task_failure (failure, seq) VALUES (?, ?);

-- name: note_schedule
-- Of an imported task.
INSERT INTO task_schedule
SELECT unhex(json_extract(CAST(extra AS TEXT), '$.schedule_id'), '-'), seq FROM task
WHERE seq = ? AND extra IS NOT NULL AND json_extract(CAST(extra AS TEXT), '$.schedule_id') IS NOT NULL;

-- name: insert_task_schedule
INSERT INTO task_schedule (schedule_id, seq) VALUES (?, ?);
