-- name: hold_owner
-- One transaction at a time, so that each counts the rows of the one before.
SELECT pg_advisory_xact_lock($1, hashtext($2));

-- name: hold_webhooks
-- Locked, so that they are not erased before the transaction ends.
SELECT webhook_id FROM {schema}.webhook WHERE webhook_id {any_id:webhook_ids} FOR KEY SHARE;

-- name: delete_task_deliveries
DELETE FROM {schema}.webhook_delivery WHERE task_id = ANY($1::uuid[]);

-- name: delete_task_webhooks
DELETE FROM {schema}.webhook WHERE task_id = ANY($1::uuid[]);

-- name: find_position
SELECT position, NOT EXISTS (SELECT 1 FROM {schema}.webhook) AS is_idle,
       coalesce(holder = :holder AND held_until > now() + :held_for::interval / 2, false) AS is_held,
       coalesce(holder <> :holder AND held_until > now(), false) AS is_others
FROM {schema}.webhook_dispatch;

-- name: hold_dispatch
UPDATE {schema}.webhook_dispatch SET holder = :holder, held_until = now() + :held_for::interval
WHERE holder IS NULL OR holder = :holder OR held_until <= now() RETURNING position;

-- name: due_deliveries
-- Skip from lane (slot pool) to lane by the index, and take a few deliveries from each, so that a full lane does not
-- delay the others. Owners take turns. A lane is a webhook's id, or begins with the owner (Webhook.lane).
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
    WHERE lane IS NOT NULL AND lane <> ALL(:full::text[]) AND left(lane, strpos(lane, chr(9))) <> ALL(:full::text[])
)
SELECT {delivery} FROM (
    SELECT due.*, row_number() OVER (PARTITION BY owned.owner ORDER BY due.due_at) AS turn
    FROM owned CROSS JOIN LATERAL (
        SELECT {delivery} FROM {schema}.webhook_delivery
        WHERE status = 'pending' AND webhook_delivery.lane = owned.lane AND due_at <= now() ORDER BY due_at LIMIT :each
    ) AS due
    WHERE owned.owner <> ALL(:full_owners::text[])
) AS found
WHERE NOT (SELECT is_moving FROM {schema}.clock)  -- else the times may be those of the old clock
ORDER BY turn, due_at LIMIT :limit;

-- name: take_deliveries
UPDATE {schema}.webhook_delivery
SET attempts = attempts + 1, tries = tries + 1, attempted_at = now(), due_at = now() + :lease::interval
FROM unnest(:delivery_ids::uuid[], :attempts::integer[]) AS taken (id, begun)
WHERE delivery_id = taken.id AND attempts = taken.begun AND status = 'pending' RETURNING {delivery};
