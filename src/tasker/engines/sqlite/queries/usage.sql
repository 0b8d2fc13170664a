-- name: add_usage
INSERT INTO usage_by_day AS kept (day, owner, type, attempts, completed, failed, cancelled, run_time, input_tokens,
                                  output_tokens, cached_tokens, cost)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, owner, type) DO UPDATE SET attempts = kept.attempts + excluded.attempts,
    completed = kept.completed + excluded.completed, failed = kept.failed + excluded.failed,
    cancelled = kept.cancelled + excluded.cancelled, run_time = kept.run_time + excluded.run_time,
    input_tokens = kept.input_tokens + excluded.input_tokens,
    output_tokens = kept.output_tokens + excluded.output_tokens,
    cached_tokens = kept.cached_tokens + excluded.cached_tokens, cost = kept.cost + excluded.cost;

-- name: find_usage
SELECT iif(:by_day, day, NULL), iif(:by_owner, owner, NULL), iif(:by_type, type, NULL), sum(attempts), sum(completed),
       sum(failed), sum(cancelled), sum(run_time), sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(cost)
FROM usage_by_day
WHERE day BETWEEN :first AND :last AND (:owner IS NULL OR owner = :owner) AND (:type IS NULL OR type = :type)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT :limit;

-- name: spent_on
SELECT coalesce(sum(cost), 0) FROM usage_by_day WHERE day = ? AND owner = ?;
