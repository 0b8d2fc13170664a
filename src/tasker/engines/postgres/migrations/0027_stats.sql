-- Statistics. Triggers note what each statement changes about tasks, so that what older processes do counts, too, even
-- where their role has no rights on new tables. A transaction only appends: none waits for another.
SET LOCAL lock_timeout = '300ms';

-- What statements have changed about the tasks of one owner, type and queue, until the chores fold it into the sums.
-- minute: counted from 1970. pending, waiting, running: by how much the numbers of open tasks grew; waiting ones are
-- pending and not lined. runs, waits: the places of times in their histograms (model/stats.py).
CREATE TABLE {schema}.task_change (
    minute    bigint NOT NULL DEFAULT floor(extract(epoch FROM now()) / 60),
    owner     text NOT NULL,
    type      text NOT NULL,
    queue     text NOT NULL,
    pending   bigint NOT NULL DEFAULT 0,
    waiting   bigint NOT NULL DEFAULT 0,
    running   bigint NOT NULL DEFAULT 0,
    submitted bigint NOT NULL DEFAULT 0,
    started   bigint NOT NULL DEFAULT 0,
    completed bigint NOT NULL DEFAULT 0,
    failed    bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    retried   bigint NOT NULL DEFAULT 0,
    run_time  bigint NOT NULL DEFAULT 0,   -- microseconds
    wait_time bigint NOT NULL DEFAULT 0,
    runs      smallint[] NOT NULL DEFAULT '{}',
    waits     smallint[] NOT NULL DEFAULT '{}'
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- Sums of a minute or an hour (unit: its length in seconds) from `bucket` on, in seconds since 1970.
CREATE TABLE {schema}.rollup (
    unit   integer NOT NULL,
    owner  text NOT NULL,
    bucket bigint NOT NULL,
    type   text NOT NULL,
    queue  text NOT NULL,
    submitted bigint NOT NULL, started bigint NOT NULL, completed bigint NOT NULL, failed bigint NOT NULL,
    cancelled bigint NOT NULL, retried bigint NOT NULL, run_time bigint NOT NULL, wait_time bigint NOT NULL,
    run_0 bigint NOT NULL, run_1 bigint NOT NULL, run_2 bigint NOT NULL, run_3 bigint NOT NULL,
    run_4 bigint NOT NULL, run_5 bigint NOT NULL, run_6 bigint NOT NULL, run_7 bigint NOT NULL,
    run_8 bigint NOT NULL, run_9 bigint NOT NULL, run_10 bigint NOT NULL, run_11 bigint NOT NULL,
    run_12 bigint NOT NULL, run_13 bigint NOT NULL, run_14 bigint NOT NULL, run_15 bigint NOT NULL,
    run_16 bigint NOT NULL, run_17 bigint NOT NULL, run_18 bigint NOT NULL, run_19 bigint NOT NULL,
    run_20 bigint NOT NULL, run_21 bigint NOT NULL, run_22 bigint NOT NULL, run_23 bigint NOT NULL,
    run_24 bigint NOT NULL, run_25 bigint NOT NULL, run_26 bigint NOT NULL, run_27 bigint NOT NULL,
    run_28 bigint NOT NULL, run_29 bigint NOT NULL, run_30 bigint NOT NULL, run_31 bigint NOT NULL,
    wait_0 bigint NOT NULL, wait_1 bigint NOT NULL, wait_2 bigint NOT NULL, wait_3 bigint NOT NULL,
    wait_4 bigint NOT NULL, wait_5 bigint NOT NULL, wait_6 bigint NOT NULL, wait_7 bigint NOT NULL,
    wait_8 bigint NOT NULL, wait_9 bigint NOT NULL, wait_10 bigint NOT NULL, wait_11 bigint NOT NULL,
    wait_12 bigint NOT NULL, wait_13 bigint NOT NULL, wait_14 bigint NOT NULL, wait_15 bigint NOT NULL,
    PRIMARY KEY (unit, owner, bucket, type, queue)
) WITH (fillfactor = 50);
CREATE INDEX rollup_age ON {schema}.rollup (unit, bucket);

-- The numbers of open tasks, without what is still in task_change.
CREATE TABLE {schema}.open_task (
    owner   text NOT NULL,
    queue   text NOT NULL,
    type    text NOT NULL,
    pending bigint NOT NULL,
    waiting bigint NOT NULL,
    running bigint NOT NULL,
    PRIMARY KEY (owner, queue, type)
) WITH (fillfactor = 50);

-- now() is that of the session that migrates; PostgreSQL's own, unless its search_path names another schema first.
-- An import sets tasker.imports: its tasks were not submitted now.
CREATE FUNCTION {schema}.count_new_tasks() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO {schema}.task_change (owner, type, queue, pending, waiting, running, submitted)
    SELECT owner, type, queue, count(*) FILTER (WHERE status = 'pending'),
           count(*) FILTER (WHERE status = 'pending' AND NOT lined), count(*) FILTER (WHERE status = 'running'),
           CASE WHEN current_setting('tasker.imports', true) = 'on' THEN 0 ELSE count(*) END
    FROM new_tasks GROUP BY owner, type, queue;
    RETURN NULL;
END $$;
CREATE TRIGGER new_tasks_count AFTER INSERT ON {schema}.task REFERENCING NEW TABLE AS new_tasks
FOR EACH STATEMENT EXECUTE FUNCTION {schema}.count_new_tasks();

-- The place of a time, in microseconds, in its histogram (model/stats.py), and the microseconds of a duration. The
-- planner puts these functions' texts in place of their calls.
CREATE FUNCTION {schema}.run_bucket(micros double precision) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT width_bucket(micros, '{1000,1600,2560,4096,6554,10486,16777,26844,42950,68719,109951,175922,281475,
        450360,720576,1152922,1844674,2951479,4722366,7555786,12089258,19342813,
        30948501,49517602,79228163,126765060,202824096,324518554,519229686,830767497,
        1329227996}'::float8[])::smallint
$$;
CREATE FUNCTION {schema}.wait_bucket(micros double precision) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT width_bucket(micros, '{50000,80000,128000,204800,327680,524288,838861,1342177,2147484,3435974,5497558,
        8796093,14073749,22517998,36028797}'::float8[])::smallint
$$;
CREATE FUNCTION {schema}.micros(duration interval) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(0, date_part('epoch', duration) * 1000000)
$$;

-- Most statements start attempts, end tasks, or change no status: these need no comparison row by row.
CREATE FUNCTION {schema}.count_changed_tasks() RETURNS trigger LANGUAGE plpgsql
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
        FROM (SELECT owner, type, queue, status,  -- nobody knows when an interrupted attempt ended
                     CASE WHEN ending <> 'interrupted' THEN {schema}.micros(now() - started_at) END AS ran
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
                        CASE WHEN later.status = 'pending' THEN later.interruptions > earlier.interruptions
                             ELSE later.ending = 'interrupted' END)
                    THEN {schema}.micros(now() - earlier.started_at) END AS ran,
               CASE WHEN earlier.status = 'pending' AND later.status = 'running'
                    THEN {schema}.micros(now() - earlier.due_at) END AS waited
        FROM old_tasks AS earlier FULL JOIN new_tasks AS later USING (seq)
        WHERE earlier.status IS DISTINCT FROM later.status
           OR (later.status = 'pending' AND earlier.lined IS DISTINCT FROM later.lined)
    ) AS changed GROUP BY owner, type, queue;
    RETURN NULL;
END $$;
CREATE TRIGGER changed_tasks_count AFTER UPDATE ON {schema}.task
REFERENCING OLD TABLE AS old_tasks NEW TABLE AS new_tasks
FOR EACH STATEMENT EXECUTE FUNCTION {schema}.count_changed_tasks();

-- Only by hand: the service erases no open task.
CREATE FUNCTION {schema}.count_erased_task() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO {schema}.task_change (owner, type, queue, pending, waiting, running)
    VALUES (OLD.owner, OLD.type, OLD.queue, -(OLD.status = 'pending')::int,
            -(OLD.status = 'pending' AND NOT OLD.lined)::int, -(OLD.status = 'running')::int);
    RETURN NULL;
END $$;
CREATE TRIGGER open_task_erased AFTER DELETE ON {schema}.task FOR EACH ROW
WHEN (OLD.status IN ('pending', 'running')) EXECUTE FUNCTION {schema}.count_erased_task();
