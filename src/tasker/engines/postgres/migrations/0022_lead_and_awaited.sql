-- Which process does the chores of the store, and when it last said so. Processes of earlier versions do them all.
CREATE TABLE {schema}.lead (
    id      integer PRIMARY KEY CHECK (id = 1),
    holder  text NOT NULL DEFAULT '',
    held_at timestamptz NOT NULL DEFAULT to_timestamp(0)
);
INSERT INTO {schema}.lead (id) VALUES (1);
