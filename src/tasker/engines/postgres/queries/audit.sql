-- name: begin_audit
INSERT INTO {schema}.audit (time, key_id, owner, action, target, address) VALUES (now(), $1, $2, $3, $4, $5)
RETURNING sequence;

-- name: end_audit
UPDATE {schema}.audit SET outcome = $2, target = CASE target WHEN '' THEN $3::text ELSE target END
WHERE sequence = $1 AND outcome IS NULL;

-- name: audit_page
SELECT sequence, time, key_id, owner, action, target, address, outcome FROM {schema}.audit
WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2;

-- name: prune_audit
DELETE FROM {schema}.audit WHERE sequence IN (
    SELECT sequence FROM {schema}.audit WHERE time < $3::timestamptz - $1::interval
    ORDER BY time LIMIT $2 FOR UPDATE SKIP LOCKED);
