-- What a worker can keep to (release.LEVEL) that begins an attempt: the attempt's number times 256, and the level. A worker
-- of an earlier version leaves it as it is, and so shows itself by the number.
ALTER TABLE {schema}.task ADD COLUMN worker_level bigint;

CREATE FUNCTION {schema}.refuse_older_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM {schema}.queue WHERE name = NEW.queue) THEN
        RAISE EXCEPTION 'worker % does not know how to keep to what is set of queue %', NEW.worker, NEW.queue
            USING HINT = 'Stop this worker: its version is older than the setting. Tasks of other queues it may run.';
    END IF;
    RETURN NULL;
END $$;

-- Such a worker finds tasks of the queue in line only for a moment: where a process of its version has put them there.
CREATE TRIGGER older_worker AFTER UPDATE OF status ON {schema}.task FOR EACH ROW
    WHEN (NEW.status = 'running' AND OLD.status = 'pending' AND coalesce(NEW.worker_level, 0) <= NEW.attempt * 256::bigint)
    EXECUTE FUNCTION {schema}.refuse_older_worker();
