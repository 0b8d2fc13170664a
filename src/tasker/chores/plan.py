"""The chores, and how often each runs: add a new one here.

Those of the store run in one of its processes, the others in each process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

from tasker.chores.drain import drain_inbox
from tasker.chores.fire import fire_schedules
from tasker.chores.lead import run_with_lead
from tasker.chores.loop import BATCH, Chore, run_chores
from tasker.chores.reap import erase_secrets, reap
from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.service import Service
from tasker.service.inbox import LATE

REFRESH_KEYS_EVERY = timedelta(seconds=1)
"""How long a process may not know which keys another one has changed."""
REFRESH_TYPES_EVERY = timedelta(seconds=2)
"""How soon a process knows the types of a worker that has started."""
BULK_EVERY = timedelta(seconds=1)
"""How soon a bulk action goes on that nobody works at any more."""
KEEP_DELIVERIES = timedelta(days=7)
"""How long a delivery is kept after its end, or waits for a webhook that is paused."""
FOLD_EVERY = {False: timedelta(seconds=1), True: timedelta(seconds=5)}
"""How often statistics are folded, by whether the store is shared: it costs round trips then, otherwise a commit."""
FOLDED_AT_ONCE = {False: BATCH, True: 4 * BATCH}
"""The most changes that are folded in one transaction: where these cost round trips, fewer ones."""
_MINUTE = timedelta(minutes=1)


def engine_chores(engine: Engine, clock: Clock, random: Random) -> list[Chore]:
    """Return the chores of the store that only need an engine."""
    prune_deliveries = partial(engine.webhooks.prune, keep=KEEP_DELIVERIES, limit=BATCH)
    pause = timedelta(milliseconds=8)
    folded = FOLDED_AT_ONCE[engine.is_shared]
    return [
        Chore("secrets", _MINUTE, partial(erase_secrets, engine)),
        Chore("reap", timedelta(seconds=2), partial(reap, engine, clock, random)),
        Chore("fold stats", FOLD_EVERY[engine.is_shared], partial(engine.stats.fold, limit=folded), folded, pause),
        Chore("prune stats", _MINUTE, partial(engine.stats.prune, limit=BATCH), pause=pause),
        Chore("deadlines", timedelta(seconds=1), partial(engine.fail_overdue, limit=BATCH)),
        Chore("sweep", timedelta(seconds=10), partial(engine.sweep, limit=BATCH)),
        Chore("prune", _MINUTE, partial(engine.prune, limit=BATCH), full=1, pause=pause),
        Chore("prune deliveries", _MINUTE, prune_deliveries),
    ]


def process_chores(engine: Engine, service: Service, *, api: bool) -> list[Chore]:
    """Return the chores of each process. Without an api, nothing is submitted to this process.

    It does not refresh types then, and keys only now and then: hundreds of workers would ask again and again. A budget
    is checked with fresh keys (see Budgets).
    """
    chores = [Chore("key uses", _MINUTE, service.keys.record_uses)]
    if api or not engine.is_shared:
        chores.append(bulk_chore(service))
    if engine.is_shared:
        chores.append(Chore("clock", timedelta(seconds=10), partial(_follow_clock, engine)))
    if engine.is_shared and api:
        chores += _lookups(service)
        # What the leader does at once, if it knows the inbox: it may be of a version that does not.
        chores.append(Chore("inbox", LATE, partial(service.inbox.run_once, late=LATE), full=1))
    elif engine.is_shared:
        chores.append(Chore("keys", _MINUTE, service.keys.refresh))
    return chores


async def run_all(
    engine: Engine,
    service: Service,
    clock: Clock,
    random: Random,
    *,
    api: bool,
    dispatch: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Run the chores of this process, and those of the store while it has the lead, until cancelled.

    dispatch: makes the deliveries of webhooks until it is cancelled.
    """
    of_store = [
        *engine_chores(engine, clock, random),
        Chore("audit", 10 * _MINUTE, service.audit.prune),
        Chore("bulk receipts", 10 * _MINUTE, service.bulk.prune),
    ]
    if engine.is_shared and not api:  # schedules are fired with every type, and webhooks have owners once keys are used
        of_store += [*_lookups(service), bulk_chore(service)]

    async def lead() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_chores(of_store))
            group.create_task(fire_schedules(service.schedules, clock))
            group.create_task(drain_inbox(service.inbox))
            group.create_task(dispatch())

    async with asyncio.TaskGroup() as group:
        group.create_task(run_chores(process_chores(engine, service, api=api)))
        group.create_task(run_with_lead(engine.lead, lead))


def bulk_chore(service: Service) -> Chore:
    """Return the chore that goes on with bulk actions; processes share the work, and none does a step twice.

    Each process with an API runs it, not the one that leads alone: that may be of a version that knows no bulk actions.
    """
    return Chore("bulk", BULK_EVERY, service.bulk.run_once, full=1)


def _lookups(service: Service) -> list[Chore]:
    """Return the chores that look for what other processes have changed."""
    return [
        Chore("keys", REFRESH_KEYS_EVERY, service.keys.refresh),
        Chore("types", REFRESH_TYPES_EVERY, service.types.refresh),
    ]


async def _follow_clock(engine: Engine) -> int:
    await engine.peers.follow_clock()
    return 0
