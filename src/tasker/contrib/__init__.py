"""Doors from other frameworks to a service. Each needs the extra of its name; nothing imports them by default."""
