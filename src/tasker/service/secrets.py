"""The chore that erases secret params left behind by tasks that have ended."""

from __future__ import annotations

from datetime import timedelta

from tasker.engines.protocol import Engine

ERASE_SECRETS_EVERY = timedelta(minutes=1)
_BATCH = 500


async def erase_secrets(engine: Engine) -> int:
    """Erase the secrets of tasks that were erased, or ended without a worker; return how many."""
    ended = await engine.secrets.find_ended(limit=_BATCH)
    if ended:
        await engine.secrets.erase(ended)
    return len(ended)
