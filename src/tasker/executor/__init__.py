"""Runs one attempt of a task and returns its Outcome: `async def` on an event loop, `def` in a child process.

The service's side is here; what runs in a child process is in `child`. Neither imports the other: both speak `frames`.
"""
