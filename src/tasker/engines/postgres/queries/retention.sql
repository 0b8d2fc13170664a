-- name: past_their_time
SELECT seq, task_id, octet_length(params) + coalesce(octet_length(result), 0) AS size FROM {schema}.task
WHERE expires_at <= $2
  -- dependants are settled first, and children are erased first
  AND NOT (has_dependants AND (EXISTS (SELECT FROM {schema}.dependency WHERE depends_on = task_id)
                               OR EXISTS (SELECT FROM {schema}.child WHERE child.parent = task.seq)))
ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED;

-- name: delete_some_events
DELETE FROM {schema}.task_event WHERE (task_seq, sequence) IN (
    SELECT task_seq, sequence FROM {schema}.task_event WHERE task_seq = ANY($1::bigint[]) LIMIT $2);

-- name: delete_some_steps
-- As many as have $3 bytes, and at most $2.
DELETE FROM {schema}.step WHERE (task_seq, number) IN (
    SELECT task_seq, number FROM (
        SELECT task_seq, number, sum(size) OVER (ORDER BY task_seq, number) - size AS before FROM (
            SELECT task_seq, number, 200 + coalesce(octet_length(value), 0) + coalesce(octet_length(secret_value), 0) AS size
            FROM {schema}.step WHERE task_seq = ANY($1::bigint[]) ORDER BY task_seq, number LIMIT $2) AS first) AS sized
    WHERE before < $3);

-- name: has_steps
SELECT EXISTS (SELECT FROM {schema}.step WHERE task_seq = ANY($1::bigint[]));

-- name: has_children
SELECT EXISTS (SELECT FROM {schema}.child WHERE parent = $1);

-- name: has_open_parent
SELECT EXISTS (SELECT FROM {schema}.child JOIN {schema}.task AS parent ON parent.seq = child.parent
               WHERE child.seq = $1 AND parent.status IN ('pending', 'running'));

-- name: mark_deleted
UPDATE {schema}.task SET expires_at = {deleted} WHERE seq = $1;

-- name: bury
-- Those that were deleted, or whose root was, have not expired.
INSERT INTO {schema}.tombstone AS kept (task_id, owner, expired_at, forgotten_at)
SELECT task_id, owner, CASE WHEN NOT {is_deleted} THEN expires_at END,
       CASE WHEN {is_deleted} THEN now() + greatest(coalesce(retention, $3::interval), $2::interval)
            ELSE expires_at + greatest(retention, $2::interval) END
FROM {schema}.task WHERE seq = ANY($1::bigint[])
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
     entries AS (DELETE FROM {schema}.task_event WHERE task_seq = ANY($1::bigint[])),
     steps AS (DELETE FROM {schema}.step WHERE task_seq = ANY($1::bigint[])),
     children AS (DELETE FROM {schema}.child WHERE seq = ANY($1::bigint[]))
DELETE FROM {schema}.task WHERE seq = ANY($1::bigint[]);

-- name: when_expired
SELECT task_id, owner, expires_at AS expired_at FROM {schema}.task
WHERE task_id = ANY($1::uuid[]) AND expires_at <= now() AND NOT {is_deleted}
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
