-- The database's clock: the time that it showed last, and the time before which rows were erased last (clock.Lagging).
CREATE TABLE {schema}.clock (
    id           integer PRIMARY KEY CHECK (id = 1),
    steps        bigint NOT NULL DEFAULT 0,  -- how often it was set
    seen_at      timestamptz NOT NULL DEFAULT now(),
    erased_until timestamptz NOT NULL DEFAULT to_timestamp(0)
);
INSERT INTO {schema}.clock (id) VALUES (1);
