-- name: prune_api_keys
DELETE FROM api_key WHERE seq IN (
    SELECT seq FROM api_key WHERE revoked_at IS NOT NULL OR expires_at <= :now ORDER BY seq DESC LIMIT -1 OFFSET :keep);
