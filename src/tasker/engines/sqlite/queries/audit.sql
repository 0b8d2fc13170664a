-- name: begin_audit
INSERT INTO audit (time, key_id, owner, action, target, address) VALUES (?, ?, ?, ?, ?, ?);

-- name: end_audit
UPDATE audit SET outcome = ?, target = CASE target WHEN '' THEN ? ELSE target END
WHERE sequence = ? AND outcome IS NULL;

-- name: audit_page
SELECT sequence, time, key_id, owner, action, target, address, outcome FROM audit
WHERE sequence < ? ORDER BY sequence DESC LIMIT ?;

-- name: prune_audit
DELETE FROM audit WHERE sequence IN (SELECT sequence FROM audit WHERE time < ? ORDER BY time LIMIT ?);
