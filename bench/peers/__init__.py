"""What Tasker is measured against: small, whole services that answer the same two calls."""
