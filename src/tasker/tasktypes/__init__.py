"""Task types: from a plain typed function to what may be submitted, run and shown."""
