-- Locks are taken in small portions: a transaction that waits long for a busy table is rolled back.
SET LOCAL lock_timeout = '300ms';

-- The last ticks of a schedule (model.schedules.PastTick), and who paused a queue, and when (model.queues.Pause). JSON.
ALTER TABLE {schema}.schedule ADD COLUMN firings bytea NOT NULL DEFAULT '[]';
ALTER TABLE {schema}.queue ADD COLUMN pause bytea;

-- Older processes pause and resume without it: then it is not known.
CREATE FUNCTION {schema}.forget_pause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.pause := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER queue_paused BEFORE UPDATE ON {schema}.queue FOR EACH ROW
WHEN (OLD.paused <> NEW.paused AND OLD.pause IS NOT DISTINCT FROM NEW.pause)
EXECUTE FUNCTION {schema}.forget_pause();
