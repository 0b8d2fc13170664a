"""Erase the secret params of tasks that have ended where their worker did not."""

from __future__ import annotations

from tasker.chores.loop import BATCH
from tasker.engines.protocol import Engine


async def erase_secrets(engine: Engine) -> int:
    """Erase the secrets of tasks that no worker has ended, or that are erased; return how many."""
    ended = await engine.secrets.find_ended(limit=BATCH)
    if ended:
        await engine.secrets.erase(ended)
    return len(ended)
