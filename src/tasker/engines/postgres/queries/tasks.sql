-- name: find_keys
SELECT key, task_id, fingerprint, reply FROM {schema}.idempotency WHERE key = ANY($1::text[]) AND expires_at > now();

-- name: insert_keys
-- An expired key is taken over; a key that is still valid returns no row. Sorted: two batches never deadlock.
INSERT INTO {schema}.idempotency AS kept (key, task_id, fingerprint, expires_at, reply)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::bytea[], $4::timestamptz[], $5::bytea[])
    AS given (key, task_id, fingerprint, expires_at, reply)
ORDER BY key
ON CONFLICT (key) DO UPDATE
    SET task_id = excluded.task_id, fingerprint = excluded.fingerprint, expires_at = excluded.expires_at,
        reply = excluded.reply
    WHERE kept.expires_at <= now()
RETURNING key;

-- name: insert_tasks
-- A task that exists already was stored by an earlier try of ours whose answer was lost.
INSERT INTO {schema}.task (task_id, type, queue, status, reason, priority, created_at, run_at, due_at, lined,
                           max_attempts, policy, metadata, params, tags, owner, retention, deadline, unique_key,
                           concurrency_key, weight, cache_key, extra, awaited, waiter, has_dependants)
SELECT task_id, type, queue, 'pending', CASE WHEN rare ->> 'held' IS NOT NULL THEN 'dependencies'
                                             WHEN run_at > now() THEN 'scheduled' ELSE 'queued' END, priority,
       created_at, run_at, coalesce((rare ->> 'held')::timestamptz, run_at, now()),
       coalesce(run_at <= now(), true) AND rare ->> 'held' IS NULL, max_attempts, policy, metadata,
       params, CASE WHEN tags IS NULL THEN '{}' ELSE array(SELECT jsonb_array_elements_text(tags::jsonb)) END,
       owner, retention, (rare ->> 'deadline')::timestamptz, rare ->> 'unique_key', rare ->> 'concurrency_key',
       (rare ->> 'weight')::int, decode(rare ->> 'cache_key', 'base64'), convert_to(rare ->> 'extra', 'UTF8'),
       coalesce((rare ->> 'awaited')::boolean, false), rare ->> 'waiter',
       coalesce((rare ->> 'has_dependants')::boolean, false)
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::timestamptz[], $6::timestamptz[], $7::int[],
            $8::bytea[], $9::bytea[], $10::bytea[], $11::text[], $12::text[], $13::interval[], $14::jsonb[])
    WITH ORDINALITY AS draft (task_id, type, queue, priority, created_at, run_at, max_attempts, policy, metadata,
                              params, tags, owner, retention, rare, place)
ORDER BY place
ON CONFLICT (task_id) DO NOTHING
RETURNING task_id, seq, lined, queue IN (SELECT name FROM {schema}.queue) AS has_settings,
          EXISTS (SELECT FROM {schema}.task WHERE status = 'pending' AND NOT lined AND due_at <= now()) AS others_due;

-- name: look
-- What a worker needs before a claim: at most $2 partitions after $1 that have a job (one seek for each), the time at
-- which the next scheduled task becomes due, and the settings of queues. Besides, who leads: that saves each worker a
-- statement of its own.
WITH RECURSIVE part (entrypoint, place) AS (
    (SELECT entrypoint, 1 FROM {schema}.pgqueuer WHERE status = 'queued' AND entrypoint > $1
     ORDER BY entrypoint LIMIT 1)
    UNION ALL
    SELECT (SELECT entrypoint FROM {schema}.pgqueuer WHERE status = 'queued' AND entrypoint > part.entrypoint
            ORDER BY entrypoint LIMIT 1), place + 1
    FROM part WHERE part.entrypoint IS NOT NULL AND place < $2
)
SELECT array(SELECT entrypoint FROM part WHERE entrypoint IS NOT NULL ORDER BY place) AS partitions, now() AS now,
       clock.steps, clock.is_moving, (SELECT {lead_left} FROM {schema}.lead) AS lead_left,
       (SELECT due_at FROM {schema}.task WHERE status = 'pending' AND NOT lined AND due_at < '9999-01-01 00:00:00+00'
        ORDER BY due_at LIMIT 1) AS next_due,  -- a task that waits for other tasks is due in 9999
       (SELECT json_agg(json_build_object(
            'name', name, 'paused', paused, 'concurrency', concurrency, 'concurrency_per_key', concurrency_per_key,
            'rate', convert_from(rate, 'UTF8')::json, 'shared_keys', shared_keys) ORDER BY name)::text
        FROM {schema}.queue) AS settings
