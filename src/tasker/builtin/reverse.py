"""The built-in task `reverse`."""

from __future__ import annotations

from tasker.tasktypes.registry import task

_FLAGS = "[\U0001f1e6-\U0001f1ff]"
_CLUSTER = rf"{_FLAGS}{{2}}(?={_FLAGS})|\X"
r"""Pairs of the letters that make flags count from the first one on, and `\X` counts anew for each: many flags in a row
took time by their square. A pair with a third letter behind it is a cluster in any case, and is taken at once."""


@task(example=["Hello Seemplicity"])
def reverse(text: str) -> str:
    """Turn a text around, character by character as people see them (extended grapheme clusters, UAX #29)."""
    import regex  # here, because the service only describes this function: the child process runs it

    return "".join(reversed(regex.findall(_CLUSTER, text)))
