"""Tasks whose results are more than JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tasker import Context, secret, task


@dataclass
class Size:
    """The result of a task."""

    width: int
    name: str


@task
async def measure(context: Context, name: str, *, width: int = 3) -> Size:
    """Measure, and say so."""
    context.log("measuring", level="debug", width=width)
    context.output("one line\u2028of two\n")
    context.log("measured", level="warning")
    context.output("done")
    return Size(width, name)


@task
async def sign(token: Annotated[str, secret], times: int) -> int:
    """Use a secret."""
    return len(token) * times
