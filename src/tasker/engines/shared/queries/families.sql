-- name: archived_steps
-- CROSS JOIN: from the few tasks to their steps. Archives have no secrets.
SELECT task.task_id, {archived_step}, step.secret_value IS NOT NULL
FROM {schema}.task CROSS JOIN {schema}.step
WHERE task.task_id {any_id:task_ids} AND step.task_seq = task.seq ORDER BY task.seq, step.number;

-- name: archived_children
SELECT task.task_id, child.number, child.place, child.level, child.is_detached, child.is_held
FROM {schema}.task CROSS JOIN {schema}.child WHERE task.task_id {any_id:task_ids} AND child.seq = task.seq;

-- name: insert_archived_child
-- The parent of one that comes before it is a number below 0, until it comes.
INSERT INTO {schema}.child (parent, seq, number, place, level, is_detached, is_held)
SELECT coalesce((SELECT parent.seq FROM {schema}.task AS parent WHERE parent.task_id = :parent_id), -task.seq), task.seq,
       :number, :place, :level, :is_detached, :is_held
FROM {schema}.task WHERE task.task_id = :task_id;

-- name: lone_children
SELECT child.seq, task.extra FROM {schema}.child CROSS JOIN {schema}.task WHERE child.parent < 0 AND task.seq = child.seq;

-- name: join_parent
UPDATE {schema}.child SET parent = (SELECT seq FROM {schema}.task WHERE task_id = :parent_id)
WHERE seq = :seq AND parent < 0;

-- name: parents_of
SELECT DISTINCT child.parent FROM {schema}.task CROSS JOIN {schema}.child
WHERE task.task_id {any_id:task_ids} AND child.seq = task.seq AND child.parent > 0
UNION SELECT DISTINCT step.task_seq FROM {schema}.task CROSS JOIN {schema}.step
WHERE task.task_id {any_id:task_ids} AND step.task_seq = task.seq AND step.kind = 'children'
ORDER BY 1;

-- name: recount_children
-- Of the steps of a task of which all started children are here: some may have ended before their parent came.
UPDATE {schema}.step SET completed = found.completed, failed = found.failed, cancelled = found.cancelled,
    in_flight = found.in_flight
FROM (
    SELECT child.number, count(*) AS there, sum(CASE WHEN task.status = 'completed' THEN 1 ELSE 0 END) AS completed,
        sum(CASE WHEN task.status = 'failed' THEN 1 ELSE 0 END) AS failed,
        sum(CASE WHEN task.status = 'cancelled' THEN 1 ELSE 0 END) AS cancelled,
        sum(CASE WHEN task.status IN ('pending', 'running') AND NOT child.is_held THEN 1 ELSE 0 END) AS in_flight
    FROM {schema}.child CROSS JOIN {schema}.task WHERE child.parent = :parent AND task.seq = child.seq GROUP BY child.number
) AS found
WHERE step.task_seq = :parent AND step.number = found.number AND step.kind = 'children' AND step.stored = found.there
  AND (step.completed <> found.completed OR step.failed <> found.failed OR step.cancelled <> found.cancelled
       OR step.in_flight <> found.in_flight);
