-- name: add_usage
UPDATE usage_by_day SET attempts = attempts + ?, completed = completed + ?, failed = failed + ?,
    cancelled = cancelled + ?, run_time = run_time + ?, input_tokens = input_tokens + ?,
    output_tokens = output_tokens + ?, cached_tokens = cached_tokens + ?, cost = cost + ?
WHERE day = ? AND owner = ? AND type = ?;

-- name: insert_usage
INSERT INTO usage_by_day (day, owner, type, attempts, completed, failed, cancelled, run_time, input_tokens,
                          output_tokens, cached_tokens, cost)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: find_usage
SELECT iif(:by_day, day, NULL), iif(:by_owner, owner, NULL), iif(:by_type, type, NULL), sum(attempts), sum(completed),
       sum(failed), sum(cancelled), sum(run_time), sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(cost)
FROM usage_by_day
WHERE day BETWEEN :first AND :last AND (:owner IS NULL OR owner = :owner) AND (:type IS NULL OR type = :type)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT :limit;

-- name: spent_on
SELECT coalesce(sum(cost), 0) FROM usage_by_day WHERE day = ? AND owner = ?;
