"""The chore of secret params: what was left when its task had ended is erased."""

from __future__ import annotations

from datetime import timedelta

from tasker.engines.protocol import Engine

ERASE_SECRETS_EVERY = timedelta(minutes=1)
_BATCH = 500


async def erase_secrets(engine: Engine) -> int:
    """Erase the secrets of tasks that have ended otherwise than by a worker, or are erased; return how many."""
    ended = await engine.secrets.find_ended(limit=_BATCH)
    if ended:
        await engine.secrets.erase(ended)
    return len(ended)
