-- Lists look only where their tasks can be.

-- When the tasks of each 512 seqs were created: none of them before `first` or after `last`. Seqs alone do not tell:
-- imported tasks are older than those around them, and clocks are set back.
CREATE TABLE task_span (
    block INTEGER PRIMARY KEY,   -- seq / 512
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL
) STRICT;
INSERT INTO task_span SELECT seq >> 9, min(created_at), max(created_at) FROM task GROUP BY seq >> 9;

-- Most tasks are in the default queue, and pay nothing for this one.
CREATE INDEX task_queue ON task (queue, seq) WHERE queue <> 'default';
