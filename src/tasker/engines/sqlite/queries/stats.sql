-- name: insert_change
INSERT INTO task_change (changes) VALUES (?);

-- name: changes
SELECT changes FROM task_change;

-- name: next_changes
SELECT id, changes FROM task_change ORDER BY id LIMIT ?;

-- name: forget_changes
DELETE FROM task_change WHERE id <= ?;

-- name: sums
-- The steps of a window by group; -1 stands for all of the window before.
SELECT CASE WHEN bucket < :first THEN -1 ELSE (bucket - :first) / :step END,
       CASE :group WHEN 'type' THEN type WHEN 'queue' THEN queue ELSE '' END, {summed_sums}
FROM rollup
WHERE unit = :unit AND owner = :owner AND bucket >= :before AND bucket < :until
  AND (:type IS NULL OR type = :type) AND (:queue IS NULL OR queue = :queue)
GROUP BY 1, 2;

-- name: open_tasks
SELECT owner, type, queue, pending, waiting, running FROM open_task;

-- name: own_open_tasks
SELECT owner, type, queue, pending, waiting, running FROM open_task WHERE owner = :owner;

-- name: own_open_tasks_in_queues
SELECT owner, type, queue, pending, waiting, running FROM open_task
WHERE owner = :owner AND queue IN (SELECT value FROM json_each(:queues));

-- name: due_by_time
-- Tasks that waited for a time, which has come. A parked task (rows.PARKED) is not among them.
SELECT queue, type, count(*) FROM task INDEXED BY task_later
WHERE status = 'pending' AND reason <> 'queued' AND due_at <= :now AND (:owner IS NULL OR owner = :owner)
GROUP BY queue, type;

-- name: oldest_due
-- The first task of each priority, parked or not (rows.PARKED): a few seeks, however many tasks wait.
WITH RECURSIVE level (priority) AS (
    SELECT max(priority) FROM task INDEXED BY task_line
    WHERE status = 'pending' AND queue = :queue AND type = :type
    UNION ALL
    SELECT (SELECT max(priority) FROM task INDEXED BY task_line
            WHERE status = 'pending' AND queue = :queue AND type = :type
              AND priority < level.priority)
    FROM level WHERE priority IS NOT NULL
)
SELECT min(min((SELECT due_at FROM task INDEXED BY task_line
                WHERE status = 'pending' AND queue = :queue AND type = :type
                  AND priority = level.priority ORDER BY due_at LIMIT 1),
               coalesce((SELECT due_at FROM task INDEXED BY task_line
                WHERE status = 'pending' AND queue = :queue AND type = :type
                  AND priority = level.priority AND due_at >= :parked ORDER BY due_at LIMIT 1) & (:parked - 1),
                        :parked))) & (:parked - 1)
FROM level WHERE priority IS NOT NULL;

-- name: own_oldest_due
-- The same among an owner's tasks.
WITH RECURSIVE level (priority) AS (
    SELECT max(priority) FROM task INDEXED BY task_own
    WHERE status = 'pending' AND owner <> '' AND owner = :owner AND queue = :queue AND type = :type
    UNION ALL
    SELECT (SELECT max(priority) FROM task INDEXED BY task_own
            WHERE status = 'pending' AND owner <> '' AND owner = :owner AND queue = :queue AND type = :type
              AND priority < level.priority)
    FROM level WHERE priority IS NOT NULL
)
SELECT min(min((SELECT due_at FROM task INDEXED BY task_own
                WHERE status = 'pending' AND owner <> '' AND owner = :owner AND queue = :queue AND type = :type
                  AND priority = level.priority ORDER BY due_at LIMIT 1),
               coalesce((SELECT due_at FROM task INDEXED BY task_own
                WHERE status = 'pending' AND owner <> '' AND owner = :owner AND queue = :queue AND type = :type
                  AND priority = level.priority AND due_at >= :parked ORDER BY due_at LIMIT 1) & (:parked - 1),
                        :parked))) & (:parked - 1)
FROM level WHERE priority IS NOT NULL;
