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

-- The plan is made once, whatever the number of rows was then: a nested loop would be slow for many.
CREATE FUNCTION {schema}.count_changed_tasks() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET enable_nestloop = off AS $$
BEGIN
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
        coalesce(array_agg(width_bucket(ran, ARRAY[
            1000, 1600, 2560, 4096, 6554, 10486, 16777, 26844, 42950, 68719, 109951, 175922, 281475, 450360, 720576,
            1152922, 1844674, 2951479, 4722366, 7555786, 12089258, 19342813, 30948501, 49517602, 79228163, 126765060,
            202824096, 324518554, 519229686, 830767497, 1329227996
        ]::bigint[])::smallint) FILTER (WHERE ran IS NOT NULL), '{}'),
        coalesce(array_agg(width_bucket(waited, ARRAY[
            50000, 80000, 128000, 204800, 327680, 524288, 838861, 1342177, 2147484, 3435974, 5497558, 8796093,
            14073749, 22517998, 36028797
        ]::bigint[])::smallint) FILTER (WHERE waited IS NOT NULL), '{}')
    FROM (
        SELECT later.owner, later.type, later.queue, later.status AS is_now, earlier.status AS was, later.lined,
               earlier.lined AS was_lined, later.reason,
               CASE WHEN earlier.status = 'running' AND later.status <> 'running' AND NOT (  -- not when it was interrupted
                        CASE WHEN later.status = 'pending' THEN later.interruptions > earlier.interruptions
                             ELSE later.ending = 'interrupted' END)
                    THEN greatest(0, extract(epoch FROM now() - earlier.started_at) * 1000000)::bigint END AS ran,
               CASE WHEN earlier.status = 'pending' AND later.status = 'running'
                    THEN greatest(0, extract(epoch FROM now() - earlier.due_at) * 1000000)::bigint END AS waited
        FROM old_tasks AS earlier JOIN new_tasks AS later USING (seq)
        WHERE earlier.status <> later.status OR (later.status = 'pending' AND earlier.lined <> later.lined)
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
