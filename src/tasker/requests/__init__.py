"""Request bodies: read, checked and typed; every fault at once."""
