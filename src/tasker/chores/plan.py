"""The chores of a process, and how often each runs: add a new one here."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from random import Random

from tasker.chores.fire import fire_schedules
from tasker.chores.loop import BATCH, Chore, run_chores
from tasker.chores.reap import erase_secrets, reap
from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.service import Service

REFRESH_KEYS_EVERY = timedelta(seconds=1)
"""How long a process may not know which keys another one has changed."""
REFRESH_TYPES_EVERY = timedelta(seconds=2)
"""How soon a process knows the types of a worker that has started."""
KEEP_DELIVERIES = timedelta(days=7)
"""How long a delivery is kept after its end, or waits for a webhook that is paused."""
_MINUTE = timedelta(minutes=1)


def engine_chores(engine: Engine, clock: Clock, random: Random) -> list[Chore]:
    """Return the chores that only need an engine."""
    prune_deliveries = partial(engine.webhooks.prune, keep=KEEP_DELIVERIES, limit=BATCH)
    pause = timedelta(milliseconds=8)
    return [
        Chore("secrets", _MINUTE, partial(erase_secrets, engine)),
        Chore("reap", timedelta(seconds=2), partial(reap, engine, clock, random)),
        Chore("deadlines", timedelta(seconds=1), partial(engine.fail_overdue, limit=BATCH)),
        Chore("sweep", timedelta(seconds=10), partial(engine.sweep, limit=BATCH)),
        Chore("prune", _MINUTE, partial(engine.prune, limit=BATCH), full=1, pause=pause),
        Chore("prune deliveries", _MINUTE, prune_deliveries),
    ]


def service_chores(service: Service, *, is_shared: bool, api: bool) -> list[Chore]:
    """Return the chores of the use cases. Without an api, nothing is submitted to this process.

    It does not refresh types then: hundreds of workers would ask every two seconds.
    """
    chores = [Chore("key uses", _MINUTE, service.keys.record_uses), Chore("audit", 10 * _MINUTE, service.audit.prune)]
    if is_shared:
        chores.append(Chore("keys", REFRESH_KEYS_EVERY, service.keys.refresh))
    if is_shared and api:
        chores.append(Chore("types", REFRESH_TYPES_EVERY, service.types.refresh))
    return chores


async def run_all(engine: Engine, service: Service, clock: Clock, random: Random, *, api: bool) -> None:
    """Run every chore of a process, until cancelled."""
    chores = engine_chores(engine, clock, random) + service_chores(service, is_shared=engine.is_shared, api=api)
    async with asyncio.TaskGroup() as group:
        group.create_task(run_chores(chores))
        group.create_task(fire_schedules(service.schedules, clock))
