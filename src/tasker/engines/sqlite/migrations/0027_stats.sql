-- Statistics: what each transaction changed about tasks, and the sums that these changes are folded into.
CREATE TABLE task_change (
    id      INTEGER PRIMARY KEY,
    changes BLOB NOT NULL           -- engines/shared/rollup.py: `pack`
) STRICT;

-- Sums of a minute or an hour (unit: its length in seconds) from `bucket` on, in seconds since 1970.
CREATE TABLE rollup (
    unit      INTEGER NOT NULL,
    owner     TEXT NOT NULL,
    bucket    INTEGER NOT NULL,
    type      TEXT NOT NULL,
    queue     TEXT NOT NULL,
    submitted INTEGER NOT NULL, started INTEGER NOT NULL, completed INTEGER NOT NULL, failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL, retried INTEGER NOT NULL, run_time INTEGER NOT NULL, wait_time INTEGER NOT NULL,
    run_0 INTEGER NOT NULL, run_1 INTEGER NOT NULL, run_2 INTEGER NOT NULL, run_3 INTEGER NOT NULL,
    run_4 INTEGER NOT NULL, run_5 INTEGER NOT NULL, run_6 INTEGER NOT NULL, run_7 INTEGER NOT NULL,
    run_8 INTEGER NOT NULL, run_9 INTEGER NOT NULL, run_10 INTEGER NOT NULL, run_11 INTEGER NOT NULL,
    run_12 INTEGER NOT NULL, run_13 INTEGER NOT NULL, run_14 INTEGER NOT NULL, run_15 INTEGER NOT NULL,
    run_16 INTEGER NOT NULL, run_17 INTEGER NOT NULL, run_18 INTEGER NOT NULL, run_19 INTEGER NOT NULL,
    run_20 INTEGER NOT NULL, run_21 INTEGER NOT NULL, run_22 INTEGER NOT NULL, run_23 INTEGER NOT NULL,
    run_24 INTEGER NOT NULL, run_25 INTEGER NOT NULL, run_26 INTEGER NOT NULL, run_27 INTEGER NOT NULL,
    run_28 INTEGER NOT NULL, run_29 INTEGER NOT NULL, run_30 INTEGER NOT NULL, run_31 INTEGER NOT NULL,
    wait_0 INTEGER NOT NULL, wait_1 INTEGER NOT NULL, wait_2 INTEGER NOT NULL, wait_3 INTEGER NOT NULL,
    wait_4 INTEGER NOT NULL, wait_5 INTEGER NOT NULL, wait_6 INTEGER NOT NULL, wait_7 INTEGER NOT NULL,
    wait_8 INTEGER NOT NULL, wait_9 INTEGER NOT NULL, wait_10 INTEGER NOT NULL, wait_11 INTEGER NOT NULL,
    wait_12 INTEGER NOT NULL, wait_13 INTEGER NOT NULL, wait_14 INTEGER NOT NULL, wait_15 INTEGER NOT NULL,
    PRIMARY KEY (unit, owner, bucket, type, queue)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollup_age ON rollup (unit, bucket);

-- The numbers of open tasks. waiting: the pending ones that wait for a time or for other tasks, or did when that was
-- stored: those that have become due since are counted by the index task_later.
CREATE TABLE open_task (
    owner   TEXT NOT NULL,
    queue   TEXT NOT NULL,
    type    TEXT NOT NULL,
    pending INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    running INTEGER NOT NULL,
    PRIMARY KEY (owner, queue, type)
) STRICT, WITHOUT ROWID;
INSERT INTO open_task
SELECT owner, queue, type, sum(status = 'pending'),
       sum(status = 'pending' AND reason NOT IN ('queued', 'concurrency_limited')), sum(status = 'running')
FROM (SELECT owner, type, queue, status, reason FROM task WHERE status = 'pending'
      UNION ALL SELECT owner, type, queue, status, NULL FROM task WHERE status = 'running')
GROUP BY owner, queue, type;

-- Whether a task, when it last left the pending ones or changed its reason, had waited for a time or for other tasks.
ALTER TABLE task ADD COLUMN has_waited INTEGER;
