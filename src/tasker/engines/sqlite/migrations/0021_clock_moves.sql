-- A step of the wall clock that is being followed, batch by batch: by how much it was set and to what (microseconds; a
-- step of 0 is none), and the last row that was dealt with. moving: 0 for tasks, 1 for deliveries.
ALTER TABLE clock ADD COLUMN step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clock ADD COLUMN set_to INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clock ADD COLUMN moving INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clock ADD COLUMN moved_due_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clock ADD COLUMN moved_seq INTEGER NOT NULL DEFAULT 0;
-- Rows ahead of it that have got their times since the step: they are not moved.
CREATE TABLE clock_fresh (
    moving INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (moving, seq)
) STRICT, WITHOUT ROWID;

DROP INDEX task_later;
CREATE INDEX task_later ON task (due_at, seq, queue, type) WHERE status = 'pending' AND reason <> 'queued';
DROP INDEX webhook_delivery_age;
CREATE INDEX webhook_delivery_age ON webhook_delivery (due_at, seq);
