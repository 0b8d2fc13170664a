"""Telling receivers what happens to tasks: from the journal to rows of deliveries, from rows to requests."""
