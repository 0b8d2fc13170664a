-- What is left of a task that was erased: so that a client is told that it has expired, and no import brings it back.
CREATE TABLE tombstone (
    task_id      BLOB PRIMARY KEY,
    owner        TEXT NOT NULL,
    expired_at   INTEGER,            -- NULL: it was deleted before its time was over
    forgotten_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstone_forgotten ON tombstone (forgotten_at);
