-- name: insert_members
INSERT INTO {schema}.task_group_member (seq, owner, name, state)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING
RETURNING owner, name, state;

-- name: move_members
-- The transaction has locked these tasks.
UPDATE {schema}.task_group_member AS member SET state = moved.after
FROM (SELECT member.seq, member.state AS before, given.state AS after
      FROM unnest($1::uuid[], $2::text[]) AS given (task_id, state)
      JOIN {schema}.task ON task.task_id = given.task_id
      JOIN {schema}.task_group_member AS member ON member.seq = task.seq AND member.state <> given.state) AS moved
WHERE member.seq = moved.seq RETURNING member.owner, member.name, moved.before, moved.after;

-- name: erase_members
WITH waits AS (DELETE FROM {schema}.group_dependency WHERE task_seq = ANY($1::bigint[]))
DELETE FROM {schema}.task_group_member WHERE seq = ANY($1::bigint[]) RETURNING owner, name, state;

-- name: add_to_groups
-- Sorted: two transactions never deadlock. An end is noted only if no task is open afterwards.
INSERT INTO {schema}.task_group AS kept
    (group_id, owner, name, open, completed, failed, cancelled, is_open, ends, created_at, ended_at)
SELECT group_id, owner, name, open, completed, failed, cancelled, (open > 0)::int, (has_ends AND open <= 0)::int, now(),
       CASE WHEN open > 0 THEN NULL ELSE now() END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::boolean[])
    AS given (group_id, owner, name, open, completed, failed, cancelled, has_ends)
ORDER BY owner, name
ON CONFLICT (owner, name) DO UPDATE SET open = kept.open + excluded.open,
    completed = kept.completed + excluded.completed, failed = kept.failed + excluded.failed,
    cancelled = kept.cancelled + excluded.cancelled, is_open = (kept.open + excluded.open > 0)::int,
    ends = kept.ends + CASE WHEN kept.open + excluded.open = 0 THEN excluded.ends ELSE 0 END,
    ended_at = CASE WHEN kept.open + excluded.open > 0 THEN NULL
                    WHEN excluded.ends > 0 OR kept.is_open = 1 THEN now() ELSE kept.ended_at END
RETURNING now() AS now, {group};

-- name: groups_waited_for
-- In a statement of its own: one that has waited for the row of a group sees no task that began to wait meanwhile.
SELECT group_id FROM {schema}.task_group AS ended WHERE group_id = ANY($1::uuid[])
  AND EXISTS (SELECT FROM {schema}.group_dependency AS waits
              WHERE waits.owner = ended.owner AND waits.name = ended.name);

-- name: delete_groups
-- One that tasks still wait for goes once they are settled.
DELETE FROM {schema}.task_group AS empty WHERE group_id = ANY($1::uuid[])
  AND open + completed + failed + cancelled = 0
  AND NOT EXISTS (SELECT FROM {schema}.group_dependency AS waits
                  WHERE waits.owner = empty.owner AND waits.name = empty.name);

-- name: lock_group
-- An end that comes later waits for us, and then finds what waits for the group.
SELECT {group} FROM {schema}.task_group WHERE owner = $1 AND name = $2 FOR NO KEY UPDATE;

-- name: insert_group_dependency
INSERT INTO {schema}.group_dependency (task_seq, owner, name, ends, strict) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (task_seq) DO UPDATE SET owner = excluded.owner, name = excluded.name, ends = excluded.ends,
    strict = excluded.strict;

-- name: lock_group_dependants
SELECT waits.task_seq, waited.name, waited.failed, waited.cancelled,
       waits.strict AND waited.failed + waited.cancelled > 0 AS fails,
       task.status = 'pending' AND task.reason = 'dependencies' AS is_waiting
FROM {schema}.task_group AS waited JOIN {schema}.group_dependency AS waits
    ON waits.owner = waited.owner AND waits.name = waited.name AND waits.ends <= waited.ends - waited.is_open
JOIN {schema}.task ON task.seq = waits.task_seq
WHERE waited.group_id = ANY($1::uuid[]) ORDER BY waits.task_seq LIMIT $2 FOR NO KEY UPDATE OF task;

-- name: delete_group_dependencies
DELETE FROM {schema}.group_dependency WHERE task_seq = ANY($1::bigint[]);

-- name: uncounted_members
-- What processes of earlier versions have done to the next members without counting it: tasks ended, and tasks erased.
SELECT max(member.seq) AS last, count(*) AS number,
       array_agg(task.task_id) FILTER (WHERE state = 'open' AND status NOT IN ('pending', 'running')) AS ended,
       array_agg(member.seq) FILTER (WHERE task.seq IS NULL) AS erased
FROM (SELECT seq, state FROM {schema}.task_group_member WHERE seq > $1 ORDER BY seq LIMIT $2) AS member
LEFT JOIN {schema}.task USING (seq);

-- name: unsettled_groups
-- A task waits only while its group is open, except for imported ones. One seek for each group that is waited for.
WITH RECURSIVE named (owner, name) AS (
    (SELECT owner, name FROM {schema}.group_dependency ORDER BY owner, name LIMIT 1)
    UNION ALL
    SELECT next.owner, next.name FROM named CROSS JOIN LATERAL (
        SELECT owner, name FROM {schema}.group_dependency AS waits WHERE (waits.owner, waits.name) > (named.owner, named.name)
        ORDER BY owner, name LIMIT 1) AS next
)
SELECT group_id FROM named JOIN {schema}.task_group AS waited USING (owner, name)
WHERE EXISTS (SELECT FROM {schema}.group_dependency AS waits WHERE waits.owner = waited.owner AND waits.name = waited.name
              AND waits.ends <= waited.ends - waited.is_open) LIMIT $1;
