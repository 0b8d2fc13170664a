-- The open tasks that were stored before the triggers. Nobody waits meanwhile: what this statement's snapshot already
-- sees in task_change is counted there, and taken off here; what commits later is only there. All transactions that
-- wrote before the triggers have ended, for these waited for them.
INSERT INTO {schema}.open_task (owner, queue, type, pending, waiting, running)
SELECT owner, queue, type, sum(pending), sum(waiting), sum(running) FROM (
    SELECT owner, type, queue, 1 AS pending, (NOT lined)::int AS waiting, 0 AS running
    FROM {schema}.task WHERE status = 'pending'
    UNION ALL
    SELECT owner, type, queue, 0, 0, 1 FROM {schema}.task WHERE status = 'running'
    UNION ALL
    SELECT owner, type, queue, -pending, -waiting, -running FROM {schema}.task_change
) AS counted GROUP BY owner, queue, type;
