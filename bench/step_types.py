"""Task types of steps, children and waits, for `bench/steps.py`."""

from __future__ import annotations

import time

from tasker import Context, task


@task
async def one(number: int) -> int:
    """Return the number: a child that does nothing."""
    return number


@task
async def steps(count: int, context: Context) -> int:
    """Store `count` steps, one after the other."""
    return sum([await context.step("step", _same, number) for number in range(count)])


@task
async def children(count: int, context: Context) -> int:
    """Start `count` children and add up their results."""
    return sum(await context.map(one, range(count)))


@task
async def parked(context: Context) -> None:
    """Wait for a day."""
    await context.sleep("day", days=1)


@task
async def resumed(count: int, context: Context) -> float:
    """Store `count` steps, park, and return the time at which the next attempt has passed all of them."""
    for number in range(count):
        await context.step("step", _same, number)
    passed = time.time()
    await context.sleep("pause", seconds=3)
    return passed


def _same(number: int) -> int:
    return number
