-- What tasks did once and remember, and their children (model/steps.py). Processes of earlier versions know none of it:
-- see docs/upgrading.md.
SET LOCAL lock_timeout = '300ms';

-- asks: the owner of the task, while it is open and asks this question. is_awaited: the parked task goes on once this is
-- there; it may also be left over from an earlier wait. Of children: total of all, stored so far, in_flight: not held and
-- not ended; at most max_in_flight, if there is such a limit. Counting children changes no column of an index.
CREATE TABLE {schema}.step (
    task_seq      bigint NOT NULL,
    number        integer NOT NULL,
    key           text COLLATE "C" NOT NULL,
    name          text NOT NULL,
    kind          text NOT NULL,
    attempt       integer NOT NULL,
    started_at    timestamptz NOT NULL,
    finished_at   timestamptz,
    until         timestamptz,
    asks          text COLLATE "C",
    answered_by   text,
    is_awaited    boolean NOT NULL DEFAULT false,
    may_run_again boolean NOT NULL DEFAULT false,
    max_in_flight integer,
    total         integer NOT NULL DEFAULT 0,
    stored        integer NOT NULL DEFAULT 0,
    in_flight     integer NOT NULL DEFAULT 0,
    completed     integer NOT NULL DEFAULT 0,
    failed        integer NOT NULL DEFAULT 0,
    cancelled     integer NOT NULL DEFAULT 0,
    question      bytea,
    value         bytea,
    secret_value  bytea,                                 -- empty: erased
    PRIMARY KEY (task_seq, number)
) WITH (fillfactor = 90);
CREATE UNIQUE INDEX step_key ON {schema}.step (task_seq, key);
CREATE INDEX step_children ON {schema}.step (task_seq, number) WHERE kind = 'children';
CREATE INDEX step_awaited ON {schema}.step (task_seq, number) WHERE is_awaited;
CREATE INDEX step_asks ON {schema}.step (started_at, task_seq, number) WHERE asks IS NOT NULL;
CREATE INDEX step_asks_own ON {schema}.step (asks, started_at, task_seq, number) WHERE asks IS NOT NULL;
CREATE INDEX step_asked ON {schema}.step (task_seq, number) WHERE asks IS NOT NULL;
CREATE INDEX step_until ON {schema}.step (until) WHERE until IS NOT NULL AND finished_at IS NULL;

-- The tasks that other tasks have started. parent: its seq; number, place: its step, and the place in it. is_settled: the
-- end of its parent is settled for it.
CREATE TABLE {schema}.child (
    seq         bigint PRIMARY KEY,
    parent      bigint NOT NULL,
    number      integer NOT NULL,
    place       integer NOT NULL,
    level       integer NOT NULL,
    is_detached boolean NOT NULL,
    is_held     boolean NOT NULL,
    is_settled  boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX child_place ON {schema}.child (parent, number, place);
CREATE INDEX child_parent ON {schema}.child (parent, seq);
CREATE INDEX child_held ON {schema}.child (parent, number, place) WHERE is_held;
CREATE INDEX child_unsettled ON {schema}.child (parent, seq) WHERE NOT is_settled;

-- A worker of an earlier version would neither go on where a task was, nor count the end of a child. Such tasks wait where
-- it does not look (postgres/partitions.py); if it finds one that a process of its version has queued, its claim ends.
CREATE FUNCTION {schema}.refuse_worker_without_steps() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF EXISTS (SELECT FROM {schema}.step WHERE task_seq = NEW.seq)
       OR EXISTS (SELECT FROM {schema}.child WHERE child.seq = NEW.seq) THEN
        RAISE EXCEPTION 'worker % does not know the steps of task %', NEW.worker, NEW.task_id
            USING HINT = 'Stop this worker: its version is older than steps. Other tasks it may run.';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER worker_without_steps AFTER UPDATE OF status ON {schema}.task FOR EACH ROW
    WHEN (NEW.status = 'running' AND OLD.status = 'pending'
          AND coalesce(NEW.worker_level, 0) < NEW.attempt * 256::bigint + 2)
    EXECUTE FUNCTION {schema}.refuse_worker_without_steps();
