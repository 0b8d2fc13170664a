"""Notify receivers of events: from the journal to deliveries in the store, from these to HTTP requests."""
