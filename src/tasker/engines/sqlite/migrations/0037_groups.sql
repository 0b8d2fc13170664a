-- Groups of tasks (model/groups.py): their counts are kept by the transactions that change their tasks.
CREATE TABLE task_group (
    seq        INTEGER PRIMARY KEY,
    group_id   BLOB NOT NULL UNIQUE,
    owner      TEXT NOT NULL,
    name       TEXT NOT NULL,
    open       INTEGER NOT NULL,
    completed  INTEGER NOT NULL,
    failed     INTEGER NOT NULL,
    cancelled  INTEGER NOT NULL,
    is_open    INTEGER NOT NULL,          -- 1 while tasks are open
    ends       INTEGER NOT NULL,          -- how often the last open task has ended
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    UNIQUE (owner, name)
) STRICT;
CREATE INDEX task_group_page ON task_group (is_open, seq);
CREATE INDEX task_group_own ON task_group (owner, is_open, seq);

-- Their tasks, by the seq of the task. state: open, or how it has ended.
CREATE TABLE task_group_member (
    seq   INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    name  TEXT NOT NULL,
    state TEXT NOT NULL
) STRICT;
CREATE INDEX task_group_seq ON task_group_member (name, seq);
CREATE INDEX task_group_state ON task_group_member (owner, name, state, seq);

-- The tasks that wait until a group has ended more often than `ends`. strict: they fail if a task of it did not complete.
CREATE TABLE group_dependency (
    task_seq INTEGER PRIMARY KEY,
    owner    TEXT NOT NULL,
    name     TEXT NOT NULL,
    ends     INTEGER NOT NULL,
    strict   INTEGER NOT NULL
) STRICT;
CREATE INDEX group_dependant ON group_dependency (owner, name, ends);

-- The GroupEnd that a delivery is about, as JSON.
ALTER TABLE webhook_delivery ADD COLUMN group_end BLOB;
