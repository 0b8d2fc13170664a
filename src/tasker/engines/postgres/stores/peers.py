"""The other processes of a store: they are told which tasks are followed, and share the database's clock."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from tasker.engines.postgres.clock_steps import DatabaseSteps
from tasker.engines.postgres.connections import Connections

_CLOCK_AGE = timedelta(seconds=5)
"""The age of an answer that is new enough: the looks of waiting claims bring one every two seconds."""


class PostgresPeers:
    """The Peers of the distributed engine."""

    def __init__(self, connections: Connections, queries: dict[str, str], steps: DatabaseSteps) -> None:
        self._connections = connections
        self._follow_task = queries["follow_task"]
        self._steps = steps

    async def follow_task(self, task_id: UUID) -> bool:
        values = task_id, self._connections.sender
        return bool(await self._connections.read(lambda connection: connection.fetchval(self._follow_task, *values)))

    async def follow_clock(self) -> None:
        await self._steps.look_if_old(_CLOCK_AGE)
