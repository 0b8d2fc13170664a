"""The built-in task `sum`."""

from __future__ import annotations

from math import isinf

from tasker.errors import Fail
from tasker.tasktypes.registry import task

Number = int | float


@task(example=[4, 2])
async def sum(a: Number, b: Number, *more: Number) -> Number:
    """Add two or more numbers: integers exactly, others from left to right, as Python's `+` does."""
    total = a
    try:
        for number in (b, *more):
            total += number
    except OverflowError:
        raise Fail("the sum mixes floats with an integer too large for a float (above 1.8e308)") from None
    if isinstance(total, float) and isinf(total):
        raise Fail("the sum is too large for a float (above 1.8e308)")
    return total
