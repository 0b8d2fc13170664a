-- Failure groups, and the tasks of schedules in order of seq. Tasks that failed before this, or failed in a process of an
-- earlier version since, are in no group.

-- Failed tasks by failure group. A row is a guess: a process of an earlier version retries a task and leaves it.
CREATE TABLE {schema}.task_failure (
    failure text COLLATE "C" NOT NULL,
    seq     bigint NOT NULL,
    PRIMARY KEY (failure, seq)
);
CREATE INDEX task_failure_seq ON {schema}.task_failure (seq);

CREATE TABLE {schema}.task_schedule (
    schedule_id uuid NOT NULL,
    seq         bigint NOT NULL,
    PRIMARY KEY (schedule_id, seq)
);
CREATE INDEX task_schedule_seq ON {schema}.task_schedule (seq);

-- Each is of one owner. Messages are read off the tasks, and erased with them.
CREATE TABLE {schema}.failure (
    failure   text COLLATE "C" PRIMARY KEY,
    owner     text COLLATE "C" NOT NULL,
    type      text NOT NULL,
    problem   text NOT NULL,
    exception text NOT NULL,             -- its class; '' for none
    first_at  timestamptz NOT NULL,
    last_at   timestamptz NOT NULL       -- the last failure when counts were merged last
);
CREATE INDEX failure_first ON {schema}.failure (owner, first_at);
CREATE INDEX failure_last ON {schema}.failure (last_at);

-- Failures by hour. Each transaction adds rows, so that none waits for another; a chore merges them.
CREATE TABLE {schema}.failure_hour (
    owner   text COLLATE "C" NOT NULL,
    hour    timestamptz NOT NULL,        -- its begin
    failure text COLLATE "C" NOT NULL,
    type    text COLLATE "C" NOT NULL,
    queue   text COLLATE "C" NOT NULL,
    count   bigint NOT NULL,
    last_at timestamptz NOT NULL,
    merged  boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_threshold = 500);
CREATE UNIQUE INDEX failure_hour_merged ON {schema}.failure_hour (owner, hour, failure, type, queue) WHERE merged;
CREATE INDEX failure_hour_owner ON {schema}.failure_hour (owner, hour);
CREATE INDEX failure_hour_hour ON {schema}.failure_hour (hour);
CREATE INDEX failure_hour_new ON {schema}.failure_hour (hour) WHERE NOT merged;

-- Triggers keep what belongs to a task, so that processes of an earlier version keep it, too.

-- A span grows beyond the new tasks, by as much as it covers and by a minute at least, so that few inserts change it.
-- The first task of a block also removes old spans whose tasks are all erased; not those of the last 1,024 blocks before
-- the first task: transactions that are not committed yet may count on them.
CREATE OR REPLACE FUNCTION {schema}.note_new_tasks() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO {schema}.task_span (block, first, last)
    SELECT given.block, least(known.first, given.first),
           greatest(known.last, given.last + greatest('1 minute', given.last - least(known.first, given.first)))
    FROM (SELECT seq >> 9 AS block, min(created_at) AS first, max(created_at) AS last FROM new_tasks GROUP BY 1) AS given,
         LATERAL (SELECT min(span.first) AS first, max(span.last) AS last
                  FROM {schema}.task_span AS span WHERE span.block = given.block) AS known
    WHERE known.first IS NULL OR given.first < known.first OR given.last > known.last;
    IF FOUND THEN
        DELETE FROM {schema}.task_span WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {schema}.task_span
            WHERE block < ((SELECT seq FROM {schema}.task ORDER BY seq LIMIT 1) >> 9) - 1024
            LIMIT 100 FOR UPDATE SKIP LOCKED));
    END IF;
    IF EXISTS (SELECT FROM new_tasks WHERE tags <> '{}') THEN
        INSERT INTO {schema}.task_tag SELECT unnest(tags), seq FROM new_tasks WHERE tags <> '{}' ON CONFLICT DO NOTHING;
    END IF;
    IF EXISTS (SELECT FROM new_tasks WHERE extra IS NOT NULL) THEN
        INSERT INTO {schema}.task_schedule
        SELECT (convert_from(extra, 'UTF8')::json ->> 'schedule_id')::uuid, seq FROM new_tasks
        WHERE extra IS NOT NULL AND convert_from(extra, 'UTF8')::json ->> 'schedule_id' IS NOT NULL
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION {schema}.forget_places() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    DELETE FROM {schema}.task_failure USING old_tasks WHERE task_failure.seq = old_tasks.seq;
    DELETE FROM {schema}.task_schedule USING old_tasks WHERE task_schedule.seq = old_tasks.seq;
    RETURN NULL;
END $$;
CREATE TRIGGER tasks_erased AFTER DELETE ON {schema}.task REFERENCING OLD TABLE AS old_tasks
FOR EACH STATEMENT EXECUTE FUNCTION {schema}.forget_places();
