"""The use cases of queues: what waits in them, and their settings."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.model import PartitionStats
from tasker.model.keys import ANYBODY, Caller
from tasker.model.queues import Pause, QueueChange, QueueSettings, QueueState
from tasker.service.admission import DEFAULT_LIMIT
from tasker.service.keys import Keys


class Load(NamedTuple):
    """Which tasks a caller's figures cover: numbers of waiting tasks, a task's position, run times.

    is_public: whether every caller that may read sees the counts of all owners; otherwise only admins do.
    """

    is_public: bool = False

    def of(self, caller: Caller) -> str | None:
        """Return the owner whose tasks alone are counted for the caller; None for all owners."""
        return None if self.is_public else caller.only


class Queues:
    """The queues of one store. limit: how many queues may have settings."""

    def __init__(self, engine: Engine, load: Load, keys: Keys, clock: Clock, limit: int = DEFAULT_LIMIT) -> None:
        self._engine = engine
        self._load = load
        self._keys = keys
        self._clock = clock
        self._limit = limit

    def shows_load(self, caller: Caller) -> bool:
        """Tell whether the caller sees how busy the service is with all owners' tasks."""
        return self._load.of(caller) is None

    async def stats(self, caller: Caller = ANYBODY, names: Collection[str] | None = None) -> list[PartitionStats]:
        """Return the open tasks that are counted for the caller, by queue and type; of these queues only, if given."""
        return await self._engine.stats.open_counts(self._load.of(caller), queues=names)

    async def settings(self, names: Collection[str] | None = None) -> dict[str, QueueSettings]:
        """Return the settings of the queues that have any, by name; of these queues only, if given."""
        return {name: state.settings for name, state in (await self.states(names)).items()}

    async def states(self, names: Collection[str] | None = None) -> dict[str, QueueState]:
        """Return the queues that have settings, by name, with the use of all owners: see `shows_load`."""
        return {state.settings.name: state for state in await self._engine.queues.find_all(names)}

    async def find_names(self, caller: Caller, *, after: str | None, limit: int) -> list[str]:
        """Return the first queues after a name that have settings, or open tasks that are counted for the caller."""
        owner = self._load.of(caller)
        if owner is None:
            return await self._engine.queues.find_names(after=after, limit=limit)
        names = {*await self._engine.queues.find_open(owner), *await self.settings()}
        return sorted(name for name in names if after is None or name > after)[:limit]

    async def change(self, caller: Caller, name: str, change: QueueChange) -> QueueSettings:
        """Change a queue's settings for all workers from now on; return them. A pause notes who made it.

        Raises Conflict (too many queues have settings).
        """
        key = None if caller.key_id is None else self._keys.find(caller.key_id)
        by = Pause(at=self._clock.now(), owner=caller.owner, key=None if key is None else key.name)
        change = structs.replace(change, by=by)
        return await self._engine.queues.change(name, change, most=self._limit)
