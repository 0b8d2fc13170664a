"""Task types: from a plain typed function to what can be submitted, run and shown."""
