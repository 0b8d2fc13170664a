"""The log of the server and of tasks."""
