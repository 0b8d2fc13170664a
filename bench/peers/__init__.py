"""The peers of Tasker: small, complete services that answer the same two calls."""
