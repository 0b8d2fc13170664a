-- name: steps_of
SELECT {step} FROM {schema}.step
WHERE task_seq = (SELECT seq FROM {schema}.task WHERE task_id = :task_id AND (expires_at IS NULL OR expires_at > {now}))
ORDER BY number;

-- name: last_steps_of
SELECT {shown_step} FROM {schema}.step
WHERE task_seq = (SELECT seq FROM {schema}.task WHERE task_id = :task_id AND (expires_at IS NULL OR expires_at > {now}))
ORDER BY number DESC LIMIT :limit;

-- name: last_steps_of_kind
-- The open ones before the others, and of these the first: they may be answered, whatever was asked since.
SELECT {shown_step} FROM {schema}.step
WHERE task_seq = (SELECT seq FROM {schema}.task WHERE task_id = :task_id AND (expires_at IS NULL OR expires_at > {now}))
  AND kind = :kind
ORDER BY finished_at IS NOT NULL, CASE WHEN finished_at IS NULL THEN number END, number DESC LIMIT :limit;

-- name: some_steps_of
SELECT {step} FROM {schema}.step
WHERE task_seq = (SELECT seq FROM {schema}.task WHERE task_id = :task_id AND (expires_at IS NULL OR expires_at > {now}))
  AND key {any:keys} ORDER BY number;

-- name: family_of
SELECT coalesce((SELECT level FROM {schema}.child WHERE child.seq = task.seq), 0), owner, deadline, extra
FROM {schema}.task WHERE task_id = :task_id AND (expires_at IS NULL OR expires_at > {now});

-- name: questions
-- asks: the owner of the task, while it is open and the question is. In order of the index.
SELECT task.task_id, task.type, task.owner, {step} FROM {schema}.step JOIN {schema}.task ON task.seq = step.task_seq
WHERE step.asks IS NOT NULL AND (step.until IS NULL OR step.until > {now})
ORDER BY step.started_at, step.task_seq, step.number LIMIT :limit;

-- name: questions_of
SELECT task.task_id, task.type, task.owner, {step} FROM {schema}.step JOIN {schema}.task ON task.seq = step.task_seq
WHERE step.asks IS NOT NULL AND step.asks = :owner AND (step.until IS NULL OR step.until > {now})
ORDER BY step.started_at, step.task_seq, step.number LIMIT :limit;

-- name: erase_secret_values
-- An empty value shows that there was one: what is shown is masked, and is not the value itself.
UPDATE {schema}.step SET secret_value = {empty}
WHERE secret_value IS NOT NULL AND task_seq IN (SELECT seq FROM {schema}.task WHERE task_id {any_id:task_ids});
