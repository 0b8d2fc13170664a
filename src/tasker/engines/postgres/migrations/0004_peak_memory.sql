-- Bytes that the process of an attempt has held at most.
ALTER TABLE {schema}.task ADD COLUMN peak_memory bigint;  -- of the latest attempt
ALTER TABLE {schema}.attempt ADD COLUMN peak_memory bigint;
