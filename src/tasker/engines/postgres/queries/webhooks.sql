-- name: insert_webhook
INSERT INTO {schema}.webhook ({webhook}) VALUES ({webhook_places}) ON CONFLICT DO NOTHING;

-- name: hold_owner
-- One after the other: who counts an owner's webhooks then sees all that were stored. The lock goes with the transaction.
SELECT pg_advisory_xact_lock($1, hashtext($2));

-- name: count_webhooks
SELECT count(*) FROM {schema}.webhook WHERE task_id IS NULL AND owner = $1;

-- name: webhooks_page
SELECT seq, {webhook} FROM {schema}.webhook
WHERE task_id IS NULL AND seq < $1 AND ($2::text IS NULL OR owner = $2 AND NOT all_owners)
ORDER BY seq DESC LIMIT $3;

-- name: mark_webhook
-- Who is under way and has a smaller number counts as before.
UPDATE {schema}.webhook SET made_after = (SELECT max(id) FROM {schema}.journal) WHERE webhook_id = $1;

-- name: webhooks_hearing
SELECT coalesce(made_after, 0), {webhook} FROM {schema}.webhook WHERE task_id IS NULL
UNION ALL
SELECT 0, {webhook} FROM {schema}.webhook WHERE task_id = ANY($1::uuid[]);

-- name: count_webhooks_of_task
SELECT count(*) FROM {schema}.webhook WHERE task_id = $1;

-- name: webhook_of_task_to
SELECT 1 FROM {schema}.webhook WHERE task_id = $1 AND url = $2;

-- name: webhooks_by_id
SELECT {webhook} FROM {schema}.webhook WHERE webhook_id = ANY($1::uuid[]);

-- name: paused_webhooks
SELECT webhook_id::text FROM {schema}.webhook WHERE task_id IS NULL AND status = 'paused';

-- name: hold_webhooks
-- Until the transaction ends nobody erases them.
SELECT webhook_id FROM {schema}.webhook WHERE webhook_id = ANY($1::uuid[]) FOR KEY SHARE;

-- name: webhook_succeeded
UPDATE {schema}.webhook SET failing_since = NULL WHERE webhook_id = $1 AND failing_since IS NOT NULL;

-- name: webhook_failed
UPDATE {schema}.webhook SET failing_since = $2 WHERE webhook_id = $1 AND task_id IS NULL AND failing_since IS NULL;

-- name: pause_webhook
UPDATE {schema}.webhook SET status = 'paused', reason = coalesce($2::text, $3::text)
WHERE webhook_id = $1 AND task_id IS NULL AND status = 'active' AND ($2::text IS NOT NULL OR failing_since <= $4);

-- name: delete_webhook_deliveries
DELETE FROM {schema}.webhook_delivery WHERE webhook_id = $1;

-- name: delete_task_deliveries
DELETE FROM {schema}.webhook_delivery WHERE task_id = ANY($1::uuid[]);

-- name: delete_task_webhooks
DELETE FROM {schema}.webhook WHERE task_id = ANY($1::uuid[]);

-- name: turn
SELECT position, NOT EXISTS (SELECT 1 FROM {schema}.webhook) AS is_idle,
       coalesce(holder = $1 AND held_until > now() + $2::interval / 2, false) AS is_held,
       coalesce(holder <> $1 AND held_until > now(), false) AS is_others
FROM {schema}.webhook_dispatch;

-- name: hold_dispatch
UPDATE {schema}.webhook_dispatch SET holder = $1, held_until = now() + $2::interval
WHERE holder IS NULL OR holder = $1 OR held_until <= now() RETURNING position;

-- name: move_dispatch
UPDATE {schema}.webhook_dispatch SET position = $1 WHERE position IS NOT DISTINCT FROM $2;

-- name: dispatched
SELECT position FROM {schema}.webhook_dispatch;

-- name: deliveries_page
SELECT seq, {delivery} FROM {schema}.webhook_delivery
WHERE webhook_id = $1 AND seq < $2 AND ($3::text IS NULL OR status = $3) ORDER BY seq DESC LIMIT $4;

-- name: due_deliveries
-- From lane to lane by the index, and from each a few: however many wait in one, the others are found as soon. Owners
-- take turns. A lane is a webhook's id, or begins with the owner (Webhook.lane).
WITH RECURSIVE lanes (lane) AS (
    SELECT min(lane) FROM {schema}.webhook_delivery WHERE status = 'pending'
    UNION ALL
    SELECT (SELECT min(more.lane) FROM {schema}.webhook_delivery AS more
            WHERE more.status = 'pending' AND more.lane > lanes.lane)
    FROM lanes WHERE lane IS NOT NULL
), owned (lane, owner) AS MATERIALIZED (
    SELECT lane, CASE strpos(lane, chr(9))
        WHEN 0 THEN coalesce((SELECT webhook.owner FROM {schema}.webhook WHERE webhook_id = lanes.lane::uuid), '')
        ELSE left(lane, strpos(lane, chr(9)) - 1) END
    FROM lanes
    WHERE lane IS NOT NULL AND lane <> ALL($1::text[]) AND left(lane, strpos(lane, chr(9))) <> ALL($1::text[])
)
SELECT {delivery} FROM (
    SELECT due.*, row_number() OVER (PARTITION BY owned.owner ORDER BY due.due_at) AS turn
    FROM owned CROSS JOIN LATERAL (
        SELECT {delivery} FROM {schema}.webhook_delivery
        WHERE status = 'pending' AND webhook_delivery.lane = owned.lane AND due_at <= now() ORDER BY due_at LIMIT $2
    ) AS due
    WHERE owned.owner <> ALL($4::text[])
) AS found ORDER BY turn, due_at LIMIT $3;

-- name: take_deliveries
UPDATE {schema}.webhook_delivery
SET attempts = webhook_delivery.attempts + 1, tries = tries + 1, attempted_at = now(), due_at = now() + $3::interval
FROM unnest($1::uuid[], $2::integer[]) AS taken (id, attempts)
WHERE delivery_id = taken.id AND webhook_delivery.attempts = taken.attempts AND status = 'pending'
RETURNING delivery_id;

-- name: deliveries_by_id
SELECT {delivery} FROM {schema}.webhook_delivery WHERE delivery_id = ANY($1::uuid[]);

-- name: settle_delivery
UPDATE {schema}.webhook_delivery SET status = $3, due_at = $4, response_code = $5, duration = $6, error = $7
WHERE delivery_id = $1 AND attempts = $2 AND status = 'pending' RETURNING webhook_id;

-- name: redeliver
UPDATE {schema}.webhook_delivery SET status = 'pending', tries = 0, due_at = now()
WHERE delivery_id = $1 AND webhook_id = $2 RETURNING {delivery};

-- name: prune_deliveries
DELETE FROM {schema}.webhook_delivery WHERE seq IN (
    SELECT seq FROM {schema}.webhook_delivery WHERE due_at < $3::timestamptz - $1::interval ORDER BY due_at LIMIT $2
    FOR UPDATE SKIP LOCKED
);
