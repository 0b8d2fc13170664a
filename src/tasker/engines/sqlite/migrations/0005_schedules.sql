-- Rules that submit tasks (model/schedules.py). What fires is found by next_fire_at alone.
CREATE TABLE schedule (
    seq           INTEGER PRIMARY KEY,
    schedule_id   BLOB NOT NULL UNIQUE,
    owner         TEXT NOT NULL,
    name          TEXT NOT NULL,
    type          TEXT NOT NULL,
    cron          TEXT,
    interval      INTEGER,            -- microseconds
    time_zone     TEXT NOT NULL,
    missed        TEXT NOT NULL,
    overlap       TEXT NOT NULL,
    paused        INTEGER NOT NULL,
    starts_at     INTEGER,
    ends_at       INTEGER,
    anchor        INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    next_fire_at  INTEGER,
    last_fired_at INTEGER,
    last_task_id  BLOB,
    last_skip     BLOB,
    recent        BLOB NOT NULL,
    task          BLOB NOT NULL,
    UNIQUE (owner, name)
) STRICT;
CREATE INDEX schedule_next ON schedule (next_fire_at) WHERE next_fire_at IS NOT NULL;
