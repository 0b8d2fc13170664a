-- name: insert_steps
-- The tasks' rows are locked. A step that is stored already stays as it is.
INSERT INTO {schema}.step (task_seq, number, key, name, kind, attempt, started_at, finished_at, until, asks, question,
                           value, secret_value)
SELECT task_seq, row_number() OVER (PARTITION BY task_seq ORDER BY place)
           + coalesce((SELECT max(number) FROM {schema}.step WHERE step.task_seq = given.task_seq), 0), key, name, kind,
       attempt, started_at, finished_at, until, asks, question, value, secret_value
FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::text[], $6::int[], $7::timestamptz[], $8::timestamptz[],
            $9::timestamptz[], $10::text[], $11::bytea[], $12::bytea[], $13::bytea[])
    AS given (task_seq, place, key, name, kind, attempt, started_at, finished_at, until, asks, question, value,
              secret_value)
WHERE NOT EXISTS (SELECT FROM {schema}.step WHERE step.task_seq = given.task_seq AND step.key = given.key)
ON CONFLICT (task_seq, key) DO NOTHING;

-- name: end_sleeps
UPDATE {schema}.step SET finished_at = given.finished_at
FROM unnest($1::bigint[], $2::text[], $3::timestamptz[]) AS given (task_seq, key, finished_at)
WHERE step.task_seq = given.task_seq AND step.key = given.key AND kind = 'sleep' AND step.finished_at IS NULL;

-- name: concern_others
UPDATE {schema}.task SET has_dependants = true WHERE seq = ANY($1::bigint[]) AND NOT has_dependants;

-- name: lock_lease
-- The fence of all that an attempt does to its steps.
SELECT seq, owner, {head} FROM {schema}.task WHERE task_id = $1 AND attempt = $2 AND status = 'running'
FOR NO KEY UPDATE OF task;

-- name: step_by_key
SELECT {step} FROM {schema}.step WHERE task_seq = $1 AND key = $2;

-- name: steps_by_seq
SELECT {step} FROM {schema}.step WHERE task_seq = $1 ORDER BY number;

-- name: close_question
UPDATE {schema}.step SET value = $3, finished_at = now(), answered_by = $4, asks = NULL
WHERE task_seq = $1 AND key = $2 AND kind = 'input' AND finished_at IS NULL RETURNING is_awaited;

-- name: set_sequence
-- The number of the last event before the next attempt.
UPDATE {schema}.task SET sequence = $2 WHERE seq = $1 AND status = 'pending';

-- name: ask_no_more
UPDATE {schema}.step SET asks = NULL WHERE task_seq = ANY($1::bigint[]) AND asks IS NOT NULL;

-- name: ask_again
UPDATE {schema}.step SET asks = task.owner FROM {schema}.task
WHERE step.task_seq = ANY($1::bigint[]) AND kind = 'input' AND step.finished_at IS NULL AND task.seq = step.task_seq;

-- name: copy_steps
-- A step whose secret value is erased is not copied: it runs again.
INSERT INTO {schema}.step (task_seq, number, key, name, kind, attempt, started_at, finished_at, until, answered_by,
                           question, value, secret_value)
SELECT new.seq, number, key, name, kind, 0, step.started_at, step.finished_at, until, answered_by, question, value,
       secret_value
FROM unnest($1::uuid[], $2::uuid[]) AS given (task_id, other)
JOIN {schema}.task AS new ON new.task_id = given.task_id
JOIN {schema}.task AS old ON old.task_id = given.other AND (old.expires_at IS NULL OR old.expires_at > now())
JOIN {schema}.step ON step.task_seq = old.seq
WHERE kind <> 'children' AND (kind <> 'input' OR step.finished_at IS NOT NULL)
  AND (secret_value IS NULL OR secret_value <> '')
ON CONFLICT DO NOTHING RETURNING task_seq;

-- name: child_counts
-- The running children are found from the running tasks.
SELECT sum(stored) AS stored, sum(completed) AS completed, sum(failed) AS failed, sum(cancelled) AS cancelled,
       (SELECT count(*) FROM {schema}.task JOIN {schema}.child USING (seq)
        WHERE task.status = 'running' AND child.parent = $1) AS running
FROM {schema}.step WHERE task_seq = $1 AND kind = 'children';

-- name: asked_of
SELECT {step} FROM {schema}.step
WHERE task_seq = $1 AND asks IS NOT NULL AND (until IS NULL OR until > now()) ORDER BY number LIMIT 1;

-- name: insert_archived_step
INSERT INTO {schema}.step (task_seq, number, key, name, kind, attempt, started_at, finished_at, until, asks, answered_by,
    is_awaited, may_run_again, max_in_flight, total, stored, in_flight, completed, failed, cancelled, question, value,
    secret_value)
SELECT seq, :number::int, :key::text, :name::text, :kind::text, :attempt::int, :started_at::timestamptz,
       :finished_at::timestamptz, :until::timestamptz, CASE WHEN :asks::boolean THEN owner END, :answered_by::text,
       :is_awaited::boolean, :may_run_again::boolean, :max_in_flight::int, :total::int, :stored::int, :in_flight::int,
       :completed::int, :failed::int, :cancelled::int, :question::bytea, :value::bytea,
       CASE WHEN :is_secret::boolean THEN ''::bytea END
FROM {schema}.task WHERE task_id = :task_id;
