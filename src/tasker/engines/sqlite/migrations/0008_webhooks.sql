-- Who is told of events (model/webhooks.py), and what became of each telling.
CREATE TABLE webhook (
    seq           INTEGER PRIMARY KEY,
    webhook_id    BLOB NOT NULL UNIQUE,
    url           TEXT NOT NULL,
    events        BLOB NOT NULL,
    created_at    INTEGER NOT NULL,
    owner         TEXT NOT NULL,
    type          TEXT,
    queue         TEXT,
    tag           TEXT,
    description   TEXT,
    status        TEXT NOT NULL,
    reason        TEXT,
    failing_since INTEGER,
    secrets       BLOB NOT NULL,
    task_id       BLOB                -- of one that came with a task, and hears of nothing else
) STRICT;
CREATE INDEX webhook_of_all ON webhook (seq) WHERE task_id IS NULL;
CREATE INDEX webhook_of_task ON webhook (task_id) WHERE task_id IS NOT NULL;

CREATE TABLE webhook_delivery (
    seq           INTEGER PRIMARY KEY,
    delivery_id   BLOB NOT NULL UNIQUE,
    webhook_id    BLOB NOT NULL,
    task_id       BLOB NOT NULL,
    sequence      INTEGER NOT NULL,
    event         TEXT NOT NULL,
    status        TEXT NOT NULL,
    lane          TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    tries         INTEGER NOT NULL,
    attempted_at  INTEGER,
    response_code INTEGER,
    duration      REAL,
    error         BLOB,
    UNIQUE (task_id, sequence, webhook_id)
) STRICT;
CREATE INDEX webhook_delivery_due ON webhook_delivery (lane, due_at) WHERE status = 'pending';
CREATE INDEX webhook_delivery_of ON webhook_delivery (webhook_id, seq);
CREATE INDEX webhook_delivery_age ON webhook_delivery (due_at);

-- How far the journal has become deliveries: NULL is its beginning.
CREATE TABLE webhook_dispatch (id INTEGER PRIMARY KEY CHECK (id = 1), position TEXT) STRICT;
INSERT INTO webhook_dispatch VALUES (1, NULL);
