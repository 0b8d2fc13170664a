-- Usage of attempts by UTC day, owner and type; it outlives the tasks. Each process adds to rows of its own (writer), so
-- that none waits for another; the rows of past days are merged under the writer ''.
CREATE TABLE {schema}.usage_by_day (
    day           date NOT NULL,
    owner         text NOT NULL,
    type          text NOT NULL,
    writer        text NOT NULL,
    attempts      bigint NOT NULL DEFAULT 0,
    completed     bigint NOT NULL DEFAULT 0,
    failed        bigint NOT NULL DEFAULT 0,
    cancelled     bigint NOT NULL DEFAULT 0,
    run_time      bigint NOT NULL DEFAULT 0,   -- microseconds
    input_tokens  bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cached_tokens bigint NOT NULL DEFAULT 0,
    cost          bigint NOT NULL DEFAULT 0,   -- nano-dollars
    PRIMARY KEY (day, owner, type, writer)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500);
