"""The task types of other processes: those that workers on the same database have published."""

from __future__ import annotations

from datetime import datetime, timedelta

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.model.types import PublishedType
from tasker.tasktypes.published import publish, revive
from tasker.tasktypes.registry import Registry

_MISSING_AFTER = timedelta(minutes=2)
"""A type has no worker if none was heard of for so long: live ones are noted about once a minute."""


class Types:
    """What can be submitted beside the types of this process's own task files. Of one name, its own is the one."""

    def __init__(self, engine: Engine, registry: Registry, clock: Clock) -> None:
        self._engine = engine
        self._registry = registry
        self._clock = clock
        self._published: dict[str, PublishedType] = {}
        self._seen_at: dict[str, datetime] = {}

    async def publish(self) -> None:
        """Tell other processes of every type of this one, which runs them. Raises Unavailable."""
        await self._engine.workers.publish([publish(task_type) for task_type in self._registry])

    async def refresh(self) -> int:
        """Take on what workers have published; return how many types are new or have changed. Raises Unavailable."""
        found = await self._engine.workers.find_types()
        self._seen_at = {known.type.name: known.seen_at for known in found}
        published = {known.type.name: known.type for known in found}
        changed = [one for name, one in published.items() if one != self._published.get(name)]
        if published != self._published:
            self._registry.take_published([revive(one) for one in published.values()])
            self._published = published
        return len(changed)

    def missing_since(self, name: str) -> datetime | None:
        """Return since when no worker has a type; None while one has it, or where none ever told."""
        seen_at = self._seen_at.get(name)
        return seen_at if seen_at is not None and self._clock.now() - seen_at > _MISSING_AFTER else None
