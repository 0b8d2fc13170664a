-- name: summed_queues
SELECT DISTINCT owner, bucket, queue FROM {schema}.rollup
WHERE unit = 3600 AND owner {any:owners} AND bucket >= :since;

-- name: add_sums
INSERT INTO {schema}.rollup AS kept (unit, owner, bucket, type, queue, {summed})
VALUES (:unit, :owner, :bucket, :type, :queue, {summed_values})
ON CONFLICT (unit, owner, bucket, type, queue) DO UPDATE SET {summed_added};

-- name: add_open
INSERT INTO {schema}.open_task AS kept (owner, type, queue, pending, waiting, running)
VALUES (:owner, :type, :queue, :pending, :waiting, :running)
ON CONFLICT (owner, queue, type) DO UPDATE SET pending = kept.pending + excluded.pending,
    waiting = kept.waiting + excluded.waiting, running = kept.running + excluded.running;

-- name: forget_open
DELETE FROM {schema}.open_task WHERE pending = 0 AND waiting = 0 AND running = 0;

-- name: prune_sums
DELETE FROM {schema}.rollup WHERE (unit, owner, bucket, type, queue) IN (
    SELECT unit, owner, bucket, type, queue FROM {schema}.rollup
    WHERE unit = :unit AND bucket < :until ORDER BY bucket LIMIT :limit);
