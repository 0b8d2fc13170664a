-- The tasks of schedules that were stored before the trigger. Nobody waits meanwhile.
INSERT INTO {schema}.task_schedule
SELECT (convert_from(extra, 'UTF8')::json ->> 'schedule_id')::uuid, seq FROM {schema}.task
WHERE extra IS NOT NULL AND convert_from(extra, 'UTF8')::json ->> 'schedule_id' IS NOT NULL
ON CONFLICT DO NOTHING;
DELETE FROM {schema}.task_schedule
WHERE NOT EXISTS (SELECT FROM {schema}.task WHERE task.seq = task_schedule.seq);