FROM {schema}.clock;

-- name: promote
-- While a step of the clock is followed, waiting tasks are held back: their times may be those of the old clock.
UPDATE {schema}.task SET lined = true
FROM (SELECT seq FROM {schema}.task WHERE status = 'pending' AND NOT lined AND due_at <= now()
          AND NOT (SELECT is_moving FROM {schema}.clock)
      ORDER BY due_at, seq LIMIT $1 FOR UPDATE SKIP LOCKED) AS due
WHERE task.seq = due.seq
RETURNING task.task_id, task.queue, task.type, task.priority, task.interruptions, task.due_at, task.seq,
          task.queue IN (SELECT name FROM {schema}.queue) AS has_settings, {has_steps} AS has_steps;

-- name: drop_leftovers
-- Jobs of tasks that were cancelled while a claim had locked their jobs, which it then put back.
DELETE FROM {schema}.pgqueuer WHERE id IN (
    SELECT id FROM {schema}.pgqueuer WHERE dedupe_key = ANY($1::text[]) AND status IN ('queued', 'picked')
    FOR UPDATE SKIP LOCKED);

-- name: start_attempts
-- Nothing starts in a queue that got its first settings after this claim's look: its settings are not locked.
UPDATE {schema}.task SET status = 'running', reason = NULL, attempt = task.attempt + 1, worker = $3,
    started_at = now(), lease_expires_at = now() + $4::interval, job_id = job.id, finished_at = NULL, ending = NULL,
    progress = NULL, peak_memory = NULL, worker_level = (task.attempt + 1) * 256::bigint + $6
FROM unnest($1::uuid[], $2::bigint[]) AS job (task_id, id)
WHERE task.task_id = job.task_id AND task.status = 'pending' AND (task.deadline IS NULL OR task.deadline > now())
  AND NOT EXISTS (SELECT FROM {schema}.queue WHERE queue.name = task.queue AND queue.name <> ALL ($5::text[]))
RETURNING {claim};

-- name: unqueue
-- Tasks that were taken but not started: the next look queues them again if they are still due.
UPDATE {schema}.task SET lined = false WHERE task_id = ANY($1::uuid[]) AND status = 'pending' AND lined;

-- name: extend_leases
UPDATE {schema}.task SET lease_expires_at = now() + lease.extend_by
FROM unnest($1::uuid[], $2::int[], $3::interval[]) AS lease (task_id, attempt, extend_by)
WHERE task.task_id = lease.task_id AND task.attempt = lease.attempt AND task.status = 'running'
RETURNING task.task_id, task.attempt, task.job_id, task.cancel_requested_at IS NOT NULL AS cancelled;

-- name: lock_running
SELECT task.seq, task.task_id, task.job_id, task.queue, task.concurrency_key,
       task.cancel_requested_at IS NOT NULL AS cancelled, task.type, task.owner, task.usage,
       task.awaited, task.waiter, task.has_dependants, {head}
FROM {schema}.task JOIN unnest($1::uuid[], $2::int[]) AS lease (task_id, attempt)
    ON task.task_id = lease.task_id AND task.attempt = lease.attempt
WHERE task.status = 'running' ORDER BY task.seq FOR NO KEY UPDATE OF task;

