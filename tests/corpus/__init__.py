"""One corpus of task types and inputs, good and bad, for every way into the service."""
