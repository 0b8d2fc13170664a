"""End attempts whose lease has expired, and erase the secret params that such an end leaves."""

from __future__ import annotations

import asyncio
from random import Random

import structlog

from tasker.chores.loop import BATCH
from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.rules.lifecycle import Interrupted, decide

AT_ONCE = 50
"""Expired attempts that are ended together."""

_log = structlog.get_logger(__name__)


async def reap(engine: Engine, clock: Clock, random: Random, *, limit: int = BATCH) -> int:
    """End attempts whose lease has expired as interrupted: their tasks go back to the queue. Return how many."""
    reaped = 0
    while expired := await engine.find_expired(limit=min(AT_ONCE, limit - reaped)):
        # All in one transaction: until the end of an attempt is stored, a live worker may still extend its lease.
        ends = [engine.complete(claim.lease, decide(Interrupted(), claim, clock.now(), random)) for claim in expired]
        ended = [claim for claim, stored in zip(expired, await asyncio.gather(*ends), strict=True) if stored]
        for claim in ended:
            _log.warning("task.attempt_interrupted", task_id=str(claim.task_id), type=claim.type, attempt=claim.attempt)
        reaped += len(ended)
        if reaped >= limit or not ended:
            break
    return reaped


async def erase_secrets(engine: Engine) -> int:
    """Erase the secrets of tasks that no worker has ended, or that are erased; return how many."""
    ended = await engine.secrets.find_ended(limit=BATCH)
    if ended:
        await engine.secrets.erase(ended)
    return len(ended)
