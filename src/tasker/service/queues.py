"""What can be asked of queues: what waits in them, and what is set of them."""

from __future__ import annotations

from collections.abc import Collection

from tasker.engines.protocol import Engine
from tasker.model import PartitionStats
from tasker.model.keys import ANYBODY, Caller
from tasker.model.queues import QueueChange, QueueSettings
from tasker.service.load import Load
from tasker.service.open_queues import DEFAULT_LIMIT


class Queues:
    """The queues of one store, by any face of Tasker. limit: of how many something may be set."""

    def __init__(self, engine: Engine, load: Load, limit: int = DEFAULT_LIMIT) -> None:
        self._engine = engine
        self._load = load
        self._limit = limit

    async def stats(self, caller: Caller = ANYBODY, names: Collection[str] | None = None) -> list[PartitionStats]:
        """Return the open tasks by queue and type: those that the caller is told of, of these queues alone if given."""
        return await self._engine.stats(self._load.of(caller), queues=names)

    async def settings(self, names: Collection[str] | None = None) -> dict[str, QueueSettings]:
        """Return what is set of queues, of these alone if given; one of which nothing is set is not among them."""
        return {state.settings.name: state.settings for state in await self._engine.queues.find_all(names)}

    async def find_names(self, caller: Caller, *, after: str | None, limit: int) -> list[str]:
        """Return the first queues behind a name that hold open tasks which the caller is told of, or have settings."""
        owner = self._load.of(caller)
        if owner is None:
            return await self._engine.queues.find_names(after=after, limit=limit)
        names = {*await self._engine.queues.find_open(owner), *await self.settings()}
        return sorted(name for name in names if after is None or name > after)[:limit]

    async def change(self, name: str, change: QueueChange) -> QueueSettings:
        """Set something of a queue, for all workers from now on; return what is set of it then.

        Raises Conflict (something is set of as many queues as there may be).
        """
        return await self._engine.queues.change(name, change, most=self._limit)
