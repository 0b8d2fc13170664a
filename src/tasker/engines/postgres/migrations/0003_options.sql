-- Options of submissions.
ALTER TABLE {schema}.task
    ADD COLUMN owner           text NOT NULL DEFAULT '',   -- '': nobody, for no keys are used
    ADD COLUMN deadline        timestamptz,                -- no attempt starts after it
    ADD COLUMN retention       interval,                   -- how long it is kept after its end; NULL: for ever
    ADD COLUMN expires_at      timestamptz,                -- the end of that time
    ADD COLUMN unique_key      text,                       -- of one open task at a time
    ADD COLUMN concurrency_key text,
    ADD COLUMN weight          integer,                    -- what it costs of its queue's rate; NULL: 1
    ADD COLUMN cache_key       bytea,                      -- what equal requests have in common, where one may answer for another
    ADD COLUMN has_dependants  boolean NOT NULL DEFAULT false,
    ADD COLUMN extra           bytea;                      -- options that no query asks for (model.Extra)

CREATE INDEX task_owner ON {schema}.task (owner, seq) WHERE owner <> '';
CREATE UNIQUE INDEX task_unique ON {schema}.task (owner, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running') AND cancel_requested_at IS NULL;
CREATE INDEX task_cached ON {schema}.task (cache_key, seq) WHERE cache_key IS NOT NULL;
CREATE INDEX task_expires ON {schema}.task (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX task_deadline ON {schema}.task (deadline) WHERE status = 'pending' AND deadline IS NOT NULL;

-- What open tasks wait for: a row goes when the task that is waited for has completed.
CREATE TABLE {schema}.dependency (
    task_seq   bigint NOT NULL,
    depends_on uuid NOT NULL,
    PRIMARY KEY (depends_on, task_seq)
);
CREATE INDEX dependency_task ON {schema}.dependency (task_seq);
