-- name: begin_audit
INSERT INTO {schema}.audit (time, key_id, owner, action, target, address)
VALUES ({now}, :key_id, :owner, :action, :target, :address) RETURNING sequence;

-- name: end_audit
UPDATE {schema}.audit SET outcome = :outcome, target = CASE target WHEN '' THEN CAST(:target AS text) ELSE target END
WHERE sequence = :sequence AND outcome IS NULL;

-- name: audit_page
SELECT sequence, time, key_id, owner, action, target, address, outcome FROM {schema}.audit
WHERE sequence < :below ORDER BY sequence DESC LIMIT :limit;

-- name: prune_audit
DELETE FROM {schema}.audit WHERE sequence IN (
    SELECT sequence FROM {schema}.audit WHERE time < :before ORDER BY time LIMIT :limit{skip_locked});
