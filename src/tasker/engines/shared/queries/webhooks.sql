-- name: count_webhooks
SELECT count(*) FROM {schema}.webhook {index:webhook_of_all} WHERE task_id IS NULL AND owner = :owner;

-- name: webhooks_page
SELECT seq, {webhook} FROM {schema}.webhook {index:webhook_of_all}
WHERE task_id IS NULL AND seq < :below AND (CAST(:owner AS text) IS NULL OR owner = :owner AND NOT all_owners)
ORDER BY seq DESC LIMIT :limit;

-- name: mark_webhook
-- It gets the events of later commits: in SQLite this transaction's entries are written last, and in PostgreSQL a
-- running transaction with a smaller number counts as earlier.
UPDATE {schema}.webhook SET made_after = (SELECT max(id) FROM {schema}.journal) WHERE webhook_id = :webhook_id;

-- name: subscriptions
SELECT coalesce(made_after, 0), {webhook} FROM {schema}.webhook {index:webhook_of_all} WHERE task_id IS NULL
UNION ALL
SELECT 0, {webhook} FROM {schema}.webhook {index:webhook_of_task} WHERE task_id {any_id:task_ids};

-- name: webhooks_of_task
SELECT count(*) FROM {schema}.webhook {index:webhook_of_task} WHERE task_id = :task_id;

-- name: webhooks_of_task_to
SELECT count(*) FROM {schema}.webhook {index:webhook_of_task} WHERE task_id = :task_id AND url = :url;

-- name: webhooks_by_id
SELECT {webhook} FROM {schema}.webhook WHERE webhook_id {any_id:webhook_ids};

-- name: paused_webhooks
SELECT webhook_id FROM {schema}.webhook {index:webhook_of_all} WHERE task_id IS NULL AND status = 'paused';

-- name: webhook_succeeded
UPDATE {schema}.webhook SET failing_since = NULL WHERE webhook_id = :webhook_id AND failing_since IS NOT NULL;

-- name: webhook_failed
UPDATE {schema}.webhook SET failing_since = :at
WHERE webhook_id = :webhook_id AND task_id IS NULL AND failing_since IS NULL;

-- name: pause_webhook
UPDATE {schema}.webhook SET status = 'paused', reason = coalesce(CAST(:pause AS text), CAST(:too_long AS text))
WHERE webhook_id = :webhook_id AND task_id IS NULL AND status = 'active'
  AND (CAST(:pause AS text) IS NOT NULL OR failing_since <= :before);

-- name: delete_webhook_deliveries
DELETE FROM {schema}.webhook_delivery WHERE webhook_id = :webhook_id;

-- name: dispatch_position
SELECT position FROM {schema}.webhook_dispatch;

-- name: move_dispatch
UPDATE {schema}.webhook_dispatch SET position = :to WHERE position IS NOT DISTINCT FROM :after;

-- name: deliveries_page
SELECT seq, {delivery} FROM {schema}.webhook_delivery {index:webhook_delivery_of}
WHERE webhook_id = :webhook_id AND seq < :below AND (CAST(:status AS text) IS NULL OR status = :status)
ORDER BY seq DESC LIMIT :limit;

-- name: settle_delivery
-- CAST: to SQLite, which keeps durations as integers, `interval` is an integer type.
UPDATE {schema}.webhook_delivery
SET status = :status, due_at = {now} + CAST(:wait AS interval), response_code = :response_code, duration = :duration,
    error = :error
WHERE delivery_id = :delivery_id AND attempts = :attempts AND status = 'pending';

-- name: redeliver
UPDATE {schema}.webhook_delivery SET status = 'pending', tries = 0, due_at = {now}
WHERE delivery_id = :delivery_id AND webhook_id = :webhook_id RETURNING {delivery};

-- name: prune_deliveries
DELETE FROM {schema}.webhook_delivery WHERE seq IN (
    SELECT seq FROM {schema}.webhook_delivery WHERE due_at < :before ORDER BY due_at LIMIT :limit{skip_locked});
