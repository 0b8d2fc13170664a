-- name: insert_journal
INSERT INTO journal (noted_at, notes) VALUES (?, ?);

-- name: journal_name
SELECT name FROM journal_name;

-- name: journal_ends
SELECT coalesce((SELECT min(id) FROM journal), 1), coalesce((SELECT max(id) FROM journal), 0);

-- name: journal_rows
SELECT id, notes FROM journal WHERE id >= ? ORDER BY id LIMIT ?;

-- name: subject
SELECT seq, type, queue, tags, owner, {head} FROM task WHERE task_id = ? AND (expires_at IS NULL OR expires_at > ?);

-- name: events_between
SELECT sequence, attempt, type, time, data FROM task_event
WHERE task_seq = ? AND sequence BETWEEN ? AND ? ORDER BY sequence;

-- name: starts_and_ends
SELECT sequence, attempt, type, time, data FROM task_event
WHERE task_seq = ? AND type IN ('started', 'completed', 'failed', 'cancelled') ORDER BY sequence;

-- name: journal_row_size
-- The average size of a row, from a sample that is evenly spread: reading all would take long.
WITH RECURSIVE some(id, last, step) AS (
    SELECT min(id), max(id), max(1, (max(id) - min(id)) / 100) FROM journal
    UNION ALL SELECT id + step, last, step FROM some WHERE id + step <= last
)
SELECT avg(length(notes)) FROM journal WHERE id IN (SELECT id FROM some);

-- name: prune_journal
-- The oldest rows, up to the first that is kept; the newest row always stays.
DELETE FROM journal WHERE id < (
    SELECT coalesce(min(id) FILTER (WHERE noted_at >= :before AND id >= :from_id), max(id))
    FROM (SELECT id, noted_at FROM journal ORDER BY id LIMIT :limit + 1));
