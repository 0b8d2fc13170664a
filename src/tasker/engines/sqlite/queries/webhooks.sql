-- name: hold_webhooks
-- No lock is needed, as there is no other writer.
SELECT webhook_id FROM webhook WHERE webhook_id {any_id:webhook_ids};

-- name: delete_some_deliveries
DELETE FROM webhook_delivery WHERE seq IN (
    SELECT seq FROM webhook_delivery INDEXED BY webhook_delivery_of WHERE webhook_id = :webhook_id LIMIT :limit);

-- name: find_position
SELECT position, NOT EXISTS (SELECT 1 FROM webhook) FROM webhook_dispatch;

-- name: due_deliveries
-- Skip from lane (slot pool) to lane by the index, and take a few deliveries from each, so that a full lane does not
-- delay the others. Owners take turns. A lane is a webhook's id, or begins with the owner (Webhook.lane).
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

-- name: take_deliveries
UPDATE webhook_delivery SET attempts = attempts + 1, tries = tries + 1, attempted_at = :now, due_at = :now + :lease
FROM (SELECT unhex(ids.value) AS id, given.value AS begun
      FROM json_each(:delivery_ids) AS ids JOIN json_each(:attempts) AS given USING (key)) AS taken
WHERE delivery_id = taken.id AND attempts = taken.begun AND status = 'pending' RETURNING {delivery};

-- name: release_deliveries
-- When a store is opened: the processes that had begun these attempts are gone, as this one has the lock on the file.
UPDATE webhook_delivery SET due_at = attempted_at WHERE status = 'pending' AND due_at = attempted_at + ?;
