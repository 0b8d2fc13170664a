-- What attempts used up, by UTC day (counted from 1970), key and type; it outlives the tasks.
CREATE TABLE usage_by_day (
    day           INTEGER NOT NULL,
    owner         TEXT NOT NULL,
    type          TEXT NOT NULL,
    attempts      INTEGER NOT NULL,
    completed     INTEGER NOT NULL,
    failed        INTEGER NOT NULL,
    cancelled     INTEGER NOT NULL,
    run_time      INTEGER NOT NULL,  -- microseconds
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cost          INTEGER NOT NULL,  -- nano-dollars
    PRIMARY KEY (day, owner, type)
) STRICT, WITHOUT ROWID;
