-- Events count from 1 within their task, and a task's creation, start and end are read off its row (engines/log.py).
ALTER TABLE task ADD COLUMN sequence INTEGER NOT NULL DEFAULT 1;  -- of the last event before the latest attempt

CREATE TABLE task_event (
    task_seq INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    type     TEXT NOT NULL,
    time     INTEGER NOT NULL,
    data     BLOB NOT NULL,
    PRIMARY KEY (task_seq, sequence)
) STRICT;
INSERT INTO task_event SELECT task_seq, 2 + row_number() OVER (PARTITION BY task_seq ORDER BY sequence), attempt, type,
                              time, data FROM event;
DROP TABLE event;
