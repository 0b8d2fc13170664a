-- name: group_by_name
SELECT {group} FROM {schema}.task_group WHERE owner = :owner AND name = :name;

-- name: groups_page
-- is_open: 1 for groups with open tasks, which come first; a page begins below (is_open, seq).
SELECT seq, {group} FROM {schema}.task_group WHERE (is_open, seq) < (:is_open, :below)
ORDER BY is_open DESC, seq DESC LIMIT :limit;

-- name: groups_page_of
SELECT seq, {group} FROM {schema}.task_group WHERE owner = :owner AND (is_open, seq) < (:is_open, :below)
ORDER BY is_open DESC, seq DESC LIMIT :limit;

-- name: groups_running
-- Few tasks run at a time: as many as there are slots.
SELECT member.owner, member.name, CAST(count(*) AS bigint) FROM {schema}.task {index:task_running}
JOIN {schema}.task_group_member AS member ON member.seq = task.seq
WHERE task.status = 'running' AND member.name {any:names} GROUP BY member.owner, member.name;

-- name: group_oldest
SELECT task.task_id FROM (
    SELECT seq FROM {schema}.task_group_member {index:task_group_state}
    WHERE owner = :owner AND name = :name AND state = 'open' ORDER BY seq LIMIT 1) AS oldest
JOIN {schema}.task ON task.seq = oldest.seq;

-- name: group_failures
SELECT task.task_id, task.type, task.error FROM (
    SELECT seq FROM {schema}.task_group_member {index:task_group_state}
    WHERE owner = :owner AND name = :name AND state = 'failed' ORDER BY seq LIMIT :limit) AS failed
JOIN {schema}.task ON task.seq = failed.seq
WHERE task.error IS NOT NULL ORDER BY task.seq;

-- name: group_webhooks
SELECT {webhook} FROM {schema}.webhook {index:webhook_of_all} WHERE task_id IS NULL
  AND (all_owners OR owner = :owner) AND type IS NULL AND queue IS NULL AND tag IS NULL;
