-- What is left of an erased task: clients learn that it has expired, and no import restores it.
CREATE TABLE {schema}.tombstone (
    task_id      uuid PRIMARY KEY,
    owner        text NOT NULL,
    expired_at   timestamptz,           -- NULL: it was deleted before its time was over
    forgotten_at timestamptz NOT NULL
);
CREATE INDEX tombstone_forgotten ON {schema}.tombstone (forgotten_at);
