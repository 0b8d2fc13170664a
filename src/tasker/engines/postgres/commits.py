"""Group commit: items that arrive while a transaction is under way share the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import asyncpg

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.batches import take_batch
from tasker.errors import RequestError, Unavailable

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


class _Waiting(NamedTuple):
    item: Any
    future: asyncio.Future[Any]
    size: int


class Batches(Generic[I, R]):
    """Gathers items into transactions, at most `at_once` at a time, and answers each once it is durable.

    work: stores items in a transaction and returns a reply for each, in order. It may run several times (see
    `Transaction.is_retry`). A fault of the data in one item, or a RequestError, is raised to that item's caller alone:
    the others are tried without it.
    """

    def __init__(
        self,
        connections: Connections,
        work: Callable[[Transaction, Sequence[I]], Awaitable[Sequence[R]]],
        *,
        at_once: int = 1,
    ) -> None:
        self._connections = connections
        self._work = work
        self._free = at_once
        self._queue: deque[_Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    def put(self, item: I, size: int = 0) -> asyncio.Future[R]:
        """Queue an item; the future gets its reply once that is durable.

        size: its bytes, if it may be large. Raises Unavailable once closed.
        """
        if self._closed:
            raise Unavailable("the store is closed")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(item, future, size))
        if self._free:
            self._start()
        return future

    async def close(self) -> None:
        """Store what is queued. Idempotent."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)

    def _start(self) -> None:
        self._free -= 1
        task = asyncio.get_running_loop().create_task(self._run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self) -> None:
        """Store batch after batch until nothing waits."""
        await asyncio.sleep(0)  # let other coroutines of this loop iteration add their items to the transaction
        while self._queue:
            batch = [
                one for one in take_batch(self._queue) if not one.future.done()
            ]  # an item whose caller has gone is not stored
            if batch:
                await self._store(batch)
        self._free += 1

    async def _store(self, batch: list[_Waiting]) -> None:
        items = [waiting.item for waiting in batch]
        try:
            replies = await self._connections.transact(lambda tx: self._work(tx, items))
        except Unavailable as error:  # the later items would only wait for the same fault
            _fail([*batch, *self._queue], error)
            self._queue.clear()
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, RequestError) as error:
            await self._one_by_one(batch, error)
        except Exception as error:  # any fault must reach its callers, and later batches go on
            _fail(batch, error)
        else:
            for waiting, reply in zip(batch, replies, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(reply)

    async def _one_by_one(self, batch: list[_Waiting], error: Exception) -> None:
        if len(batch) == 1:
            _fail(batch, error)
            return
        for waiting in batch:
            await self._store([waiting])


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.future.done():
            waiting.future.set_exception(error)
