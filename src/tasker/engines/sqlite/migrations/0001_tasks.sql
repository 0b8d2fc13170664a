-- One row for each task. The latest attempt lives in the task's own row (worker, started_at, ending) and moves to
-- `attempt` only when another follows: a task that succeeds at once costs one insert and two updates.
-- Wide columns stand last: SQLite reads the narrow ones without following their overflow pages.
-- Times are microseconds since 1970 in UTC.
CREATE TABLE task (
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
    worker              TEXT,
    lease_expires_at    INTEGER,
    started_at          INTEGER,
    finished_at         INTEGER,
    ending              TEXT,
    cancel_requested_at INTEGER,
    policy              BLOB NOT NULL,
    tags                TEXT NOT NULL DEFAULT '[]',
    metadata            BLOB NOT NULL DEFAULT x'7b7d',
    usage               BLOB NOT NULL DEFAULT x'7b7d',
    progress            BLOB,
    error               BLOB,
    params              BLOB NOT NULL,
    result              BLOB
) STRICT;

-- The lines: pending tasks alone, so that a claim costs the same however many have finished, and one line for each
-- queue and type, so that tasks nobody here can run are never walked over. It covers the claim's choice and the counts.
CREATE INDEX task_line ON task (queue, type, priority DESC, due_at, seq, interruptions) WHERE status = 'pending';
-- Tasks that wait for a moment: the next one to become due, and the lines of those that just did.
CREATE INDEX task_later ON task (due_at, queue, type) WHERE status = 'pending' AND reason <> 'queued';
CREATE INDEX task_suspect ON task (priority DESC, due_at, seq) WHERE status = 'pending' AND interruptions >= 3;
CREATE INDEX task_running ON task (lease_expires_at, queue) WHERE status = 'running';
CREATE INDEX task_failed ON task (seq) WHERE status = 'failed';
CREATE INDEX task_cancelled ON task (seq) WHERE status = 'cancelled';
CREATE INDEX task_type ON task (type, seq);

CREATE TABLE attempt (
    task_seq    INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    worker      TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    ending      TEXT NOT NULL,
    error       BLOB,
    PRIMARY KEY (task_seq, attempt)
) STRICT;

-- AUTOINCREMENT: a sequence number is never used again, also when the newest events are erased.
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    task_seq INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    type     TEXT NOT NULL,
    time     INTEGER NOT NULL,
    data     BLOB NOT NULL
) STRICT;
CREATE INDEX event_task ON event (task_seq, sequence);

CREATE TABLE task_tag (
    tag TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (tag, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    key         TEXT PRIMARY KEY,
    task_id     BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    expires_at  INTEGER NOT NULL,
    reply       BLOB NOT NULL
) STRICT;
CREATE INDEX idempotency_expires ON idempotency (expires_at);
CREATE INDEX idempotency_task ON idempotency (task_id);

-- One row that a readiness check writes: proof that the store takes writes.
CREATE TABLE probe (id INTEGER PRIMARY KEY CHECK (id = 1), checked_at INTEGER NOT NULL) STRICT;
