-- Bytes that the process of an attempt has held at most.
ALTER TABLE task ADD COLUMN peak_memory INTEGER;  -- of the latest attempt
ALTER TABLE attempt ADD COLUMN peak_memory INTEGER;
