-- Most tasks are in the default queue, and pay nothing for this one. Writers wait while it is made.
CREATE INDEX task_queue ON {schema}.task (queue, seq) WHERE queue <> 'default';
