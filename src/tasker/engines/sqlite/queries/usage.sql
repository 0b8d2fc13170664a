-- name: add_usage
UPDATE usage_by_day SET {counted_more} WHERE day = ? AND owner = ? AND type = ?;

-- name: insert_usage
INSERT INTO usage_by_day (day, owner, type, {counted}) VALUES (?, ?, ?, {counted_places});

-- name: put_usage
INSERT INTO usage_by_day (day, owner, type, {counted}) VALUES (:day, :owner, :type, {counted_values})
ON CONFLICT DO NOTHING;

-- name: spent_today
SELECT coalesce(sum(cost), 0) FROM usage_by_day WHERE day = :now / 86400000000 AND owner = :owner;
