"""The other processes of a store: they are told which tasks are followed, and share the database's clock."""

from __future__ import annotations

from uuid import UUID

from tasker.engines.postgres.clock import DatabaseClock
from tasker.engines.postgres.clock_steps import DatabaseSteps
from tasker.engines.postgres.connections import Connections


class PostgresPeers:
    """The Peers of the distributed engine."""

    def __init__(
        self, connections: Connections, queries: dict[str, str], clock: DatabaseClock, steps: DatabaseSteps
    ) -> None:
        self._connections = connections
        self._follow_task = queries["follow_task"]
        self._clock = clock
        self._steps = steps

    async def follow_task(self, task_id: UUID) -> bool:
        return bool(await self._connections.read(lambda connection: connection.fetchval(self._follow_task, task_id)))

    async def follow_clock(self) -> None:
        await self._clock.set(self._connections)
        await self._steps.look()
