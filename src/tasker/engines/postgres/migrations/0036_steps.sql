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

-- An attempt that parks is no run that ended: its time is not in the statistics.
CREATE OR REPLACE FUNCTION {schema}.count_changed_tasks() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    were_lined boolean;
    were_running boolean;
    are_running boolean;
    have_ended boolean;
BEGIN
    SELECT bool_and(status = 'pending' AND lined), bool_and(status = 'running') INTO were_lined, were_running
    FROM old_tasks;
    SELECT bool_and(status = 'running'), bool_and(status NOT IN ('pending', 'running')) INTO are_running, have_ended
    FROM new_tasks;
    IF were_lined IS NULL OR (were_running AND are_running) THEN
        RETURN NULL;
    ELSIF were_lined AND are_running THEN
        INSERT INTO {schema}.task_change (owner, type, queue, pending, running, started, wait_time, waits)
        SELECT owner, type, queue, -count(*), count(*), count(*), sum(waited),
               array_agg({schema}.wait_bucket(waited))
        FROM (SELECT owner, type, queue, {schema}.micros(now() - due_at) AS waited FROM new_tasks) AS begun
        GROUP BY owner, type, queue;
        RETURN NULL;
    ELSIF were_running AND have_ended THEN
        INSERT INTO {schema}.task_change (owner, type, queue, running, completed, failed, cancelled, run_time, runs)
        SELECT owner, type, queue, -count(*), count(*) FILTER (WHERE status = 'completed'),
               count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'cancelled'),
               coalesce(sum(ran), 0),
               coalesce(array_agg({schema}.run_bucket(ran)) FILTER (WHERE ran IS NOT NULL), '{}')
        FROM (SELECT owner, type, queue, status,  -- nobody knows when an interrupted attempt ended; a parked one is no run
                     CASE WHEN ending NOT IN ('interrupted', 'parked') THEN {schema}.micros(now() - started_at) END AS ran
              FROM new_tasks) AS ended
        GROUP BY owner, type, queue;
        RETURN NULL;
    END IF;
    -- The plan is made once, whatever the number of rows was then. A full join is never a nested loop, which would be
    -- slow for many; each row is on both sides.
    INSERT INTO {schema}.task_change (owner, type, queue, pending, waiting, running, started, completed, failed,
                                      cancelled, retried, run_time, wait_time, runs, waits)
    SELECT owner, type, queue,
        sum((is_now = 'pending')::int - (was = 'pending')::int),
        sum((is_now = 'pending' AND NOT lined)::int - (was = 'pending' AND NOT was_lined)::int),
        sum((is_now = 'running')::int - (was = 'running')::int),
        count(*) FILTER (WHERE is_now <> was AND is_now = 'running'),
        count(*) FILTER (WHERE is_now <> was AND is_now = 'completed'),
        count(*) FILTER (WHERE is_now <> was AND is_now = 'failed'),
        count(*) FILTER (WHERE is_now <> was AND is_now = 'cancelled'),
        count(*) FILTER (WHERE is_now <> was AND is_now = 'pending' AND (was <> 'running' OR reason = 'retrying')),
        coalesce(sum(ran), 0), coalesce(sum(waited), 0),
        coalesce(array_agg({schema}.run_bucket(ran)) FILTER (WHERE ran IS NOT NULL), '{}'),
        coalesce(array_agg({schema}.wait_bucket(waited)) FILTER (WHERE waited IS NOT NULL), '{}')
    FROM (
        SELECT later.owner, later.type, later.queue, later.status AS is_now, earlier.status AS was, later.lined,
               earlier.lined AS was_lined, later.reason,
               CASE WHEN earlier.status = 'running' AND later.status <> 'running' AND NOT (
                        CASE WHEN later.status = 'pending'
                             THEN later.interruptions > earlier.interruptions
                                 OR later.reason IN ('sleeping', 'waiting_for_children', 'input_required')
                             ELSE later.ending IN ('interrupted', 'parked') END)
                    THEN {schema}.micros(now() - earlier.started_at) END AS ran,
               CASE WHEN earlier.status = 'pending' AND later.status = 'running'
                    THEN {schema}.micros(now() - earlier.due_at) END AS waited
        FROM old_tasks AS earlier FULL JOIN new_tasks AS later USING (seq)
        WHERE earlier.status IS DISTINCT FROM later.status
           OR (later.status = 'pending' AND earlier.lined IS DISTINCT FROM later.lined)
    ) AS changed GROUP BY owner, type, queue;
    RETURN NULL;
END $$;
