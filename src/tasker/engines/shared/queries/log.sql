-- name: log_page
-- Of the newest :most events before :before, those that the log shows.
SELECT sequence, attempt, time, data FROM (
    SELECT sequence, attempt, type, time, data FROM {schema}.task_event
    WHERE task_seq = (SELECT seq FROM {schema}.task
                      WHERE task_id = :task_id AND (expires_at IS NULL OR expires_at > {now}))
      AND sequence < :before
    ORDER BY sequence DESC LIMIT :most) AS newest
WHERE CASE WHEN type = 'log' THEN NOT :by_level OR {level} {any:levels} ELSE false END
ORDER BY sequence DESC LIMIT :limit;

-- name: log_reach
-- The oldest of these events, if there are so many.
SELECT sequence FROM {schema}.task_event
WHERE task_seq = (SELECT seq FROM {schema}.task
                  WHERE task_id = :task_id AND (expires_at IS NULL OR expires_at > {now}))
  AND sequence < :before
ORDER BY sequence DESC LIMIT 1 OFFSET :most - 1;