-- name: end_attempts
-- The same statement counts usage, which saves a round trip.
WITH stored AS (
    UPDATE {schema}.task SET status = ended.status, reason = NULL, ending = ended.ending, finished_at = now(),
        tries = ended.tries, crashes = ended.crashes, interruptions = 0, result = ended.result, error = ended.error,
        peak_memory = ended.peak_memory, lease_expires_at = NULL, lined = false, expires_at = {expires}
    FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::int[], $6::int[], $7::bytea[], $8::bytea[],
                $9::bigint[])
        AS ended (task_id, attempt, status, ending, tries, crashes, result, error, peak_memory)
    WHERE task.task_id = ended.task_id AND task.attempt = ended.attempt AND task.status = 'running'
    RETURNING task.seq, task.task_id, task.job_id, task.type, task.owner, task.status, task.started_at, task.ending,
        task.has_dependants, task.queue, task.concurrency_key, task.awaited, task.waiter
), counted AS (
    INSERT INTO {schema}.usage_by_day AS kept
        (day, owner, type, writer, attempts, completed, failed, cancelled, run_time)
    SELECT (now() AT TIME ZONE 'UTC')::date, owner, type, $10, count(*) FILTER (WHERE ending <> 'parked'),
           count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'failed'),
           count(*) FILTER (WHERE status = 'cancelled'),
           coalesce(sum(greatest(0, extract(epoch FROM now() - started_at) * 1000000)::bigint)
                    FILTER (WHERE ending <> 'interrupted'), 0)
    FROM stored GROUP BY owner, type
    ON CONFLICT (day, owner, type, writer) DO UPDATE SET attempts = kept.attempts + excluded.attempts,
        completed = kept.completed + excluded.completed, failed = kept.failed + excluded.failed,
        cancelled = kept.cancelled + excluded.cancelled, run_time = kept.run_time + excluded.run_time
)
SELECT seq, task_id, job_id, has_dependants, queue, owner, concurrency_key, awaited, waiter FROM stored;

-- name: keep_attempts
INSERT INTO {schema}.attempt (task_seq, attempt, worker, started_at, finished_at, ending, error, peak_memory)
SELECT task.seq, task.attempt, task.worker, task.started_at, now(), ended.ending, ended.error, ended.peak_memory
FROM {schema}.task JOIN unnest($1::bigint[], $2::text[], $3::bytea[], $4::bigint[])
    AS ended (seq, ending, error, peak_memory)
    ON task.seq = ended.seq;

-- name: requeue
-- The delay was computed by the worker's clock; the due time follows from it by the database's clock. Without a delay the
-- task waits for others.
UPDATE {schema}.task SET status = 'pending', reason = again.reason,
    due_at = coalesce(now() + again.delay, '9999-01-01 00:00:00+00'), lined = false,
    tries = again.tries, crashes = again.crashes, interruptions = again.interruptions, error = again.error,
    sequence = again.sequence, worker = NULL, lease_expires_at = NULL, started_at = NULL
FROM unnest($1::bigint[], $2::text[], $3::interval[], $4::int[], $5::int[], $6::int[], $7::bytea[], $8::int[])
    AS again (seq, reason, delay, tries, crashes, interruptions, error, sequence)
WHERE task.seq = again.seq;

-- name: was_ended
-- Used when the answer of an earlier try was lost: whether that try ended the attempt in this way.
SELECT task.task_id, task.attempt FROM {schema}.task JOIN unnest($1::uuid[], $2::int[], $3::text[])
    AS lease (task_id, attempt, ending) ON task.task_id = lease.task_id
WHERE (task.attempt = lease.attempt AND task.ending = lease.ending AND task.status <> 'running')
   OR EXISTS (SELECT FROM {schema}.attempt WHERE attempt.task_seq = task.seq AND attempt.attempt = lease.attempt
              AND attempt.ending = lease.ending);

-- name: last_event
SELECT time, data FROM {schema}.task_event WHERE task_seq = $1 AND attempt = $2 ORDER BY sequence DESC LIMIT 1;

-- name: insert_events
INSERT INTO {schema}.task_event (task_seq, sequence, attempt, type, time, data)
SELECT * FROM unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::timestamptz[], $6::bytea[]);

-- name: set_progress
UPDATE {schema}.task
SET progress = coalesce(report.progress, task.progress), usage = coalesce(report.usage, task.usage)
FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS report (seq, progress, usage)
WHERE task.seq = report.seq;

-- name: task_by_id
SELECT {task}, has_dependants FROM {schema}.task WHERE task_id = $1 AND (expires_at IS NULL OR expires_at > now());

