-- What owners share, and what they do not.

-- Concurrency keys are each owner's own, unless a queue shares them.
ALTER TABLE {schema}.queue ADD COLUMN shared_keys boolean NOT NULL DEFAULT false;
DROP INDEX {schema}.task_key;
CREATE INDEX task_key ON {schema}.task (queue, concurrency_key, owner)
    WHERE status = 'running' AND concurrency_key IS NOT NULL;
CREATE INDEX task_parked_own ON {schema}.task (queue, concurrency_key, owner, priority DESC, due_at, seq)
    WHERE status = 'pending' AND reason = 'concurrency_limited';

-- For the open tasks of an owner. Only pending tasks with an owner pay for it.
CREATE INDEX task_own ON {schema}.task (owner, queue, type, priority, due_at)
    WHERE status = 'pending' AND owner <> '';

-- A webhook gets the events of all owners only on request; and only those after this row of the journal, whatever the
-- clock showed. NULL: all that had not become deliveries when this was added.
ALTER TABLE {schema}.webhook ADD COLUMN all_owners boolean NOT NULL DEFAULT false;
ALTER TABLE {schema}.webhook ADD COLUMN made_after bigint;

-- The secret by which all processes of the service seal the cursors of lists and streams.
CREATE TABLE {schema}.cursor_key (id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1), secret bytea NOT NULL);
INSERT INTO {schema}.cursor_key (secret)
SELECT sha512(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
              || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
