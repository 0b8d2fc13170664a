"""Rules without I/O and without a clock: what becomes of a task, when a schedule fires, where a webhook may lead."""
