"""What can be asked of queues: what waits in them, and what is set of them."""

from __future__ import annotations

from collections.abc import Collection

from tasker.engine import Engine
from tasker.model import LineStats
from tasker.model.queues import QueueChange, QueueSettings
from tasker.service.open_queues import DEFAULT_LIMIT


class Queues:
    """The queues of one store, by any face of Tasker. limit: of how many something may be set."""

    def __init__(self, engine: Engine, limit: int = DEFAULT_LIMIT) -> None:
        self._engine = engine
        self._limit = limit

    async def stats(self, names: Collection[str] | None = None) -> list[LineStats]:
        """Return the open tasks by queue and type; of these queues alone, if given."""
        return await self._engine.stats(names)

    async def settings(self, names: Collection[str] | None = None) -> dict[str, QueueSettings]:
        """Return what is set of queues, of these alone if given; one of which nothing is set is not among them."""
        return {state.settings.name: state.settings for state in await self._engine.queues.find_all(names)}

    async def find_names(self, *, after: str | None, limit: int) -> list[str]:
        """Return the first queues behind a name that hold open tasks or have settings, in order of names."""
        return await self._engine.queues.find_names(after=after, limit=limit)

    async def change(self, name: str, change: QueueChange) -> QueueSettings:
        """Set something of a queue, for all workers from now on; return what is set of it then.

        Raises Conflict (something is set of as many queues as there may be).
        """
        return await self._engine.queues.change(name, change, most=self._limit)
