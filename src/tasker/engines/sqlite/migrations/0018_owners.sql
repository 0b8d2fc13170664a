-- What owners share with each other, and what they do not.

-- Concurrency keys are each owner's own, unless a queue shares them.
ALTER TABLE queue ADD COLUMN shared_keys INTEGER NOT NULL DEFAULT 0;
DROP INDEX task_key;
CREATE INDEX task_key ON task (queue, concurrency_key, owner)
    WHERE status = 'running' AND concurrency_key IS NOT NULL;
CREATE INDEX task_parked_own ON task (queue, concurrency_key, owner, priority DESC, due_at, seq)
    WHERE status = 'pending' AND reason = 'concurrency_limited';

-- What an owner is told of its own open tasks. Only tasks that have an owner and wait pay for it.
CREATE INDEX task_own ON task (owner, queue, type, priority, due_at) WHERE status = 'pending' AND owner <> '';

-- A webhook hears of all owners only where that was asked for; and of what came after this row of the journal, whatever
-- the clock said. NULL: of whatever had not become deliveries when this was added.
ALTER TABLE webhook ADD COLUMN all_owners INTEGER NOT NULL DEFAULT 0;
ALTER TABLE webhook ADD COLUMN made_after INTEGER;

-- By which all processes of the service seal the cursors of lists and streams.
CREATE TABLE cursor_key (id INTEGER PRIMARY KEY CHECK (id = 1), secret BLOB NOT NULL) STRICT;
INSERT INTO cursor_key VALUES (1, randomblob(64));
