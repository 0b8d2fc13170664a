-- name: count_webhooks
SELECT count(*) FROM webhook INDEXED BY webhook_of_all WHERE task_id IS NULL AND owner = ?;

-- name: webhooks_page
SELECT seq, {webhook} FROM webhook INDEXED BY webhook_of_all
WHERE task_id IS NULL AND seq < :below AND (:owner IS NULL OR owner = :owner AND NOT all_owners)
ORDER BY seq DESC LIMIT :limit;

-- name: mark_webhook
-- Notes of this transaction are written later.
UPDATE webhook SET made_after = coalesce((SELECT max(id) FROM journal), 0) WHERE webhook_id = ?;

-- name: webhooks_of_all
SELECT coalesce(made_after, 0), {webhook} FROM webhook INDEXED BY webhook_of_all WHERE task_id IS NULL ORDER BY seq;

-- name: webhooks_of_task
SELECT 0, {webhook} FROM webhook INDEXED BY webhook_of_task WHERE task_id = ? ORDER BY seq;

-- name: count_webhooks_of_task
SELECT count(*) FROM webhook INDEXED BY webhook_of_task WHERE task_id = ?;

-- name: webhook_of_task_to
SELECT 1 FROM webhook INDEXED BY webhook_of_task WHERE task_id = ? AND url = ?;

-- name: paused_webhooks
SELECT webhook_id FROM webhook INDEXED BY webhook_of_all WHERE task_id IS NULL AND status = 'paused';

-- name: webhook_exists
SELECT 1 FROM webhook WHERE webhook_id = ?;

-- name: webhook_succeeded
UPDATE webhook SET failing_since = NULL WHERE webhook_id = ? AND failing_since IS NOT NULL;

-- name: webhook_failed
UPDATE webhook SET failing_since = coalesce(failing_since, :at) WHERE webhook_id = :webhook_id AND task_id IS NULL;

-- name: pause_webhook
UPDATE webhook SET status = 'paused', reason = coalesce(:pause, :too_long)
WHERE webhook_id = :webhook_id AND task_id IS NULL AND status = 'active'
  AND (:pause IS NOT NULL OR failing_since <= :before);

-- name: delete_some_deliveries
DELETE FROM webhook_delivery WHERE seq IN (
    SELECT seq FROM webhook_delivery INDEXED BY webhook_delivery_of WHERE webhook_id = ? LIMIT ?);

-- name: delete_webhook_deliveries
DELETE FROM webhook_delivery WHERE webhook_id = ?;

-- name: delete_task_deliveries
DELETE FROM webhook_delivery WHERE task_id = ?;

-- name: delete_task_webhooks
DELETE FROM webhook WHERE task_id = ?;

-- name: turn
SELECT position, NOT EXISTS (SELECT 1 FROM webhook) FROM webhook_dispatch;

-- name: move_dispatch
UPDATE webhook_dispatch SET position = ? WHERE position IS ?;

-- name: deliveries_page
SELECT seq, {delivery} FROM webhook_delivery INDEXED BY webhook_delivery_of
WHERE webhook_id = :webhook_id AND seq < :below AND (:status IS NULL OR status = :status)
ORDER BY seq DESC LIMIT :limit;

-- name: insert_delivery
INSERT OR IGNORE INTO webhook_delivery ({delivery}) VALUES ({delivery_places});

-- name: due_deliveries
-- From lane to lane by the index, and from each a few: however many wait in one, the others are found as soon. Owners
-- take turns. A lane is a webhook's id, or begins with the owner (Webhook.lane).
WITH RECURSIVE lanes (lane) AS (
    SELECT min(lane) FROM webhook_delivery WHERE status = 'pending'
    UNION ALL
    SELECT (SELECT min(lane) FROM webhook_delivery WHERE status = 'pending' AND lane > lanes.lane)
    FROM lanes WHERE lane IS NOT NULL
), owned (lane, owner) AS MATERIALIZED (
    SELECT lane, CASE instr(lane, char(9))
        WHEN 0 THEN coalesce((SELECT webhook.owner FROM webhook WHERE webhook_id = unhex(lanes.lane, '-')), '')
        ELSE substr(lane, 1, instr(lane, char(9)) - 1) END
    FROM lanes
    WHERE lane IS NOT NULL AND lane NOT IN (SELECT value FROM json_each(:full))
      AND substr(lane, 1, instr(lane, char(9))) NOT IN (SELECT value FROM json_each(:full))
), turns (seq, due_at, turn) AS (
    SELECT due.seq, due.due_at, row_number() OVER (PARTITION BY owned.owner ORDER BY due.due_at, due.seq)
    FROM owned JOIN webhook_delivery AS due ON due.seq IN (
        SELECT seq FROM webhook_delivery
        WHERE status = 'pending' AND lane = owned.lane AND due_at <= :now ORDER BY due_at LIMIT :each
    )
    WHERE owned.owner NOT IN (SELECT value FROM json_each(:full_owners))
), first (seq, turn) AS MATERIALIZED (SELECT seq, turn FROM turns ORDER BY turn, due_at, seq LIMIT :limit)
SELECT {delivery} FROM first JOIN webhook_delivery USING (seq) ORDER BY turn, due_at, seq;

-- name: take_delivery
UPDATE webhook_delivery SET attempts = attempts + 1, tries = tries + 1, attempted_at = ?, due_at = ?
WHERE delivery_id = ? AND attempts = ? AND status = 'pending' RETURNING {delivery};

-- name: release_deliveries
-- At open: whoever had begun these is gone, for the lock on the file is ours.
UPDATE webhook_delivery SET due_at = attempted_at WHERE status = 'pending' AND due_at = attempted_at + ?;

-- name: settle_delivery
UPDATE webhook_delivery SET status = ?, due_at = ?, response_code = ?, duration = ?, error = ?
WHERE delivery_id = ? AND attempts = ? AND status = 'pending';

-- name: redeliver
UPDATE webhook_delivery SET status = 'pending', tries = 0, due_at = ? WHERE delivery_id = ? AND webhook_id = ?
RETURNING {delivery};

-- name: prune_deliveries
DELETE FROM webhook_delivery WHERE seq IN (
    SELECT seq FROM webhook_delivery WHERE due_at < ? ORDER BY due_at LIMIT ?
);
