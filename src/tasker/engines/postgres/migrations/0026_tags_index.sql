-- The index for lists by tag is task_tag now. This is a transaction of its own: one that lets writers wait must not ask for
-- a lock that these may hold.

-- Tags of tasks that were erased while older ones were noted. All of these transactions have ended, for the index before
-- this waited for them.
DELETE FROM {schema}.task_tag WHERE NOT EXISTS (SELECT FROM {schema}.task WHERE task.seq = task_tag.seq);
DROP INDEX {schema}.task_tags;
