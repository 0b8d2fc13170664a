"""The chores of a process: add a new one here."""

from __future__ import annotations

import asyncio
from random import Random

from tasker.chores.audit import audit_chores
from tasker.chores.fire import fire_schedules
from tasker.chores.keys import key_chores
from tasker.chores.loop import Chore, run_chores
from tasker.chores.prune import prune_chores
from tasker.chores.reap import reap_chores
from tasker.chores.secrets import secret_chores
from tasker.chores.types import type_chores
from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.service import Service


def engine_chores(engine: Engine, clock: Clock, random: Random) -> list[Chore]:
    """Return the chores that only need an engine."""
    return [*secret_chores(engine), *reap_chores(engine, clock, random), *prune_chores(engine)]


async def run_all(engine: Engine, service: Service, clock: Clock, random: Random, *, api: bool) -> None:
    """Run every chore of a process, until cancelled.

    api: whether the process takes submissions. One that does not need not know the task types of others: hundreds of
    workers would ask every two seconds.
    """
    chores = [
        *engine_chores(engine, clock, random),
        *key_chores(service.keys, is_shared=engine.is_shared),
        *type_chores(service.types, is_shared=engine.is_shared and api),
        *audit_chores(service.audit),
    ]
    async with asyncio.TaskGroup() as group:
        group.create_task(run_chores(chores))
        group.create_task(fire_schedules(service.schedules, clock))
