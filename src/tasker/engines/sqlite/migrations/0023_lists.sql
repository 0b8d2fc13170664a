-- Lists look only where their tasks can be.

-- When the tasks of each 512 seqs were created: none of them before `first` or after `last`. Seqs alone do not tell:
-- imported tasks are older than those around them, and clocks are set back.
CREATE TABLE task_span (
    block INTEGER PRIMARY KEY,   -- seq / 512
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL
) STRICT;
INSERT INTO task_span SELECT seq >> 9, min(created_at), max(created_at) FROM task GROUP BY seq >> 9;

-- A span grows beyond the new task, by as much as it covers and by a minute at least, so that few inserts change it.
-- The first task of a block also removes spans whose tasks are all erased.
CREATE TRIGGER task_span_grows AFTER INSERT ON task
WHEN NOT EXISTS (SELECT 1 FROM task_span
                 WHERE block = NEW.seq >> 9 AND first <= NEW.created_at AND last >= NEW.created_at)
BEGIN
    DELETE FROM task_span
    WHERE block < (SELECT seq FROM task ORDER BY seq LIMIT 1) >> 9
      AND NOT EXISTS (SELECT 1 FROM task_span WHERE block = NEW.seq >> 9);
    INSERT INTO task_span (block, first, last) VALUES (NEW.seq >> 9, NEW.created_at, NEW.created_at + 60000000)
    ON CONFLICT (block) DO UPDATE SET
        first = min(first, NEW.created_at),
        last = max(last, NEW.created_at + max(60000000, NEW.created_at - first));
END;

-- Most tasks are in the default queue, and pay nothing for this one.
CREATE INDEX task_queue ON task (queue, seq) WHERE queue <> 'default';
