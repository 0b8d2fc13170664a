"""Background chores: each is a `run_once`, all share one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from random import Random
from typing import NamedTuple

import structlog

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.rules.lifecycle import Interrupted, decide
from tasker.service.audit import PRUNE_AUDIT_EVERY, Audit
from tasker.service.keys import NOTE_USES_EVERY, REFRESH_EVERY, Keys
from tasker.service.secrets import ERASE_SECRETS_EVERY, erase_secrets
from tasker.service.types import REFRESH_TYPES_EVERY, Types
from tasker.webhooks.dispatcher import KEEP_DELIVERIES

BATCH = 500
"""Rows that one run of a chore touches at the most."""
AT_ONCE = 50
"""Expired attempts that are ended together."""

_log = structlog.get_logger(__name__)


class Chore(NamedTuple):
    """Something to do every so often; `run_once` returns how many rows it changed.

    full: after so many it is run again at once, or rather after a `pause` that leaves room for others.
    """

    name: str
    every: timedelta
    run_once: Callable[[], Awaitable[int]]
    full: int = BATCH
    pause: timedelta = timedelta(0)


async def reap(engine: Engine, clock: Clock, random: Random, *, limit: int = BATCH) -> int:
    """Give tasks whose lease has expired back to their line: their attempts end as interrupted."""
    reaped = 0
    while expired := await engine.find_expired(limit=min(AT_ONCE, limit - reaped)):
        # All at once, in one transaction: until its end is stored, a worker that lives may extend a lease again.
        ends = [engine.complete(claim.lease, decide(Interrupted(), claim, clock.now(), random)) for claim in expired]
        ended = [claim for claim, stored in zip(expired, await asyncio.gather(*ends), strict=True) if stored]
        for claim in ended:
            _log.warning("task.attempt_interrupted", task_id=str(claim.task_id), type=claim.type, attempt=claim.attempt)
        reaped += len(ended)
        if reaped >= limit or not ended:
            break
    return reaped


def key_chores(keys: Keys, *, is_shared: bool) -> list[Chore]:
    """Return what has to be done about keys: hear of other processes' changes, tell of their uses."""
    refresh = [Chore("keys", REFRESH_EVERY, keys.refresh)] if is_shared else []
    return [*refresh, Chore("key uses", NOTE_USES_EVERY, keys.record_uses)]


def type_chores(types: Types, *, is_shared: bool) -> list[Chore]:
    """Return what has to be done about task types: hear of those of other processes.

    Not for a process that runs tasks and takes none on: hundreds of workers would ask every two seconds.
    """
    return [Chore("types", REFRESH_TYPES_EVERY, types.refresh)] if is_shared else []


def audit_chores(audit: Audit) -> list[Chore]:
    """Return what has to be done about the record of who did what."""
    return [Chore("audit", PRUNE_AUDIT_EVERY, audit.prune)]


def chores(engine: Engine, clock: Clock, random: Random) -> list[Chore]:
    """Return what has to be done beside running tasks."""
    prune_deliveries = partial(engine.webhooks.prune, keep=KEEP_DELIVERIES, limit=BATCH)
    pause = timedelta(milliseconds=10)
    return [
        Chore("secrets", ERASE_SECRETS_EVERY, partial(erase_secrets, engine)),
        Chore("reap", timedelta(seconds=2), partial(reap, engine, clock, random)),
        Chore("deadlines", timedelta(seconds=1), partial(engine.fail_overdue, limit=BATCH)),
        Chore("sweep", timedelta(seconds=10), partial(engine.sweep, limit=BATCH)),
        Chore("prune", timedelta(minutes=1), partial(engine.prune, limit=BATCH), full=1, pause=pause),
        Chore("prune deliveries", timedelta(minutes=1), prune_deliveries),
    ]


async def run_chores(chores: Sequence[Chore]) -> None:
    """Run every chore now and then at its interval, until cancelled; a full batch is followed by the next at once."""
    async with asyncio.TaskGroup() as group:
        for chore in chores:
            group.create_task(_repeat(chore))


async def _repeat(chore: Chore) -> None:
    while True:
        try:
            changed = await chore.run_once()
        except Unavailable as error:
            _log.warning("chore.failed", chore=chore.name, reason=error.detail)
            changed = 0
        except Exception:  # a fault of ours, or of somebody's hand in the store: the next time may go well
            _log.exception("chore.failed", chore=chore.name)
            changed = 0
        await asyncio.sleep((chore.every if changed < chore.full else chore.pause).total_seconds())
