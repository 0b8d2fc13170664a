"""The built-in task `reverse`."""

from __future__ import annotations

from tasker.registry import task


@task(example=["Hello Seemplicity"])
def reverse(text: str) -> str:
    """Turn a text around, character by character as people see them (extended grapheme clusters, UAX #29)."""
    import regex  # here, because the service only describes this function: the child process runs it

    return "".join(reversed(regex.findall(r"\X", text)))
