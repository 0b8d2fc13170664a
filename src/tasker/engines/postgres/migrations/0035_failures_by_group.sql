-- Locks are taken in small portions: a transaction that waits long for a busy table is rolled back.
SET LOCAL lock_timeout = '300ms';

-- The counts of one group, without those of all others. Writers wait while it is made: a row is for an hour of a group,
-- so that this takes a moment.
CREATE INDEX failure_hour_failure ON {schema}.failure_hour (failure, hour);
