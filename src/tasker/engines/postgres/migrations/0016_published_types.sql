-- What workers tell of their task types, for processes that do not have their functions. Small, and read every few seconds.
CREATE TABLE {schema}.published_type (
    name         text PRIMARY KEY,
    published_at timestamptz NOT NULL,                                 -- the newest word counts
    seen_at      timestamptz NOT NULL,                                 -- when a worker that has it was last heard of
    body         bytea NOT NULL                                        -- JSON (model.types.PublishedType)
);
