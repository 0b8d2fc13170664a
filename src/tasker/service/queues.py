"""What can be asked of queues: what waits in them, and what is set of them."""

from __future__ import annotations

from tasker.engine import Engine
from tasker.model import LineStats
from tasker.model.keys import ANYBODY, Caller
from tasker.model.queues import QueueChange, QueueSettings
from tasker.service.load import Load


class Queues:
    """The queues of one store, by any face of Tasker."""

    def __init__(self, engine: Engine, load: Load) -> None:
        self._engine = engine
        self._load = load

    async def stats(self, caller: Caller = ANYBODY) -> list[LineStats]:
        """Return the open tasks by queue and type: those that the caller is told of."""
        return await self._engine.stats(self._load.of(caller))

    async def settings(self) -> dict[str, QueueSettings]:
        """Return what is set of queues, by name; one of which nothing is set is not among them."""
        return {state.settings.name: state.settings for state in await self._engine.queues.find_all()}

    async def change(self, name: str, change: QueueChange) -> QueueSettings:
        """Set something of a queue, for all workers from now on; return what is set of it then."""
        return await self._engine.queues.change(name, change)
