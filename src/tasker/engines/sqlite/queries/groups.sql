-- name: insert_member
INSERT INTO task_group_member (seq, owner, name, state) VALUES (?, ?, ?, ?);

-- name: concerns_others
UPDATE task SET has_dependants = 1 WHERE seq = ?;

-- name: member_of
SELECT owner, name, state FROM task_group_member WHERE seq = ?;

-- name: move_member
UPDATE task_group_member SET state = ? WHERE seq = ?;

-- name: members_of
SELECT owner, name, state, count(*) FROM task_group_member WHERE seq {any:seqs} GROUP BY owner, name, state;

-- name: erase_members
DELETE FROM task_group_member WHERE seq {any:seqs};

-- name: forget_group_dependencies
DELETE FROM group_dependency WHERE task_seq {any:seqs};

-- name: group_row
SELECT {group} FROM task_group WHERE owner = ? AND name = ?;

-- name: group_by_id
SELECT {group} FROM task_group WHERE group_id = ?;

-- name: add_to_group
UPDATE task_group SET open = open + :open, completed = completed + :completed, failed = failed + :failed,
    cancelled = cancelled + :cancelled, is_open = open + :open > 0,
    ends = ends + (:has_ends AND open + :open = 0),
    ended_at = CASE WHEN open + :open > 0 THEN NULL WHEN :has_ends OR is_open THEN :now ELSE ended_at END
WHERE owner = :owner AND name = :name RETURNING {group};

-- name: insert_group
INSERT INTO task_group (group_id, owner, name, open, completed, failed, cancelled, is_open, ends, created_at, ended_at)
VALUES (:group_id, :owner, :name, :open, :completed, :failed, :cancelled, :open > 0, :has_ends AND :open = 0, :now,
        CASE WHEN :open > 0 THEN NULL ELSE :now END) RETURNING {group};

-- name: delete_group
-- One that tasks still wait for goes once they are settled.
DELETE FROM task_group WHERE owner = :owner AND name = :name AND open + completed + failed + cancelled = 0
  AND NOT EXISTS (SELECT 1 FROM group_dependency WHERE owner = :owner AND name = :name);

-- name: insert_group_dependency
INSERT OR REPLACE INTO group_dependency (task_seq, owner, name, ends, strict) VALUES (?, ?, ?, ?, ?);

-- name: group_dependants
SELECT task_seq, strict FROM group_dependency WHERE owner = ? AND name = ? AND ends <= ? ORDER BY task_seq LIMIT ?;

-- name: delete_group_dependency
DELETE FROM group_dependency WHERE task_seq = ?;

-- name: is_waiting
SELECT 1 FROM task WHERE seq = ? AND status = 'pending' AND reason = 'dependencies';

-- name: unsettled_groups
-- A task waits only while its group is open, except for imported ones.
SELECT group_id FROM task_group WHERE EXISTS (
    SELECT 1 FROM group_dependency AS waits
    WHERE waits.owner = task_group.owner AND waits.name = task_group.name AND waits.ends <= task_group.ends - task_group.is_open);
