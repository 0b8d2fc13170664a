-- name: api_key_version
-- With the number of keys, for an import adds some beside the version.
SELECT version + (SELECT count(*) FROM {schema}.api_key) FROM {schema}.api_key_version;

-- name: change_api_keys
UPDATE {schema}.api_key_version SET version = version + 1;

-- name: revoke_api_key
UPDATE {schema}.api_key SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = $1;

-- name: note_api_key_uses
-- Sorted: two processes never cross.
WITH used AS (
    SELECT key_id, at FROM unnest($1::text[], $2::timestamptz[]) AS given (key_id, at)
    JOIN {schema}.api_key USING (key_id) ORDER BY key_id FOR UPDATE OF api_key
)
UPDATE {schema}.api_key SET last_used_at = greatest(api_key.last_used_at, used.at)
FROM used WHERE api_key.key_id = used.key_id;

-- name: cursor_secret
SELECT secret FROM {schema}.cursor_key;

-- name: count_api_keys
SELECT count(*) FROM {schema}.api_key WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: prune_api_keys
-- The version, which counts the keys too, must not come back to what it was.
WITH gone AS (
    DELETE FROM {schema}.api_key WHERE seq IN (
        SELECT seq FROM {schema}.api_key WHERE revoked_at IS NOT NULL OR expires_at <= now()
        ORDER BY seq DESC OFFSET $1)
    RETURNING 1
)
UPDATE {schema}.api_key_version SET version = version + (SELECT count(*) FROM gone);
