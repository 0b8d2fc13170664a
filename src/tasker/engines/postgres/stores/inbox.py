"""The InboxStore of the distributed engine: the table that the function `submit` of the database writes to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from uuid import UUID

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.listener import Listener
from tasker.engines.postgres.submit import Submits
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.protocol.inbox import AWAKE, Look
from tasker.model.inbox import Arrival, TakenIn

_READ_AT_ONCE = 8 << 20
"""Bytes of params and options that are read together."""


class PostgresInbox:
    """Implements InboxStore."""

    def __init__(
        self, connections: Connections, queries: dict[str, str], schema: str, submits: Submits, listener: Listener
    ) -> None:
        self._connections = connections
        self._queries = queries
        self._channel = f"{schema}_inbox"
        self._submits = submits
        self._listener = listener

    async def find(self, task_id: UUID, look: Look) -> Arrival | None:
        row = await self._connections.read(
            lambda connection: connection.fetchrow(self._queries["find_arrival"], task_id, look.max_size, look.patience)
        )
        return None if row is None else _arrival(row)

    async def find_many(self, look: Look, *, limit: int) -> list[Arrival]:
        values = limit, list(look.types), look.patience, _READ_AT_ONCE, look.max_size, look.late
        rows = await self._connections.look(
            lambda connection: connection.fetch(self._queries["find_arrivals"], *values)
        )
        return [_arrival(row) for row in rows]

    async def take_in(self, arrivals: Sequence[TakenIn], *, is_awake: bool = False) -> int:
        return await self._connections.transact(lambda tx: self._take_in(tx, arrivals, is_awake))

    async def _take_in(self, tx: Transaction, arrivals: Sequence[TakenIn], is_awake: bool) -> int:
        rows = await tx.fetch(self._queries["take_arrivals"], [one.draft.task_id for one in arrivals])
        ours = {row["task_id"] for row in rows}
        if not ours:
            return 0
        await self._submits.take_in(tx, [one for one in arrivals if one.draft.task_id in ours])
        if is_awake:
            await tx.execute(self._queries["stay_awake"], AWAKE)
        return len(ours)

    @contextlib.asynccontextmanager
    async def watching(self, wake: Callable[[], None]) -> AsyncIterator[None]:
        await self._listener.listen(self._channel, wake)
        try:
            yield
        finally:
            await self._listener.unlisten(self._channel)


def _arrival(row: Any) -> Arrival:
    return Arrival(*(row[name] for name in Arrival._fields))