-- name: follow_task
-- An end that comes later finds the mark: this process ($2), or no name if several wait. False while another transaction
-- has locked the row: it may be ending the task. It does not wait for that one, which may be a frozen process's: all
-- connections for reads would soon wait with it.
WITH free AS (
    SELECT seq FROM {schema}.task
    WHERE task_id = $1 AND (NOT awaited OR waiter <> $2) AND status IN ('pending', 'running')
    FOR NO KEY UPDATE SKIP LOCKED
), marked AS (
    UPDATE {schema}.task SET awaited = true, waiter = CASE WHEN NOT awaited THEN $2 END
    FROM free WHERE task.seq = free.seq RETURNING task.seq
)
SELECT EXISTS (SELECT FROM marked) OR NOT EXISTS (
    SELECT FROM {schema}.task
    WHERE task_id = $1 AND (NOT awaited OR waiter <> $2) AND status IN ('pending', 'running'));

-- name: listed_by_seq
SELECT {listed} FROM {schema}.task WHERE seq = ANY($1::bigint[]) ORDER BY seq DESC;

-- name: lock_task
SELECT seq, task_id, status, owner, type, queue, concurrency_key, unique_key, has_dependants, extra,
       coalesce(expires_at <= now(), false) AS is_over,
       attempt > 0 AND position('/problems/dependency-failed' in coalesce(convert_from(error, 'UTF8'), '')) = 0
           AS saw_all
FROM {schema}.task WHERE task_id = $1 FOR UPDATE;

-- name: heads_by_seq
SELECT seq, now() AS now, {head} FROM {schema}.task WHERE seq = ANY($1::bigint[]) ORDER BY seq;

-- name: head_by_seq
SELECT now() AS now, {head} FROM {schema}.task WHERE seq = $1;

-- name: head_by_id
SELECT seq, {head} FROM {schema}.task WHERE task_id = $1 AND (expires_at IS NULL OR expires_at > now());

-- name: cancel_pending
UPDATE {schema}.task SET status = 'cancelled', reason = NULL, finished_at = now(), cancel_requested_at = now(),
    lined = false, expires_at = {expires}
WHERE seq = $1 RETURNING {head};

-- name: request_cancel
UPDATE {schema}.task SET cancel_requested_at = coalesce(cancel_requested_at, now()) WHERE seq = $1;

-- name: keep_latest_attempts
INSERT INTO {schema}.attempt (task_seq, attempt, worker, started_at, finished_at, ending, error, peak_memory)
SELECT seq, attempt, worker, started_at, finished_at, ending, error, peak_memory FROM {schema}.task
WHERE seq = ANY($1::bigint[]) AND worker IS NOT NULL;

-- name: retry_tasks
UPDATE {schema}.task SET status = 'pending', reason = 'queued', due_at = now(), lined = false, tries = 0, crashes = 0,
    interruptions = 0, worker = NULL, started_at = NULL, finished_at = NULL, ending = NULL,
    cancel_requested_at = NULL, error = NULL, progress = NULL, peak_memory = NULL, sequence = again.sequence,
    expires_at = NULL
FROM unnest($1::bigint[], $2::int[]) AS again (seq, sequence) WHERE task.seq = again.seq;

-- name: delete_keys
DELETE FROM {schema}.idempotency WHERE task_id = $1;

-- name: expired
-- Attempts whose lease is over, and those whose worker is gone: its process had a lock on its name, which the database
-- released when the connection closed.
SELECT {claim} FROM {schema}.task
WHERE status = 'running' AND (lease_expires_at <= now() OR worker = ANY($2::text[]))
ORDER BY lease_expires_at LIMIT $1;

-- name: gone_workers
-- Silent for longer than a late heartbeat explains: a worker that is only reconnecting is alive.
SELECT worker_id FROM {schema}.worker
WHERE locked AND heartbeat_at <= now() - greatest(
    $2::interval, 1.5 * (convert_from(info, 'UTF8')::json ->> 'heartbeat_every')::interval) AND NOT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = $1 AND objid::bigint =
        hashtext(worker_id)::bigint & 4294967295 AND database = (SELECT oid FROM pg_database
                                                                 WHERE datname = current_database()));

-- name: only_one
-- One of all processes does the chore; the lock ends with the transaction.
SELECT pg_try_advisory_xact_lock($1, $2);

-- name: prune_keys
DELETE FROM {schema}.idempotency WHERE key IN (
    SELECT key FROM {schema}.idempotency WHERE expires_at <= $2 ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED);

-- name: prune_workers
DELETE FROM {schema}.worker WHERE heartbeat_at <= now() - $1::interval;

-- name: log_size
SELECT pg_relation_size('{schema}.pgqueuer_log') + pg_relation_size('{schema}.pgqueuer_statistics');

