"""The groups of a service: tasks that were submitted under one name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

from tasker.client.core.groups import GroupCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.wire.bulk import BulkReply
from tasker.wire.groups import Group, GroupInList


class Groups:
    """The groups of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = GroupCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> Iterator[GroupInList]:
        """Yield groups, those with open tasks first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(limit))

    def get(self, name: str) -> Group:
        """Return the group as it is now. Raises NotFound."""
        return self._driver.run(self._calls.get(name))

    def wait(self, name: str, timeout: timedelta | float | None = None) -> Group:
        """Return the group once none of its tasks is open. Raises GroupTimeout after `timeout` (None: never), NotFound.

        It outlasts a restart of the service.
        """
        return self._driver.run(self._calls.wait(name, timeout))

    def cancel(self, name: str) -> BulkReply:
        """Cancel its open tasks; return how far that is: of very many, it goes on by itself. Raises NotFound."""
        return self._driver.run(self._calls.cancel(name))


class AsyncGroups:
    """The groups of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = GroupCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> AsyncIterator[GroupInList]:
        """Yield groups, those with open tasks first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(limit))

    async def get(self, name: str) -> Group:
        """Return the group as it is now. Raises NotFound."""
        return await self._driver.run(self._calls.get(name))

    async def wait(self, name: str, timeout: timedelta | float | None = None) -> Group:
        """Return the group once none of its tasks is open. Raises GroupTimeout after `timeout` (None: never), NotFound.

        It outlasts a restart of the service.
        """
        return await self._driver.run(self._calls.wait(name, timeout))

    async def cancel(self, name: str) -> BulkReply:
        """Cancel its open tasks; return how far that is: of very many, it goes on by itself. Raises NotFound."""
        return await self._driver.run(self._calls.cancel(name))
