-- name: failures_reach
-- The hour of the last count that may be read, if there are more.
SELECT hour FROM {schema}.failure_hour {index:failure_hour_hour}
WHERE hour >= :since ORDER BY hour DESC LIMIT 1 OFFSET :most;

-- name: own_failures_reach
SELECT hour FROM {schema}.failure_hour WHERE owner = :owner AND hour >= :since ORDER BY hour DESC LIMIT 1 OFFSET :most;

-- name: one_failure_reach
-- Of one group: of one owner, or OTHER, which all owners share.
SELECT hour FROM {schema}.failure_hour {index:failure_hour_failure}
WHERE failure = :failure AND hour >= :since AND (NOT :by_owner OR owner = :owner)
ORDER BY hour DESC LIMIT 1 OFFSET :most;

-- name: failures_page
SELECT owner, failure, type, count, last_at FROM (
    SELECT owner, failure, type, CAST(sum(count) AS bigint) AS count, max(last_at) AS last_at
    FROM {schema}.failure_hour {index:failure_hour_hour}
    WHERE hour >= :since AND (NOT :by_type OR type {any:types}) AND (NOT :by_queue OR queue {any:queues})
    GROUP BY owner, failure, type) AS failures
WHERE NOT :goes_on OR (last_at, owner, failure, type) < (:last_at, :last_owner, :last_failure, :last_type)
ORDER BY last_at DESC, owner DESC, failure DESC, type DESC LIMIT :limit;

-- name: own_failures_page
SELECT owner, failure, type, count, last_at FROM (
    SELECT owner, failure, type, CAST(sum(count) AS bigint) AS count, max(last_at) AS last_at
    FROM {schema}.failure_hour
    WHERE owner = :owner AND hour >= :since AND (NOT :by_type OR type {any:types})
      AND (NOT :by_queue OR queue {any:queues})
    GROUP BY owner, failure, type) AS failures
WHERE NOT :goes_on OR (last_at, owner, failure, type) < (:last_at, :last_owner, :last_failure, :last_type)
ORDER BY last_at DESC, owner DESC, failure DESC, type DESC LIMIT :limit;

-- name: one_failure_page
SELECT owner, failure, type, count, last_at FROM (
    SELECT owner, failure, type, CAST(sum(count) AS bigint) AS count, max(last_at) AS last_at
    FROM {schema}.failure_hour {index:failure_hour_failure}
    WHERE failure = :failure AND hour >= :since AND (NOT :by_owner OR owner = :owner)
      AND (NOT :by_type OR type {any:types}) AND (NOT :by_queue OR queue {any:queues})
    GROUP BY owner, failure, type) AS failures
WHERE NOT :goes_on OR (last_at, owner, failure, type) < (:last_at, :last_owner, :last_failure, :last_type)
ORDER BY last_at DESC, owner DESC, failure DESC, type DESC LIMIT :limit;

-- name: failure_facts
-- With the newest task of each group, while there is one.
SELECT known.failure, known.problem, known.exception, known.first_at, task.task_id, task.error
FROM {schema}.failure AS known LEFT JOIN {schema}.task
    ON task.seq = (SELECT max(seq) FROM {schema}.task_failure AS noted WHERE noted.failure = known.failure)
    AND task.status = 'failed' AND (task.expires_at IS NULL OR task.expires_at > {now})
WHERE known.failure {any:failures};

-- name: prune_failure_hours
DELETE FROM {schema}.failure_hour WHERE (failure, owner, hour, type, queue) IN (
    SELECT failure, owner, hour, type, queue FROM {schema}.failure_hour {index:failure_hour_hour}
    WHERE hour < :before ORDER BY hour LIMIT :limit);

-- name: prune_failures
DELETE FROM {schema}.failure WHERE failure IN (
    SELECT failure FROM {schema}.failure WHERE last_at < :before ORDER BY last_at LIMIT :limit);
