-- name: revoke_api_key
UPDATE {schema}.api_key SET revoked_at = coalesce(revoked_at, {now}) WHERE key_id = :key_id;

-- name: record_api_key_use
UPDATE {schema}.api_key SET last_used_at = :at
WHERE key_id = :key_id AND (last_used_at IS NULL OR last_used_at < :at);

-- name: cursor_secret
SELECT secret FROM {schema}.cursor_key;

-- name: count_api_keys
SELECT count(*) FROM {schema}.api_key WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > {now});
