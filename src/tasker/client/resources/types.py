"""The task types of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from tasker.client.core.types import TypeCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.wire.types import TaskType


class Types:
    """The task types of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = TypeCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> Iterator[TaskType]:
        """Yield the task types, at most `limit`."""
        return self._driver.iterate(self._calls.find_many(limit))

    def get(self, name: str) -> TaskType:
        """Return a task type: its schemas, the defaults of its tasks, an example. Raises NotFound."""
        return self._driver.run(self._calls.get(name))


class AsyncTypes:
    """The task types of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = TypeCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> AsyncIterator[TaskType]:
        """Yield the task types, at most `limit`."""
        return self._driver.iterate(self._calls.find_many(limit))

    async def get(self, name: str) -> TaskType:
        """Return a task type: its schemas, the defaults of its tasks, an example. Raises NotFound."""
        return await self._driver.run(self._calls.get(name))
