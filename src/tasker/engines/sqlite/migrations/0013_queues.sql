-- What is set of queues, with the bucket of each one's rate: `tokens` units at `refilled_at`.
CREATE TABLE queue (
    seq                 INTEGER PRIMARY KEY,
    name                TEXT NOT NULL UNIQUE,
    paused              INTEGER NOT NULL DEFAULT 0,
    concurrency         INTEGER,
    concurrency_per_key INTEGER,
    rate                BLOB,                       -- JSON (model.queues.Rate)
    tokens              REAL NOT NULL DEFAULT 0,
    refilled_at         INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Only tasks that have a concurrency key pay for these.
CREATE INDEX task_key ON task (queue, concurrency_key) WHERE status = 'running' AND concurrency_key IS NOT NULL;
CREATE INDEX task_parked ON task (queue, concurrency_key, priority DESC, due_at, seq)
    WHERE status = 'pending' AND reason = 'concurrency_limited';
