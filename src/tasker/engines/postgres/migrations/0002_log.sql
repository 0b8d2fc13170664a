-- Events count from 1 within their task, and a task's creation, start and end are read off its row (engines/shared/log.py).
-- The table `event` stays for processes of the version before.
ALTER TABLE {schema}.task ADD COLUMN sequence integer NOT NULL DEFAULT 1;  -- of the last event before the latest attempt

CREATE TABLE {schema}.task_event (
    task_seq bigint NOT NULL,
    sequence integer NOT NULL,
    attempt  integer NOT NULL,
    type     text NOT NULL,
    time     timestamptz NOT NULL,
    data     bytea NOT NULL,
    PRIMARY KEY (task_seq, sequence)
);
INSERT INTO {schema}.task_event
SELECT task_seq, 2 + row_number() OVER (PARTITION BY task_seq ORDER BY sequence), attempt, type, time, data
FROM {schema}.event;
