-- What tasks did once and remember, and their children (model/steps.py).

-- id: task_seq << 20 | number, so that the steps of a task lie together, in order. asks: the owner of the task, while it
-- is open and asks this question. is_awaited: the parked task goes on once this is there. Of children: total of all,
-- stored so far, in_flight: not held and not ended.
CREATE TABLE step (
    id            INTEGER PRIMARY KEY,
    task_seq      INTEGER NOT NULL,
    number        INTEGER NOT NULL CHECK (number < 1048576),
    key           TEXT NOT NULL,
    name          TEXT NOT NULL,
    kind          TEXT NOT NULL,
    attempt       INTEGER NOT NULL,
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    until         INTEGER,
    asks          TEXT,
    answered_by   TEXT,
    is_awaited    INTEGER NOT NULL DEFAULT 0,
    may_run_again INTEGER NOT NULL DEFAULT 0,
    max_in_flight INTEGER,
    total         INTEGER NOT NULL DEFAULT 0,
    stored        INTEGER NOT NULL DEFAULT 0,
    in_flight     INTEGER NOT NULL DEFAULT 0,
    completed     INTEGER NOT NULL DEFAULT 0,
    failed        INTEGER NOT NULL DEFAULT 0,
    cancelled     INTEGER NOT NULL DEFAULT 0,
    question      BLOB,
    value         BLOB,
    secret_value  BLOB          -- empty: erased
) STRICT;
CREATE UNIQUE INDEX step_key ON step (task_seq, key);
CREATE INDEX step_children ON step (task_seq, number) WHERE kind = 'children';
CREATE INDEX step_awaited ON step (task_seq) WHERE is_awaited;
CREATE INDEX step_asks ON step (started_at, task_seq, number) WHERE asks IS NOT NULL;
CREATE INDEX step_asks_own ON step (asks, started_at, task_seq, number) WHERE asks IS NOT NULL;
CREATE INDEX step_asked ON step (task_seq, number) WHERE asks IS NOT NULL;
CREATE INDEX step_until ON step (until, id) WHERE until IS NOT NULL AND finished_at IS NULL;

-- The tasks that other tasks have started. parent: its seq; number, place: its step and the place in it. is_settled: the
-- end of its parent is settled for it (sqlite/families.py).
CREATE TABLE child (
    parent      INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    place       INTEGER NOT NULL,
    level       INTEGER NOT NULL,
    is_detached INTEGER NOT NULL,
    is_held     INTEGER NOT NULL,
    is_settled  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (parent, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX child_seq ON child (seq);
CREATE UNIQUE INDEX child_place ON child (parent, number, place);
CREATE INDEX child_held ON child (parent, number, place) WHERE is_held;
CREATE INDEX child_unsettled ON child (parent, seq) WHERE NOT is_settled;