-- name: pending_window
SELECT queue, type, due_at, seq FROM {schema}.task
WHERE status = 'pending' AND (queue, type, due_at, seq) > ($1, $2, $3, $4)
ORDER BY queue, type, due_at, seq OFFSET $5 - 1 LIMIT 1;

-- name: unlined
-- Pending tasks that are marked as queued and have no job: they are queued again, as waiting tasks are when due.
UPDATE {schema}.task SET lined = false
WHERE status = 'pending' AND lined AND seq IN (
    SELECT seq FROM (
        SELECT seq, task_id, lined FROM {schema}.task
        WHERE status = 'pending' AND (queue, type, due_at, seq) > ($1, $2, $3, $4)
        ORDER BY queue, type, due_at, seq LIMIT $5) AS seen
    WHERE lined AND NOT EXISTS (
        SELECT FROM {schema}.pgqueuer WHERE dedupe_key = seen.task_id::text AND status = 'queued'))
RETURNING seq;

-- name: strays
-- Jobs that no open task refers to; one that was inserted by hand may have any key, or none.
SELECT seen.id FROM (SELECT id, dedupe_key, status FROM {schema}.pgqueuer WHERE id > $1 ORDER BY id LIMIT $2) AS seen
WHERE NOT EXISTS (
    SELECT FROM {schema}.task
    WHERE task.task_id = CASE WHEN seen.dedupe_key LIKE '________-____-____-____-____________'
        AND translate(seen.dedupe_key, '0123456789abcdef', '') = '----' THEN seen.dedupe_key::uuid END
      AND ((task.status = 'pending' AND task.lined AND seen.status = 'queued')
           OR (task.status = 'running' AND task.job_id = seen.id)));

-- name: lift_steps
-- Move jobs that older processes have queued for tasks with steps, or for children, to where older workers do not look.
UPDATE {schema}.pgqueuer SET entrypoint = regexp_replace(pgqueuer.entrypoint, '^([^/]+)/(@1/)?', '\1/@2/') WHERE id IN (
    SELECT seen.id FROM (SELECT id, dedupe_key, status, entrypoint FROM {schema}.pgqueuer
                         WHERE id > $1 ORDER BY id LIMIT $2) AS seen
    JOIN {schema}.task ON task.task_id = CASE WHEN seen.dedupe_key LIKE '________-____-____-____-____________'
        AND translate(seen.dedupe_key, '0123456789abcdef', '') = '----' THEN seen.dedupe_key::uuid END
    WHERE seen.status = 'queued' AND seen.entrypoint NOT LIKE '%/@2/%' AND seen.entrypoint NOT LIKE '/%' AND {has_steps})
  AND status = 'queued';

-- name: jobs_window
SELECT id FROM {schema}.pgqueuer WHERE id > $1 ORDER BY id OFFSET $2 - 1 LIMIT 1;

-- name: attempts
SELECT attempt, worker, started_at, finished_at, ending, error, peak_memory FROM {schema}.attempt
WHERE task_seq = (SELECT seq FROM {schema}.task WHERE task_id = $1 AND (expires_at IS NULL OR expires_at > now()))
UNION ALL
SELECT attempt, worker, started_at, finished_at, ending, error, peak_memory FROM {schema}.task
WHERE task_id = $1 AND worker IS NOT NULL AND (expires_at IS NULL OR expires_at > now())
ORDER BY attempt;

-- name: events
SELECT sequence, attempt, type, time, data FROM {schema}.task_event
WHERE task_seq = $1 AND sequence > $2 ORDER BY sequence LIMIT $3;

-- name: probe
-- A durable write that grows no table: the commit waits for the disk.
SELECT pg_logical_emit_message(true, 'tasker', 'readiness');

-- name: announce
-- Once a minute, the first worker that has a type also notes that it is still there; rows that another worker has locked
-- are being updated.
WITH seen AS (
    UPDATE {schema}.published_type SET seen_at = now() WHERE name IN (
        SELECT name FROM {schema}.published_type WHERE name = ANY($4::text[]) AND seen_at < now() - interval '1 minute'
        ORDER BY name FOR UPDATE SKIP LOCKED)
)
INSERT INTO {schema}.worker (worker_id, heartbeat_at, locked, info) VALUES ($1, now(), $2, $3)
ON CONFLICT (worker_id) DO UPDATE SET heartbeat_at = now(), locked = excluded.locked, info = excluded.info;

