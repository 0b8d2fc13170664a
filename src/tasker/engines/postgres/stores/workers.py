"""Workers: one row each, and an advisory lock that the database releases when their process dies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
from msgspec import structs

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.listener import Listener
from tasker.engines.postgres.notifications import channel_of
from tasker.engines.postgres.targeting import Presence
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.postgres.waiters import Waiters
from tasker.model import RunningAttempt, WorkerInfo, WorkerState
from tasker.model.keeping import KEEP_TYPES_FOR, KEEP_WORKERS_FOR
from tasker.model.types import KnownType, PublishedType

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(WorkerInfo).decode
_decode_type = lru_cache(maxsize=1000)(msgspec.json.Decoder(PublishedType).decode)


class PostgresWorkers:
    """The WorkerStore on the tables of one schema. waiters: the claims that wait in this process."""

    def __init__(
        self, connections: Connections, queries: dict[str, str], schema: str, listener: Listener, waiters: Waiters
    ) -> None:
        self._connections = connections
        self._queries = queries
        self._schema = schema
        self._listener = listener
        self._waiters = waiters

    async def announce(self, worker: WorkerInfo) -> None:
        """Announce a worker, if possible on the connection that holds its lock: what it says of that is true then."""
        channel, announce = channel_of(worker.worker_id, self._schema), self._queries["announce"]
        locked = await self._listener.hold(worker.worker_id, channel)
        if locked and await self._listener.execute(announce, *self._row(worker, channel, locked=True)):
            return
        values = self._row(worker, "", locked=False)
        await self._connections.repeat(lambda connection: connection.execute(announce, *values))

    def _row(self, worker: WorkerInfo, channel: str, *, locked: bool) -> tuple[str, bool, bytes, list[str]]:
        """Return the values of `announce`. channel: empty while the worker cannot listen."""
        pools = self._waiters.pools_of(worker.worker_id)
        presence = Presence(**structs.asdict(worker), channel=channel, pools=pools)
        return worker.worker_id, locked, _encode(presence), list(worker.types)

    async def publish(self, types: Sequence[PublishedType]) -> None:
        names, bodies = [one.name for one in types], [_encode(one) for one in types]

        async def work(tx: Transaction) -> None:
            await tx.execute(self._queries["publish_types"], names, bodies)
            await tx.execute(self._queries["forget_types"], KEEP_TYPES_FOR)

        await self._connections.transact(work)

    async def find_types(self) -> list[KnownType]:
        async def query(connection: Connection) -> list[KnownType]:
            rows = await connection.fetch(self._queries["published_types"], KEEP_TYPES_FOR)
            return [KnownType(type=_decode_type(row["body"]), seen_at=row["seen_at"]) for row in rows]

        return await self._connections.read(query)

    async def withdraw(self, worker_id: str) -> None:
        async def work(tx: Transaction) -> None:
            await tx.execute(self._queries["withdraw"], worker_id)

        await self._connections.transact(work)

    async def find_all(self) -> list[WorkerState]:
        async def query(connection: Connection) -> list[WorkerState]:
            rows = await connection.fetch(self._queries["workers"], KEEP_WORKERS_FOR)
            names = [row["worker_id"] for row in rows]
            running: dict[str, list[RunningAttempt]] = {name: [] for name in names}
            for row in await connection.fetch(self._queries["running_by_worker"], names):
                values = dict(row)
                running[values.pop("worker")].append(RunningAttempt(**values))
            states = [
                WorkerState(info=_decode(info), heartbeat_at=heartbeat_at, running=tuple(running[name]))
                for name, heartbeat_at, info in rows
            ]
            return sorted(states, key=lambda state: (state.info.started_at, state.info.worker_id))

        return await self._connections.read(query)
