-- Options of submissions. The table is made anew, so that its narrow columns stand before the wide ones.
CREATE TABLE new_task (
    seq                 INTEGER PRIMARY KEY,
    task_id             BLOB NOT NULL UNIQUE,
    type                TEXT NOT NULL,
    queue               TEXT NOT NULL,
    status              TEXT NOT NULL,
    reason              TEXT,
    priority            INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    run_at              INTEGER,            -- as the client asked
    due_at              INTEGER NOT NULL,   -- when a pending task may be claimed
    attempt             INTEGER NOT NULL DEFAULT 0,
    tries               INTEGER NOT NULL DEFAULT 0,
    max_attempts        INTEGER NOT NULL,
    crashes             INTEGER NOT NULL DEFAULT 0,
    interruptions       INTEGER NOT NULL DEFAULT 0,
    sequence            INTEGER NOT NULL DEFAULT 1,  -- of the last event before the latest attempt
    worker              TEXT,
    lease_expires_at    INTEGER,
    started_at          INTEGER,
    finished_at         INTEGER,
    ending              TEXT,
    cancel_requested_at INTEGER,
    owner               TEXT NOT NULL DEFAULT '',    -- '': nobody, for no keys are used
    deadline            INTEGER,            -- no attempt starts after it
    retention           INTEGER,            -- microseconds that it is kept for after its end; NULL: for ever
    expires_at          INTEGER,            -- the end of that time
    unique_key          TEXT,               -- of one open task at a time
    concurrency_key     TEXT,
    weight              INTEGER,            -- what it costs of its queue's rate; NULL: 1
    cache_key           BLOB,               -- what equal requests have in common, where one may answer for another
    has_dependants      INTEGER NOT NULL DEFAULT 0,
    policy              BLOB NOT NULL,
    tags                TEXT NOT NULL DEFAULT '[]',
    extra               BLOB,               -- options that no query asks for (model.Extra)
    metadata            BLOB NOT NULL DEFAULT x'7b7d',
    usage               BLOB NOT NULL DEFAULT x'7b7d',
    progress            BLOB,
    error               BLOB,
    params              BLOB NOT NULL,
    result              BLOB
) STRICT;
INSERT INTO new_task (seq, task_id, type, queue, status, reason, priority, created_at, run_at, due_at, attempt, tries,
                      max_attempts, crashes, interruptions, sequence, worker, lease_expires_at, started_at, finished_at,
                      ending, cancel_requested_at, policy, tags, metadata, usage, progress, error, params, result)
SELECT seq, task_id, type, queue, status, reason, priority, created_at, run_at, due_at, attempt, tries, max_attempts,
       crashes, interruptions, sequence, worker, lease_expires_at, started_at, finished_at, ending, cancel_requested_at,
       policy, tags, metadata, usage, progress, error, params, result FROM task;
DROP TABLE task;
ALTER TABLE new_task RENAME TO task;

CREATE INDEX task_line ON task (queue, type, priority DESC, due_at, seq, interruptions) WHERE status = 'pending';
CREATE INDEX task_later ON task (due_at, queue, type) WHERE status = 'pending' AND reason <> 'queued';
CREATE INDEX task_suspect ON task (priority DESC, due_at, seq) WHERE status = 'pending' AND interruptions >= 3;
CREATE INDEX task_running ON task (lease_expires_at, queue) WHERE status = 'running';
CREATE INDEX task_failed ON task (seq) WHERE status = 'failed';
CREATE INDEX task_cancelled ON task (seq) WHERE status = 'cancelled';
CREATE INDEX task_type ON task (type, seq);
CREATE INDEX task_owner ON task (owner, seq) WHERE owner <> '';
CREATE UNIQUE INDEX task_unique ON task (owner, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running') AND cancel_requested_at IS NULL;
CREATE INDEX task_cached ON task (cache_key, seq) WHERE cache_key IS NOT NULL;
CREATE INDEX task_expires ON task (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX task_deadline ON task (deadline) WHERE status = 'pending' AND deadline IS NOT NULL;

-- What open tasks wait for: a row goes when the task that is waited for has completed.
CREATE TABLE dependency (
    task_seq   INTEGER NOT NULL,
    depends_on BLOB NOT NULL,
    PRIMARY KEY (depends_on, task_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependency_task ON dependency (task_seq);
