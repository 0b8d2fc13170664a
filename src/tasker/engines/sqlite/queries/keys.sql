-- name: revoke_api_key
UPDATE api_key SET revoked_at = coalesce(revoked_at, ?) WHERE key_id = ?;

-- name: note_api_key_use
UPDATE api_key SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE key_id = ?;

-- name: cursor_secret
SELECT secret FROM cursor_key;

-- name: count_api_keys
SELECT count(*) FROM api_key WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?);

-- name: prune_api_keys
DELETE FROM api_key WHERE seq IN (
    SELECT seq FROM api_key WHERE revoked_at IS NOT NULL OR expires_at <= ? ORDER BY seq DESC LIMIT -1 OFFSET ?);