-- name: withdraw
DELETE FROM {schema}.worker WHERE worker_id = $1;

-- name: workers
SELECT worker_id, heartbeat_at, info FROM {schema}.worker WHERE heartbeat_at > now() - $1::interval;

-- name: live_workers
SELECT heartbeat_at, now() - heartbeat_at AS silent_for, info FROM {schema}.worker
WHERE heartbeat_at > now() - $1::interval;

-- name: first_jobs
-- When the oldest of the first jobs of each of these partitions was queued: a newer one of higher priority may be before
-- it. Tasks of a paused queue wait for its user, not for a worker.
SELECT given.name, first.created, now() AS now FROM unnest($1::text[]) AS given (name) LEFT JOIN LATERAL (
    SELECT min(created) AS created FROM (
        SELECT created FROM {schema}.pgqueuer WHERE entrypoint = given.name AND status = 'queued'
        ORDER BY priority DESC, id LIMIT 100) AS jobs) AS first
ON NOT EXISTS (SELECT FROM {schema}.queue WHERE queue.name = split_part(given.name, '/', 1) AND paused);

-- name: running_by_worker
SELECT worker, task_id, attempt, type, queue, started_at, owner FROM {schema}.task
WHERE status = 'running' AND worker = ANY($1::text[]) ORDER BY started_at, seq;

-- name: archive_page
-- Sizes first: a value's length is known without reading it, and then whole rows are fetched.
WITH next AS (
    SELECT seq, octet_length(params) + octet_length(metadata) + coalesce(octet_length(result), 0)
                + coalesce(octet_length(error), 0)
                + (SELECT coalesce(sum(octet_length(data)), 0) FROM {schema}.task_event WHERE task_seq = task.seq)
                + (SELECT coalesce(sum(400 + coalesce(octet_length(value), 0) + coalesce(octet_length(question), 0)), 0)
                   FROM {schema}.step WHERE task_seq = task.seq) AS size
    FROM {schema}.task WHERE seq > $1 AND (expires_at IS NULL OR expires_at > now()) ORDER BY seq LIMIT $2
), counted AS (
    SELECT seq, sum(size) OVER (ORDER BY seq) - size AS before FROM next
)
SELECT seq, {stored} FROM {schema}.task WHERE seq IN (SELECT seq FROM counted WHERE before < $3) ORDER BY seq;

-- name: archive_by_id
SELECT seq, {stored} FROM {schema}.task WHERE task_id = ANY($1::uuid[]);

-- name: archive_attempts
SELECT task_seq, attempt, worker, started_at, finished_at, ending, error, peak_memory FROM {schema}.attempt
WHERE task_seq = ANY($1::bigint[]) ORDER BY task_seq, attempt;

-- name: archive_events
SELECT task_seq, sequence, attempt, type, time, data FROM {schema}.task_event
WHERE task_seq = ANY($1::bigint[]) ORDER BY task_seq, sequence;

-- name: archive_keys
SELECT task_id, key, fingerprint, expires_at, reply FROM {schema}.idempotency
WHERE task_id = ANY($1::uuid[]) ORDER BY task_id, key COLLATE "C";

-- name: import_alone
-- One import at a time, so that it sees the tasks of others and stores none twice. The lock ends with the transaction.
SELECT pg_advisory_xact_lock($1, hashtext('tasker import'));

-- name: key_owners
SELECT key, task_id FROM {schema}.idempotency WHERE key = ANY($1::text[]);

-- name: insert_stored
-- Stored as not queued and with an expired lease: a worker's next look queues it, or the reaper ends its attempt.
INSERT INTO {schema}.task ({stored}, lined, lease_expires_at)
VALUES ({placeholders}, false, CASE WHEN $4 = 'running' THEN to_timestamp(0) END) RETURNING seq;

-- name: insert_attempt
INSERT INTO {schema}.attempt (task_seq, attempt, worker, started_at, finished_at, ending, error, peak_memory)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: insert_stored_key
INSERT INTO {schema}.idempotency (key, task_id, fingerprint, expires_at, reply) VALUES ($1, $2, $3, $4, $5);
