-- name: past_their_time
SELECT seq, task_id, octet_length(params) + coalesce(octet_length(result), 0) AS size FROM {schema}.task
WHERE expires_at <= $2
  -- dependants are settled first
  AND NOT (has_dependants AND EXISTS (SELECT FROM {schema}.dependency WHERE depends_on = task_id))
ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED;

-- name: delete_some_events
DELETE FROM {schema}.task_event WHERE (task_seq, sequence) IN (
    SELECT task_seq, sequence FROM {schema}.task_event WHERE task_seq = ANY($1::bigint[]) LIMIT $2);

-- name: bury
INSERT INTO {schema}.tombstone AS kept (task_id, owner, expired_at, forgotten_at)
SELECT task_id, owner, expires_at, expires_at + greatest(retention, $2::interval) FROM {schema}.task
WHERE seq = ANY($1::bigint[])
ON CONFLICT (task_id) DO UPDATE SET owner = excluded.owner, expired_at = excluded.expired_at,
    forgotten_at = excluded.forgotten_at;

-- name: bury_deleted
INSERT INTO {schema}.tombstone AS kept (task_id, owner, expired_at, forgotten_at)
SELECT task_id, owner, NULL, now() + greatest(coalesce(retention, $3::interval), $2::interval) FROM {schema}.task
WHERE seq = ANY($1::bigint[])
ON CONFLICT (task_id) DO UPDATE SET owner = excluded.owner, expired_at = excluded.expired_at,
    forgotten_at = excluded.forgotten_at;

-- name: outlive_tasks
-- A kept key shows that its task has expired: sending the request again must not create another task.
UPDATE {schema}.idempotency AS kept SET reply = '', expires_at = least(kept.expires_at, tombstone.forgotten_at)
FROM {schema}.tombstone WHERE kept.task_id = ANY($1::uuid[]) AND tombstone.task_id = kept.task_id;

-- name: erase_tasks
-- All rows of tasks except idempotency keys. Processes of an earlier version wrote to `event`.
WITH old AS (DELETE FROM {schema}.event WHERE task_seq = ANY($1::bigint[])),
     attempts AS (DELETE FROM {schema}.attempt WHERE task_seq = ANY($1::bigint[])),
     entries AS (DELETE FROM {schema}.task_event WHERE task_seq = ANY($1::bigint[]))
DELETE FROM {schema}.task WHERE seq = ANY($1::bigint[]);

-- name: when_expired
SELECT task_id, owner, expires_at AS expired_at FROM {schema}.task
WHERE task_id = ANY($1::uuid[]) AND expires_at <= now()
UNION ALL
SELECT task_id, owner, expired_at FROM {schema}.tombstone
WHERE task_id = ANY($1::uuid[]) AND expired_at IS NOT NULL AND forgotten_at > now()
LIMIT 1;

-- name: buried
SELECT task_id FROM {schema}.tombstone WHERE task_id = ANY($1::uuid[]) AND forgotten_at > now();

-- name: prune_tombstones
DELETE FROM {schema}.tombstone WHERE task_id IN (
    SELECT task_id FROM {schema}.tombstone WHERE forgotten_at <= $2 ORDER BY forgotten_at LIMIT $1
    FOR UPDATE SKIP LOCKED);
