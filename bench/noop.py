"""Task types that do nothing: what is left is Tasker's own cost."""

import asyncio

from tasker import task


@task
async def noop() -> None:
    """Do nothing."""


@task
async def nap(seconds: float) -> None:
    """Do nothing for a while."""
    await asyncio.sleep(seconds)
