-- name: insert_api_key
INSERT INTO api_key (key_id, name, owner, scopes, digest, created_at, expires_at, revoked_at, last_used_at, rate, burst,
                     daily_budget)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: api_keys
SELECT key_id, name, owner, scopes, digest, created_at, expires_at, revoked_at, last_used_at, rate, burst, daily_budget
FROM api_key ORDER BY seq;

-- name: api_key_by_id
SELECT key_id, name, owner, scopes, digest, created_at, expires_at, revoked_at, last_used_at, rate, burst, daily_budget
FROM api_key WHERE key_id = ?;

-- name: revoke_api_key
UPDATE api_key SET revoked_at = coalesce(revoked_at, ?) WHERE key_id = ?;

-- name: note_api_key_use
UPDATE api_key SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE key_id = ?;
