-- Locks are taken in small portions: a transaction that waits long for the busy table is rolled back.
SET LOCAL lock_timeout = '300ms';

-- The only process that waits for an awaited task, which alone is notified then; NULL: all processes are notified, as
-- those of earlier versions do in any case.
ALTER TABLE {schema}.task ADD COLUMN waiter text;
