-- name: api_key_version
-- Add the number of keys, as an import adds keys without changing the version.
SELECT version + (SELECT count(*) FROM {schema}.api_key) FROM {schema}.api_key_version;

-- name: change_api_keys
UPDATE {schema}.api_key_version SET version = version + 1;

-- name: prune_api_keys
-- The version, which counts the keys too, must never return to an earlier value.
WITH gone AS (
    DELETE FROM {schema}.api_key WHERE seq IN (
        SELECT seq FROM {schema}.api_key WHERE revoked_at IS NOT NULL OR expires_at <= now()
        ORDER BY seq DESC OFFSET :keep)
    RETURNING 1
)
UPDATE {schema}.api_key_version SET version = version + (SELECT count(*) FROM gone);
