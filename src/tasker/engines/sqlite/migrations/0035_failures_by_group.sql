-- The counts of one group, without those of all others.
CREATE INDEX failure_hour_failure ON failure_hour (failure, hour);
