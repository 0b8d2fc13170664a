-- Lists by tag read task_tag. This is a transaction of its own: the one before lets writers wait, and a writer that has
-- locked rows to change them would wait for it while it waits for that writer.
DROP INDEX {schema}.task_tags;
