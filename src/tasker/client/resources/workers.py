"""The workers of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from tasker.client.core.lists import ListCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.wire.workers import Worker


class Workers:
    """The workers of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = ListCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> Iterator[Worker]:
        """Yield the processes that run tasks and what each is running, those that started first first."""
        return self._driver.iterate(self._calls.workers(limit))


class AsyncWorkers:
    """The workers of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = ListCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> AsyncIterator[Worker]:
        """Yield the processes that run tasks and what each is running, those that started first first."""
        return self._driver.iterate(self._calls.workers(limit))
