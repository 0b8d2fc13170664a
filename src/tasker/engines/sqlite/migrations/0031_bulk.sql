-- Actions on many tasks (model/bulk.py). Nobody but the process that works at one goes on with it before held_until.
CREATE TABLE bulk (
    seq        INTEGER PRIMARY KEY,
    bulk_id    BLOB NOT NULL UNIQUE,
    owner      TEXT NOT NULL,
    key_id     TEXT,
    tasks_of   TEXT,
    action     TEXT NOT NULL,
    selects    BLOB NOT NULL,           -- JSON
    given      INTEGER,
    place      TEXT,
    rest       BLOB NOT NULL,           -- JSON
    at_most    INTEGER,
    matched    INTEGER,
    done       INTEGER NOT NULL,
    skips      BLOB NOT NULL,           -- JSON
    state      TEXT NOT NULL,
    undo_of    BLOB,
    version    INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    held_until INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX bulk_running ON bulk (held_until) WHERE ended_at IS NULL;
CREATE INDEX bulk_ended ON bulk (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX bulk_own ON bulk (owner, tasks_of, seq);

-- The tasks that a bulk action has cancelled or retried, and their attempt then. task_id: a seq may be used again once
-- the task is erased.
CREATE TABLE bulk_task (
    bulk    BLOB NOT NULL,
    seq     INTEGER NOT NULL,
    task_id BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (bulk, seq)
) STRICT, WITHOUT ROWID;
