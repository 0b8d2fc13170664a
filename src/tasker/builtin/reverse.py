"""The built-in task `reverse`."""

from __future__ import annotations

from tasker.tasktypes.registry import task

_FLAGS = "[\U0001f1e6-\U0001f1ff]"
_CLUSTER = rf"{_FLAGS}{{2}}(?={_FLAGS})|\X"
r"""A grapheme cluster. Flags are pairs of letters, paired from the start of a run; `\X` counts from there each time, so
that a run of flags takes quadratic time. A pair before another such letter is always a cluster: match it directly."""


@task(example=["Hello Seemplicity"])
def reverse(text: str) -> str:
    """Reverse a text by the characters that people see (extended grapheme clusters, UAX #29)."""
    import regex  # imported here: the service only describes this function, the child process runs it

    return "".join(reversed(regex.findall(_CLUSTER, text)))
