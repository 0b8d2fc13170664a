-- name: bulk_now
SELECT {now};

-- name: bulk_page
SELECT seq, {bulk} FROM {schema}.bulk WHERE seq < :before ORDER BY seq DESC LIMIT :limit;

-- name: bulk_page_of
SELECT seq, {bulk} FROM {schema}.bulk
WHERE owner = :owner AND tasks_of = :owner AND seq < :before ORDER BY seq DESC LIMIT :limit;

-- name: free_bulks
SELECT {bulk} FROM {schema}.bulk {index:bulk_running}
WHERE ended_at IS NULL AND held_until <= {now} ORDER BY held_until LIMIT :limit;

-- name: hold_bulk
UPDATE {schema}.bulk SET held_until = {now} + :hold WHERE bulk_id = :bulk_id AND version = :version;

-- name: bulk_tasks_by_id
SELECT task_id, owner, queue, status FROM {schema}.task
WHERE task_id {any_id:task_ids} AND (status IN ('pending', 'running') OR expires_at IS NULL OR expires_at > {now});

-- name: note_bulk_tasks
INSERT INTO {schema}.bulk_task (bulk, seq, task_id, attempt)
SELECT :bulk_id, seq, task_id, attempt FROM {schema}.task WHERE task_id {any_id:task_ids} ON CONFLICT DO NOTHING;

-- name: unstarted_bulk_tasks
SELECT task.task_id FROM {schema}.task JOIN {schema}.bulk_task ON bulk_task.seq = task.seq
WHERE bulk_task.bulk = :bulk_id AND task.task_id {any_id:task_ids} AND bulk_task.task_id = task.task_id
  AND task.status = 'pending' AND task.attempt = bulk_task.attempt;

-- name: oldest_bulk
SELECT bulk_id FROM {schema}.bulk {index:bulk_ended} WHERE ended_at < :before ORDER BY ended_at LIMIT 1;

-- name: prune_bulk_tasks
DELETE FROM {schema}.bulk_task WHERE bulk = :bulk_id AND seq IN (
    SELECT seq FROM {schema}.bulk_task WHERE bulk = :bulk_id ORDER BY seq LIMIT :limit);
