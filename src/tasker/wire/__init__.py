"""What goes over HTTP, once: the API encodes these structs, the client decodes them, OpenAPI describes them.

The model's structs that go out as they are (Attempt, Progress, TaskProblem, ...) are not repeated here.
"""
