"""The client without I/O: generators yield what has to be done, and get what came of it.

So one piece of logic serves `Tasker` and `AsyncTasker`: they carry out what a call yields (`tasker.client.driving`).
"""
