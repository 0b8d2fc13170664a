"""The use case of workers: list them."""

from __future__ import annotations

from msgspec import structs

from tasker.engines.protocol import WorkerStore
from tasker.model import WorkerState
from tasker.model.keys import Caller


class Workers:
    """The workers of a store."""

    def __init__(self, store: WorkerStore) -> None:
        self._store = store

    async def find_all(self, caller: Caller) -> list[WorkerState]:
        """Return the workers in order of their start, each with those of its attempts that the caller may see."""
        found = await self._store.find_all()
        if caller.only is None:
            return found
        return [
            structs.replace(state, running=tuple(one for one in state.running if caller.sees(one.owner)))
            for state in found
        ]
