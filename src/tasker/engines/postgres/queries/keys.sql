-- name: api_key_version
SELECT version FROM {schema}.api_key_version;

-- name: change_api_keys
UPDATE {schema}.api_key_version SET version = version + 1;

-- name: insert_api_key
-- One that is there with this digest was stored by an earlier try of ours whose answer was lost.
INSERT INTO {schema}.api_key (key_id, name, owner, scopes, digest, created_at, expires_at, revoked_at, last_used_at, rate,
                              burst, daily_budget)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (key_id) DO UPDATE SET key_id = api_key.key_id RETURNING digest;

-- name: api_keys
SELECT key_id, name, owner, scopes, digest, created_at, expires_at, revoked_at, last_used_at, rate, burst, daily_budget
FROM {schema}.api_key ORDER BY seq;

-- name: revoke_api_key
UPDATE {schema}.api_key SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = $1
RETURNING key_id, name, owner, scopes, digest, created_at, expires_at, revoked_at, last_used_at, rate, burst,
          daily_budget;

-- name: note_api_key_uses
-- Sorted: two processes never cross.
WITH used AS (
    SELECT key_id, at FROM unnest($1::text[], $2::timestamptz[]) AS given (key_id, at)
    JOIN {schema}.api_key USING (key_id) ORDER BY key_id FOR UPDATE OF api_key
)
UPDATE {schema}.api_key SET last_used_at = greatest(api_key.last_used_at, used.at)
FROM used WHERE api_key.key_id = used.key_id;
