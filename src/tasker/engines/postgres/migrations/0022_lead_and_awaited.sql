-- Locks are taken in small portions: a transaction that waits long for the busy table is rolled back.
SET LOCAL lock_timeout = '300ms';

-- Whether all processes are notified of the task's end and reports. Those of earlier versions wait for any task.
ALTER TABLE {schema}.task ADD COLUMN awaited boolean NOT NULL DEFAULT true;

-- Which process does the chores of the store, and when it last said so. Processes of earlier versions do them all.
CREATE TABLE {schema}.lead (
    id      integer PRIMARY KEY CHECK (id = 1),
    holder  text NOT NULL DEFAULT '',
    held_at timestamptz NOT NULL DEFAULT to_timestamp(0)
);
INSERT INTO {schema}.lead (id) VALUES (1);
