-- The last ticks of a schedule (model.schedules.PastTick), and who paused a queue, and when (model.queues.Pause). JSON.
ALTER TABLE schedule ADD COLUMN firings BLOB NOT NULL DEFAULT X'5b5d';
ALTER TABLE queue ADD COLUMN pause BLOB;
