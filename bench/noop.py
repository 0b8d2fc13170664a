"""Task types that do nothing, so that only Tasker's own cost remains."""

import asyncio
import time

from tasker import Context, task


@task
async def noop() -> None:
    """Do nothing."""


@task
async def nap(seconds: float) -> None:
    """Do nothing for a while."""
    await asyncio.sleep(seconds)


@task
async def talk(context: Context, chunks: int, a_second: int) -> None:
    """Write the time as output, `chunks` times at an even pace."""
    start = time.time()
    for number in range(chunks):
        await asyncio.sleep(max(0.0, start + number / a_second - time.time()))
        context.output(f"{time.time():.6f};")
