"""Stores that are the same for every engine, written once over `rows.Database`."""
