-- What the triggers would have noted of the tasks that were stored before them. Nobody waits meanwhile.
INSERT INTO {schema}.task_span
SELECT seq >> 9, min(created_at), max(created_at) FROM {schema}.task GROUP BY seq >> 9;
INSERT INTO {schema}.task_tag
SELECT unnest(tags), seq FROM {schema}.task WHERE tags <> '{}' ON CONFLICT DO NOTHING;
