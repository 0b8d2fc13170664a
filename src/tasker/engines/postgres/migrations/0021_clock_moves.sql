-- A step of the database's clock is followed batch by batch. Each row still to be moved has the time it had when the step
-- was seen (a row whose time has changed since is left as it is), and the times that it is to get.
ALTER TABLE {schema}.clock ADD COLUMN is_moving boolean NOT NULL DEFAULT false;
CREATE TABLE {schema}.clock_move (
    of_delivery boolean NOT NULL,  -- else of a task
    seq         bigint NOT NULL,
    due_at      timestamptz NOT NULL,
    to_due_at   timestamptz NOT NULL,
    to_run_at   timestamptz,       -- NULL: as it is
    PRIMARY KEY (of_delivery, seq)
);
