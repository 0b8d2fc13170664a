-- Locks are taken in small portions: a transaction that holds one of these tables and waits a second for the other is
-- rolled back.
SET LOCAL lock_timeout = '300ms';

-- The level (release.LEVEL) of the worker that begins an attempt: the attempt's number times 256, plus the level. A
-- worker of an earlier version leaves it as it is: the number shows that.
ALTER TABLE {schema}.task ADD COLUMN worker_level bigint;

CREATE FUNCTION {schema}.refuse_older_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM {schema}.queue WHERE name = NEW.queue) THEN
        RAISE EXCEPTION 'worker % does not know how to keep to what is set of queue %', NEW.worker, NEW.queue
            USING HINT = 'Stop this worker: its version is older than the setting. Tasks of other queues it may run.';
    END IF;
    RETURN NULL;
END $$;

-- It ends the whole claim. A trigger that left out the one task would have to come before the update, and then every
-- update of a task locks its row twice. So such a worker must not find tasks of the queue in line: see below.
CREATE TRIGGER older_worker AFTER UPDATE OF status ON {schema}.task FOR EACH ROW
    WHEN (NEW.status = 'running' AND OLD.status = 'pending'
          AND coalesce(NEW.worker_level, 0) <= NEW.attempt * 256::bigint)
    EXECUTE FUNCTION {schema}.refuse_older_worker();

-- Jobs of queues with settings wait from now on in partitions where such workers do not look (postgres/partitions.py).
-- So do jobs that processes of an earlier version queue later.
CREATE FUNCTION {schema}.lift_joining() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM {schema}.queue WHERE name = split_part(NEW.entrypoint, '/', 1)) THEN
        NEW.entrypoint = regexp_replace(NEW.entrypoint, '/', '/@1/');
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION {schema}.lift_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {schema}.pgqueuer SET entrypoint = regexp_replace(entrypoint, '/', '/@1/')
    WHERE id = NEW.id AND EXISTS (SELECT FROM {schema}.queue WHERE name = split_part(NEW.entrypoint, '/', 1));
    RETURN NULL;
END $$;

CREATE TRIGGER lift_joining BEFORE INSERT ON {schema}.pgqueuer FOR EACH ROW
    WHEN (NEW.entrypoint LIKE '%/%' AND NEW.entrypoint NOT LIKE '%/@%') EXECUTE FUNCTION {schema}.lift_joining();
CREATE TRIGGER lift_moved AFTER UPDATE OF entrypoint ON {schema}.pgqueuer FOR EACH ROW
    WHEN (NEW.status = 'queued' AND NEW.entrypoint LIKE '%/%' AND NEW.entrypoint NOT LIKE '%/@%')
    EXECUTE FUNCTION {schema}.lift_moved();

-- A job that a claim holds now is not waited for: the sweeps move it.
UPDATE {schema}.pgqueuer SET entrypoint = regexp_replace(entrypoint, '/', '/@1/') WHERE id IN (
    SELECT job.id FROM {schema}.pgqueuer AS job JOIN {schema}.queue ON queue.name = split_part(job.entrypoint, '/', 1)
    WHERE job.status = 'queued' AND job.entrypoint LIKE '%/%' AND job.entrypoint NOT LIKE '%/@%'
    FOR UPDATE OF job SKIP LOCKED);
