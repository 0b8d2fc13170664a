-- Failed tasks by failure group, and tasks by the schedule that submitted them, for lists in order of seq. These are
-- tables of their own: a new column of `task` would stand behind its wide ones, and be read through them. Tasks that
-- failed before this are in no group.
CREATE TABLE task_failure (
    failure TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    PRIMARY KEY (failure, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_failure_seq ON task_failure (seq);

CREATE TABLE task_schedule (
    schedule_id BLOB NOT NULL,
    seq         INTEGER NOT NULL,
    PRIMARY KEY (schedule_id, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO task_schedule
SELECT unhex(json_extract(CAST(extra AS TEXT), '$.schedule_id'), '-'), seq FROM task
WHERE extra IS NOT NULL AND json_extract(CAST(extra AS TEXT), '$.schedule_id') IS NOT NULL;
CREATE INDEX task_schedule_seq ON task_schedule (seq);

-- Failure groups, each of one owner. Messages are read off the tasks, and erased with them.
CREATE TABLE failure (
    failure   TEXT PRIMARY KEY,
    owner     TEXT NOT NULL,
    type      TEXT NOT NULL,
    problem   TEXT NOT NULL,
    exception TEXT NOT NULL,      -- its class; '' for none
    first_at  INTEGER NOT NULL,
    last_at   INTEGER NOT NULL    -- the first failure in the last hour that has one
) STRICT, WITHOUT ROWID;
CREATE INDEX failure_first ON failure (owner, first_at);
CREATE INDEX failure_last ON failure (last_at);

-- Failures by hour.
CREATE TABLE failure_hour (
    owner   TEXT NOT NULL,
    hour    INTEGER NOT NULL,     -- its begin
    failure TEXT NOT NULL,
    type    TEXT NOT NULL,
    queue   TEXT NOT NULL,
    count   INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (owner, hour, failure, type, queue)
) STRICT, WITHOUT ROWID;
CREATE INDEX failure_hour_hour ON failure_hour (hour);
