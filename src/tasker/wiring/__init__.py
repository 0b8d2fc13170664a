"""Puts the concrete parts together, and runs and ends the process."""
