"""Erase the secret params of ended tasks whose worker has not done so."""

from __future__ import annotations

from tasker.chores.loop import BATCH
from tasker.engines.protocol import Engine


async def erase_secrets(engine: Engine) -> int:
    """Erase the secrets of ended or erased tasks that still have some, and return how many."""
    ended = await engine.secrets.find_ended(limit=BATCH)
    if ended:
        await engine.secrets.erase(ended)
    return len(ended)
