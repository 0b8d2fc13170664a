"""The queues of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from tasker.client.core.queues import QueueCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.wire.queues import Queue


class Queues:
    """The queues of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = QueueCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> Iterator[Queue]:
        """Yield the queues with open tasks or limits, by name, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(limit))

    def get(self, name: str) -> Queue:
        """Return the queue as it is now. Raises NotFound for what cannot be a queue's name."""
        return self._driver.run(self._calls.get(name))

    def change(self, name: str, **fields: Any) -> Queue:
        """Set `paused`, `concurrency`, `concurrency_per_key`, `rate` or `shared_keys`; None removes a limit.

        Raises NotFound, InvalidRequest with every fault.
        """
        return self._driver.run(self._calls.change(name, fields))

    def pause(self, name: str) -> Queue:
        """Start none of the queue's tasks until it is resumed; running ones go on. Raises NotFound."""
        return self._driver.run(self._calls.change(name, {"paused": True}))

    def resume(self, name: str) -> Queue:
        """Start its tasks again. Raises NotFound."""
        return self._driver.run(self._calls.change(name, {"paused": False}))


class AsyncQueues:
    """The queues of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = QueueCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> AsyncIterator[Queue]:
        """Yield the queues with open tasks or limits, by name, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(limit))

    async def get(self, name: str) -> Queue:
        """Return the queue as it is now. Raises NotFound for what cannot be a queue's name."""
        return await self._driver.run(self._calls.get(name))

    async def change(self, name: str, **fields: Any) -> Queue:
        """Set `paused`, `concurrency`, `concurrency_per_key`, `rate` or `shared_keys`; None removes a limit.

        Raises NotFound, InvalidRequest with every fault.
        """
        return await self._driver.run(self._calls.change(name, fields))

    async def pause(self, name: str) -> Queue:
        """Start none of the queue's tasks until it is resumed; running ones go on. Raises NotFound."""
        return await self._driver.run(self._calls.change(name, {"paused": True}))

    async def resume(self, name: str) -> Queue:
        """Start its tasks again. Raises NotFound."""
        return await self._driver.run(self._calls.change(name, {"paused": False}))
