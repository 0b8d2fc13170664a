"""The task types of other processes: those that workers on the same store have published."""

from __future__ import annotations

from datetime import datetime, timedelta

from tasker.clock import Clock
from tasker.engines.protocol import WorkerStore
from tasker.model.types import PublishedType
from tasker.tasktypes.published import publish, revive
from tasker.tasktypes.registry import Registry

_MISSING_AFTER = timedelta(minutes=2)
"""A type has no worker if none was seen for this long: live workers are recorded about once a minute."""


class Types:
    """Adds published types to the registry. If this process has a type of the same name, its own type counts."""

    def __init__(self, store: WorkerStore, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._published: dict[str, PublishedType] = {}
        self._seen_at: dict[str, datetime] = {}

    async def publish(self) -> None:
        """Publish every type that this process runs. Raises Unavailable."""
        await self._store.publish([publish(task_type) for task_type in self._registry])

    async def refresh(self) -> int:
        """Load what workers have published; return how many types are new or have changed. Raises Unavailable."""
        found = await self._store.find_types()
        self._seen_at = {known.type.name: known.seen_at for known in found}
        published = {known.type.name: known.type for known in found}
        changed = [one for name, one in published.items() if one != self._published.get(name)]
        if published != self._published:
            self._registry.take_published([revive(one) for one in published.values()])
            self._published = published
        return len(changed)

    def missing_since(self, name: str) -> datetime | None:
        """Return since when no worker has the type; None while a worker has it, or if none ever published it."""
        seen_at = self._seen_at.get(name)
        return seen_at if seen_at is not None and self._clock.now() - seen_at > _MISSING_AFTER else None
