-- name: revoke_api_key
UPDATE api_key SET revoked_at = coalesce(revoked_at, ?) WHERE key_id = ?;

-- name: note_api_key_use
UPDATE api_key SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE key_id = ?;

-- name: cursor_secret
SELECT secret FROM cursor_key;
